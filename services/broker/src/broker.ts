import type { Outbox } from '@blockhost/chain/outbox.ts'
import type { ChainReader } from '@blockhost/chain/snapshot.ts'
import { backoffMs, type Clock } from '@blockhost/kit/clock.ts'
import { exitCodes, messageOf, toExitCode } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { Address } from 'viem'
import { answerOpen, releaseOnChain } from './answers.ts'
import { foldChanges } from './changes.ts'
import type { BrokerConfig } from './config.ts'
import type { Dataplane, DataplaneChange } from './dataplane.ts'
import { takeBack, toDataplane } from './effects.ts'
import { createFollower, type FollowCounters, type Follower, type FollowRules } from './follow.ts'
import { createPayloadOpener } from './payload.ts'
import type { Lease, Store } from './store.ts'
import { createTunnelWatch } from './tunnels.ts'

/** The world of the broker; everything it touches comes in here. */
export type BrokerDeps = {
  readonly store: Store
  /** Absent when `[onchain]` is off: leases are kept up, none are made. */
  readonly onchain:
    | {
        readonly chain: ChainReader
        readonly outbox: Outbox
        readonly operator: Address
        readonly eciesPrivateKey: Uint8Array
      }
    | undefined
  readonly dataplane: Dataplane
  readonly clock: Clock
  readonly log: Log
  /** Chance for the pauses after failures, in [0, 1); default `Math.random`. */
  readonly random?: () => number
}

/** What one turn did. */
export type TurnReport = {
  /** Whether the next turn should follow at once. */
  readonly more: boolean
  /** Whether something is under way, so that the next turn should come sooner than usual. */
  readonly busy: boolean
  readonly chainError: unknown
  readonly dataplaneError: unknown
}

/** Facts for `/health`, `/api/status` and `/metrics`. */
export type BrokerStatus = {
  readonly headBlock: bigint | undefined
  /** Unix ms of the last good read of the chain. */
  readonly lastPollAt: number | undefined
  readonly chainError: string | undefined
  readonly dataplaneError: string | undefined
  readonly operatorBalanceWei: bigint | undefined
  readonly requests: Readonly<Record<string, number>>
  readonly outboxPending: number
  readonly leases: number
  readonly poolCapacity: bigint
  readonly resting: number
  readonly counters: Readonly<Record<keyof FollowCounters | 'unused' | 'repairs', number>>
}

/** The broker's loop. */
export type Broker = {
  /** Runs turns until `signal` aborts; a turn under way is finished. Throws only what no turn can survive. */
  run(signal: AbortSignal): Promise<void>
  /** One turn: repair the network, read the chain, decide, apply, answer, send, check tunnels. */
  turn(): Promise<TurnReport>
  status(): BrokerStatus
  /** Takes new limits and intervals; what needs a restart is the caller's to refuse. */
  reconfigure(config: BrokerConfig): void
}

/**
 * Makes the broker. SQLite is intent; kernel and chain are facts; each turn closes the difference. Every step is durable
 * before its effects are visible, so a kill at any moment is healed by the next turn:
 * commit the lease, then change the network, then answer on chain.
 */
export function createBroker(initial: BrokerConfig, deps: BrokerDeps): Broker {
  const { store, dataplane, clock, log } = deps
  let config = initial
  const tunnels = createTunnelWatch(deps)
  let tunnelsCheckedAt = Number.NEGATIVE_INFINITY
  const followers = deps.onchain === undefined ? [] : createFollowers(config, deps, deps.onchain)
  const counters = { unused: 0, repairs: 0 }
  const chainState: ChainState = { problems: new Map(), lastPollAt: undefined, head: undefined, balanceWei: undefined }
  const network = { problems: new Map<string, unknown>(), isDirty: true, reconciledAt: Number.NEGATIVE_INFINITY }

  async function turn(): Promise<TurnReport> {
    await repairNetwork()
    let more = false
    for (const follower of followers) more = (await followOne(follower)) || more
    if (deps.onchain !== undefined) await attempt(chainState, 'the outbox could not be worked', () => sendOutbox())
    // A process and a look at every waiting lease: not for each page of a backlog.
    if (!more || clock.monotonic() - tunnelsCheckedAt >= tunnelCheckMs) {
      tunnelsCheckedAt = clock.monotonic()
      await attempt(network, 'the tunnels could not be checked', checkTunnels)
    }
    return { more, busy: isBusy(), chainError: firstOf(chainState), dataplaneError: firstOf(network) }
  }

  // --- network ------------------------------------------------------------------------------------------------------

  async function repairNetwork(): Promise<void> {
    if (!network.isDirty && clock.monotonic() - network.reconciledAt < config.reconcileIntervalMs) return
    // Marked before trying: a repair that fails half-way leaves a network that nobody knows.
    network.isDirty = true
    await attempt(network, 'the network could not be reconciled', async () => {
      const report = await dataplane.reconcile(store.leases().map(toDataplane))
      if (report.changes.length > 0) {
        counters.repairs += report.changes.length
        log.info({ changes: report.changes.slice(0, 20), count: report.changes.length }, 'network reconciled')
        tunnels.restart()
      }
      network.isDirty = false
      network.reconciledAt = clock.monotonic()
      network.problems.delete(changeFailed)
      await noteHandshakes()
    })
  }

  function isNetworkKnown(): boolean {
    return network.reconciledAt > Number.NEGATIVE_INFINITY
  }

  async function applyChanges(changes: readonly DataplaneChange[]): Promise<void> {
    const folded = foldChanges(changes)
    if (folded.length === 0) return
    // Marked before trying: whatever interrupts the change, the next turn looks at the whole network.
    const wasDirty = network.isDirty
    network.isDirty = true
    await attempt(network, changeFailed, async () => {
      await dataplane.change(folded)
      network.isDirty = wasDirty
    })
  }

  /** Notes where hosts were heard from, and their handshakes, at most once an hour a lease. */
  async function noteHandshakes(): Promise<void> {
    if (store.leaseCount() === 0) return
    const peers = await dataplane.peers()
    store.transaction(() => {
      for (const lease of store.leases()) {
        const { latestHandshake: seconds, endpoint } = peers.get(lease.publicKey) ?? {}
        if (seconds !== undefined && seconds * 1000 - seenAt(lease) > hourMs) store.markSeen(lease, seconds * 1000)
        if (endpoint !== undefined && endpoint !== lease.endpoint) store.noteEndpoint(lease, endpoint)
      }
    })
  }

  async function checkTunnels(): Promise<void> {
    // A network that could not be repaired, or only in part, gives no host its chance.
    if (network.isDirty) return tunnels.restart()
    const unused = await tunnels.findUnused(config.tunnelTimeoutMs)
    if (unused.length === 0) return
    const changes = store.transaction(() => unused.flatMap(takeBackUnused))
    counters.unused += unused.length
    await applyChanges(changes)
  }

  function takeBackUnused(lease: Lease): DataplaneChange[] {
    const row = lease.request && store.requests.find(lease.request)
    const generation = followers.find(follower => follower.contract === row?.contract)?.generation()
    log.info({ prefix: lease.prefix, nft: lease.nftContract }, 'no tunnel came up in time; the lease is taken back')
    if (row !== undefined && deps.onchain !== undefined)
      releaseOnChain(store, deps.onchain.outbox, row, generation ?? 3, 'unused')
    return takeBack(store, lease, 'unused', undefined)
  }

  // --- chain --------------------------------------------------------------------------------------------------------

  async function followOne(follower: Follower): Promise<boolean> {
    let more = false
    await attempt(chainState, `requests contract ${follower.contract} could not be followed`, async () => {
      const result = await follower.poll(rulesOf(config))
      chainState.lastPollAt = clock.now()
      if (result === undefined) return
      noteHead(result.snapshot.blockNumber, result.snapshot.operatorBalanceWei)
      more = result.more
      await applyChanges(result.changes)
      if (!network.isDirty) answer(follower)
    })
    return more
  }

  function answer(follower: Follower): void {
    answerOpen(store, deps.onchain!.outbox, follower.contract, {
      generation: follower.generation() ?? 3,
      perTransaction: config.onchain?.maxAnswersPerTransaction ?? 1,
      limit: 200,
      offer: {
        gateway: config.brokerAddress,
        brokerPublicKey: dataplane.publicKey,
        brokerEndpoint: config.wireguard.publicEndpoint,
      },
    })
  }

  async function sendOutbox(): Promise<void> {
    const head = chainState.head
    if (head === undefined) return
    for (const row of await deps.onchain!.outbox.tick({ blockNumber: head })) {
      const level = row.state === 'reverted' ? 'warn' : 'debug'
      log[level]({ note: row.note, state: row.state, hash: row.hash, nonce: row.nonce }, 'transaction')
    }
  }

  function noteHead(head: bigint, balanceWei: bigint): void {
    chainState.head = head
    const low = config.onchain?.lowBalanceWei ?? 0n
    const wasLow = chainState.balanceWei !== undefined && chainState.balanceWei < low
    if (balanceWei < low && !wasLow)
      log.warn(
        { balanceWei: String(balanceWei), operator: deps.onchain?.operator },
        'the operator wallet runs low; without gas no request is answered',
      )
    chainState.balanceWei = balanceWei
  }

  // --- loop ---------------------------------------------------------------------------------------------------------

  async function run(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      const report = await turn()
      throwIfHopeless(report)
      failures = report.chainError === undefined && report.dataplaneError === undefined ? 0 : failures + 1
      if (report.more && failures === 0) continue
      await clock.sleep(pauseMs(report, failures), signal)
    }
  }

  /** A configuration that never worked ends the daemon (exit 78) instead of being tried for ever. */
  function throwIfHopeless(report: TurnReport): void {
    const hasWorked = {
      chain: chainState.lastPollAt !== undefined,
      network: isNetworkKnown(),
    }
    if (!hasWorked.network && toExitCode(report.dataplaneError) === exitCodes.badConfig) throw report.dataplaneError
    if (!hasWorked.chain && toExitCode(report.chainError) === exitCodes.badConfig) throw report.chainError
  }

  function pauseMs(report: TurnReport, failures: number): number {
    const usual = config.onchain?.pollIntervalMs ?? 5000
    if (failures > 0) return backoffMs(failures - 1, { baseMs: Math.min(usual, 2000), maxMs: 60_000 }, deps.random)
    return report.busy ? Math.min(usual, config.onchain?.busyPollIntervalMs ?? usual) : usual
  }

  function isBusy(): boolean {
    return (
      (deps.onchain?.outbox.pending() ?? 0) > 0 || followers.some(follower => store.requests.hasOpen(follower.contract))
    )
  }

  /** Runs one part of a turn; a failure is told once, kept for `/health`, and does not stop the other parts. */
  async function attempt(
    part: { problems: Map<string, unknown> },
    what: string,
    work: () => Promise<void>,
  ): Promise<void> {
    try {
      await work()
      if (part.problems.delete(what)) log.info({}, `${what}; it works again`)
    } catch (error) {
      if (messageOf(part.problems.get(what)) !== messageOf(error)) log.warn({ error: messageOf(error) }, what)
      part.problems.set(what, error)
    }
  }

  function status(): BrokerStatus {
    const sums = { leased: 0, rekeyed: 0, refused: 0, superseded: 0, dropped: 0, released: 0, stale: 0 }
    for (const follower of followers)
      for (const [name, count] of Object.entries(follower.counters)) sums[name as keyof FollowCounters] += count
    return {
      headBlock: chainState.head,
      lastPollAt: chainState.lastPollAt,
      chainError: describe(chainState),
      dataplaneError: describe(network) ?? (isNetworkKnown() ? undefined : 'they are set up for the first time'),
      operatorBalanceWei: chainState.balanceWei,
      requests: store.requests.countByState(),
      outboxPending: deps.onchain?.outbox.pending() ?? 0,
      leases: store.leaseCount(),
      poolCapacity: BigInt(store.pool.last),
      resting: store.restingCount(),
      counters: { ...sums, ...counters },
    }
  }

  return {
    run,
    turn,
    status,
    reconfigure: next => {
      config = next
    },
  }
}

type ChainState = {
  readonly problems: Map<string, unknown>
  lastPollAt: number | undefined
  head: bigint | undefined
  balanceWei: bigint | undefined
}

const hourMs = 3_600_000
/** How long a check of the tunnels may be put off while a backlog is read. */
const tunnelCheckMs = 2_000
const changeFailed = 'the network could not be changed'

function firstOf(part: { problems: ReadonlyMap<string, unknown> }): unknown {
  return part.problems.values().next().value
}

function describe(part: { problems: ReadonlyMap<string, unknown> }): string | undefined {
  const [problem] = part.problems
  return problem && `${problem[0]}: ${messageOf(problem[1])}`
}

function seenAt(lease: Lease): number {
  return lease.lastSeenAt === undefined ? 0 : Date.parse(lease.lastSeenAt)
}

function createFollowers(
  config: BrokerConfig,
  deps: BrokerDeps,
  onchain: NonNullable<BrokerDeps['onchain']>,
): Follower[] {
  const openPayload = createPayloadOpener(onchain.eciesPrivateKey)
  return (config.onchain?.requestsContracts ?? []).map(contract =>
    createFollower(contract.toLowerCase(), {
      store: deps.store,
      chain: onchain.chain,
      outbox: onchain.outbox,
      operator: onchain.operator,
      clock: deps.clock,
      log: deps.log,
      openPayload,
      brokerPublicKey: deps.dataplane.publicKey,
      leaseLimit: deps.dataplane.leaseLimit,
    }),
  )
}

function rulesOf(config: BrokerConfig): FollowRules {
  return {
    keepDays: config.keepDays,
    quarantineDays: config.quarantineDays,
    confirmations: config.onchain?.confirmations ?? 0,
    reorgDepth: config.onchain?.reorgDepth ?? 64,
    acceptedCodeHashes: config.limits.acceptedCodeHashes,
    maxLeasesPerWallet: config.limits.maxLeasesPerWallet,
    requestsPerWalletPerDay: config.limits.requestsPerWalletPerDay,
  }
}
