import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Rpc, RpcCall, RpcOutcome } from '@blockhost/chain/rpc.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { createRpcBackend } from './chain-backend.ts'
import { type ContractCall, tokenIdHex } from './token-calls.ts'

const contract = '0x00000000000000000000000000000000000000aa'
const wallet = '0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a'
const selectors = { balanceOf: '0x70a08231', tokenOfOwnerByIndex: '0x2f745c59', isExpired: '0xd9548e53' } as const

describe('heldTokens', () => {
  it('reads a few tokens in two round trips, expired ones left out, as 32-byte hex words', async () => {
    const { backend, trips } = setUp({ held: [7n, 8n, 9n], expired: [8n] })
    assert.deepEqual(await backend.heldTokens(contract, wallet), [tokenIdHex(7n), tokenIdHex(9n)])
    assert.deepEqual(trips, [9, 3])
  })

  it('reads many in three, and at most 256', async () => {
    const many = Array.from({ length: 300 }, (_, i) => BigInt(i))
    const { backend, trips } = setUp({ held: many })
    assert.deepEqual(await backend.heldTokens(contract, wallet), many.slice(0, 256).map(tokenIdHex))
    assert.deepEqual(trips, [9, 248, 256])
  })

  it('a wallet that holds none costs one', async () => {
    const { backend, trips } = setUp({ held: [] })
    assert.deepEqual(await backend.heldTokens(contract, wallet), [])
    assert.deepEqual(trips, [9])
  })

  it('a contract without expiry has tokens that never expire', async () => {
    const { backend } = setUp({ held: [7n], hasExpiry: false })
    assert.deepEqual(await backend.heldTokens(contract, wallet), [tokenIdHex(7n)])
  })
})

describe('call', () => {
  it('tells a revert with a reason from one without, and throws what may pass', async () => {
    const { backend } = setUp({ held: [] })
    const data = (selector: `0x${string}`) => ({ to: contract, data: `${selector}${'0'.repeat(64)}` }) as ContractCall
    assert.deepEqual(await backend.call([data('0xdeadbeef')]), [{ kind: 'reverted', empty: true }])
    assert.deepEqual(await backend.call([data(selectors.tokenOfOwnerByIndex)]), [{ kind: 'reverted', empty: false }])
    await assert.rejects(
      backend.call([data('0xbadbad00')]),
      (error: unknown) => error instanceof BlockHostError && error.code === 'BH_RPC_UNAVAILABLE' && error.retryable,
    )
  })
})

function setUp({ held, expired = [], hasExpiry = true }: { held: bigint[]; expired?: bigint[]; hasExpiry?: boolean }) {
  const trips: number[] = []
  const word = (value: bigint): RpcOutcome => ({ ok: true, result: tokenIdHex(value) })
  const reverted = (data?: `0x${string}`): RpcOutcome => ({
    ok: false,
    failure: { kind: 'reverted', code: 3, message: 'execution reverted', ...(data === undefined ? {} : { data }) },
  })
  const answer = ({ params }: RpcCall): RpcOutcome => {
    const { data } = params[0] as { data: string }
    const last = BigInt(`0x${data.slice(-64)}`)
    if (data.startsWith(selectors.balanceOf)) return word(BigInt(held.length))
    if (data.startsWith(selectors.tokenOfOwnerByIndex)) {
      const id = held[Number(last)]
      return id === undefined ? reverted('0xa57d13dc') : word(id)
    }
    if (data.startsWith(selectors.isExpired) && hasExpiry) return word(expired.includes(last) ? 1n : 0n)
    if (data.startsWith('0xbadbad00'))
      return { ok: false, failure: { kind: 'transient', code: -32005, message: 'busy' } }
    return reverted()
  }
  const rpc: Rpc = {
    batch: async calls => {
      if (calls.length > 0) trips.push(calls.length)
      return calls.map(answer)
    },
    call: () => Promise.reject(new Error('not used')),
  }
  return { backend: createRpcBackend(rpc), trips }
}
