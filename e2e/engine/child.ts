/** An engine in a process of its own, to be killed: `child.ts <configuration folder> <milliseconds a hypervisor's call takes>`. */

import { readEngineConfig } from '@blockhost/engine/config.ts'
import { assemble } from '@blockhost/engine/daemon.ts'
import { openStore } from '@blockhost/engine/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { takeLock } from '@blockhost/kit/lock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { createFakeProvisioner } from '@blockhost/testkit/fake-provisioner.ts'
import { openVmDatabase } from '@blockhost/vmdb/vm-database.ts'

const [folder, delay] = process.argv.slice(2)
const config = readEngineConfig(folder!)
using _lock = takeLock(config.databasePath, 'blockhost-engine')
const store = openStore(config.databasePath, systemClock)
const vms = openVmDatabase(config.vmDatabasePath, config.pools, systemClock)
const provisioner = createFakeProvisioner({ file: `${config.databasePath}.fake-hypervisor.json` })
provisioner.setFault(({ method, name }) => {
  process.stdout.write(`${method} ${name}\n`)
  return method === 'list' ? undefined : { delayMs: Number(delay) * Math.random() }
})
await assemble(config, { store, vms, provisioner, clock: systemClock, log: silentLog }).run(
  new AbortController().signal,
)
