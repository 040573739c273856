import { randomInt } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { toDataplane } from '@blockhost/broker/effects.ts'
import { prefixAt } from '@blockhost/broker/pool.ts'
import { openStore, type Store } from '@blockhost/broker/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { createLink, deleteLink } from '@blockhost/net/link.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { startMachine } from '@blockhost/testkit/machine.ts'
import type { BenchGroup } from './figure.ts'
import { answer, type CountedDataplane, createCountedDataplane, isWrite, makeUpstream, runInside } from './inside.ts'
import { benchPool, fillStore, newLease } from './leases.ts'
import { median, percentile, round, timeMs } from './statistics.ts'

const leaseCount = 10_000

/** The network of 10,000 leases: made from nothing, looked at when nothing is to do, and changed. */
export const restore: BenchGroup = {
  keys: [
    'restore.seconds',
    'restore.addconfSeconds',
    'restore.processes',
    'reconcile.idleMs',
    'reconcile.idleWrites',
    'change.p99Ms',
    'change.wgSetMs',
  ],
  async run(context) {
    await using machine = await startMachine({ name: 'bench-restore' })
    await makeUpstream(machine)
    const question: Question = { folder: context.folder }
    const { restored, idle, changed, implementation } = await runInside<Measured>(
      machine,
      import.meta.filename,
      question,
      240_000,
    )
    const addconf = round(median(restored.addconfMs) / 1000)
    const wgSet = round(percentile(changed.wgSetMs, 99))
    const both = `both on ${implementation}`
    return {
      'restore.seconds': {
        value: round(median(restored.ms) / 1000),
        unit: 's',
        limit: round(addconf + 2),
        comparedWith: `wg addconf of the same peers: ${addconf} s, ${both}`,
      },
      'restore.addconfSeconds': { value: addconf, unit: 's', comparedWith: `10,000 peers, interface up and keyed` },
      'restore.processes': { value: Math.max(...restored.processes), unit: 'processes', limit: 10 },
      'reconcile.idleMs': {
        value: round(median(idle.ms)),
        unit: 'ms',
        limit: 250,
        comparedWith: `wg show dump of 10,000 peers alone: ${round(median(idle.dumpMs))} ms`,
      },
      'reconcile.idleWrites': { value: idle.writes, unit: 'writes', limit: 0, comparedWith: `${idle.ms.length} runs` },
      'change.p99Ms': {
        value: round(percentile(changed.ms, 99)),
        unit: 'ms',
        limit: round(wgSet + 10),
        comparedWith: `wg set: ${wgSet} ms (p99), in turns; medians ${round(median(changed.ms))} and ${round(median(changed.wgSetMs))} ms; without a pause between leases p99 ${round(percentile(changed.hurriedMs, 99))} ms`,
      },
      'change.wgSetMs': { value: wgSet, unit: 'ms', comparedWith: `p99 of ${changed.wgSetMs.length}, ${both}` },
    }
  },
}

type Question = { readonly folder: string }

/** Times in milliseconds, one for each run. */
type Measured = {
  readonly restored: { ms: number[]; addconfMs: number[]; processes: number[] }
  readonly idle: { ms: number[]; dumpMs: number[]; writes: number }
  readonly changed: { ms: number[]; wgSetMs: number[]; hurriedMs: number[] }
  readonly implementation: string
}

async function measure({ folder }: Question): Promise<Measured> {
  using store = openStore(join(folder, 'restore.db'), benchPool, systemClock)
  fillStore(store, leaseCount)
  const broker = createCountedDataplane()
  await broker.dataplane.reconcile([])
  const implementation = await makeBare(broker.exec)
  try {
    const restored = await measureRestore(broker, store)
    const idle = await measureIdle(broker, store)
    const changed = await measureChanges(broker, store)
    return { restored, idle, changed, implementation }
  } finally {
    await broker.dataplane.close({ removeInterface: true })
    await deleteLink(broker.exec, bare)
  }
}

const bare = 'wg-bare'

/** An interface in the same state as the broker's: keyed, up, no peers. */
async function makeBare(exec: Exec): Promise<string> {
  const implementation = await createLink(exec, bare)
  writeFileSync('/run/bare.key', generateKeyPair().privateKey, { mode: 0o600 })
  await exec('wg', ['set', bare, 'private-key', '/run/bare.key'])
  await exec('ip', ['link', 'set', bare, 'up'])
  return implementation
}

async function measureRestore(broker: CountedDataplane, store: Store) {
  const { dataplane, spawned, exec } = broker
  const measured: Measured['restored'] = { ms: [], addconfMs: [], processes: [] }
  const peers = store.leases().map(lease => `[Peer]\nPublicKey = ${lease.publicKey}\nAllowedIPs = ${lease.prefix}\n`)
  writeFileSync('/run/bare.conf', peers.join(''))
  for (let run = 0; run < 3; run++) {
    if (run > 0) {
      await dataplane.reconcile([])
      await exec('wg', ['set', bare, ...(await peersOf(exec, bare)).flatMap(key => ['peer', key, 'remove'])])
    }
    measured.addconfMs.push(await timeMs(() => exec('wg', ['addconf', bare, '/run/bare.conf'])))
    spawned.length = 0
    measured.ms.push(await timeMs(() => dataplane.reconcile(store.leases().map(toDataplane))))
    measured.processes.push(spawned.length)
    for (const name of [bare, 'wg-broker']) {
      const count = (await peersOf(exec, name)).length
      if (count !== leaseCount) throw new Error(`${name} has ${count} peers`)
    }
  }
  return measured
}

async function peersOf(exec: Exec, name: string): Promise<string[]> {
  return (await exec('wg', ['show', name, 'peers'])).stdout.split('\n').filter(line => line !== '')
}

async function measureIdle({ dataplane, spawned, written, exec }: CountedDataplane, store: Store) {
  const measured: Measured['idle'] = { ms: [], dumpMs: [], writes: 0 }
  for (let run = -3; run < 15; run++) {
    spawned.length = 0
    written.length = 0
    const took = await timeMs(() => dataplane.reconcile(store.leases().map(toDataplane)))
    if (run < 0) continue
    measured.ms.push(took)
    measured.writes += spawned.filter(isWrite).length + written.length
    measured.dumpMs.push(await timeMs(() => exec('wg', ['show', 'wg-broker', 'dump'])))
  }
  return measured
}

const changeRounds = 110
const changeWarmUp = 10
/** The kernel frees a removed firewall element some 20 ms later, and until then lets no nft(8) end. */
const settleMs = 60

/**
 * Adds, re-keys and removes a lease; the bare interface gets the same peers by `wg set`, in turns. Once with the kernel at rest before
 * each lease, and once without a pause, where an addition waits for what the removal before it left to the kernel.
 */
async function measureChanges(broker: CountedDataplane, store: Store): Promise<Measured['changed']> {
  const measured: Measured['changed'] = { ms: [], wgSetMs: [], hurriedMs: [] }
  for (let round = -changeWarmUp; round < changeRounds; round++) {
    const { changes, sets } = await changeOnce(broker, store)
    await sleep(settleMs)
    if (round < 0) continue
    measured.ms.push(...changes)
    measured.wgSetMs.push(...sets)
  }
  for (let round = 0; round < changeRounds / 2; round++)
    measured.hurriedMs.push(...(await changeOnce(broker, store)).changes)
  return measured
}

async function changeOnce({ dataplane, exec }: CountedDataplane, store: Store) {
  const prefix = prefixAt(store.pool, leaseCount + randomInt(1, 1_000_000))
  const [first, second] = [newLease(1n).publicKey, newLease(1n).publicKey]
  const wgSet = (...args: string[]) => exec('wg', ['set', bare, ...args])
  const steps = [
    [
      () => dataplane.change([{ kind: 'set', lease: { prefix, publicKey: first } }]),
      () => wgSet('peer', first, 'allowed-ips', prefix),
    ],
    [
      () => dataplane.change([{ kind: 'set', lease: { prefix, publicKey: second }, previousPublicKey: first }]),
      () => wgSet('peer', first, 'remove', 'peer', second, 'allowed-ips', prefix),
    ],
    [
      () => dataplane.change([{ kind: 'remove', lease: { prefix, publicKey: second } }]),
      () => wgSet('peer', second, 'remove'),
    ],
  ] as const
  const changes: number[] = []
  const sets: number[] = []
  for (const [change, set] of steps) {
    changes.push(await timeMs(change))
    sets.push(await timeMs(set))
  }
  return { changes, sets }
}

if (import.meta.main) await answer(measure)
