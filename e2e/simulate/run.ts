/** One seed from beginning to end. */
import { DatabaseSync } from 'node:sqlite'
import { messageOf } from '@blockhost/kit/errors.ts'
import { createFakeKernel } from '@blockhost/testkit/fake-kernel.ts'
import type { Address } from 'viem'
import { castOf, type Identity } from './cast.ts'
import { createChain, type SimChain } from './chain.ts'
import type { ContractState, NftContract } from './contract.ts'
import { createFaults, type Faults } from './faults.ts'
import { type Host, startHost } from './hosts.ts'
import { createLedger } from './invariants.ts'
import { type Ending, type Life, type Mutation, type Surroundings, startLife, type Witness } from './life.ts'
import type { Violation } from './part.ts'
import { findQuietViolations, fingerprint } from './quiet.ts'
import { createRandom, type Random } from './random.ts'
import {
  codeHashes,
  drawScenario,
  type FaultKind,
  type Scenario,
  tunnelName,
  upstreamName,
  worldStart,
} from './scenario.ts'
import { createWorld, type TraceEvent, type World } from './world.ts'

/** What came of a seed. */
export type SeedResult = {
  readonly seed: string
  readonly violations: readonly Violation[]
  readonly trace: readonly TraceEvent[]
  readonly turns: number
  readonly lives: number
  readonly requests: number
  /** Transactions signed for the request that had most of them, not counting replacements. */
  readonly mostTransactions: number
  readonly faults: Readonly<Record<FaultKind, number>>
}

/** What a run needs beside the seed. */
export type RunOptions = {
  /** A file with the broker's WireGuard key. */
  readonly privateKeyFile: string
  readonly mutate?: Mutation
}

/** The world may take so long to come to rest, ms. */
const maxCalmMs = 60 * 60_000
/** A life of more calls than this goes round in circles. */
const maxTurns = 20_000

let databases = 0

/** Runs one seed; the same seed gives the same trace. */
export async function runSeed(seed: string, options: RunOptions): Promise<SeedResult> {
  const random = createRandom(seed)
  const scenario = drawScenario(random.fork('scenario'), { privateKey: options.privateKeyFile })
  const databasePath = `file:simulated-${process.pid}-${databases++}?mode=memory&cache=shared`
  // The database lives as long as this handle, as a file would.
  using keeper = new DatabaseSync(databasePath)
  void keeper
  const violations: Violation[] = []
  const around = makeSurroundings(random, scenario, databasePath, options.mutate ?? {})
  const { world, chain } = around
  const hosts = startHosts(around)
  let turns = 0
  let life: Life | undefined
  let rest: { since: number; print: string } | undefined
  let isOver = false

  const ledger = createLedger(around, fail)
  const witness: Witness = { ...ledger, turnEnded }
  world.note('world', describe(scenario))
  startWeather(around, () => life)
  world.after(scenario.stormMs, calmDown)

  let lives = 0
  while (!isOver) {
    life = startLife(++lives, around, witness)
    const ending = await life.ended
    if (ending.kind === 'crashed') fail({ invariant: 'the daemon does not crash', detail: messageOf(ending.error) })
    if (!isOver) world.advance(pauseAfter(ending, random))
  }

  function fail(violation: Violation): void {
    world.note('FAIL', `${violation.invariant}: ${violation.detail}`)
    violations.push(violation)
    isOver = true
    life?.kill('the simulation ends')
  }

  function calmDown(): void {
    strikeLast(around, random.fork('last'))
    world.note('world', 'nothing goes wrong any more')
    around.faults.end()
    around.outages.rpc = false
    around.outages.commands.clear()
    chain.setBaseFee(BigInt(scenario.lastBaseFeeGwei) * 10n ** 9n)
    chain.funds.wei = 10n ** 18n
    for (const endpoint of chain.endpoints) endpoint.frozen = undefined
    for (const host of hosts) host.isActing = false
  }

  function turnEnded(current: Life): void {
    turns += 1
    ledger.turnEnded(current)
    if (turns > maxTurns) fail({ invariant: 'turns are bounded', detail: `${turns} turns` })
    if (!isOver && !around.faults.isStorm()) waitForRest(current)
  }

  function waitForRest(current: Life): void {
    const print = fingerprint(around, current)
    if (rest?.print !== print) rest = { since: world.now(), print }
    if (world.now() - rest.since >= restNeeded(scenario)) endWell(current)
    else if (world.now() > scenario.stormMs + maxCalmMs)
      fail({ invariant: 'the world comes to rest', detail: `not within ${maxCalmMs / 60_000} minutes` })
  }

  function endWell(current: Life): void {
    isOver = true
    for (const violation of findQuietViolations(around, current)) fail(violation)
    current.stop()
  }

  const requests = chain.requestsByDigest.size
  return {
    seed,
    violations,
    trace: world.trace,
    turns,
    lives,
    requests,
    mostTransactions: ledger.mostTransactions(),
    faults: around.faults.counts,
  }
}

/** Everything that is waited for happens within this time. */
function restNeeded({ config, blockSeconds }: Scenario): number {
  const { confirmations, reorgDepth } = config.onchain!
  const blocks = (reorgDepth + confirmations + 4) * blockSeconds * 1000
  return Math.max(config.tunnelTimeoutMs * 1.5, config.reconcileIntervalMs * 2, blocks) + 20_000
}

function pauseAfter(ending: Ending, random: Random): number {
  const longest = ending.kind === 'stopped' ? 2000 : random.pick([1000, 5000, 60_000, 240_000])
  return random.between(100, longest)
}

function makeSurroundings(random: Random, scenario: Scenario, databasePath: string, mutate: Mutation): Surroundings {
  const world = createWorld()
  const faults = createFaults(world, random.fork('faults'), scenario)
  const chain = createChain(
    world,
    random.fork('chain'),
    {
      rules: scenario.rules,
      genesisTimestamp: worldStart / 1000,
      blockSeconds: scenario.blockSeconds,
      endpoints: scenario.endpoints,
      inclusion: scenario.inclusion,
    },
    nftContracts(castOf(scenario.hosts)),
  )
  const kernel = createFakeKernel({
    ethernet: { [upstreamName]: [] },
    hasWireGuardModule: scenario.hasWireGuardModule,
    programs: ['wireguard-go', 'ndppd'],
  })
  const offset = { ms: 0 }
  const outages = { rpc: false, commands: new Set<string>() }
  comeClockJumps(faults, random.fork('clock'), world, offset)
  const ports = random.fork('ports')
  return {
    world,
    random: ports,
    scenario,
    faults,
    chain,
    kernel,
    signatures: new Map(),
    databasePath,
    wallOffset: () => offset.ms,
    outages,
    mutate,
  }
}

/** The last host's contract has another code than the others. */
function nftContracts(cast: readonly Identity[]): ContractState['nfts'] {
  return new Map<Address, NftContract>(
    cast.map(({ nftContract, wallets }, at) => {
      const codeHash = at === cast.length - 1 ? codeHashes.other : codeHashes.usual
      return [nftContract, { owner: wallets[0], codeHash, isErc721: true }]
    }),
  )
}

function startHosts(around: Surroundings): Host[] {
  const { world, chain, kernel, scenario } = around
  const random = createRandomForHosts(around)
  const hosts: Host[] = []
  for (const identity of castOf(scenario.hosts))
    hosts.push(
      startHost(identity, {
        world,
        random,
        chain,
        kernel,
        machineSeconds: () => Math.floor((worldStart + world.now() + around.wallOffset()) / 1000),
        restMs: scenario.hostRestMs,
        tunnelTimeoutMs: scenario.config.tunnelTimeoutMs,
        others: () => hosts.filter(host => host.identity !== identity),
      }),
    )
  return hosts
}

function createRandomForHosts({ random }: Surroundings): Random {
  return random.fork('hosts')
}

/** Blocks, and all that goes wrong by itself. */
function startWeather(around: Surroundings, life: () => Life | undefined): void {
  const { world, faults, chain, kernel, scenario, outages } = around
  const random = around.random.fork('weather')
  world.after(scenario.blockSeconds * 1000, function mine(): void {
    chain.mine()
    world.after(scenario.blockSeconds * 1000, mine)
  })
  faults.comes('reorg', () => chain.reorganize(drawReorgDepth(chain, random, scenario.maxReorgDepth)))
  faults.comes('stale-endpoint', () => freezeEndpoint(world, chain, random))
  faults.comes('transaction-forgotten', () => chain.dropWaiting())
  faults.comes('fee-spike', () => spikeFees(around, random))
  faults.comes('no-funds', () => {
    world.note('chain', 'the operator runs out of gas')
    chain.funds.wei = 0n
    world.after(random.between(5000, 120_000), () => {
      chain.funds.wei = 10n ** 18n
    })
  })
  faults.comes('rpc-outage', () => {
    outages.rpc = true
    world.note('chain', 'no endpoint answers')
    world.after(random.between(5000, 180_000), () => {
      outages.rpc = false
    })
  })
  faults.comes('command-outage', () => breakCommand(around, random))
  faults.comes('machine-restart', () => {
    world.note('machine', 'restarts')
    life()?.kill('the machine restarts')
    kernel.reboot()
  })
  faults.comes('peers-flushed', () => disturb(world, 'peers flushed', () => kernel.flushPeers(tunnelName)))
  faults.comes('interface-deleted', () => disturb(world, 'interface deleted', () => kernel.deleteLink(tunnelName)))
  faults.comes('firewall-flushed', () => disturb(world, 'firewall flushed', () => kernel.flushFirewall()))
  faults.comes('ndppd-killed', () => disturb(world, 'ndppd killed', () => kernel.kill('ndppd')))
}

/** After the storm nothing happens that would cover up what the last reorganization left behind. */
function strikeLast({ chain, faults, scenario }: Surroundings, random: Random): void {
  if (scenario.faults.reorg === 0 || random.chance(0.4)) return
  faults.count('reorg')
  chain.reorganize(drawReorgDepth(chain, random, scenario.maxReorgDepth))
}

/** Mostly one that takes the latest transactions away. */
function drawReorgDepth(chain: SimChain, random: Random, most: number): number {
  if (random.chance(0.3)) return random.int(1, most)
  let block = chain.head()
  for (let depth = 1; depth <= most; depth++) {
    if (block.mined.length > 0) return depth
    if (block.parent === undefined) break
    block = block.parent
  }
  return random.int(1, most)
}

function disturb(world: World, what: string, work: () => void): void {
  world.note('machine', what)
  work()
}

function freezeEndpoint(world: World, chain: SimChain, random: Random): void {
  const endpoint = random.pick(chain.endpoints)
  if (endpoint.frozen !== undefined) return
  const block = chain.head()
  endpoint.frozen = block
  world.note('chain', `${endpoint.name} stays at block ${block.number}`)
  world.after(random.between(2000, 60_000), () => {
    if (endpoint.frozen === block) endpoint.frozen = undefined
  })
}

function spikeFees({ world, chain, faults }: Surroundings, random: Random): void {
  const gwei = random.int(25, 400)
  world.note('chain', `base fee ${gwei} gwei`)
  chain.setBaseFee(BigInt(gwei) * 10n ** 9n)
  world.after(random.between(20_000, 240_000), () => {
    if (faults.isStorm()) chain.setBaseFee(10n ** 10n)
  })
}

function breakCommand({ outages, world }: Surroundings, random: Random): void {
  const command = random.pick(['wg', 'ip', 'nft', 'ndppd'])
  world.note('machine', `${command} fails`)
  outages.commands.add(command)
  world.after(random.between(10_000, 240_000), () => outages.commands.delete(command))
}

function comeClockJumps(faults: Faults, random: Random, world: World, offset: { ms: number }): void {
  faults.comes('clock-jump', () => {
    offset.ms += random.pick([-3_600_000, -60_000, -5000, 5000, 60_000, 3_600_000, 86_400_000])
    world.note('machine', `the wall clock is ${offset.ms / 1000} s off`)
  })
}

function describe({ hosts, config, rules, blockSeconds, stormMs, hasWireGuardModule }: Scenario): string {
  const { upstreamPrefix, allocationSize, wireguard, onchain } = config
  return `${hosts} hosts, ${upstreamPrefix} in /${allocationSize}, ndp ${wireguard.ndpMode}, ${hasWireGuardModule ? 'module' : 'wireguard-go'}, blocks of ${blockSeconds} s, confirmations ${onchain!.confirmations}, reorg depth ${onchain!.reorgDepth}, tunnel timeout ${config.tunnelTimeoutMs} ms, answers valid ${rules.expirationSeconds} s, storm of ${Math.round(stormMs / 1000)} s`
}
