/** What a buyer's page does with a purchase. */
import { bytesToHex, type Hex } from '@blockhost/chain/hex.ts'
import { encrypt } from '@blockhost/crypto/ecies.ts'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import type { TestWallet } from '@blockhost/testkit/wallet.ts'

/**
 * Returns the `userEncrypted` of a purchase: the signature that only the buyer's wallet can make, for the host alone.
 *
 * @param hostKey - Public half of the host's `server.key`.
 * @param nonce - Another for each purchase.
 */
export function sealPurchase(buyer: TestWallet, hostKey: Uint8Array, nonce: string): Hex {
  const publicSecret = `libpam-web3:${buyer.address}:${nonce}`
  const signature = signMessage(publicSecret, buyer.privateKey)
  const text = JSON.stringify({ v: 1, signature, publicSecret })
  return bytesToHex(encrypt(hostKey, new TextEncoder().encode(text)))
}
