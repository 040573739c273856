import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { encodeAbiParameters, keccak256 } from 'viem'
import type { Address } from './hex.ts'
import { emptyCodeHash, requestDigest } from './request-digest.ts'

const fields = {
  chainId: 31337,
  requests: `0x${'11'.repeat(20)}` as Address,
  id: 7n,
  requester: `0x${'22'.repeat(20)}` as Address,
  nftContract: `0x${'33'.repeat(20)}` as Address,
  payload: Uint8Array.of(1, 2, 3),
}

describe('requestDigest', () => {
  it('is the hash of six words, the payload with a zero byte in front', () => {
    const types = ['uint256', 'address', 'uint256', 'address', 'address', 'bytes32'] as const
    const words = [31337n, fields.requests, 7n, fields.requester, fields.nftContract, keccak256('0x00010203')] as const
    assert.equal(
      requestDigest(fields),
      keccak256(
        encodeAbiParameters(
          types.map(type => ({ type })),
          words as never,
        ),
      ),
    )
  })

  it('changes with every field', () => {
    const digests = [
      {},
      { chainId: 1 },
      { requests: fields.requester },
      { id: 8n },
      { requester: fields.requests },
      { nftContract: fields.requests },
      { payload: Uint8Array.of(1, 2) },
      { payload: new Uint8Array(0) },
    ].map(change => requestDigest({ ...fields, ...change }))
    assert.equal(new Set(digests).size, digests.length)
  })
})

describe('emptyCodeHash', () => {
  it('is keccak256 of nothing', () => assert.equal(emptyCodeHash, keccak256('0x')))
})
