/**
 * The contract calls of a sign-in, encoded and decoded here rather than by an ABI library: they are six, of one word each, and
 * starting fast matters. Access token contract: contracts/src/interfaces/IAccessCredentialNFT.sol; wallets: EIP-1271.
 */
import { type Address, type Hex, invalidAnswer, parseHex, toQuantity } from '@blockhost/chain/hex.ts'

/** One call of a contract. */
export type ContractCall = { readonly to: Address; readonly data: Hex }

/** What a contract answered: its bytes, or that it reverted (`empty`: without saying why, as when it lacks the function). */
export type CallAnswer =
  | { readonly kind: 'returned'; readonly data: Hex }
  | { readonly kind: 'reverted'; readonly empty: boolean }

/** Who holds a token, and until when. */
export type TokenView =
  | { readonly kind: 'held'; readonly owner: Address; readonly expiresAt: number; readonly expired: boolean }
  /** There is no such token. */
  | { readonly kind: 'none' }

/** Makes the calls for {@link decodeTokenView}, in its order. */
export function tokenViewCalls(contract: Address, tokenId: bigint): readonly ContractCall[] {
  return [selectors.ownerOf, selectors.isExpired, selectors.getAccessData].map(selector => ({
    to: contract,
    data: `${selector}${word(tokenId)}`,
  }))
}

/**
 * Reads the answers to {@link tokenViewCalls}. A contract of a generation without expiry (it lacks the functions) holds tokens that
 * never expire.
 *
 * @throws {BlockHostError} `BH_RPC_ANSWER_INVALID` (retryable) when they are not those of a token contract.
 */
export function decodeTokenView(answers: readonly CallAnswer[]): TokenView {
  const [owner, expired, access] = answers as [CallAnswer, CallAnswer, CallAnswer]
  if (owner.kind === 'reverted') return { kind: 'none' }
  const holder = toAddress(wordAt(owner.data, 0, 'ownerOf'))
  // Only when both are missing: one revert alone may be the endpoint's doing, and must not make a token last for ever.
  if (lacksFunction(expired) && lacksFunction(access))
    return { kind: 'held', owner: holder, expired: false, expiresAt: 0 }
  return {
    kind: 'held',
    owner: holder,
    expired: decodeNumber(expired, 'isExpired') !== 0n,
    // (bytes userEncrypted, string publicSecret, uint256 issuedAt, uint256 expiresAt)
    expiresAt: toTime(wordAt(returned(access, 'getAccessData'), 3, 'getAccessData')),
  }
}

/** Makes the call by which a contract wallet says whether a signature is its own (EIP-1271). */
export function signatureCall(wallet: Address, hash: Uint8Array, signature: Uint8Array): ContractCall {
  const padded = new Uint8Array(Math.ceil(signature.length / 32) * 32)
  padded.set(signature)
  const data = `${selectors.isValidSignature}${hash.toHex()}${word(64n)}${word(BigInt(signature.length))}${padded.toHex()}`
  return { to: wallet, data: data as Hex }
}

/** Returns whether the answer to {@link signatureCall} is EIP-1271's yes. Anything else, an account without code too, is no. */
export function isValidSignature(answer: CallAnswer): boolean {
  if (answer.kind === 'reverted' || answer.data.length < 66) return false
  return answer.data.slice(0, 66) === `${selectors.isValidSignature}${'0'.repeat(56)}`
}

/** Makes the call for how many tokens `wallet` holds. */
export function balanceCall(contract: Address, wallet: Address): ContractCall {
  return { to: contract, data: `${selectors.balanceOf}${word(BigInt(wallet))}` }
}

/** Makes the call for the token at `index` (from 0) of those `wallet` holds (ERC-721 enumerable). */
export function heldTokenCall(contract: Address, wallet: Address, index: number): ContractCall {
  return { to: contract, data: `${selectors.tokenOfOwnerByIndex}${word(BigInt(wallet))}${word(BigInt(index))}` }
}

/** Makes the call for whether a token's access is over. */
export function expiredCall(contract: Address, tokenId: bigint): ContractCall {
  return { to: contract, data: `${selectors.isExpired}${word(tokenId)}` }
}

/**
 * Reads an answer of one number.
 *
 * @throws {BlockHostError} `BH_RPC_ANSWER_INVALID` (retryable) when it is none.
 */
export function decodeNumber(answer: CallAnswer, label: string): bigint {
  return BigInt(wordAt(returned(answer, label), 0, label))
}

/** Returns `id` as the field writes token ids: `0x` and 64 digits. */
export function tokenIdHex(id: bigint): Hex {
  return `0x${word(id)}`
}

const selectors = {
  ownerOf: '0x6352211e',
  isExpired: '0xd9548e53',
  getAccessData: '0x3d79e350',
  balanceOf: '0x70a08231',
  tokenOfOwnerByIndex: '0x2f745c59',
  isValidSignature: '0x1626ba7e',
} as const

function word(value: bigint): string {
  return toQuantity(value).slice(2).padStart(64, '0')
}

function lacksFunction(answer: CallAnswer): boolean {
  return answer.kind === 'reverted' ? answer.empty : answer.data === '0x'
}

function returned(answer: CallAnswer, label: string): Hex {
  if (answer.kind === 'returned') return answer.data
  throw invalidAnswer(label, 'is a revert')
}

function wordAt(data: Hex, index: number, label: string): Hex {
  const digits = data.slice(2 + 64 * index, 2 + 64 * (index + 1))
  if (digits.length !== 64) throw invalidAnswer(label, `has ${(data.length - 2) / 2} bytes, which is too few`)
  return parseHex(`0x${digits}`, label)
}

function toAddress(value: Hex): Address {
  if (!/^0x0{24}/.test(value)) throw invalidAnswer('ownerOf', 'is not an address')
  return `0x${value.slice(26)}`
}

function toTime(value: Hex): number {
  const seconds = BigInt(value)
  return seconds > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(seconds)
}
