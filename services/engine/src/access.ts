import type { Address } from '@blockhost/chain/hex.ts'
import { type ConnectionDetails, encryptAccessData, renderConnectionDetails } from '@blockhost/crypto/access-data.ts'
import { createDecryptor } from '@blockhost/crypto/ecies.ts'
import { decryptNoble } from '@blockhost/crypto/ecies-noble.ts'

/** The key a buyer gave: a signature of a text, which only the buyer's wallet can make again. */
export type BuyerKey = {
  /** 65 bytes. */
  readonly signature: Uint8Array
  /** What was signed; goes into the token. */
  readonly publicSecret: string
}

/** What purchase data came to. A problem is a sentence for people; the buyer can still get a VM and a token. */
export type OpenedPurchase =
  | { readonly ok: true; readonly key: BuyerKey }
  | { readonly ok: false; readonly problem: string }

/** Opens what a buyer wrote. Never throws. */
export type OpenPurchase = (data: Uint8Array, subscriber: Address) => OpenedPurchase

const maxSecretLength = 256

/**
 * Makes the reader of purchase data: ECIES of `{"v":1,"signature":"0x…","publicSecret":"libpam-web3:<address>:<nonce>"}`, and as pages
 * of earlier generations wrote it, the other ECIES ("noble") of the signature's 132 characters, made of the host's one
 * public secret. A bare signature is refused: it is the key itself, for all to see.
 *
 * @param privateKey - `server.key`, 32 bytes.
 * @param legacySecret - The host's public secret of the earlier generation.
 */
export function createPurchaseOpener(privateKey: Uint8Array, legacySecret: string): OpenPurchase {
  const decrypt = createDecryptor(privateKey)
  return (data, subscriber) => {
    if (data.length === 0) return problem('the purchase carries no data')
    if (data.length === 65)
      return problem('the purchase publishes the signature itself, so anyone could read the access data')
    const text = firstOf([() => decrypt(data), () => decryptNoble(privateKey, data)])
    if (text === undefined) return problem('the purchase data is not encrypted to the key of this host')
    const key = text.startsWith('{') ? parseVersioned(text, subscriber) : parseLegacy(text, legacySecret)
    return typeof key === 'string' ? problem(key) : { ok: true, key }
  }
}

/** Encrypts where and as whom the buyer connects, for the token. */
export function sealConnection({ signature }: BuyerKey, details: ConnectionDetails): Uint8Array {
  return encryptAccessData(signature, new TextEncoder().encode(renderConnectionDetails(details)))
}

function firstOf(readers: readonly (() => Uint8Array)[]): string | undefined {
  for (const read of readers) {
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(read())
    } catch {
      // Not of this scheme; the next may fit.
    }
  }
  return undefined
}

function parseVersioned(text: string, subscriber: Address): BuyerKey | string {
  const value = parseJson(text)
  if (value === undefined) return 'the purchase data is not the expected JSON'
  const { v, signature, publicSecret } = value
  if (v !== 1) return 'the purchase data is of a version that this host does not know'
  const bytes = typeof signature === 'string' ? parseSignature(signature) : undefined
  if (bytes === undefined) return 'the purchase data holds no signature of 65 bytes'
  if (typeof publicSecret !== 'string' || publicSecret.length > maxSecretLength)
    return 'the purchase data names no public secret'
  const [name, address, nonce, ...rest] = publicSecret.split(':')
  const isWellFormed = name === 'libpam-web3' && (nonce ?? '').length > 0 && rest.length === 0
  if (!isWellFormed) return 'the public secret is not libpam-web3:<address>:<nonce>'
  if (address!.toLowerCase() !== subscriber) return 'the public secret was made for another wallet'
  return { signature: bytes, publicSecret }
}

function parseLegacy(text: string, publicSecret: string): BuyerKey | string {
  const signature = parseSignature(text.trim())
  return signature === undefined ? 'the purchase data is no signature' : { signature, publicSecret }
}

function parseJson(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function parseSignature(text: string): Uint8Array | undefined {
  return /^0x[0-9a-f]{130}$/i.test(text) ? Uint8Array.fromHex(text.slice(2)) : undefined
}

function problem(text: string): OpenedPurchase {
  return { ok: false, problem: text }
}
