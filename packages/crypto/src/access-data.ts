/**
 * What an access token says to its holder alone: `userEncrypted` of AccessCredentialNFT. AES-256-GCM under the Keccak-256 of the
 * holder's signature of the token's `publicSecret` (EIP-191), so whoever can make that signature can read it, and nobody else.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { keccak256 } from 'ox/Hash'

const ivBytes = 12
const tagBytes = 16

/** How many bytes longer than its plaintext a blob is: `IV (12) || ciphertext || tag (16)`. */
export const accessDataOverheadBytes = ivBytes + tagBytes

/** Where and as whom a token's holder connects. */
export type ConnectionDetails = {
  /** Name or address of the server; an IPv6 address without brackets. */
  readonly hostname: string
  /** Port of its SSH service. */
  readonly port: number
  /** Unix user. */
  readonly username: string
}

/**
 * Encrypts `plaintext` for whoever can sign the token's public secret.
 *
 * @param signature - The signature's bytes as the wallet gave them, at least 64; the last one (v) counts.
 * @param iv - Only for reproducing published vectors; otherwise drawn at random.
 * @throws {BlockHostError} `BH_ACCESS_DATA_INVALID` when the signature is too short.
 */
export function encryptAccessData(
  signature: Uint8Array,
  plaintext: Uint8Array,
  iv: Uint8Array = randomBytes(ivBytes),
): Uint8Array<ArrayBuffer> {
  if (iv.length !== ivBytes) throw invalid(`an IV has ${ivBytes} bytes, ${iv.length} were given`)
  const cipher = createCipheriv('aes-256-gcm', accessKey(signature), iv, { authTagLength: tagBytes })
  return new Uint8Array(Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]))
}

/**
 * Decrypts a blob of {@link encryptAccessData} or of an earlier generation.
 *
 * @param signature - As there. Wallets write v as 0/1 or 27/28; the other way of writing it is tried too.
 * @throws {BlockHostError} `BH_ACCESS_DATA_INVALID` (not retryable) when it was made for another signature, or changed.
 */
export function decryptAccessData(signature: Uint8Array, blob: Uint8Array): Uint8Array<ArrayBuffer> {
  if (blob.length < accessDataOverheadBytes)
    throw invalid(`it has ${blob.length} bytes, the least is ${accessDataOverheadBytes}`)
  const plaintext = open(accessKey(signature), blob) ?? open(accessKey(withOtherV(signature)), blob)
  if (plaintext === undefined) throw invalid('it was made for another signature, or was changed on the way')
  return plaintext
}

/** Returns the AES-256 key that `signature` stands for. Throws as {@link encryptAccessData} does. */
export function accessKey(signature: Uint8Array): Uint8Array {
  if (signature.length < 64) throw invalid(`a signature has at least 64 bytes, ${signature.length} were given`)
  return keccak256(signature, { as: 'Bytes' })
}

/** Renders connection details as the field's tools do: JSON with a blank after each colon and comma. */
export function renderConnectionDetails({ hostname, port, username }: ConnectionDetails): string {
  return `{"hostname": ${JSON.stringify(hostname)}, "port": ${port}, "username": ${JSON.stringify(username)}}`
}

/** Reads connection details; `undefined` when `text` is not JSON of that shape. */
export function parseConnectionDetails(text: string): ConnectionDetails | undefined {
  let value: Partial<Record<keyof ConnectionDetails, unknown>> | null
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { hostname, port, username } = value
  if (typeof hostname !== 'string' || typeof username !== 'string' || typeof port !== 'number') return undefined
  return Number.isInteger(port) && port >= 1 && port <= 65_535 ? { hostname, port, username } : undefined
}

function open(key: Uint8Array, blob: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  const decipher = createDecipheriv('aes-256-gcm', key, blob.subarray(0, ivBytes), { authTagLength: tagBytes })
  decipher.setAuthTag(blob.subarray(blob.length - tagBytes))
  const plaintext = decipher.update(blob.subarray(ivBytes, blob.length - tagBytes))
  try {
    decipher.final()
    return new Uint8Array(plaintext)
  } catch {
    return undefined
  }
}

function withOtherV(signature: Uint8Array): Uint8Array {
  const other = signature.slice()
  const v = other[other.length - 1]!
  if (v <= 1) other[other.length - 1] = v + 27
  else if (v === 27 || v === 28) other[other.length - 1] = v - 27
  return other
}

function invalid(why: string): BlockHostError {
  return new BlockHostError({ code: 'BH_ACCESS_DATA_INVALID', message: `The access data can't be used: ${why}` })
}
