import type { Address } from '@blockhost/chain/hex.ts'
import type {
  ChainNews,
  SubscriptionsReader,
  SubscriptionsSnapshot,
  SubscriptionView,
  TokenView,
} from '@blockhost/chain/subscription-view.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { VmState } from '@blockhost/vmdb/vm.ts'
import { type ObserveContext, observe } from './observe.ts'
import type { Store } from './store.ts'
import type { Subscription, SubscriptionChange } from './subscription.ts'

/** What following needs. */
export type FollowDeps = {
  readonly store: Store
  readonly chain: SubscriptionsReader
  readonly subscriptions: Address
  readonly nft: Address
  readonly minter: Address
  readonly clock: Clock
  readonly log: Log
  isBusy(id: bigint): boolean
  vmState(id: bigint): VmState | undefined
}

/** The part of the configuration that following needs. */
export type FollowRules = {
  readonly confirmations: number
  readonly reorgDepth: number
  readonly graceDays: number
}

/** What one read of the chain led to. */
export type FollowResult = {
  readonly snapshot: SubscriptionsSnapshot
  /** Newest block as the endpoint counts. */
  readonly head: bigint
  /** Whether more is waiting and the next read should follow at once. */
  readonly more: boolean
}

/** Counts since the start, for the metrics. */
export type FollowCounters = {
  bought: number
  extended: number
  cancelled: number
  dropped: number
  transferred: number
  stale: number
}

/** The subscriptions contract and the tokens, followed. */
export type Follower = {
  readonly counters: FollowCounters
  /** One round trip to the chain, one database transaction. @returns `undefined` when the endpoint lags behind. */
  poll(rules: FollowRules): Promise<FollowResult | undefined>
  /** Chain time of the last read, Unix seconds; 0 before the first. */
  chainNow(): number
  /** Makes the next reads begin after `id` at most. Inside the caller's transaction. */
  readAgainFrom(id: bigint): void
}

// The lens answers with at most 747 words, so that much fits beside a page of new subscriptions.
const pageSize = { usual: 250, behind: 600 } as const
const watchSize = { usual: 300, behind: 60 } as const
const tokenPageSize = 60
/** News are asked for when they are at most so old; a range of blocks that is wider is refused here and there. */
const newsWithinMs = 240_000
const newsPauseMs = 600_000

/**
 * Follows the chain. Subscriptions are enumerated by id, never by events; all of them are looked at again in turn, a page in each
 * read: soon those that a reorganization may still take away, those that are due, and those that an event named.
 */
export function createFollower(deps: FollowDeps): Follower {
  const { store, clock } = deps
  const counters: FollowCounters = { bought: 0, extended: 0, cancelled: 0, dropped: 0, transferred: 0, stale: 0 }
  const touched = { ids: new Set<bigint>(), tokens: new Set<bigint>() }
  const sweep = { unsettled: 0n, all: 0n, tokens: 0n }
  let blockNumber = BigInt(store.getState('block') ?? '0')
  let chainNow = Number(store.getState('chain-now') ?? '0')
  let last: { head: bigint; atMs: number } | undefined
  let newsFrom = Number.NEGATIVE_INFINITY
  let isBehind = true

  async function poll(rules: FollowRules): Promise<FollowResult | undefined> {
    const watched = chooseWatched(rules)
    const tokens = chooseTokens()
    const query = {
      subscriptions: deps.subscriptions,
      nft: deps.nft,
      cursor: readCursor(),
      max: isBehind ? pageSize.behind : pageSize.usual,
      watchIds: watched.map(row => row.id),
      tokenIds: tokens,
      wallets: [deps.minter],
    }
    const since = newsSince()
    const { snapshot, head, news } = await deps.chain.snapshot(query, since)
    if (snapshot.blockNumber < blockNumber) {
      counters.stale += 1
      return undefined
    }
    if (since !== undefined && news === undefined) newsFrom = clock.monotonic() + newsPauseMs
    const more = store.transaction(() => apply(snapshot, watched, news, rules))
    blockNumber = snapshot.blockNumber
    chainNow = snapshot.timestamp
    last = { head, atMs: clock.monotonic() }
    isBehind = more
    forgetTouched(watched, tokens)
    for (const id of news?.subscriptionIds ?? []) touched.ids.add(id)
    for (const id of news?.tokenIds ?? []) touched.tokens.add(id)
    return { snapshot, head, more: more || touched.ids.size > 0 || touched.tokens.size > 0 }
  }

  /** Logs since the last read come with the same round trip, while that is not long ago. */
  function newsSince(): bigint | undefined {
    const now = clock.monotonic()
    return last !== undefined && now - last.atMs < newsWithinMs && now >= newsFrom ? last.head + 1n : undefined
  }

  // --- what to look at ------------------------------------------------------------------------------------------------

  function chooseWatched(rules: FollowRules): Subscription[] {
    const size = isBehind ? watchSize.behind : watchSize.usual
    const chosen = new Map<bigint, Subscription>()
    const add = (rows: readonly Subscription[]) => {
      for (const row of rows) if (chosen.size < size) chosen.set(row.id, row)
    }
    add(store.due(chainNow, graceSecondsOf(rules), size / 3))
    add([...touched.ids].slice(0, size / 3).flatMap(id => store.find(id) ?? []))
    const since = blockNumber - BigInt(rules.reorgDepth)
    const room = Math.max(10, Math.floor((size - chosen.size) * 0.7))
    const unsettled = store.unsettled(since, sweep.unsettled, room)
    sweep.unsettled = unsettled.length < room ? 0n : unsettled.at(-1)!.id
    add(unsettled)
    const rest = Math.max(0, size - chosen.size)
    const all = store.after(sweep.all, rest)
    if (rest > 0) sweep.all = all.length < rest ? 0n : all.at(-1)!.id
    add(all)
    return [...chosen.values()]
  }

  function chooseTokens(): bigint[] {
    const page = store.withToken(sweep.tokens, tokenPageSize)
    sweep.tokens = page.length < tokenPageSize ? 0n : page.at(-1)!.id
    const known = [...touched.tokens].slice(0, tokenPageSize)
    return [...new Set([...known, ...page.map(row => row.tokenId!)])]
  }

  function forgetTouched(watched: readonly Subscription[], tokens: readonly bigint[]): void {
    for (const { id } of watched) touched.ids.delete(id)
    for (const id of [...touched.ids]) if (store.find(id) === undefined) touched.ids.delete(id)
    for (const id of tokens) touched.tokens.delete(id)
  }

  // --- what it means --------------------------------------------------------------------------------------------------

  function apply(
    snapshot: SubscriptionsSnapshot,
    watched: readonly Subscription[],
    news: ChainNews | undefined,
    rules: FollowRules,
  ): boolean {
    for (const [at, row] of watched.entries()) applyObservation(row.id, snapshot.watched[at], snapshot, rules)
    for (const row of store.above(snapshot.subscriptionCount, 200)) applyObservation(row.id, undefined, snapshot, rules)
    const start = readCursor()
    if (start > snapshot.subscriptionCount) store.setState('cursor', String(snapshot.subscriptionCount))
    for (const view of snapshot.subscriptions) {
      if (view.id !== readCursor() + 1n) break
      intake(view, snapshot, rules)
    }
    for (const purchase of news?.purchases ?? []) {
      const row = store.find(purchase.id)
      if (row?.subscriber === purchase.subscriber && row.data === undefined)
        store.change(row.id, { data: purchase.userEncrypted })
    }
    for (const token of snapshot.tokens) applyToken(token)
    store.setState('block', String(snapshot.blockNumber))
    store.setState('chain-now', String(snapshot.timestamp))
    return readCursor() < snapshot.subscriptionCount
  }

  function intake(view: SubscriptionView, snapshot: SubscriptionsSnapshot, rules: FollowRules): void {
    const known = store.find(view.id)
    if (known === undefined) {
      counters.bought += 1
      store.add(view, snapshot.blockNumber)
    }
    applyObservation(view.id, view, snapshot, rules)
    // A row that another purchase took the place of goes first; the id is read again when it is gone.
    store.setState('cursor', String(view.id))
  }

  function applyObservation(
    id: bigint,
    view: SubscriptionView | undefined,
    snapshot: SubscriptionsSnapshot,
    rules: FollowRules,
  ): void {
    // Read again: a job may have ended while the chain was asked.
    const row = store.find(id)
    if (row === undefined) return
    const seen = observe(row, view, contextFor(row, snapshot, rules))
    if (seen.kind === 'same') return
    if (seen.kind === 'forget') {
      counters.dropped += 1
      deps.log.warn({ subscription: id, state: row.state }, 'a reorganization took a purchase; nothing was made for it')
      store.forget(id)
      readAgainFrom(id)
      return
    }
    tell(row, seen.change)
    store.change(id, seen.change)
  }

  function contextFor(row: Subscription, snapshot: SubscriptionsSnapshot, rules: FollowRules): ObserveContext {
    return {
      blockNumber: snapshot.blockNumber,
      chainNow: snapshot.timestamp,
      confirmations: rules.confirmations,
      graceSeconds: graceSecondsOf(rules),
      reorgGraceBlocks: Math.max(3, 2 * rules.confirmations),
      isBusy: deps.isBusy(row.id),
      vmState: () => deps.vmState(row.id),
    }
  }

  function tell(row: Subscription, change: SubscriptionChange): void {
    const fields = { subscription: row.id, from: row.state, to: change.state, reason: change.reason }
    if (change.expiresAt !== undefined && change.expiresAt > row.expiresAt) {
      counters.extended += 1
      deps.log.info({ ...fields, expiresAt: change.expiresAt }, 'extended')
    }
    if (change.reason === 'cancelled' && row.reason !== 'cancelled') counters.cancelled += 1
    if (change.state === undefined || change.state === row.state) return
    if (change.state === 'dropped') counters.dropped += 1
    const isLoss = change.state === 'dropped' || change.reason === 'expired-unserved'
    deps.log[isLoss ? 'warn' : 'info'](fields, isLoss ? (change.reason ?? 'a reorganization took a purchase') : 'state')
  }

  function applyToken({ id, owner }: TokenView): void {
    const row = store.findByToken(id)
    if (row === undefined || owner === undefined || owner === row.tokenOwner) return
    if (row.tokenOwner !== undefined) {
      counters.transferred += 1
      deps.log.info({ subscription: row.id, token: id, owner }, 'the access token has another owner')
    }
    store.change(row.id, { tokenOwner: owner })
  }

  function readAgainFrom(id: bigint): void {
    if (id - 1n < readCursor()) store.setState('cursor', String(id - 1n))
  }

  function readCursor(): bigint {
    return BigInt(store.getState('cursor') ?? '0')
  }

  return { counters, poll, chainNow: () => chainNow, readAgainFrom }
}

function graceSecondsOf({ graceDays }: FollowRules): number {
  return graceDays * 86_400
}
