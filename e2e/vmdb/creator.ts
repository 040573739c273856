import { appendFileSync } from 'node:fs'
import { systemClock } from '@blockhost/kit/clock.ts'
import { openVmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { fieldPools, fieldWallet } from './field.ts'

/*
 * One process that makes VMs, and takes every third away again, until it has made enough or is killed:
 * creator.ts <database> <journal> <name prefix> <count>. What it was told is done goes to the journal after it was done.
 */

const [database, journal, prefix, count] = process.argv.slice(2) as [string, string, string, string]
const db = openVmDatabase(database, fieldPools, systemClock)
const note = (word: string, about: object) => appendFileSync(journal, `${JSON.stringify({ word, ...about })}\n`)
process.stdout.write('ready\n')

for (let n = 0; n < Number(count); n++) {
  const name = `${prefix}-${n}`
  const { vmid, ipv4, ipv6 } = db.reserveVm({ name, ownerWallet: fieldWallet, expiresAt: 2_000_000_000 })
  note('reserved', { name, vmid, ipv4, ipv6 })
  db.markActive(name)
  note('active', { name })
  if (n % 3 !== 2) continue
  db.markDestroying(name)
  db.markDestroyed(name)
  note('destroyed', { name })
}
db.close()
