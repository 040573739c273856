import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { brokerLensAbi } from '@blockhost/contracts/abi/broker-lens.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { encodeResult, fromAbi } from 'ox/AbiFunction'
import { createChainReader } from './chain-reader.ts'
import { type Hex, zeroAddress } from './hex.ts'
import type { Rpc, RpcCall } from './rpc.ts'

const query = { requests: zeroAddress, cursor: 0n, max: 1, watchIds: [], operator: zeroAddress }

/** An RPC whose chain has this id and holds no request, and what was asked of it. */
function setup(chainId: bigint) {
  const numbers = {
    blockNumber: 9n,
    timestamp: 1n,
    requestCount: 0n,
    releaseCount: 0n,
    requestFee: 0n,
    operatorBalance: 0n,
  }
  const snapshot = {
    ...numbers,
    chainId,
    generation: 3n,
    expirationTime: 86_400n,
    owner: zeroAddress,
    requests: [],
    watched: [],
  }
  const result: Hex = encodeResult(fromAbi(brokerLensAbi, 'snapshot'), snapshot)
  const batches: (readonly RpcCall[])[] = []
  const rpc: Rpc = {
    batch: async calls => {
      batches.push(calls)
      return [{ ok: true, result }]
    },
    call: async () => assert.fail('the reader makes batches only'),
  }
  return { rpc, batches }
}

describe('createChainReader', () => {
  it('reads a snapshot with one call, at the block asked for', async () => {
    const { rpc, batches } = setup(5n)
    const snapshot = await createChainReader(rpc, { chainId: 5, blockTag: 'safe' }).snapshot(query)
    assert.equal(snapshot.blockNumber, 9n)
    assert.deepEqual(
      batches.map(calls => calls.map(({ method, params }) => [method, params[1]])),
      [[['eth_call', 'safe']]],
    )
  })

  it('believes no snapshot of another chain', async () => {
    const reader = createChainReader(setup(6n).rpc, { chainId: 5 })
    await assert.rejects(reader.snapshot(query), (error: unknown) => {
      assert.ok(error instanceof BlockHostError)
      assert.deepEqual([error.code, error.exitCode], ['BH_WRONG_CHAIN', 78])
      return true
    })
  })
})
