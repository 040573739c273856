import type { SubscriptionsReader } from '@blockhost/chain/subscription-view.ts'
import { backoffMs, type Clock } from '@blockhost/kit/clock.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { Store } from './store.ts'
import type { Subscription } from './subscription.ts'

/** What looking for purchase data needs. */
export type PurchaseDeps = {
  readonly store: Store
  readonly chain: SubscriptionsReader
  readonly clock: Clock
  readonly log: Log
  /** Chance for the pauses after failures, in [0, 1); default `Math.random`. */
  readonly random?: () => number
}

const retry = { baseMs: 2_000, maxMs: 600_000 }
/** Contracts count other blocks than endpoints (Arbitrum: those of L1) where the two are so far apart. */
const otherCount = 10_000n
/** After so many looks in vain at the purchase's block, the whole chain is searched, from its head down. */
const looksBeforeScan = 3
const scanBlocks = 40_000n
const scanAgainMs = 3_600_000

/**
 * Looks for purchase data that is not known yet, for as long as it takes: what an endpoint hides today another has, or the same
 * has later. Bounded: one page of subscriptions, and one stretch of blocks of a search.
 *
 * @param head - Newest block as the endpoint counts; `blockNumber` - as the contract does.
 * @returns Whether more is waiting.
 */
export async function fetchPurchases(
  deps: PurchaseDeps,
  heights: { readonly head: bigint; readonly blockNumber: bigint },
): Promise<boolean> {
  const { store, chain } = deps
  const rows = store.withoutData(pageSize)
  if (rows.length === 0) return false
  const gap = heights.head - heights.blockNumber
  const countsAlike = gap < otherCount && gap > -otherCount
  const wanted = rows.map(row => ({ id: row.id, block: row.purchaseBlock }))
  const found = countsAlike ? await chain.purchaseData(wanted) : []
  const missing = take(deps, rows, found)
  const lost = missing.filter(row => !countsAlike || row.dataAttempts >= looksBeforeScan)
  if (lost.length > 0) take(deps, lost, await scan(deps, lost, heights.head), false)
  return rows.length === pageSize
}

/** Ends the rest after a search of the whole chain that found nothing, as an endpoint may have it now. */
export function searchAgain(store: Store): void {
  const saved = savedSearch(store)
  store.setState('scan', JSON.stringify({ ...saved, restAt: 0 }))
}

const pageSize = 500

/** @returns Those that are still without. */
function take(
  { store, clock, log, random }: PurchaseDeps,
  rows: readonly Subscription[],
  found: readonly { id: bigint; subscriber: string; userEncrypted: Uint8Array }[],
  counts = true,
): Subscription[] {
  const byBuyer = new Map(found.map(purchase => [`${purchase.id}:${purchase.subscriber}`, purchase]))
  return store.transaction(() =>
    rows.filter(row => {
      const purchase = byBuyer.get(`${row.id}:${row.subscriber}`)
      if (purchase !== undefined) store.change(row.id, { data: purchase.userEncrypted })
      else if (counts) {
        const dataRetryAt = clock.now() + backoffMs(row.dataAttempts, retry, random)
        if (row.dataAttempts === looksBeforeScan)
          log.warn(
            { subscription: row.id, block: row.purchaseBlock },
            'no endpoint has the purchase data; searching on',
          )
        store.change(row.id, { dataAttempts: row.dataAttempts + 1, dataRetryAt })
      }
      return purchase === undefined
    }),
  )
}

/** One stretch of the search, which goes down from the head it began at; how far it came is durable. */
async function scan({ store, chain, clock }: PurchaseDeps, rows: readonly Subscription[], head: bigint) {
  const saved = savedSearch(store)
  let next = BigInt(saved.next)
  if (next < 0n) {
    const restMs = saved.restAt - clock.now()
    // A longer rest than there is means that the wall clock was set back.
    if (restMs > 0 && restMs <= scanAgainMs) return []
    next = head
  }
  const fromBlock = next >= scanBlocks ? next - scanBlocks + 1n : 0n
  const ids = rows.map(({ id }) => id)
  const { found, scannedTo } = await chain.scanPurchases(ids, { fromBlock, toBlock: next })
  if (scannedTo === next) {
    const restAt = fromBlock === 0n ? clock.now() + scanAgainMs : 0
    store.setState('scan', JSON.stringify({ next: String(fromBlock - 1n), restAt }))
  }
  return found
}

function savedSearch(store: Store): { next: string; restAt: number } {
  return JSON.parse(store.getState('scan') ?? '{"next":"-1","restAt":0}') as { next: string; restAt: number }
}
