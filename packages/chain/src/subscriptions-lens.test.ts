import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { subscriptionsLensAbi } from '@blockhost/contracts/abi/subscriptions-lens.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { encode as encodeError, fromAbi as errorOf } from 'ox/AbiError'
import { encodeResult, fromAbi } from 'ox/AbiFunction'
import { type Address, zeroAddress } from './hex.ts'
import type { SubscriptionsQuery } from './subscription-view.ts'
import { decodeSubscriptionsSnapshot, maxWatched, subscriptionsSnapshotCall } from './subscriptions-lens.ts'

const address = (byte: string): Address => `0x${byte.repeat(20)}`
const subscriber = BigInt(address('ab'))
const word = subscriber | (1_800_000_000n << 160n) | (7n << 200n) | (99n << 216n) | (1n << 249n) | (1n << 250n)
const query: SubscriptionsQuery = {
  subscriptions: address('11'),
  nft: address('22'),
  cursor: 4n,
  max: 10,
  watchIds: [1n, 2n],
  tokenIds: [0n, 8n],
  wallets: [address('33')],
}
const raw = {
  blockNumber: 100n,
  timestamp: 1_700_000_012n,
  chainId: 31337n,
  subscriptionCount: 6n,
  planCount: 1n,
  owner: address('44'),
  purchasesPaused: false,
  nftOwner: address('44'),
  nftMinter: zeroAddress,
  tokenCount: 1n,
  subscriptions: [word, word | (1n << 248n)],
  watched: [word, 0n],
  tokens: [subscriber | (5n << 160n), 0n],
  plans: [50n | (1n << 96n)],
  balances: [12n],
}

function answered(change: Partial<typeof raw>) {
  const result = encodeResult(fromAbi(subscriptionsLensAbi, 'snapshot'), { ...raw, ...change })
  return { ok: true, result } as const
}

function reverted(data?: `0x${string}`) {
  const failure = { kind: 'reverted', code: 3, message: 'execution reverted', ...(data === undefined ? {} : { data }) }
  return { ok: false, failure: failure as never } as const
}

function failure(code: string, retryable: boolean): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === code && error.retryable === retryable
}

describe('decodeSubscriptionsSnapshot', () => {
  it('reads every field', () => {
    const read = decodeSubscriptionsSnapshot(answered({}), query)
    const view = {
      id: 5n,
      subscriber: address('ab'),
      planId: 7,
      expiresAt: 1_800_000_000,
      purchaseBlock: 99n,
      cancelled: false,
      planActive: true,
      planRenewable: true,
    }
    assert.deepEqual(read.subscriptions, [view, { ...view, id: 6n, cancelled: true }])
    assert.deepEqual(read.watched, [{ ...view, id: 1n }, undefined])
    assert.deepEqual(read.tokens, [
      { id: 0n, owner: address('ab'), expiresAt: 5 },
      { id: 8n, owner: undefined, expiresAt: 0 },
    ])
    assert.deepEqual(read.plans, [{ id: 1, pricePerDayUsdCents: 50n, active: true, renewable: false }])
    assert.deepEqual([read.blockNumber, read.timestamp, read.subscriptionCount], [100n, 1_700_000_012, 6n])
    assert.deepEqual(read.balances, [12n])
  })

  const nonsense: [string, Partial<typeof raw>][] = [
    ['more than there is', { subscriptionCount: 5n }],
    ['a hole', { subscriptions: [word, 0n] }],
    ['fewer watched', { watched: [word] }],
    ['more tokens', { tokens: [1n, 1n, 1n] }],
    ['no balance', { balances: [] }],
    ['a time beyond all time', { timestamp: 2n ** 200n }],
  ]
  for (const [what, change] of nonsense) {
    it(`refuses ${what}, retryably`, () => {
      assert.throws(() => decodeSubscriptionsSnapshot(answered(change), query), failure('BH_RPC_ANSWER_INVALID', true))
    })
  }

  it('tells what is wrong with the contract', () => {
    const because = (name: 'NoContract' | 'NotEnoughGas', ...args: unknown[]) =>
      reverted(encodeError(errorOf(subscriptionsLensAbi, name), args as never))
    const cases = [
      [because('NoContract', query.nft), 'BH_SUBSCRIPTIONS_CONTRACT_MISSING', true],
      [because('NotEnoughGas', 1n, 2n), 'BH_RPC_GAS_LIMIT', true],
      [reverted(), 'BH_SUBSCRIPTIONS_CONTRACT_UNSUPPORTED', false],
    ] as const
    for (const [outcome, code, retryable] of cases)
      assert.throws(() => decodeSubscriptionsSnapshot(outcome, query), failure(code, retryable))
  })
})

describe('subscriptionsSnapshotCall', () => {
  it('is one eth_call without a receiver, and refuses to watch more than the lens can', () => {
    const call = subscriptionsSnapshotCall(query)
    assert.equal((call.params[0] as { to?: unknown }).to, undefined)
    const watchIds = Array.from({ length: maxWatched }, (_, i) => BigInt(i))
    assert.throws(() => subscriptionsSnapshotCall({ ...query, watchIds }), RangeError)
  })
})
