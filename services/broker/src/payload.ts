import { parseRequest } from '@blockhost/crypto/broker-messages.ts'
import { createDecryptor } from '@blockhost/crypto/ecies.ts'
import type { OpenPayload } from './judge.ts'

/**
 * Makes the reader of encrypted request payloads. Whatever a stranger put into one is a reason to refuse, never an exception.
 *
 * @param privateKey - The broker's ECIES key, 32 bytes.
 */
export function createPayloadOpener(privateKey: Uint8Array): OpenPayload {
  const decrypt = createDecryptor(privateKey)
  return payload => {
    let plaintext: Uint8Array
    try {
      plaintext = decrypt(payload)
    } catch {
      return { ok: false, reason: 'payload-can-not-be-decrypted' }
    }
    const parsed = parseRequest(plaintext)
    if (!parsed.ok) return { ok: false, reason: `payload-malformed: ${parsed.reason}` }
    const { wgPubkey, serverPubkey, nftContract } = parsed.request
    return { ok: true, wish: { publicKey: wgPubkey, serverPublicKey: serverPubkey, nftContract } }
  }
}
