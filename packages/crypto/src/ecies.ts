/**
 * ECIES as eciespy (>= 0.4), ecies/rs (0.2) and eciesjs speak it by default: secp256k1, HKDF-SHA256 over both uncompressed points,
 * AES-256-GCM with a 16-byte nonce. One message is `ephemeral key (65) || nonce (16) || tag (16) || ciphertext`.
 *
 * Timing: the recipient's long-lived private key only meets OpenSSL's ladder for generic curves, which runs in constant time with
 * blinded coordinates. The WASM build of libsecp256k1 multiplies a point of somebody else in variable time (`ec_pubkey_tweak_mul`;
 * three times faster, and the only one at hand that returns Y), so it gets nothing but the scalar of one message, thrown away
 * after it; the multiplication of the generator, signing and key checks of that library are written to be constant-time, as far as a WASM compiler keeps that.
 */
import { createCipheriv, createDecipheriv, createECDH, ECDH, hkdfSync, randomBytes } from 'node:crypto'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { isPoint, isPrivate, pointFromScalar, pointMultiply } from 'tiny-secp256k1'

const pointBytes = 65
const nonceBytes = 16
const tagBytes = 16
const nothing = new Uint8Array(0)

/** How many bytes longer than its plaintext a message is. */
export const eciesOverheadBytes = 97

/** What {@link encrypt} otherwise draws at random; only for reproducing published vectors. */
export type EciesVectorInput = {
  /** Scalar of the sender's one-time key, 32 bytes. Using one twice for a recipient breaks the secrecy of both messages. */
  readonly ephemeralPrivateKey?: Uint8Array
  /** AES-GCM nonce, 16 bytes. */
  readonly nonce?: Uint8Array
}

/** Decrypts messages sent to one key. Throws as {@link decrypt} does. */
export type Decryptor = (blob: Uint8Array) => Uint8Array

/**
 * Encrypts `plaintext` so that only the owner of `recipientPublicKey` can read it. The sender stays anonymous: nothing is signed.
 *
 * @param recipientPublicKey - secp256k1 point of 33 (compressed), 64 (X, Y) or 65 (uncompressed) bytes.
 * @returns `plaintext.length + 97` bytes. Cost about 0.3 ms.
 * @throws {BlockHostError} `BH_ECIES_KEY_INVALID` (not retryable) when the key is no point of the curve.
 */
export function encrypt(
  recipientPublicKey: Uint8Array,
  plaintext: Uint8Array,
  vector: EciesVectorInput = {},
): Uint8Array<ArrayBuffer> {
  const recipient = toPoint(recipientPublicKey)
  const scalar = vector.ephemeralPrivateKey ?? randomScalar()
  const nonce = vector.nonce ?? randomBytes(nonceBytes)
  if (!isPrivate(scalar) || nonce.length !== nonceBytes) throw badKey('The ephemeral key or nonce is out of range')
  const ephemeral = pointFromScalar(scalar, false)
  const shared = pointMultiply(recipient, scalar, false)
  if (ephemeral === null || shared === null) throw badKey('The recipient key is not a usable point')
  const cipher = createCipheriv('aes-256-gcm', deriveKey(ephemeral, shared), nonce)
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()])
  return join([ephemeral, nonce, cipher.getAuthTag(), ciphertext])
}

/**
 * Decrypts a message made by {@link encrypt} or by another implementation of the same scheme. For many messages to one key use
 * {@link createDecryptor}, which spares 0.35 ms each.
 *
 * @param privateKey - Scalar in 1..n-1, 32 bytes.
 * @throws {BlockHostError} `BH_ECIES_KEY_INVALID` for the key, `BH_ECIES_MESSAGE_INVALID` for anything that was not encrypted to it
 *   whole and unchanged. Neither is retryable.
 */
export function decrypt(privateKey: Uint8Array, blob: Uint8Array): Uint8Array {
  return createDecryptor(privateKey)(blob)
}

/** Prepares decryption with one private key; each message then costs about 0.5 ms. Throws and decrypts as {@link decrypt} does. */
export function createDecryptor(privateKey: Uint8Array): Decryptor {
  if (!isPrivate(privateKey)) throw badKey('The private key is not 32 bytes in the range 1..n-1')
  const ecdh = createECDH('secp256k1')
  ecdh.setPrivateKey(privateKey)
  return blob => {
    if (blob.length < eciesOverheadBytes)
      throw badMessage(`it has ${blob.length} bytes, the least is ${eciesOverheadBytes}`)
    const ephemeral = blob.subarray(0, pointBytes)
    const x = sharedX(ecdh, ephemeral)
    // ECDH yields X alone and the scheme hashes Y too. Only two points have this X; the tag tells which of them was meant.
    const plaintext = openWith(blob, pointOf(2, x)) ?? openWith(blob, pointOf(3, x))
    if (plaintext === undefined) throw badMessage('it was encrypted to another key, or was changed on the way')
    return plaintext
  }
}

/** Returns whether `bytes` is a secp256k1 public key that {@link encrypt} takes: 33, 64 or 65 bytes, on the curve. */
export function isPublicKey(bytes: Uint8Array): boolean {
  return isPoint(withTag(bytes)) && (bytes.length !== pointBytes || bytes[0] === 4)
}

function toPoint(publicKey: Uint8Array): Uint8Array {
  if (!isPublicKey(publicKey))
    throw badKey(`The recipient key (${publicKey.length} bytes) is not a point of secp256k1 in 33, 64 or 65 bytes`)
  return withTag(publicKey)
}

function withTag(publicKey: Uint8Array): Uint8Array {
  return publicKey.length === pointBytes - 1 ? join([Uint8Array.of(4), publicKey]) : publicKey
}

function randomScalar(): Uint8Array {
  for (;;) {
    const scalar = randomBytes(32)
    if (isPrivate(scalar)) return scalar // fails once in 2^128 draws
  }
}

function sharedX(ecdh: ECDH, ephemeral: Uint8Array): Uint8Array {
  if (ephemeral[0] !== 4) throw badMessage('it does not begin with an uncompressed public key')
  try {
    return ecdh.computeSecret(ephemeral)
  } catch (cause) {
    throw badMessage('its ephemeral key is not a point of secp256k1', cause)
  }
}

function pointOf(parity: 2 | 3, x: Uint8Array): Uint8Array {
  return ECDH.convertKey(
    join([Uint8Array.of(parity), x]),
    'secp256k1',
    undefined,
    undefined,
    'uncompressed',
  ) as Uint8Array
}

function openWith(blob: Uint8Array, shared: Uint8Array): Uint8Array | undefined {
  const nonce = blob.subarray(pointBytes, pointBytes + nonceBytes)
  const tag = blob.subarray(pointBytes + nonceBytes, eciesOverheadBytes)
  const key = deriveKey(blob.subarray(0, pointBytes), shared)
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes })
  decipher.setAuthTag(tag)
  const plaintext = decipher.update(blob.subarray(eciesOverheadBytes))
  try {
    decipher.final()
    return new Uint8Array(plaintext)
  } catch {
    return undefined // the tag does not fit: another point, another key, or a changed message
  }
}

/**
 * Returns the AES-256 key of one message: HKDF-SHA256 without salt or info over both points.
 *
 * @param ephemeral - The sender's one-time public key, 65 bytes.
 * @param shared - The Diffie-Hellman point, 65 bytes, Y included.
 */
export function deriveKey(ephemeral: Uint8Array, shared: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', join([ephemeral, shared]), nothing, nothing, 32))
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

function badKey(message: string): BlockHostError {
  return new BlockHostError({ code: 'BH_ECIES_KEY_INVALID', message })
}

function badMessage(why: string, cause?: unknown): BlockHostError {
  return new BlockHostError({ code: 'BH_ECIES_MESSAGE_INVALID', message: `Could not decrypt: ${why}`, cause })
}
