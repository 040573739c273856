/** Hexadecimal text as JSON-RPC carries it. */
import { BlockHostError } from '@blockhost/kit/errors.ts'

/** Bytes as `0x` and an even number of hex digits. */
export type Hex = `0x${string}`

/** An Ethereum address: `0x` and 40 hex digits. What this package returns is lower case unless a function says checksummed. */
export type Address = `0x${string}`

/** The address nobody owns. */
export const zeroAddress: Address = '0x0000000000000000000000000000000000000000'

/** Thirty-two zero bytes: what a chain answers for a hash it doesn't have. */
export const zeroHash: Hex = `0x${'0'.repeat(64)}`

/** Returns `value` (not negative) as a JSON-RPC quantity: no leading zeros, `0x0` for zero. */
export function toQuantity(value: bigint | number): Hex {
  return `0x${value.toString(16)}`
}

/**
 * Reads a JSON-RPC quantity.
 *
 * @param label - Names the value in the error, e.g. `eth_blockNumber`.
 * @throws {BlockHostError} `BH_RPC_ANSWER_INVALID` (retryable: another endpoint, or the same later, may answer properly).
 */
export function parseQuantity(value: unknown, label: string): bigint {
  if (typeof value === 'string' && /^0x[0-9a-f]{1,64}$/i.test(value)) return BigInt(value)
  throw invalidAnswer(label, 'is not a quantity')
}

/** Reads hex bytes (`0x…`, even length). Throws as {@link parseQuantity} does. */
export function parseHex(value: unknown, label: string): Hex {
  if (typeof value === 'string' && /^0x(?:[0-9a-f]{2})*$/i.test(value)) return value.toLowerCase() as Hex
  throw invalidAnswer(label, 'is not hex data')
}

/** Reads an address in any case; returns it in lower case. Throws as {@link parseQuantity} does. */
export function parseAddressHex(value: unknown, label: string): Address {
  if (isAddress(value)) return value.toLowerCase() as Address
  throw invalidAnswer(label, 'is not an address')
}

/** Returns whether `value` has the form of an address: `0x` and 40 hex digits in any case (the checksum is not looked at). */
export function isAddress(value: unknown): value is Address {
  return typeof value === 'string' && /^0x[0-9a-f]{40}$/i.test(value)
}

/** Returns the bytes of hex text; the text must be {@link Hex}. */
export function hexToBytes(hex: Hex): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(hex.slice(2))
}

/** Returns bytes as lower-case {@link Hex}. */
export function bytesToHex(bytes: Uint8Array): Hex {
  return `0x${bytes.toHex()}`
}

/** Makes the error for an answer of an RPC endpoint that makes no sense: `BH_RPC_ANSWER_INVALID`, retryable. */
export function invalidAnswer(label: string, problem: string, cause?: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_RPC_ANSWER_INVALID',
    message: `The RPC endpoint's answer for ${label} ${problem}`,
    retryable: true,
    cause,
  })
}
