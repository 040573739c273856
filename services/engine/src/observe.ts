import type { SubscriptionView } from '@blockhost/chain/subscription-view.ts'
import type { VmState } from '@blockhost/vmdb/vm.ts'
import { runningState, type Subscription, type SubscriptionChange } from './subscription.ts'

/** What {@link observe} needs beside the subscription and the chain's view of it. */
export type ObserveContext = {
  readonly blockNumber: bigint
  /** Block time, Unix seconds: expiry is judged by the chain's clock, never by ours. */
  readonly chainNow: number
  /** Blocks on top of a purchase's own before it counts. */
  readonly confirmations: number
  /** How long a suspended VM is kept, seconds. */
  readonly graceSeconds: number
  /** Blocks that a purchase which a reorganization took may need to come back. */
  readonly reorgGraceBlocks: number
  /** Whether a job of this subscription is running. */
  readonly isBusy: boolean
  /** What the VM database says; only asked for subscriptions that are ending. */
  vmState(): VmState | undefined
}

/** What to do about one look at the chain: nothing, change the row, or forget it and read the id again. */
export type Observation =
  | { readonly kind: 'same' }
  | { readonly kind: 'change'; readonly change: SubscriptionChange }
  | { readonly kind: 'forget' }

const same: Observation = { kind: 'same' }

/**
 * Decides what one look at the chain means for a subscription. Pure.
 *
 * @param view - `undefined`: the contract has no subscription of this id.
 */
export function observe(row: Subscription, view: SubscriptionView | undefined, context: ObserveContext): Observation {
  if (view === undefined || view.subscriber !== row.subscriber || view.planId !== row.planId)
    return observeGone(row, view !== undefined, context)
  const facts = factsOf(row, view, context)
  const change = decideState({ ...row, ...facts } as Subscription, view.cancelled, context)
  const all = { ...facts, ...change }
  return Object.keys(all).length === 0
    ? same
    : { kind: 'change', change: { ...all, changedBlock: context.blockNumber } }
}

/** The purchase is not on this chain (any more). */
function observeGone(row: Subscription, isTaken: boolean, context: ObserveContext): Observation {
  const { blockNumber } = context
  switch (row.state) {
    case 'seen':
      return { kind: 'forget' }
    case 'ended':
      return { kind: 'forget' }
    case 'paid':
      // A VM that was never begun needs no undoing; a mint can't be under way without one.
      return context.isBusy || row.attempts > 0 || row.tokenId !== undefined ? drop(blockNumber) : { kind: 'forget' }
    case 'ending':
      return row.reason === 'reorg' ? same : { kind: 'change', change: { reason: 'reorg', changedBlock: blockNumber } }
    case 'dropped':
      if (!isTaken && blockNumber < row.changedBlock + BigInt(context.reorgGraceBlocks)) return same
      return { kind: 'change', change: { ...begin('ending'), reason: 'reorg', changedBlock: blockNumber } }
    default:
      return drop(blockNumber)
  }
}

/** A job under way ends first; what it reaches is undone then. */
function drop(changedBlock: bigint): Observation {
  return { kind: 'change', change: { state: 'dropped', changedBlock } }
}

/** What the chain says that has no choice in it. */
function factsOf(row: Subscription, view: SubscriptionView, { isBusy }: ObserveContext): SubscriptionChange {
  const hasMoved = view.purchaseBlock !== row.purchaseBlock
  // The same buyer's purchase in another block may carry other data.
  const isUnread = hasMoved && !isBusy && row.txKey === undefined
  return {
    ...(view.expiresAt === row.expiresAt ? {} : { expiresAt: view.expiresAt }),
    ...(hasMoved ? { purchaseBlock: view.purchaseBlock } : {}),
    ...(isUnread && row.data !== undefined ? { data: undefined, dataAttempts: 0, dataRetryAt: 0 } : {}),
  }
}

function decideState(row: Subscription, isCancelled: boolean, context: ObserveContext): SubscriptionChange {
  if (isCancelled) return decideCancelled(row, context)
  const isExpired = context.chainNow >= row.expiresAt
  switch (row.state) {
    case 'seen':
      if (!isConfirmed(row, context)) return {}
      return isExpired ? end('expired-unserved') : begin('paid')
    case 'paid':
      return isExpired && !context.isBusy ? end('expired-unserved') : {}
    case 'creating':
      return isExpired && !context.isBusy ? { ...begin('ending'), reason: 'expired' } : {}
    case 'created':
    // A mint under way is taken up again when the VM is resumed: its key stays the same.
    case 'minting':
    case 'minted':
    case 'live':
      return isExpired ? suspend(context.chainNow) : {}
    case 'suspending':
    case 'suspended':
      if (isExpired) return decideSuspended(row, context)
      return { ...begin('resuming'), suspendedAt: undefined, reason: undefined }
    case 'resuming':
      return isExpired ? suspend(context.chainNow) : {}
    case 'ending':
      return decideEnding(isExpired, context)
    case 'ended':
      // Also where a reorganization took the cancellation.
      if (isExpired) return {}
      return { ...begin(isConfirmed(row, context) ? 'paid' : 'seen'), reason: undefined, boundToken: undefined }
    case 'dropped':
      return begin(stateBeforeDrop(row))
  }
}

function isConfirmed(row: Subscription, { blockNumber, confirmations }: ObserveContext): boolean {
  return blockNumber - row.purchaseBlock >= BigInt(confirmations)
}

function stateBeforeDrop(row: Subscription): Subscription['state'] {
  if (row.vmExpiresAt === undefined) return 'creating'
  return row.suspendedAt === undefined ? runningState(row) : 'suspending'
}

/** What was handed over is suspended first, as that can be undone: it ends when the cancellation has its confirmations. */
function decideCancelled(
  row: Subscription,
  { blockNumber, chainNow, confirmations }: ObserveContext,
): SubscriptionChange {
  const isNoted = row.reason === 'cancelled'
  const isHandedOver = row.state !== 'dropped' || row.vmExpiresAt !== undefined
  switch (row.state) {
    case 'seen':
      return end('cancelled')
    case 'ended':
    case 'ending':
      return isNoted ? {} : { reason: 'cancelled' }
    case 'paid':
    case 'creating':
      return { ...begin('ending'), reason: 'cancelled' }
    case 'suspending':
    case 'suspended':
      if (confirmations > 0 && !isNoted) return { reason: 'cancelled' }
      return isNoted && blockNumber - row.changedBlock < BigInt(confirmations)
        ? {}
        : { ...begin('ending'), reason: 'cancelled' }
    default:
      return confirmations === 0 || !isHandedOver
        ? { ...begin('ending'), reason: 'cancelled' }
        : { ...suspend(chainNow), reason: 'cancelled' }
  }
}

function decideSuspended(row: Subscription, { chainNow, graceSeconds }: ObserveContext): SubscriptionChange {
  const since = Math.max(row.expiresAt, row.suspendedAt ?? chainNow)
  return row.state === 'suspended' && chainNow >= since + graceSeconds ? { ...begin('ending'), reason: 'expired' } : {}
}

/** Somebody paid while the VM waited for its end, or its cancellation is gone: as long as nothing was taken away, it is kept. */
function decideEnding(isExpired: boolean, context: ObserveContext): SubscriptionChange {
  if (isExpired || context.isBusy) return {}
  const vm = context.vmState()
  const saved = { reason: undefined, suspendedAt: undefined }
  if (vm === 'suspended' || vm === 'active') return { ...begin('resuming'), ...saved }
  // It was to end before it was whole.
  return vm === 'creating' ? { ...begin('creating'), ...saved } : {}
}

function suspend(chainNow: number): SubscriptionChange {
  return { ...begin('suspending'), suspendedAt: chainNow }
}

function end(reason: 'cancelled' | 'expired-unserved'): SubscriptionChange {
  return { ...begin('ended'), reason }
}

/** A step that begins has not failed yet. */
function begin(state: Subscription['state']): SubscriptionChange {
  return { state, attempts: 0, retryAt: 0, error: undefined, errorCode: undefined }
}
