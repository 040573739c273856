/** Messages encrypted for a wallet as MetaMask's eth_getEncryptionPublicKey and eth_decrypt have it (NaCl box). */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { hsalsa, xsalsa20poly1305 } from '@noble/ciphers/salsa'

// RFC 8410: what comes before 32 raw bytes in PKCS #8 and SPKI of X25519.
const privatePrefix = '302e020100300506032b656e04220420'
const publicPrefix = '302a300506032b656e032100'

/** Returns the X25519 public key of a wallet's private key (32 bytes, used as the scalar as it is), base64 as wallets give it. */
export function walletEncryptionKey(privateKey: Uint8Array): string {
  const spki = createPublicKey(toX25519(privateKey)).export({ type: 'spki', format: 'der' })
  return spki.subarray(-32).toString('base64')
}

/**
 * Decrypts a message to a wallet.
 *
 * @param message - The JSON of eth_decrypt, as text, as `0x` and hex, or as base64.
 * @throws {BlockHostError} `BH_ETH_DECRYPT_FAILED` (not retryable).
 */
export function ethDecrypt(privateKey: Uint8Array, message: string): Uint8Array {
  const { nonce, ephemPublicKey, ciphertext } = parseMessage(message)
  const theirs = createPublicKey({
    key: Buffer.concat([Buffer.from(publicPrefix, 'hex'), ephemPublicKey]),
    format: 'der',
    type: 'spki',
  })
  try {
    const shared = diffieHellman({ privateKey: toX25519(privateKey), publicKey: theirs })
    return xsalsa20poly1305(boxKey(shared), nonce).decrypt(ciphertext)
  } catch (cause) {
    throw failed('it was encrypted to another key, or was changed on the way', cause)
  }
}

function toX25519(privateKey: Uint8Array): KeyObject {
  const key = Buffer.concat([Buffer.from(privatePrefix, 'hex'), privateKey])
  return createPrivateKey({ key, format: 'der', type: 'pkcs8' })
}

/** NaCl's crypto_box_beforenm: HSalsa20 of the shared point. */
function boxKey(shared: Uint8Array): Uint8Array {
  const words = (bytes: Uint8Array) => new Uint32Array(new Uint8Array(bytes).buffer)
  const key = new Uint32Array(8)
  hsalsa(words(Buffer.from('expand 32-byte k')), words(shared), new Uint32Array(4), key)
  return new Uint8Array(key.buffer)
}

type Message = { readonly nonce: Uint8Array; readonly ephemPublicKey: Uint8Array; readonly ciphertext: Uint8Array }

function parseMessage(message: string): Message {
  const fields = parseJson(message.trim())
  if (fields?.version !== 'x25519-xsalsa20-poly1305') throw failed('it is not a message of eth_decrypt')
  const bytes = (name: string) => (typeof fields[name] === 'string' ? Buffer.from(fields[name], 'base64') : Buffer.of())
  const parsed = { nonce: bytes('nonce'), ephemPublicKey: bytes('ephemPublicKey'), ciphertext: bytes('ciphertext') }
  if (parsed.nonce.length !== 24 || parsed.ephemPublicKey.length !== 32)
    throw failed('its nonce or its key has a wrong length')
  return parsed
}

function parseJson(text: string): Record<string, unknown> | undefined {
  const hex = /^0x((?:[0-9a-f]{2})+)$/i.exec(text)?.[1]
  const forms = [text, ...(hex === undefined ? [] : [Buffer.from(hex, 'hex').toString()])]
  for (const form of [...forms, Buffer.from(text, 'base64').toString()]) {
    try {
      const value: unknown = JSON.parse(form)
      if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
    } catch {
      // Perhaps another form.
    }
  }
  return undefined
}

function failed(why: string, cause?: unknown): BlockHostError {
  return new BlockHostError({ code: 'BH_ETH_DECRYPT_FAILED', message: `Could not decrypt: ${why}`, cause })
}
