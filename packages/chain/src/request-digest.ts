import { encode } from 'ox/AbiParameters'
import { keccak256 } from 'ox/Hash'
import type { Address, Hex } from './hex.ts'

/** What makes a request this one and no other. */
export type RequestFields = {
  readonly chainId: number
  /** The requests contract. */
  readonly requests: Address
  readonly id: bigint
  readonly requester: Address
  readonly nftContract: Address
  /** `encryptedPayload`, whole. */
  readonly payload: Uint8Array
}

/**
 * Returns what an answer is bound to, as `BrokerRequests.requestDigest` computes it:
 * `keccak256(abi.encode(chainId, contract, id, requester, nftContract, keccak256(0x00 || payload)))`.
 */
export function requestDigest(fields: RequestFields): Hex {
  const prefixed = new Uint8Array(fields.payload.length + 1)
  prefixed.set(fields.payload, 1)
  const payloadHash = keccak256(prefixed, { as: 'Hex' })
  const { chainId, requests, id, requester, nftContract } = fields
  return keccak256(encode(digestWords, [BigInt(chainId), requests, id, requester, nftContract, payloadHash]))
}

const digestWords = [
  { type: 'uint256' },
  { type: 'address' },
  { type: 'uint256' },
  { type: 'address' },
  { type: 'address' },
  { type: 'bytes32' },
] as const

/** keccak256 of no bytes: the code hash of an account without code. */
export const emptyCodeHash: Hex = '0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470'
