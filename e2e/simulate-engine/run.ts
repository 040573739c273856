import type { Address } from '@blockhost/chain/hex.ts'
import { createOutbox } from '@blockhost/chain/outbox.ts'
import { createEngine, type Engine } from '@blockhost/engine/engine.ts'
import { openStore } from '@blockhost/engine/store.ts'
import { vmNameOf } from '@blockhost/engine/subscription.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { createFakeProvisioner, type FakeProvisioner } from '@blockhost/testkit/fake-provisioner.ts'
import { openVmDatabase, type VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { createRandom, type Random } from '../simulate/random.ts'
import { type Act, type SimulatedChain, simulateChain } from './chain.ts'
import { beginLife, Dead, type Life, mortal } from './mortal.ts'

const day = 86_400
const graceDays = 7
const subscriptions: Address = `0x${'51'.repeat(20)}`
const nft: Address = `0x${'52'.repeat(20)}`
const buyers = Array.from({ length: 6 }, (_, i): Address => `0x${`${i + 1}${i + 1}`.repeat(20)}`)

/** What became of one seed. `problems` is empty when every invariant holds. */
export type SeedResult = {
  readonly seed: string
  readonly problems: readonly string[]
  readonly trace: readonly string[]
  readonly kills: number
  /** Purchases on the chain in the end, and VMs that run. */
  readonly purchases: number
  readonly running: number
}

/**
 * Runs the real engine in a simulated world of one seed: purchases, extensions, cancellations, transfers, reorganizations, endpoints that
 * fail, a hypervisor that fails, and kills at any await; then a quiet time, after which all must be as the chain says.
 */
export async function runSeed(seed: string): Promise<SeedResult> {
  const random = createRandom(seed)
  const world = makeWorld(random.fork('faults'))
  const trace: string[] = []
  const script = random.fork('script')
  for (let step = 0; step < 60; step++) await takeStep(world, script, trace)
  await quiet(world)
  const running = [...world.provisioner.vms.values()].filter(({ power }) => power === 'running').length
  const purchases = world.chain.state().subscriptions.length
  return { seed, problems: findProblems(world), trace, kills: world.kills(), purchases, running }
}

type World = {
  readonly chain: SimulatedChain
  readonly provisioner: FakeProvisioner
  readonly vms: VmDatabase
  readonly store: ReturnType<typeof openStore>
  readonly faults: { provisioner: number; kills: boolean }
  /** Acts that wait for the next block. */
  waiting: Act[]
  pass(seconds: number): void
  turn(random: Random): Promise<void>
  kills(): number
}

function makeWorld(random: Random): World {
  let nowMs = 1_800_000_000_000
  const clock: Clock = { now: () => nowMs, monotonic: () => nowMs, sleep: nextTurn }
  const chain = simulateChain()
  const provisioner = createFakeProvisioner()
  const faults = { provisioner: 0, kills: false }
  provisioner.setFault(({ method }) => {
    if (method === 'list' || !random.chance(faults.provisioner)) return undefined
    const fail = new BlockHostError({ code: 'BH_HYPERVISOR', message: `${method} failed`, retryable: true })
    return { fail, after: random.chance(0.4) }
  })
  const store = openStore(':memory:', clock)
  const process_ = { name: 'life 0' }
  const processes = {
    get self() {
      return process_.name
    },
    isAlive: (name: string) => name === process_.name,
  }
  const pools = {
    vmid: { first: 100, last: 999 },
    ipv4: { network: '10.1.0.0/22', gateway: '10.1.0.1' },
    ipv6: { prefix: '2001:db8::/64' },
    restSeconds: 60,
  }
  const vms = openVmDatabase(':memory:', pools, clock, { processes })
  let kills = 0
  let life: Life
  let engine: Engine
  const start = () => {
    life = beginLife(faults.kills && random.chance(0.5) ? random.int(0, 40) : undefined)
    process_.name = `life ${kills}`
    engine = assemble({ life, chain, provisioner, vms, store, clock, random })
  }
  start()
  return {
    ...{ chain, provisioner, vms, store, faults, waiting: [], kills: () => kills },
    pass(seconds) {
      nowMs += seconds * 1000
    },
    async turn(chance) {
      if (faults.kills && chance.chance(0.15)) life.left = Math.min(life.left, chance.int(0, 12))
      await Promise.race([engine.turn().then(() => engine.idle()), life.over]).catch(ignoreDead)
      if (!life.isOver) return
      kills += 1
      // What the hypervisor was told before the end still happens.
      for (let i = 0; i < 5; i++) await nextTurn()
      start()
    },
  }
}

/** Time is the world's; what waits only lets the others go first. */
function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

function ignoreDead(error: unknown): void {
  if (!(error instanceof Dead)) throw error
}

type Parts = {
  life: Life
  chain: SimulatedChain
  provisioner: FakeProvisioner
  vms: VmDatabase
  store: ReturnType<typeof openStore>
  clock: Clock
  random: Random
}

function assemble({ life, chain, provisioner, vms, store, clock: time, random }: Parts): Engine {
  const log = silentLog
  const clock = mortal(time, life)
  const outboxOptions = { confirmations: 2, stuckAfterMs: 60_000, feeBumpPercent: 20, maxInFlight: 8 }
  const port = mortal(chain.port.port, life)
  const rules = {
    ...{ subscriptions, nft, confirmations: 2, reorgDepth: 12, graceDays, lowBalanceWei: 1n },
    ...{ pollIntervalMs: 5_000, busyPollIntervalMs: 1_000, powerIntervalMs: 60_000 },
    ...{ parallel: { creates: 3, others: 8 }, username: 'admin', sshPort: 22 },
  }
  return createEngine(rules, {
    ...{ clock, log, minter: port.address, random: random.next },
    // The databases outlive the process; whoever is dead can't write to them.
    store: mortal(store, life),
    vms: mortal(vms, life),
    provisioner: mortal(provisioner, life),
    chain: mortal(chain.reader, life),
    outbox: mortal(createOutbox(store.db, port, outboxOptions, { clock, log }), life),
    openPurchase: () => ({ ok: false, problem: 'not looked at here' }),
    machineIdOf: name => name,
    specOf: (_row, vm) => ({
      ...{ name: vm.name, vmid: vm.vmid, vcpus: 1, memoryMiB: 512, diskGiB: 4, mac: vm.mac, userData: '' },
      ipv4: { address: vm.ipv4, prefixLength: 22, gateway: '10.1.0.1' },
      ipv6: vm.ipv6 === undefined ? undefined : { address: vm.ipv6, gateway: 'fe80::1' },
    }),
  })
}

async function takeStep(world: World, random: Random, trace: string[]): Promise<void> {
  const { chain, faults, waiting } = world
  const count = BigInt(chain.state().subscriptions.length)
  const id = count === 0n ? 1n : BigInt(random.int(1, Number(count)))
  const kind = random.weighted({ buy: 4, extend: 3, cancel: 1, transfer: 2, reorg: 2, trouble: 3, time: 1, nothing: 6 })
  const seconds = random.pick([600, day, 3 * day, 30 * day])
  trace.push(`block ${chain.height()}: ${kind} ${id}`)
  if (kind === 'buy')
    waiting.push({ kind, buyer: random.pick(buyers), seconds, data: Uint8Array.of(random.int(0, 255)) })
  else if (kind === 'extend') waiting.push({ kind, id, seconds })
  else if (kind === 'cancel' && random.chance(0.5)) waiting.push({ kind, id })
  else if (kind === 'transfer') waiting.push({ kind, tokenId: BigInt(random.int(0, 5)), to: random.pick(buyers) })
  else if (kind === 'reorg') await reorganize(world, random)
  else if (kind === 'trouble') {
    chain.world.down = random.chance(0.2)
    chain.world.hidesLogs = random.chance(0.3)
    chain.world.hidesReceipts = random.chance(0.3)
    chain.port.world.down = random.chance(0.2) ? random.pick(['before', 'after'] as const) : false
    faults.provisioner = random.pick([0, 0.2, 0.5])
    faults.kills = random.chance(0.5)
  }
  const passing = kind === 'time' ? random.pick([day, 4 * day, 9 * day]) : 12
  await chain.mine(waiting.splice(0), passing)
  world.pass(passing)
  for (let turns = random.int(1, 3); turns > 0; turns--) await world.turn(random)
}

async function reorganize({ chain, waiting }: World, random: Random): Promise<void> {
  const depth = Math.min(random.int(1, 4), Number(chain.height()) - 2)
  if (depth < 1) return
  // Deeper than the confirmations may take a served purchase away; its order may change, and some never come back.
  const gone = await chain.reorg(depth, act => act.kind === 'buy' && random.chance(0.3))
  waiting.unshift(...(random.chance(0.5) ? random.shuffle(gone) : gone))
}

/** Nothing goes wrong any more, and time passes until everything that is tried again was. */
async function quiet(world: World): Promise<void> {
  const { chain, faults } = world
  Object.assign(chain.world, { down: false, hidesLogs: false, hidesReceipts: false })
  chain.port.world.down = false
  Object.assign(faults, { provisioner: 0, kills: false })
  const random = createRandom('quiet')
  for (let i = 0; i < 40; i++) {
    await chain.mine(world.waiting.splice(0), 12)
    // Retries are due by the machine's clock; the chain's stands nearly still.
    world.pass(1_900)
    await world.turn(random)
  }
}

// --- what must hold -----------------------------------------------------------------------------------------------------

function findProblems(world: World): string[] {
  const { chain, provisioner, vms } = world
  const { subscriptions: all, mints, owners } = chain.state()
  const problems: string[] = []
  const expected = new Set<string>()
  for (const { id, subscriber, expiresAt, cancelled } of all) {
    const name = vmNameOf(id)
    const vm = vms.findVm(name)
    const real = provisioner.vms.get(name)
    const row = world.store.find(id)
    const say = (what: string) => {
      const facts = `chain ${chain.now()}, expiry ${expiresAt}${cancelled ? ', cancelled' : ''}`
      const engine = `engine ${row?.state} ${row?.reason ?? ''} ${row?.suspendedAt ?? ''} ${row?.error ?? ''}`
      problems.push(`${name}: ${what} (${facts}; VM database ${vm?.state}; ${engine})`)
    }
    const isPaid = !cancelled && expiresAt > chain.now()
    const mine = mints.flatMap((mint, at) =>
      mint.to === subscriber && mint.description === `Access to ${name}` ? [BigInt(at)] : [],
    )
    if (mine.length > 1) say(`${mine.length} tokens for one purchase`)
    if (real !== undefined && !cancelled) expected.add(name)
    if (!isPaid) {
      if (real?.power === 'running') say('runs and is not paid for')
      if (cancelled && real !== undefined) say('is cancelled and exists')
      const since = Math.max(expiresAt, row?.suspendedAt ?? 0)
      if (real !== undefined && chain.now() >= since + graceDays * day) say('exists after its grace')
      continue
    }
    if (real?.power !== 'running' || !real.routed) say(`is paid for and is ${real?.power ?? 'absent'}`)
    if (vm?.state !== 'active') say(`is paid for and the VM database says ${vm?.state}`)
    if (vm?.expiresAt !== expiresAt) say(`expires ${expiresAt}, the VM database says ${vm?.expiresAt}`)
    if (mine.length !== 1) say(`has ${mine.length} tokens`)
    else if (real?.bindings.admin !== String(mine[0])) say(`is bound to ${real?.bindings.admin}, not ${mine[0]}`)
    else if (vm?.ownerWallet !== owners.get(mine[0]!)) say(`the VM database names another owner than the chain`)
  }
  for (const name of provisioner.vms.keys()) if (!expected.has(name)) problems.push(`${name}: nobody bought it`)
  if (chain.port.pool().length > 0) problems.push('transactions wait for ever')
  return problems
}
