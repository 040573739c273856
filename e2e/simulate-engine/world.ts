/** The engine, everything around it, and what goes wrong in each of them. */
import { createOutbox } from '@blockhost/chain/outbox.ts'
import { createEngine, type Engine } from '@blockhost/engine/engine.ts'
import { openStore, type Store } from '@blockhost/engine/store.ts'
import { subscriptionIdOf } from '@blockhost/engine/subscription.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, messageOf } from '@blockhost/kit/errors.ts'
import { type Log, silentLog } from '@blockhost/kit/log.ts'
import { createFakeProvisioner } from '@blockhost/testkit/fake-provisioner.ts'
import { collect } from '@blockhost/vm-gc/collect.ts'
import { openVmDatabase, type VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import type { Violation } from '../simulate/part.ts'
import type { Random } from '../simulate/random.ts'
import { type Act, simulateChain, type View } from './chain.ts'
import { createWitness, type Facts, openPurchase, type Witness } from './invariants.ts'
import { beginLife, Dead, type Life, mortal } from './mortal.ts'

const nft = `0x${'52'.repeat(20)}` as const
const subscriptions = `0x${'51'.repeat(20)}` as const
const graceDays = 7
/** Blocks on top of a purchase, and of a mint, before it counts. */
export const confirmations = 2

/** What goes wrong, and how often it did. */
export const faultKinds = [
  'kill',
  'reorg',
  'rpc-down',
  'logs-hidden',
  'receipts-hidden',
  'endpoint-frozen',
  'send-lost',
  'answer-to-send-lost',
  'send-swallowed',
  'send-refused',
  'pool-forgotten',
  'fee-spike',
  'mint-refused',
  'nonce-taken',
  'hypervisor-failed',
  'hypervisor-answer-lost',
  'disk-full',
  'clock-jump',
  'power-cut',
  'host-restart',
  'gc',
] as const
/** One of {@link faultKinds}. */
export type FaultKind = (typeof faultKinds)[number]

/** Chances of the moment, in [0, 1]. */
export type Chances = { hypervisor: number; disk: number; kills: boolean }

/** Replaces a part of the engine by a broken one: the tests of the simulator break it here. */
export type Mutation = {
  readonly vms?: (vms: VmDatabase) => VmDatabase
  readonly store?: (store: Store) => Store
  /** What the engine takes for the grace. */
  readonly graceDays?: number
}

/** One seed's world. */
export type World = Facts & {
  readonly chances: Chances
  readonly faults: Readonly<Record<FaultKind, number>>
  readonly trace: readonly string[]
  readonly violations: readonly Violation[]
  /** Acts that wait for the next block. */
  readonly waiting: Act[]
  note(what: string): void
  count(kind: FaultKind): void
  /** Time passes on this machine. */
  pass(seconds: number): void
  /** The machine's wall clock is set. */
  jumpClock(seconds: number): void
  /** One turn of the engine, and all jobs it begins; the engine may die in it, and another one begins. */
  turn(): Promise<void>
  /** `vm-gc --execute`, from a timer or by hand. */
  collectGarbage(): Promise<void>
  /** All VMs are off, no route is left, and the engine was killed with them. */
  restartHost(): void
}

/** Makes a world without a purchase. */
export function makeWorld(random: Random, mutate: Mutation): World {
  const faults = Object.fromEntries(faultKinds.map(kind => [kind, 0])) as Record<FaultKind, number>
  const chances: Chances = { hypervisor: 0, disk: 0, kills: false }
  const trace: string[] = []
  const violations: Violation[] = []
  const flips = random.fork('endpoints')
  const chain = simulateChain(() => flips.chance(0.5))
  const count = (kind: FaultKind) => {
    faults[kind] += 1
  }
  const note = (what: string) => void trace.push(`block ${String(chain.view().height).padStart(3)}  ${what}`)
  const fail = (violation: Violation) => {
    note(`FAIL ${violation.invariant}: ${violation.detail}`)
    violations.push(violation)
  }
  let nowMs = 1_800_000_000_000
  let wallOffsetMs = 0
  const clock: Clock = { now: () => nowMs + wallOffsetMs, monotonic: () => nowMs, sleep: nextTurn }
  const provisioner = createFakeProvisioner()
  const store = openStore(':memory:', clock)
  const processes = makeProcesses()
  const vms = openVmDatabase(':memory:', pools, clock, { processes })
  const facts: Facts = { chain, provisioner, vms, store, confirmations, graceSeconds: graceDays * 86_400 }
  const witness = createWitness(facts, fail)
  failingHypervisor(facts, { random: random.fork('hypervisor'), chances, count, witness })
  const kills = random.fork('kills')
  const disk = random.fork('disk')
  const log = tellingLog(note)
  let lives = 0
  let life: Life
  let engine: Engine

  /** What the engine may know: since the last block that it noted. */
  const views = (): readonly View[] => {
    const known = BigInt(store.getState('block') ?? '0')
    return chain.served.filter(({ height }) => height >= known)
  }

  function start(): void {
    life = beginLife(chances.kills && kills.chance(0.5) ? kills.int(0, 150) : undefined)
    const name = `life ${lives++}`
    processes.living.set('engine', name)
    const watched = witness.watch(mutate.vms?.(vms) ?? vms, views)
    const isFull = () => disk.chance(chances.disk)
    const parts = { ...facts, vms: fullDisk(watched, ['transaction', ...vmWrites], isFull, count) }
    const grace = { graceDays: mutate.graceDays ?? graceDays }
    const own = fullDisk(mutate.store?.(store) ?? store, ['transaction'], isFull, count)
    engine = assemble({ ...parts, store: own, life, log, clock, random: random.fork(name), ...grace })
  }

  async function turn(): Promise<void> {
    if (chances.kills && kills.chance(0.25)) life.left = Math.min(life.left, kills.int(0, 60))
    const whole = engine.turn().then(() => engine.idle())
    await Promise.race([whole, life.over]).catch(error => {
      if (error instanceof Dead) return
      fail({ invariant: 'the engine does not crash', detail: messageOf(error) })
      life.end()
    })
    witness.turnEnded()
    if (!life.isOver) return
    count('kill')
    note('the engine dies')
    // What the hypervisor was told before the end still happens.
    for (let i = 0; i < 5; i++) await nextTurn()
    start()
  }

  async function collectGarbage(): Promise<void> {
    const view = chain.view()
    const expiries = new Map<string, number>()
    const look = async (names: readonly string[]) => {
      if (chain.endpoints.down)
        throw new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message: 'down', retryable: true })
      for (const name of names) {
        const bought = view.state.subscriptions[Number(subscriptionIdOf(name)) - 1]
        if (bought !== undefined) expiries.set(name, bought.expiresAt)
      }
      return { timestamp: view.timestamp, expiries }
    }
    count('gc')
    processes.living.set('vm-gc', `vm-gc ${faults.gc}`)
    const own = processes.as(
      'vm-gc',
      witness.watch(vms, () => [view]),
    )
    own.reapAbandoned()
    const deps = { vms: own, provisioner, clock, look }
    const report = await collect(deps, { execute: true, suspend: true, destroy: true, graceDays }).catch(messageOf)
    processes.living.delete('vm-gc')
    note(`vm-gc: ${JSON.stringify(report)}`)
  }

  start()
  return {
    ...{ ...facts, chances, faults, trace, violations, waiting: [], note, count, turn, collectGarbage },
    pass(seconds) {
      nowMs += seconds * 1000
    },
    jumpClock(seconds) {
      wallOffsetMs += seconds * 1000
    },
    restartHost() {
      for (const [name, vm] of provisioner.vms) {
        provisioner.cutPower(name)
        vm.routed = false
      }
      life.end()
    },
  }
}

const pools = {
  vmid: { first: 100, last: 999 },
  ipv4: { network: '10.1.0.0/22', gateway: '10.1.0.1' },
  ipv6: { prefix: '2001:db8::/64' },
  restSeconds: 60,
}

/** The processes of the host by program. One thread plays them all: whose turn it is says `as`. */
function makeProcesses() {
  const living = new Map<'engine' | 'vm-gc', string>()
  let speaking: 'engine' | 'vm-gc' = 'engine'
  return {
    living,
    get self() {
      return living.get(speaking)!
    },
    isAlive: (name: string) => [...living.values()].includes(name),
    /** Returns `target` as the other program holds it. */
    as<T extends object>(program: 'vm-gc', target: T): T {
      return new Proxy(target, {
        get(of, key) {
          const value: unknown = Reflect.get(of, key)
          if (typeof value !== 'function') return value
          return (...args: unknown[]) => {
            speaking = program
            try {
              return value.apply(of, args)
            } finally {
              speaking = 'engine'
            }
          }
        },
      })
    },
  }
}

/** Time is the world's; what waits only lets the others go first. */
function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

const vmWrites = [
  'reserveVm',
  'markActive',
  'markSuspended',
  'markDestroying',
  'markDestroyed',
  'setExpiry',
  'setOwner',
]

/** What the engine has to say, without what differs from run to run. */
function tellingLog(note: (what: string) => void): Log {
  const tell = (fields: object, message: string) => {
    const told = Object.entries(fields).flatMap(([name, value]) =>
      ['subscription', 'from', 'to', 'reason', 'code', 'attempts', 'token'].includes(name) && value !== undefined
        ? [`${name} ${value}`]
        : [],
    )
    note(`engine: ${[message, ...told].join(', ')}`)
  }
  return { ...silentLog, info: tell, warn: tell, error: tell }
}

type Weather = {
  readonly random: Random
  readonly chances: Chances
  readonly witness: Witness
  count(kind: FaultKind): void
}

function failingHypervisor({ provisioner }: Facts, { random, chances, witness, count }: Weather): void {
  provisioner.setFault(call => {
    witness.asked(call)
    if (!random.chance(chances.hypervisor)) return undefined
    const after = random.chance(0.4)
    count(after ? 'hypervisor-answer-lost' : 'hypervisor-failed')
    const message = `${call.method} failed`
    return { fail: new BlockHostError({ code: 'BH_HYPERVISOR', message, retryable: true }), after }
  })
}

/** Returns a database whose disk is full at times: what was to be committed is not, as SQLite has it. */
function fullDisk<T extends object>(
  target: T,
  writes: readonly string[],
  isFull: () => boolean,
  count: (kind: FaultKind) => void,
): T {
  const copy = { ...target } as Record<string, unknown>
  const full = () => {
    count('disk-full')
    return new Error('database or disk is full')
  }
  for (const name of writes) {
    const real = copy[name] as ((...args: unknown[]) => unknown) | undefined
    if (real === undefined) continue
    copy[name] = (...args: unknown[]) => {
      if (!isFull()) return real(...args)
      if (name !== 'transaction') throw full()
      const [work] = args as [() => unknown]
      return real(() => {
        work()
        throw full()
      })
    }
  }
  return copy as T
}

type Parts = Facts & {
  readonly graceDays: number
  readonly log: Log
  readonly life: Life
  readonly clock: Clock
  readonly random: Random
}

function assemble({ life, log, graceDays, chain, provisioner, vms, store, clock: time, random }: Parts): Engine {
  const clock = mortal(time, life)
  const limits = { feeBumpPercent: 20, maxInFlight: 8, maxFeePerGasWei: undefined }
  const outboxOptions = { confirmations, stuckAfterMs: 60_000, takenAfterMs: 600_000, ...limits }
  const port = mortal(chain.port.port, life, { isRemote: true })
  const outbox = createOutbox(store.db, port, outboxOptions, { clock, log })
  const rules = {
    ...{ subscriptions, nft, confirmations, reorgDepth: 12, graceDays, lowBalanceWei: 1n },
    ...{ pollIntervalMs: 5_000, busyPollIntervalMs: 1_000, powerIntervalMs: 60_000 },
    ...{ parallel: { creates: 3, others: 8 }, username: 'admin', sshPort: 22 },
  }
  return createEngine(rules, {
    ...{ clock, log, minter: port.address, random: random.next, openPurchase },
    // The databases outlive the process; whoever is dead can't write to them.
    store: mortal(store, life, { writes: ['transaction', 'change', 'forget', 'add', 'setState'] }),
    vms: mortal(vms, life, { writes: vmWrites }),
    provisioner: mortal(provisioner, life, { isRemote: true }),
    chain: mortal(chain.reader, life, { isRemote: true }),
    outbox: mortal(outbox, life, { writes: ['enqueue', 'cancelQueued'] }),
    machineIdOf: name => name,
    specOf: (_row, vm) => ({
      ...{ name: vm.name, vmid: vm.vmid, vcpus: 1, memoryMiB: 512, diskGiB: 4, mac: vm.mac, userData: '' },
      ipv4: { address: vm.ipv4, prefixLength: 22, gateway: '10.1.0.1' },
      ipv6: vm.ipv6 === undefined ? undefined : { address: vm.ipv6, gateway: 'fe80::1' },
    }),
  })
}
