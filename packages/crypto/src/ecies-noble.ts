/**
 * The other ECIES of the field, named "noble" there: what signup pages of earlier generations encrypt purchase data with. One
 * message is `ephemeral key (65) || IV (12) || ciphertext || tag (16)`; the AES key is HKDF-SHA256 of the shared X alone. It has
 * no mark that tells it from `ecies.ts`; neither reads the other's messages.
 */
import { createCipheriv, createDecipheriv, createECDH, hkdfSync, randomBytes } from 'node:crypto'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { isPublicKey } from './ecies.ts'

const pointBytes = 65
const ivBytes = 12
const tagBytes = 16
const nothing = new Uint8Array(0)

/** How many bytes longer than its plaintext a message is. */
export const eciesNobleOverheadBytes = pointBytes + ivBytes + tagBytes

/** What {@link encryptNoble} otherwise draws at random; only for reproducing published vectors. */
export type EciesNobleVectorInput = {
  /** Scalar of the sender's one-time key, 32 bytes. */
  readonly ephemeralPrivateKey?: Uint8Array
  /** 12 bytes. */
  readonly iv?: Uint8Array
}

/**
 * Encrypts `plaintext` so that only the owner of `recipientPublicKey` (33 or 65 bytes) can read it.
 *
 * @throws {BlockHostError} `BH_ECIES_KEY_INVALID` (not retryable) when the key is no point of secp256k1.
 */
export function encryptNoble(
  recipientPublicKey: Uint8Array,
  plaintext: Uint8Array,
  vector: EciesNobleVectorInput = {},
): Uint8Array<ArrayBuffer> {
  if (!isPublicKey(recipientPublicKey) || recipientPublicKey.length === pointBytes - 1)
    throw badKey('The recipient key is not a point of secp256k1 in 33 or 65 bytes')
  const sender = createECDH('secp256k1')
  if (vector.ephemeralPrivateKey === undefined) sender.generateKeys()
  else sender.setPrivateKey(vector.ephemeralPrivateKey)
  const iv = vector.iv ?? randomBytes(ivBytes)
  const key = deriveKey(sender.computeSecret(recipientPublicKey))
  const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: tagBytes })
  const sealed = [cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]
  return new Uint8Array(Buffer.concat([sender.getPublicKey(), iv, ...sealed]))
}

/**
 * Decrypts a message of {@link encryptNoble} or of a page in the field. Cost about 0.5 ms.
 *
 * @param privateKey - 32 bytes.
 * @throws {BlockHostError} `BH_ECIES_MESSAGE_INVALID`, `BH_ECIES_KEY_INVALID`; neither is retryable.
 */
export function decryptNoble(privateKey: Uint8Array, blob: Uint8Array): Uint8Array<ArrayBuffer> {
  if (blob.length < eciesNobleOverheadBytes)
    throw badMessage(`it has ${blob.length} bytes, the least is ${eciesNobleOverheadBytes}`)
  const key = deriveKey(sharedX(privateKey, blob.subarray(0, pointBytes)))
  const iv = blob.subarray(pointBytes, pointBytes + ivBytes)
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: tagBytes })
  decipher.setAuthTag(blob.subarray(blob.length - tagBytes))
  const plaintext = decipher.update(blob.subarray(pointBytes + ivBytes, blob.length - tagBytes))
  try {
    decipher.final()
  } catch (cause) {
    throw badMessage('it was encrypted to another key, or was changed on the way', cause)
  }
  return new Uint8Array(plaintext)
}

function sharedX(privateKey: Uint8Array, ephemeral: Uint8Array): Uint8Array {
  const recipient = createECDH('secp256k1')
  try {
    if (privateKey.length !== 32) throw new RangeError('a private key has 32 bytes')
    recipient.setPrivateKey(privateKey)
  } catch (cause) {
    throw badKey('The private key is not in the range 1..n-1', cause)
  }
  if (ephemeral[0] !== 4) throw badMessage('it does not begin with an uncompressed public key')
  try {
    return recipient.computeSecret(ephemeral)
  } catch (cause) {
    throw badMessage('its ephemeral key is not a point of secp256k1', cause)
  }
}

function deriveKey(sharedX: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', sharedX, nothing, nothing, 32))
}

function badKey(message: string, cause?: unknown): BlockHostError {
  return new BlockHostError({ code: 'BH_ECIES_KEY_INVALID', message, cause })
}

function badMessage(why: string, cause?: unknown): BlockHostError {
  return new BlockHostError({ code: 'BH_ECIES_MESSAGE_INVALID', message: `Could not decrypt: ${why}`, cause })
}
