/** What one look at the chain means for the outbox's entries. Pure: nothing here reads or writes. */
import { firstFees, mostPaid, raisedFees } from './fees.ts'
import type { Attempt, Entry } from './outbox-store.ts'
import type { Fees } from './transaction.ts'
import type { PortView, Receipt } from './transaction-port.ts'

/** How the outbox behaves; see `createOutbox`. */
export type OutboxOptions = {
  /** Blocks on top of a transaction's own before it counts as final; 0: its own is enough. */
  readonly confirmations: number
  /** A transaction that was not mined this long after it was signed is replaced by one that pays more. */
  readonly stuckAfterMs: number
  /**
   * A nonce that was used by something else than what we sent, as far as receipts tell, is given up this long afterwards, and the
   * intent signed for another one. Default `stuckAfterMs`. Where an intent must not happen twice, longer than any endpoint hides receipts.
   */
  readonly takenAfterMs?: number
  /** Most to pay for a unit of gas, wei; absent: whatever the chain asks. */
  readonly maxFeePerGasWei?: bigint | undefined
  /** How much more a replacement pays, per cent; 12.5 at least, as nodes ask. */
  readonly feeBumpPercent: number
  /** Transactions sent and not mined at a time. */
  readonly maxInFlight: number
}

/** What the chain says about an entry that has a nonce. */
export type Finding =
  /** Its transaction is in a block, deep enough (`final`) or not yet. */
  | { readonly kind: 'mined'; readonly attempt: Attempt; readonly receipt: Receipt; readonly final: boolean }
  /** The block that held it is gone. */
  | { readonly kind: 'dropped' }
  /** Its nonce is used, and not by what we sent: since now, or for so long that the entry needs another one. */
  | { readonly kind: 'missing' }
  | { readonly kind: 'taken' }
  /** The nonce is free after all. */
  | { readonly kind: 'free' }
  | { readonly kind: 'nothing' }

/** What to hand to the network for an entry whose transaction is not mined. */
export type SendDecision =
  | { readonly kind: 'wait' }
  /** The same bytes again; they can't do harm twice. */
  | { readonly kind: 'again'; readonly attempt: Attempt }
  /** Other bytes for the same nonce: at most one of the two is ever mined. */
  | { readonly kind: 'replace'; readonly fees: Fees; readonly isVoid: boolean }
  /** It should be replaced, but the fee cap forbids it. */
  | { readonly kind: 'capped'; readonly attempt: Attempt }

const nothing: Finding = { kind: 'nothing' }
const wait: SendDecision = { kind: 'wait' }

/**
 * A nonce counts as taken by somebody else this many blocks (and `takenAfterMs`) after it was seen used: an endpoint is several
 * machines, and the one that knows receipts may be behind the one that knows nonces.
 */
const minTakenDepth = 2

/** Paying so many times what the chain asks has not helped, so paying more will not either. */
const maxOverpay = 10n

/** A transaction that everything waits for is handed over again after so many blocks without it: a reorg may have emptied the pool. */
const patienceBlocks = 3n

/** Since when an entry's nonce has been used by something unknown, as far as this process saw without a break. */
export type Missing = { readonly block: bigint; readonly ms: number }

/**
 * Tells what `view` shows about an entry; `receipts` are those of the view by hash.
 *
 * @param missing - `ms`: for so long, by the monotonic clock.
 */
export function findOnChain(
  entry: Entry,
  view: PortView,
  receipts: ReadonlyMap<string, Receipt>,
  missing: Missing | undefined,
  options: OutboxOptions,
): Finding {
  const attempt = entry.attempts.findLast(({ hash }) => receipts.has(hash))
  if (attempt !== undefined) {
    const receipt = receipts.get(attempt.hash)!
    const final = view.blockNumber >= receipt.blockNumber + BigInt(options.confirmations)
    return { kind: 'mined', attempt, receipt, final }
  }
  if (entry.nonce === undefined) return nothing
  if (entry.state === 'mined') {
    // An endpoint that is behind can't know; one that is not says that the block was replaced.
    return view.blockNumber >= entry.blockNumber! ? { kind: 'dropped' } : nothing
  }
  if (view.latestNonce <= entry.nonce) return missing === undefined ? nothing : { kind: 'free' }
  if (missing === undefined) return { kind: 'missing' }
  const depth = BigInt(Math.max(options.confirmations, minTakenDepth))
  const isDeep = view.blockNumber >= missing.block + depth
  return isDeep && missing.ms >= (options.takenAfterMs ?? options.stuckAfterMs) ? { kind: 'taken' } : nothing
}

/**
 * Decides what to send for an entry that has a nonce and is in no block.
 *
 * @param isNext - Whether it has the lowest such nonce; the others wait for that one, unless they pay less than the base fee.
 * @param triedBlock - The chain's height when it was last handed over, as far as this process knows.
 */
export function decideSend(
  entry: Entry,
  view: PortView,
  isNext: boolean,
  nowMs: number,
  options: OutboxOptions,
  triedBlock?: bigint,
): SendDecision {
  const last = entry.attempts.findLast(attempt => attempt.nonce === entry.nonce)
  // Past its nonce there is nothing to win: one of ours is mined, or a foreign one.
  if (last === undefined || view.latestNonce > entry.nonce!) return wait
  if (last.triedAt === undefined) return { kind: 'again', attempt: last }
  const wantsVoid = entry.voidWanted && !last.isVoid
  if (wantsVoid || needsMore(last, view, isNext, nowMs, options)) {
    const fees = raisedFees(last.fees, view, options.feeBumpPercent, options.maxFeePerGasWei)
    if (fees !== undefined) return { kind: 'replace', fees, isVoid: last.isVoid || entry.voidWanted }
    if (isDue(last, nowMs, options)) return { kind: 'capped', attempt: last }
  }
  const isForgotten = isNext && triedBlock !== undefined && view.blockNumber >= triedBlock + patienceBlocks
  return isForgotten || isDue(last, nowMs, options) ? { kind: 'again', attempt: last } : wait
}

/** One raise for each block at most, so that a node that never accepts does not drive the price. */
function needsMore(last: Attempt, view: PortView, isNext: boolean, nowMs: number, options: OutboxOptions): boolean {
  if (view.blockNumber <= last.signedBlock) return false
  if (mostPaid(last.fees) >= maxOverpay * mostPaid(firstFees(view, undefined)!)) return false
  if (last.underpriced) return true
  // The wall clock may have been set back since.
  const age = Math.abs(nowMs - last.signedAt)
  if (age < options.stuckAfterMs) return false
  return isNext || (view.baseFeeWei !== undefined && mostPaid(last.fees) < view.baseFeeWei)
}

/** Nodes forget transactions, so an unmined one is handed over again from time to time. */
function isDue(last: Attempt, nowMs: number, options: OutboxOptions): boolean {
  return Math.abs(nowMs - last.triedAt!) >= options.stuckAfterMs / 3
}
