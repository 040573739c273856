import { type Address, bytesToHex, type Hex } from '@blockhost/chain/hex.ts'
import { accessCredentialNftAbi } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { encodeData } from 'ox/AbiFunction'

/** What an access token is minted with. */
export type MintRequest = {
  readonly owner: Address
  /** What the owner will sign for; goes into the description. */
  readonly machineId: string
  /** Connection details for the owner alone; empty: the token says nothing. */
  readonly userEncrypted: Uint8Array
  /** What the owner signs to read them. */
  readonly publicSecret: string
}

/** Returns the data of a `mint`: seven arguments, expiry 0 (never: the VM's end is the access's end, so that no extension costs gas). */
export function mintCall({ owner, machineId, userEncrypted, publicSecret }: MintRequest): Hex {
  const args = [owner, bytesToHex(userEncrypted), publicSecret, `Access to ${machineId}`, '', '', 0n] as const
  return encodeData(accessCredentialNftAbi, 'mint', args)
}
