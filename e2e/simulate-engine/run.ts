/** One seed from beginning to end. */
import type { Violation } from '../simulate/part.ts'
import { createRandom, type Random } from '../simulate/random.ts'
import { noTrouble } from './chain.ts'
import { buyers, findProblems, purchaseDataOf } from './invariants.ts'
import { confirmations, type FaultKind, type Mutation, makeWorld, type World } from './world.ts'

const day = 86_400
const steps = 60
/** Transactions of the minter pay for this, usually. */
const usualFeeWei = 10n ** 9n

/** What became of one seed. `violations` is empty when every invariant held. */
export type SeedResult = {
  readonly seed: string
  readonly violations: readonly Violation[]
  readonly trace: readonly string[]
  readonly faults: Readonly<Record<FaultKind, number>>
  /** Purchases on the chain in the end, VMs that run then, and tokens. */
  readonly purchases: number
  readonly running: number
  readonly tokens: number
}

/**
 * Runs the real engine in a simulated world of one seed: purchases, extensions, cancellations, transfers, and everything of
 * {@link FaultKind}; then a quiet time, after which all must be as the chain says. The same seed gives the same world.
 */
export async function runSeed(seed: string, mutate: Mutation = {}): Promise<SeedResult> {
  const random = createRandom(seed)
  const world = makeWorld(random.fork('world'), mutate)
  const script = random.fork('script')
  for (let step = 0; step < steps && world.violations.length === 0; step++) await takeStep(world, script)
  if (world.violations.length === 0) await quiet(world)
  const { violations, trace, faults, chain, provisioner } = world
  const { subscriptions, tokens } = chain.view().state
  const running = [...provisioner.vms.values()].filter(({ power }) => power === 'running').length
  const found = violations.length > 0 ? violations : findProblems(world)
  return { seed, violations: found, trace, faults, purchases: subscriptions.length, running, tokens: tokens.length }
}

const weights = {
  ...{ buy: 4, extend: 3, cancel: 1, transfer: 2, time: 1, nothing: 5 },
  ...{ reorg: 2, trouble: 4, weather: 2, power: 1, gc: 1 },
}

async function takeStep(world: World, random: Random): Promise<void> {
  const { chain, waiting, note } = world
  const bought = chain.view().state.subscriptions.length
  const id = BigInt(random.int(1, Math.max(1, bought)))
  const seconds = random.pick([600, day, 3 * day, 30 * day])
  const kind = random.weighted(weights)
  if (kind !== 'nothing') note(kind)
  if (kind === 'buy') {
    const buyer = random.pick(buyers)
    waiting.push({ kind, buyer, seconds, data: purchaseDataOf(buyer, random.int(0, 255)) })
  } else if (kind === 'extend') waiting.push({ kind, id, seconds })
  else if (kind === 'cancel' && random.chance(0.5)) waiting.push({ kind, id })
  else if (kind === 'transfer') waiting.push({ kind, tokenId: BigInt(random.int(0, 5)), to: random.pick(buyers) })
  else if (kind === 'reorg') await reorganize(world, random)
  else if (kind === 'trouble') makeTrouble(world, random)
  else if (kind === 'weather') await makeWeather(world, random)
  else if (kind === 'power') cutPower(world, random)
  const passing = kind === 'time' ? random.pick([day, 4 * day, 9 * day]) : 12
  // No endpoint hides a receipt for days.
  if (kind === 'time') showReceipts(world)
  await chain.mine(waiting.splice(0), passing)
  world.pass(passing)
  const garbage = kind === 'gc' ? world.collectGarbage() : undefined
  for (let turns = random.int(1, 3); turns > 0; turns--) await world.turn()
  await garbage
}

/** Deeper than the confirmations it takes served purchases away; their order may change, and some never come back. */
async function reorganize({ chain, waiting, count, note }: World, random: Random): Promise<void> {
  const depth = Math.min(random.int(1, 4), Number(chain.view().height) - 2)
  if (depth < 1) return
  count('reorg')
  // Nodes forget what they took out of a block now and then; out of one that counted as final, never.
  const isDeep = depth > confirmations
  const gone = await chain.reorg(depth, { isDeep, forget: !isDeep && random.chance(0.3) })
  const kept = gone.filter(act => act.kind !== 'buy' || !random.chance(0.3))
  note(`reorganization of ${depth}, ${gone.length - kept.length} purchases for ever`)
  waiting.unshift(...(random.chance(0.5) ? random.shuffle(kept) : kept))
}

/** What fails until the next trouble: each with its own chance, so that times of one fault alone are among them. */
function makeTrouble(world: World, random: Random): void {
  const { chain, chances, count, note } = world
  const { endpoints, port } = chain
  const strikes = (kind: FaultKind, chance: number) => {
    const does = random.chance(chance)
    if (does) count(kind)
    if (does) note(kind)
    return does
  }
  endpoints.down = strikes('rpc-down', 0.2)
  endpoints.hidesLogs = strikes('logs-hidden', 0.3)
  endpoints.hidesReceipts = strikes('receipts-hidden', 0.3)
  endpoints.frozen = strikes('endpoint-frozen', 0.3) ? chain.view() : undefined
  port.world.down = strikes('send-lost', 0.15) ? 'before' : strikes('answer-to-send-lost', 0.15) ? 'after' : false
  port.world.lag = endpoints.frozen === undefined ? 0 : random.int(0, 2)
  port.world.hideReceipts = endpoints.hidesReceipts
  port.world.swallowSends = strikes('send-swallowed', 0.1)
  port.world.isPoor = strikes('send-refused', 0.1)
  endpoints.refusesMints = strikes('mint-refused', 0.1)
  chances.hypervisor = random.pick([0, 0.2, 0.5])
  chances.disk = random.pick([0, 0, 0.05])
  chances.kills = random.chance(0.5)
}

function showReceipts({ chain }: World): void {
  chain.endpoints.hidesReceipts = false
  chain.port.world.hideReceipts = false
}

/** What happens once. */
async function makeWeather(world: World, random: Random): Promise<void> {
  const { chain, count, note } = world
  const { port } = chain
  const kind = random.pick(['fee-spike', 'pool-forgotten', 'nonce-taken', 'clock-jump'] as const)
  const isRival = kind === 'pool-forgotten' || kind === 'nonce-taken'
  if (isRival && chain.hasFinalOnesWaiting()) return
  count(kind)
  note(kind)
  if (kind === 'fee-spike') port.world.baseFeeWei = usualFeeWei * BigInt(random.pick([1, 5, 30]))
  else if (kind === 'pool-forgotten') port.forgetPool()
  else if (kind === 'clock-jump') world.jumpClock(random.pick([-1, 1]) * random.pick([60, 3600, day]))
  else await chain.useKeyElsewhere()
}

function cutPower(world: World, random: Random): void {
  const { provisioner, count } = world
  const names = [...provisioner.vms].flatMap(([name, { power }]) => (power === 'running' ? [name] : []))
  if (names.length === 0) return
  const kind = random.pick(['power-cut', 'host-restart'] as const)
  count(kind)
  if (kind === 'power-cut') provisioner.cutPower(random.pick(names))
  else world.restartHost()
}

/** Nothing goes wrong any more, and time passes until everything that is tried again was. */
async function quiet(world: World): Promise<void> {
  const { chain, chances, note } = world
  Object.assign(chain.endpoints, noTrouble)
  Object.assign(chain.port.world, { down: false, lag: 0, hideReceipts: false, swallowSends: false, isPoor: false })
  chain.port.world.baseFeeWei = usualFeeWei
  Object.assign(chances, { hypervisor: 0, disk: 0, kills: false })
  note('nothing goes wrong any more')
  for (let i = 0; i < 80; i++) {
    await chain.mine(world.waiting.splice(0), 12)
    // Pauses go by the machine's clock, and the longest are of an hour; the chain's stands nearly still.
    world.pass(i === 40 ? 7_200 : 45)
    await world.turn()
  }
}
