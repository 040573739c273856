/** Texts that wallets sign (EIP-191, `personal_sign`) and what their signatures prove. */
import { checksum } from 'ox/Address'
import { keccak256 } from 'ox/Hash'
import { type RecoveryIdType, recover, signRecoverable } from 'tiny-secp256k1'

/** A secp256k1 signature with what is needed to find its signer. */
export type Signature = {
  /** r, s: 64 bytes. */
  readonly rs: Uint8Array
  readonly yParity: 0 | 1
}

/** Outcome of {@link parseSignature}; `reason` never repeats what was read. */
export type ParsedSignature =
  | { readonly ok: true; readonly signature: Signature }
  | { readonly ok: false; readonly reason: string }

const maxSignatureText = 1024

/** What makes a server's name unique beyond its operator. */
export type MachineIdentity = {
  /** Name of the VM, e.g. `blockhost-005`; the same at every operator. */
  readonly vmName: string
  readonly chainId: number
  /** The operator's access token contract. */
  readonly nftContract: `0x${string}`
  /** The operator's host, RFC 5952 text. */
  readonly hostIpv6: string
}

/**
 * Returns the machine id of a VM: its name, a dot, and 8 hex digits of Keccak-256 over the text `chain:contract:address` (contract in
 * lower case), so that a signature for one operator's `blockhost-005` is of no use at another's.
 */
export function machineIdOf({ vmName, chainId, nftContract, hostIpv6 }: MachineIdentity): string {
  const text = `${chainId}:${nftContract.toLowerCase()}:${hostIpv6}`
  return `${vmName}.${keccak256(new TextEncoder().encode(text), { as: 'Bytes' }).subarray(0, 4).toHex()}`
}

/** Returns the hash that a wallet signs for `text` (EIP-191 version 0x45), 32 bytes. */
export function hashMessage(text: string): Uint8Array {
  const body = Buffer.from(text, 'utf8')
  return keccak256(Buffer.concat([Buffer.from(`\x19Ethereum Signed Message:\n${body.length}`), body]), { as: 'Bytes' })
}

/**
 * Reads a signature as people paste it: hex in any case, `0x` and blanks around it allowed; 65 bytes `r || s || v` with v of 0, 1, 27,
 * 28 or EIP-155's 35 and up, or 64 bytes as EIP-2098 packs them.
 */
export function parseSignature(text: string): ParsedSignature {
  if (text.length > maxSignatureText) return { ok: false, reason: 'it is too long' }
  const digits = text.trim().replace(/^0x/i, '')
  if (!/^[0-9a-f]*$/i.test(digits)) return { ok: false, reason: 'it holds a character that is no hexadecimal digit' }
  if (digits.length === 128) return { ok: true, signature: unpack(Uint8Array.fromHex(digits)) }
  if (digits.length !== 130)
    return { ok: false, reason: `it has ${digits.length} hexadecimal digits where 130 are expected` }
  const bytes = Uint8Array.fromHex(digits)
  const yParity = parityOf(bytes[64]!)
  if (yParity === undefined) return { ok: false, reason: `its last byte is ${bytes[64]}, which no wallet writes` }
  return { ok: true, signature: { rs: bytes.slice(0, 64), yParity } }
}

/**
 * Returns who made `signature` of `hash` (32 bytes): an EIP-55 address, or `undefined` when nobody can have. Cost 0.3 ms.
 * Any well-formed signature recovers to *some* address: compare it with the one that is allowed.
 */
export function recoverAddress(hash: Uint8Array, { rs, yParity }: Signature): `0x${string}` | undefined {
  let publicKey: Uint8Array | null
  try {
    publicKey = recover(hash, rs, yParity as RecoveryIdType, false)
  } catch {
    return undefined // r or s is zero or not below the group order
  }
  if (publicKey === null) return undefined
  return checksum(`0x${keccak256(publicKey.subarray(1), { as: 'Bytes' }).subarray(12).toHex()}`)
}

/** Signs `text` as a wallet's personal_sign does (RFC 6979): `0x` and 130 digits, v of 27 or 28. */
export function signMessage(text: string, privateKey: Uint8Array): `0x${string}` {
  const { signature, recoveryId } = signRecoverable(hashMessage(text), privateKey)
  return renderSignature({ rs: signature, yParity: (recoveryId & 1) as 0 | 1 })
}

/** Renders a signature the one way it is passed on: `0x`, 130 lower-case digits, v of 27 or 28. */
export function renderSignature({ rs, yParity }: Signature): `0x${string}` {
  return `0x${rs.toHex()}${(27 + yParity).toString(16)}`
}

function unpack(bytes: Uint8Array): Signature {
  const rs = bytes.slice()
  rs[32]! &= 0x7f
  return { rs, yParity: (bytes[32]! >> 7) as 0 | 1 }
}

function parityOf(v: number): 0 | 1 | undefined {
  if (v <= 1) return v as 0 | 1
  if (v === 27 || v === 28) return (v - 27) as 0 | 1
  return v >= 35 ? (((v - 35) % 2) as 0 | 1) : undefined
}
