import { checksum, validate } from 'ox/Address'

/** Reads an Ethereum address: `0x` and 40 digits; mixed case must carry the right EIP-55 checksum. Returns it checksummed. */
export function toAddress(text: string): `0x${string}` | undefined {
  if (!validate(text, { strict: text !== text.toLowerCase() })) return undefined
  return checksum(text)
}
