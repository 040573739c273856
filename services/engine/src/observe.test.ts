import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { SubscriptionView } from '@blockhost/chain/subscription-view.ts'
import { type ObserveContext, observe } from './observe.ts'
import type { State, Subscription } from './subscription.ts'

const day = 86_400
const now = 1_800_000_000

function row(state: State, change: Partial<Subscription> = {}): Subscription {
  return {
    id: 7n,
    subscriber: '0xabababababababababababababababababababab',
    planId: 1,
    purchaseBlock: 100n,
    expiresAt: now + day,
    state,
    changedBlock: 100n,
    dataAttempts: 0,
    dataRetryAt: 0,
    mintAttempts: 0,
    attempts: 0,
    retryAt: 0,
    ...change,
  } as Subscription
}

function view(of: Subscription, change: Partial<SubscriptionView> = {}): SubscriptionView {
  const { id, subscriber, planId, expiresAt, purchaseBlock } = of
  const rest = { cancelled: false, planActive: true, planRenewable: true }
  return { id, subscriber, planId, expiresAt, purchaseBlock, ...rest, ...change }
}

const context: ObserveContext = {
  blockNumber: 102n,
  chainNow: now,
  confirmations: 2,
  graceSeconds: 7 * day,
  reorgGraceBlocks: 4,
  isBusy: false,
  vmState: () => 'active',
}

/** What an observation leads to: the new state with its reason, `same`, or `forget`. */
function after(of: Subscription, seen: SubscriptionView | undefined, change: Partial<ObserveContext> = {}): string {
  const result = observe(of, seen, { ...context, ...change })
  if (result.kind !== 'change') return result.kind
  return [result.change.state ?? 'facts', result.change.reason].filter(Boolean).join(' ')
}

describe('observe: time', () => {
  const over = { chainNow: now + day }

  it('waits for the confirmations', () => {
    assert.equal(after(row('seen'), view(row('seen')), { blockNumber: 101n }), 'same')
    assert.equal(after(row('seen'), view(row('seen'))), 'paid')
  })

  for (const state of ['created', 'minting', 'minted', 'live', 'resuming'] as const) {
    it(`suspends what is ${state} at the second of its expiry, not before`, () => {
      const { expiresAt } = row(state)
      assert.equal(after(row(state), view(row(state)), { chainNow: expiresAt - 1 }), 'same')
      assert.equal(after(row(state), view(row(state)), { chainNow: expiresAt }), 'suspending')
    })
  }

  it('resumes what is paid again, whether its suspension is over or not', () => {
    for (const state of ['suspending', 'suspended'] as const)
      assert.equal(after(row(state), view(row(state), { expiresAt: now + 2 * day }), over), 'resuming')
  })

  it('destroys after the whole grace, counted from expiry and suspension, whichever came later', () => {
    const late = row('suspended', { suspendedAt: now + 3 * day })
    const at = (chainNow: number) => after(late, view(late), { chainNow })
    assert.equal(at(now + 10 * day - 1), 'same')
    assert.equal(at(now + 10 * day), 'ending expired')
  })

  it('saves a VM that is paid for while it waits for its end, if nothing was taken away yet', () => {
    const ending = row('ending', { reason: 'expired' })
    const paid = view(ending, { expiresAt: now + 99 * day })
    assert.equal(after(ending, paid, { ...over, vmState: () => 'suspended' }), 'resuming')
    assert.equal(after(ending, paid, { ...over, vmState: () => 'destroying' }), 'facts')
    assert.equal(after(ending, paid, { ...over, isBusy: true }), 'facts')
    assert.equal(after(ending, paid, { ...over, vmState: () => 'creating' }), 'creating')
  })

  it('serves again what is paid again after its end', () => {
    const ended = row('ended', { reason: 'expired', expiresAt: now - day })
    assert.equal(after(ended, view(ended)), 'same')
    assert.equal(after(ended, view(ended, { expiresAt: now + day })), 'paid')
  })

  it('says so when a subscription ran out before it could be served', () => {
    assert.equal(after(row('paid'), view(row('paid')), over), 'ended expired-unserved')
    assert.equal(after(row('creating'), view(row('creating')), over), 'ending expired')
  })

  it('takes the expiry as it stands on chain', () => {
    const result = observe(row('live'), view(row('live'), { expiresAt: now + 12_345 }), context)
    assert.deepEqual(result, { kind: 'change', change: { expiresAt: now + 12_345, changedBlock: 102n } })
  })
})

describe('observe: cancelled', () => {
  const cancelled = (of: Subscription, change: Partial<ObserveContext> = {}) =>
    after(of, view(of, { cancelled: true }), change)

  for (const state of ['paid', 'creating', 'dropped'] as const) {
    it(`ends what is ${state}, as nobody was given it`, () => {
      assert.equal(cancelled(row(state)), 'ending cancelled')
    })
  }

  for (const state of ['created', 'minting', 'minted', 'live', 'resuming'] as const) {
    it(`suspends what is ${state} until the cancellation is confirmed`, () => {
      assert.equal(cancelled(row(state)), 'suspending cancelled')
      assert.equal(cancelled(row(state), { confirmations: 0 }), 'ending cancelled')
    })
  }

  it('ends what is suspended when the cancellation is confirmed', () => {
    assert.equal(cancelled(row('suspended')), 'facts cancelled')
    const noted = row('suspended', { reason: 'cancelled', changedBlock: 101n })
    assert.equal(cancelled(noted, { blockNumber: 102n }), 'same')
    assert.equal(cancelled(noted, { blockNumber: 103n }), 'ending cancelled')
    assert.equal(cancelled(row('suspended'), { confirmations: 0 }), 'ending cancelled')
  })

  it('undoes it when a reorganization took the cancellation', () => {
    const suspended = row('suspended', { reason: 'cancelled' })
    assert.equal(after(suspended, view(suspended)), 'resuming')
    const ending = row('ending', { reason: 'cancelled' })
    assert.equal(after(ending, view(ending), { vmState: () => 'suspended' }), 'resuming')
    const ended = row('ended', { reason: 'cancelled' })
    assert.equal(after(ended, view(ended)), 'paid')
    assert.equal(after(ended, view(ended, { purchaseBlock: 101n })), 'seen', 'the purchase is in another block')
  })

  it('ends at once what was never begun, and stays ended', () => {
    assert.equal(after(row('seen'), view(row('seen'), { cancelled: true })), 'ended cancelled')
    const ended = row('ended', { reason: 'cancelled' })
    assert.equal(after(ended, view(ended, { cancelled: true })), 'same')
  })
})

describe('observe: reorganizations', () => {
  const other = (of: Subscription) => view(of, { subscriber: '0xcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd' })

  it('forgets what nothing was made for', () => {
    assert.equal(after(row('seen'), undefined), 'forget')
    assert.equal(after(row('paid'), undefined), 'forget')
    assert.equal(after(row('paid'), other(row('paid'))), 'forget')
    assert.equal(after(row('ended', { reason: 'expired' }), undefined), 'forget')
  })

  for (const state of ['creating', 'created', 'minting', 'minted', 'live', 'suspended'] as const) {
    it(`drops what is ${state}, and waits for it to come back`, () => {
      assert.equal(after(row(state), undefined), 'dropped')
    })
  }

  it('undoes after a while, or as soon as another purchase has the id', () => {
    const dropped = row('dropped', { vmExpiresAt: now + day })
    assert.equal(after(dropped, undefined, { blockNumber: 103n }), 'same')
    assert.equal(after(dropped, undefined, { blockNumber: 104n }), 'ending reorg')
    assert.equal(after(dropped, other(dropped), { blockNumber: 101n }), 'ending reorg')
  })

  it('goes on where it was when the purchase is back', () => {
    const back = (change: Partial<Subscription>) => after(row('dropped', change), view(row('dropped')))
    assert.equal(back({}), 'creating')
    assert.equal(back({ vmExpiresAt: now }), 'created')
    assert.equal(back({ vmExpiresAt: now, tokenId: 3n }), 'minted')
    assert.equal(back({ vmExpiresAt: now, tokenId: 3n, boundToken: 3n }), 'live')
    assert.equal(back({ vmExpiresAt: now, tokenId: 3n, boundToken: 3n, suspendedAt: now - 1 }), 'suspending')
  })

  it('reads the purchase data again when the purchase is in another block', () => {
    const known = row('created', { data: Uint8Array.of(1) })
    const result = observe(known, view(known, { purchaseBlock: 101n }), context)
    assert.equal(result.kind === 'change' && 'data' in result.change && result.change.data, undefined)
  })
})
