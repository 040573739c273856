import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { brokerLensAbi } from '@blockhost/contracts/abi/broker-lens.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { encode as encodeError, fromAbi as errorOf } from 'ox/AbiError'
import { encodeResult, fromAbi } from 'ox/AbiFunction'
import { decodeSnapshot, maxWatchIds, snapshotCall } from './broker-lens.ts'
import { type Address, type Hex, zeroHash } from './hex.ts'
import type { RpcFailure } from './rpc-failure.ts'
import type { SnapshotQuery } from './snapshot.ts'

const address = (byte: string): Address => `0x${byte.repeat(20)}`
const query: SnapshotQuery = {
  requests: address('11'),
  cursor: 4n,
  max: 10,
  watchIds: [2n, 9n],
  operator: address('22'),
}
const request = {
  id: 5n,
  requester: address('33'),
  nftContract: address('44'),
  payload: '0x0102' as Hex,
  status: 0,
  submittedAt: 1_700_000_000n,
  digest: `0x${'55'.repeat(32)}` as Hex,
  mapped: true,
  codeHash: `0x${'66'.repeat(32)}` as Hex,
  isErc721: true,
  nftOwner: address('33'),
}
const watched = [
  { id: 2n, exists: true, status: 1, digest: `0x${'77'.repeat(32)}` as Hex, mappedId: 2n },
  { id: 9n, exists: false, status: 0, digest: zeroHash, mappedId: 0n },
]
const snapshot = {
  blockNumber: 100n,
  timestamp: 1_700_000_012n,
  chainId: 31337n,
  requestCount: 6n,
  releaseCount: 1n,
  requestFee: 7n,
  generation: 3n,
  operatorBalance: 10n ** 18n,
  expirationTime: 86_400n,
  owner: address('22'),
  requests: [request, { ...request, id: 6n, payload: '0x' as Hex }],
  watched,
}

/** The outcome of an eth_call whose lens answered with `value`. */
function answered(value: Partial<typeof snapshot>) {
  const result = encodeResult(fromAbi(brokerLensAbi, 'snapshot'), { ...snapshot, ...value } as never)
  return { ok: true, result } as const
}

function reverted(data?: Hex) {
  const failure: RpcFailure = { kind: 'reverted', code: 3, message: 'execution reverted', ...(data && { data }) }
  return { ok: false, failure } as const
}

describe('snapshotCall', () => {
  it('is one eth_call without a receiver', () => {
    const call = snapshotCall(query, 'finalized')
    assert.equal(call.method, 'eth_call')
    const [{ to, data }, tag] = call.params as [{ to?: unknown; data: string }, string]
    assert.equal(to, undefined)
    assert.equal(tag, 'finalized')
    assert.ok(data.endsWith(9n.toString(16).padStart(64, '0')), 'the last argument word is the last watched id')
  })

  it('refuses to watch more than the lens can', () => {
    const watchIds = Array.from({ length: maxWatchIds + 1 }, (_, i) => BigInt(i))
    assert.throws(() => snapshotCall({ ...query, watchIds }), RangeError)
  })
})

describe('decodeSnapshot', () => {
  it('reads every field', () => {
    const read = decodeSnapshot(answered({}), query)
    assert.deepEqual(read, {
      blockNumber: 100n,
      timestamp: 1_700_000_012,
      chainId: 31337,
      requestCount: 6n,
      releaseCount: 1n,
      requestFeeWei: 7n,
      generation: 3,
      operatorBalanceWei: 10n ** 18n,
      expirationSeconds: 86_400,
      owner: address('22'),
      requests: [
        { ...request, payload: Uint8Array.of(1, 2), submittedAt: 1_700_000_000 },
        { ...request, id: 6n, payload: new Uint8Array(0), submittedAt: 1_700_000_000 },
      ],
      watched,
    })
  })

  const nonsense: [string, Partial<typeof snapshot>][] = [
    ['another first id', { requests: [{ ...request, id: 6n }] }],
    ['a gap', { requests: [request, { ...request, id: 7n }] }],
    ['more than asked for', { requests: Array.from({ length: 11 }, (_, i) => ({ ...request, id: BigInt(5 + i) })) }],
    ['fewer watched', { watched: watched.slice(1) }],
    ['other watched', { watched: [{ ...watched[0]!, id: 3n }, watched[1]!] }],
    ['a payload above 4096 bytes', { requests: [{ ...request, payload: `0x${'00'.repeat(4097)}` }] }],
    ['an unknown generation', { generation: 4n }],
    ['a time beyond all time', { timestamp: 2n ** 200n }],
  ]
  for (const [what, value] of nonsense) {
    it(`refuses ${what}, retryably`, () => {
      assert.throws(() => decodeSnapshot(answered(value), query), failure('BH_RPC_ANSWER_INVALID', true))
    })
  }

  it('refuses what is no answer of the lens', () => {
    const whole = answered({}).result
    for (const result of ['0x', '0x1234', whole.slice(0, -64), `0x${'00'.repeat(24_577)}`, null, 7])
      assert.throws(() => decodeSnapshot({ ok: true, result }, query), failure('BH_RPC_ANSWER_INVALID', true))
  })

  it('tells what is wrong with the contract', () => {
    const because = (name: 'NoContract' | 'UnsupportedGeneration' | 'NotEnoughGas', ...args: unknown[]) =>
      reverted(encodeError(errorOf(brokerLensAbi, name), args as never))
    const cases = [
      [because('NoContract', query.requests), 'BH_REQUESTS_CONTRACT_MISSING', true],
      [because('UnsupportedGeneration', query.requests), 'BH_REQUESTS_CONTRACT_UNSUPPORTED', false],
      [because('NotEnoughGas', 1n, 2n), 'BH_RPC_GAS_LIMIT', true],
      [reverted(), 'BH_REQUESTS_CONTRACT_UNSUPPORTED', false],
      [reverted('0xdeadbeef'), 'BH_REQUESTS_CONTRACT_UNSUPPORTED', false],
    ] as const
    for (const [outcome, code, retryable] of cases)
      assert.throws(() => decodeSnapshot(outcome, query), failure(code, retryable))
  })

  it('passes on that the chain could not be seen', () => {
    const outcome = { ok: false, failure: { kind: 'transient', code: 0, message: 'header not found' } } as const
    assert.throws(() => decodeSnapshot(outcome, query), failure('BH_RPC_UNAVAILABLE', true))
  })
})

function failure(code: string, retryable: boolean): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === code && error.retryable === retryable
}
