import type { Outbox } from '@blockhost/chain/outbox.ts'
import {
  type ChainReader,
  type RequestView,
  requestStatus,
  type Snapshot,
  type WatchView,
} from '@blockhost/chain/snapshot.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { Address } from 'viem'
import { releaseOnChain } from './answers.ts'
import type { DataplaneChange } from './dataplane.ts'
import { grant, isBasis, takeBack, undo } from './effects.ts'
import { type JudgeContext, judge, type OpenPayload } from './judge.ts'
import { observe } from './observe.ts'
import type { RequestRow } from './requests.ts'
import type { RestTimes, Store } from './store.ts'

/** What following one contract needs. */
export type FollowDeps = {
  readonly store: Store
  readonly chain: ChainReader
  readonly outbox: Outbox
  readonly clock: Clock
  readonly log: Log
  readonly openPayload: OpenPayload
  readonly operator: Address
  readonly brokerPublicKey: string
  /** Most leases that the network can carry. */
  readonly leaseLimit: number
}

/** The part of the configuration that following needs; may change while it runs. */
export type FollowRules = RestTimes & {
  readonly confirmations: number
  readonly reorgDepth: number
  readonly acceptedCodeHashes: readonly string[]
  readonly maxLeasesPerWallet: number
  readonly requestsPerWalletPerDay: number
}

/** What one read of the chain led to. */
export type FollowResult = {
  readonly snapshot: Snapshot
  /** Network changes; the caller applies them after this returns. */
  readonly changes: readonly DataplaneChange[]
  /** Whether more is waiting and the next read should follow at once. */
  readonly more: boolean
}

/** Counts since the start, for `/metrics`. */
export type FollowCounters = {
  leased: number
  rekeyed: number
  refused: number
  superseded: number
  dropped: number
  released: number
  stale: number
}

/** One requests contract, followed. */
export type Follower = {
  readonly contract: string
  readonly counters: FollowCounters
  /** Generation of the contract, once it was read. */
  readonly generation: () => 1 | 2 | 3 | undefined
  /** One round trip to the chain, one database transaction. @returns `undefined` when the endpoint lags behind. */
  poll(rules: FollowRules): Promise<FollowResult | undefined>
}

// The lens answers at most 24,576 bytes: about 28 requests of usual size, less what the watched ones take.
const pageSize = 40
const watchSize = 40
/** While new requests wait, they get the room. */
const watchSizeBehind = 10
const minSweepSize = 10

/**
 * Follows one requests contract. The chain is enumerated by id, never by events; every request that could still be
 * reorganized away is looked at again, a page in each read, until it is `reorgDepth` blocks old.
 *
 * @param contract - Lower-case address.
 */
export function createFollower(contract: string, deps: FollowDeps): Follower {
  const { store } = deps
  const counters: FollowCounters = {
    leased: 0,
    rekeyed: 0,
    refused: 0,
    superseded: 0,
    dropped: 0,
    released: 0,
    stale: 0,
  }
  const cursorKey = `cursor:${contract}`
  const seenCounts: { count: bigint; block: bigint }[] = []
  const recent = { afterId: 0n }
  const sweep = { afterLease: 0 }
  let head = store.requests.lastBlock(contract)
  let isBehind = false
  let generation: 1 | 2 | 3 | undefined

  async function poll(rules: FollowRules): Promise<FollowResult | undefined> {
    const { watched, sweptTo } = chooseWatched(rules)
    const snapshot = await deps.chain.snapshot({
      requests: contract as Address,
      cursor: readCursor(),
      max: pageSize,
      watchIds: watched.map(row => row.id),
      operator: deps.operator,
    })
    if (snapshot.blockNumber < head) {
      counters.stale += 1
      return undefined
    }
    if (snapshot.owner.toLowerCase() !== deps.operator.toLowerCase())
      throw notOwner(contract, snapshot.owner, deps.operator)
    generation = snapshot.generation
    const result = store.transaction(() => {
      store.collectRested()
      const before = readCursor()
      const observed = watched.map((row, at) =>
        applyObservation(row, snapshot.watched[at], snapshot.blockNumber, rules),
      )
      const isRewound = readCursor() < before
      const taken = intake(snapshot, rules)
      return { changes: [...observed.flat(), ...taken.changes], more: taken.more || isRewound }
    })
    // What was not committed was not seen. A page that was not read, not committed or not of a newer block is read again.
    if (snapshot.blockNumber > head) sweep.afterLease = sweptTo
    head = snapshot.blockNumber
    isBehind = result.more
    return { snapshot, ...result }
  }

  // --- what was decided before ------------------------------------------------------------------------------------

  /** Requests that may change by themselves, and as far as there is room those behind the next leases. */
  function chooseWatched(rules: FollowRules): { watched: RequestRow[]; sweptTo: number } {
    const since = head - BigInt(rules.reorgDepth)
    const size = isBehind ? watchSizeBehind : watchSize
    const rows = store.requests.watched(contract, since, recent.afterId, size)
    recent.afterId = rows.length < size ? 0n : rows.at(-1)!.id
    const known = new Set(rows.map(row => `${row.id}:${row.digest}`))
    const { swept, sweptTo } = sweepPage(minSweepSize + size - rows.length)
    return { watched: [...rows, ...swept.filter(row => !known.has(`${row.id}:${row.digest}`))], sweptTo }
  }

  /** Goes round all leases, for ever: what was released or expired on chain while nobody looked ends the lease. */
  function sweepPage(limit: number): { swept: RequestRow[]; sweptTo: number } {
    const leases = store.leasesAfter(sweep.afterLease, limit)
    const swept = leases.flatMap(lease => {
      if (lease.request?.contract !== contract) return []
      return store.requests.find(lease.request) ?? []
    })
    return { swept, sweptTo: leases.length < limit ? 0 : leases.at(-1)!.id }
  }

  function applyObservation(
    row: RequestRow,
    view: WatchView | undefined,
    blockNumber: bigint,
    rules: FollowRules,
  ): DataplaneChange[] {
    if (view === undefined || view.id !== row.id) return []
    const transaction = row.txKey === undefined ? undefined : deps.outbox.find(row.txKey)
    const seen = observe(row, view, transaction?.state, blockNumber > head && blockNumber > row.changedBlock)
    if (seen.kind === 'same') return []
    store.requests.touch(row, blockNumber)
    switch (seen.kind) {
      case 'answered':
        store.requests.setState(row, 'answered')
        return []
      case 'unanswered':
        store.requests.setState(row, 'answering')
        return []
      case 'retry':
        return retry(row, transaction?.state !== 'cancelled' || transaction.attempts > 0, rules)
      case 'overtaken':
        return overtaken(row, seen.reason, rules)
      case 'released':
        return releasedOnChain(row, rules)
      case 'lingering':
        releaseOnChain(store, deps.outbox, row, generation ?? 3, row.reason ?? 'released')
        return []
      case 'gone':
        store.requests.setState(row, 'released', row.reason)
        return []
      case 'landing':
        return []
      case 'revived':
        readAgainFrom(row.id)
        return []
      case 'dropped':
        return dropped(row, rules)
    }
  }

  /** An answer that was cancelled before it was sent, for the sake of another one in the same transaction, is no failure. */
  function retry(row: RequestRow, wasSent: boolean, rules: FollowRules): DataplaneChange[] {
    if (!wasSent || row.attempts + 1 < maxAttempts) {
      store.requests.retry(row, wasSent)
      return []
    }
    deps.log.error(
      { contract, request: row.id, attempts: row.attempts + 1 },
      'the answer keeps failing on chain; the request is refused',
    )
    return end(row, 'refused', 'answer-failed', rules)
  }

  function overtaken(row: RequestRow, reason: 'superseded' | 'released', rules: FollowRules): DataplaneChange[] {
    counters[reason] += 1
    if (row.txKey !== undefined) deps.outbox.cancelQueued(row.txKey)
    return end(row, reason, reason, rules)
  }

  function releasedOnChain(row: RequestRow, rules: FollowRules): DataplaneChange[] {
    counters.released += 1
    store.requests.setState(row, 'released', 'released-on-chain')
    const lease = store.findLease({ nftContract: row.nftContract })
    if (lease === undefined || !isBasis(lease, row)) return []
    return takeBack(store, lease, 'released-on-chain', lease.tunnelSeen ? rules : undefined)
  }

  function dropped(row: RequestRow, rules: FollowRules): DataplaneChange[] {
    counters.dropped += 1
    readAgainFrom(row.id)
    deps.log.warn(
      { contract, request: row.id, state: row.state },
      'a reorganization dropped a request; its effects are undone',
    )
    return end(row, 'dropped', 'reorg', rules)
  }

  function end(
    row: RequestRow,
    state: 'refused' | 'superseded' | 'released' | 'dropped',
    reason: string,
    rules: FollowRules,
  ): DataplaneChange[] {
    const isOpen = row.state === 'leased' || row.state === 'answering' || row.state === 'answered'
    store.requests.setState(row, state, reason)
    return isOpen ? undo(store, row, reason, rules) : []
  }

  function readAgainFrom(id: bigint): void {
    if (id - 1n < readCursor()) store.setState(cursorKey, String(id - 1n))
  }

  function readCursor(): bigint {
    return BigInt(store.getState(cursorKey) ?? '0')
  }

  // --- what is new -------------------------------------------------------------------------------------------------

  function intake(snapshot: Snapshot, rules: FollowRules): { changes: DataplaneChange[]; more: boolean } {
    const start = readCursor()
    const changes: DataplaneChange[] = []
    let cursor = start
    noteCount(snapshot)
    for (const view of snapshot.requests) {
      if (view.id !== cursor + 1n || !isDeepEnough(view, snapshot, rules)) break
      changes.push(...decide(view, snapshot, rules))
      cursor = view.id
    }
    if (cursor !== start) store.setState(cursorKey, String(cursor))
    return { changes, more: cursor !== start && cursor < snapshot.requestCount }
  }

  /**
   * Notes in which block the chain first had so many requests: all that wait are counted from then on, however many pages of the
   * lens they fill.
   */
  function noteCount(snapshot: Snapshot): void {
    while (seenCounts.length > 0 && seenCounts.at(-1)!.count > snapshot.requestCount) seenCounts.pop()
    if ((seenCounts.at(-1)?.count ?? 0n) < snapshot.requestCount)
      seenCounts.push({ count: snapshot.requestCount, block: snapshot.blockNumber })
    while (seenCounts.length > 0 && seenCounts[0]!.count <= readCursor()) seenCounts.shift()
  }

  function isDeepEnough(view: RequestView, snapshot: Snapshot, rules: FollowRules): boolean {
    const changedBlock = seenCounts.find(({ count }) => count >= view.id)?.block ?? snapshot.blockNumber
    return snapshot.blockNumber - changedBlock >= BigInt(rules.confirmations)
  }

  function decide(view: RequestView, snapshot: Snapshot, rules: FollowRules): DataplaneChange[] {
    const known = store.requests.find({ contract, id: view.id, digest: view.digest })
    if (known !== undefined && !canComeBack(known, view)) return []
    const verdict = judge(view, judgeContext(view, snapshot, rules))
    switch (verdict.kind) {
      case 'skip':
        if (known?.publicKey !== undefined) return comeBackAnswered(known, known.publicKey, view, snapshot)
        adoptHistory(view, snapshot, known === undefined)
        rememberYoung(view, snapshot)
        return []
      case 'supersede':
        counters.superseded += 1
        store.requests.record(newRow(view, snapshot, 'superseded', 'superseded'))
        return []
      case 'refuse':
        return refuse(view, snapshot, verdict.reason)
      case 'lease':
        return lease(view, snapshot, verdict.wish)
    }
  }

  function lease(
    view: RequestView,
    snapshot: Snapshot,
    wish: { publicKey: string; serverPublicKey: string },
  ): DataplaneChange[] {
    const row = newRow(view, snapshot, 'leased', undefined)
    const isFull =
      store.leaseCount() >= deps.leaseLimit && store.findLease({ nftContract: row.nftContract }) === undefined
    if (isFull) return refuse(view, snapshot, 'network-can-carry-no-more-leases')
    const granted = grant(store, {
      nftContract: row.nftContract,
      publicKey: wish.publicKey,
      wallet: row.requester,
      request: row,
    })
    if (granted === undefined) return refuse(view, snapshot, 'pool-exhausted')
    counters[granted.previous === undefined ? 'leased' : 'rekeyed'] += 1
    store.requests.record({
      ...row,
      publicKey: wish.publicKey,
      serverPublicKey: wish.serverPublicKey,
      previous: granted.previous,
    })
    return [granted.change]
  }

  function refuse(view: RequestView, snapshot: Snapshot, reason: string): DataplaneChange[] {
    counters.refused += 1
    const row = newRow(view, snapshot, 'refused', reason)
    store.requests.record(row)
    store.audit('refuse', {
      nftContract: row.nftContract,
      details: { request: Number(view.id), requester: row.requester, reason },
    })
    deps.log.info({ contract, request: view.id, reason }, 'request refused')
    return []
  }

  /** A request is back together with the answer it had: its lease is made again, with the prefix that was kept for it. */
  function comeBackAnswered(
    row: RequestRow,
    publicKey: string,
    view: RequestView,
    snapshot: Snapshot,
  ): DataplaneChange[] {
    const { nftContract } = row
    if (view.status !== requestStatus.approved || !view.mapped) return []
    const holder = store.findLease({ publicKey })
    const isKept = store.findLease({ nftContract }) !== undefined || store.isKept(nftContract)
    const back = { ...row, state: 'answered', reason: undefined, changedBlock: snapshot.blockNumber } as const
    if (!isKept || (holder !== undefined && holder.nftContract !== nftContract)) {
      store.requests.record(back)
      releaseOnChain(store, deps.outbox, back, generation ?? 3, 'prefix-gone')
      return []
    }
    const granted = grant(store, { nftContract, publicKey, wallet: row.requester, request: row })!
    store.requests.record({ ...back, previous: granted.previous })
    return [granted.change]
  }

  /** A lease of the earlier generation learns which request it answers, so that a release on chain is noticed. */
  function adoptHistory(view: RequestView, snapshot: Snapshot, isNews: boolean): void {
    if (view.status !== requestStatus.approved || !view.mapped) return
    const known = store.findLease({ nftContract: view.nftContract.toLowerCase() })
    if (known === undefined && isNews)
      deps.log.warn(
        { contract, request: view.id, nft: view.nftContract },
        'the chain shows a lease that this database does not know',
      )
    if (known === undefined || known.request !== undefined) return
    const row = newRow(view, snapshot, 'answered', 'imported')
    store.requests.record({ ...row, publicKey: known.publicKey })
    store.rekey(known, known.publicKey, row)
  }

  /** What was over before it was read may come back in a reorg, or another request in its place; the old can't. */
  function rememberYoung(view: RequestView, snapshot: Snapshot): void {
    if (snapshot.timestamp > view.submittedAt + youngSeconds) return
    if (store.requests.find({ contract, id: view.id, digest: view.digest }) === undefined)
      store.requests.record(newRow(view, snapshot, 'superseded', 'over-before-it-was-read'))
  }

  function newRow(view: RequestView, snapshot: Snapshot, state: RequestRow['state'], reason: string | undefined) {
    return {
      contract,
      id: view.id,
      digest: view.digest as string,
      requester: view.requester.toLowerCase(),
      nftContract: view.nftContract.toLowerCase(),
      state,
      reason,
      publicKey: undefined,
      serverPublicKey: undefined,
      previous: undefined,
      changedBlock: snapshot.blockNumber,
    }
  }

  function judgeContext(view: RequestView, snapshot: Snapshot, rules: FollowRules): JudgeContext {
    return {
      now: snapshot.timestamp,
      expirationSeconds: snapshot.expirationSeconds,
      openPayload: deps.openPayload,
      acceptedCodeHashes: rules.acceptedCodeHashes,
      maxLeasesPerWallet: rules.maxLeasesPerWallet,
      requestsPerWalletPerDay: rules.requestsPerWalletPerDay,
      brokerPublicKey: deps.brokerPublicKey,
      findHolder: publicKey => store.findLease({ publicKey })?.nftContract,
      hasLease: nftContract => store.findLease({ nftContract }) !== undefined,
      countLeases: wallet => store.countLeasesOfWallet(wallet),
      countRequestsToday: wallet => store.requests.countOfWalletSince(wallet, deps.clock.now() - dayMs, view.digest),
    }
  }

  return { contract, counters, generation: () => generation, poll }
}

function notOwner(contract: string, owner: Address, operator: Address): BlockHostError {
  return new BlockHostError({
    code: 'BH_NOT_CONTRACT_OWNER',
    message: `The requests contract ${contract} belongs to ${owner}; the operator key is ${operator}, whose answers it refuses`,
    hint: 'Correct requests_contract, legacy_requests_contracts or private_key_file in [onchain], or transfer the contract to the operator.',
    fields: { contract, owner, operator },
    exitCode: exitCodes.badConfig,
  })
}

/** Whether a request that was decided on is decided on again: a reorg brought it back, or its answer after it was given up. */
function canComeBack({ state, publicKey }: RequestRow, view: RequestView): boolean {
  if (state === 'released') return view.status === requestStatus.pending && view.mapped
  if (state === 'refused') return view.status === requestStatus.approved && view.mapped && publicKey !== undefined
  return state === 'dropped' || state === 'superseded'
}

const maxAttempts = 3
const dayMs = 86_400_000
const youngSeconds = 86_400
