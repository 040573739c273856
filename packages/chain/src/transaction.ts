/** Transactions as bytes: EIP-1559 (type 2) and, for chains without a base fee, EIP-155 legacy. */
import { keccak256 } from 'ox/Hash'
import { fromHex as encodeRlp } from 'ox/Rlp'
import { signRecoverable } from 'tiny-secp256k1'
import { type Address, bytesToHex, type Hex } from './hex.ts'

/** What a transaction offers for each unit of gas, wei. */
export type Fees =
  | { readonly type: 'eip1559'; readonly maxFeePerGasWei: bigint; readonly maxPriorityFeePerGasWei: bigint }
  | { readonly type: 'legacy'; readonly gasPriceWei: bigint }

/** A transaction before it is signed. */
export type UnsignedTransaction = {
  /** EIP-155 id of the only chain it is valid on. */
  readonly chainId: number
  readonly nonce: number
  /** Absent: `data` is creation code. */
  readonly to: Address | undefined
  readonly data: Hex
  readonly valueWei: bigint
  readonly gasLimit: bigint
  readonly fees: Fees
}

/** A transaction ready to be sent. */
export type SignedTransaction = {
  readonly raw: Hex
  /** What every node calls it by; known before it is sent. */
  readonly hash: Hex
}

/**
 * Signs a transaction (RFC 6979, low s: the same input gives the same bytes). Cost about 0.4 ms.
 *
 * @param privateKey - 32 bytes in 1..n-1.
 */
export function signTransaction(transaction: UnsignedTransaction, privateKey: Uint8Array): SignedTransaction {
  const { signature, recoveryId } = signRecoverable(digestOf(transaction), privateKey)
  const r = trimmed(signature.subarray(0, 32))
  const s = trimmed(signature.subarray(32))
  const raw =
    transaction.fees.type === 'eip1559'
      ? typed([...fieldsOf(transaction), quantity(recoveryId), r, s])
      : encodeRlp([...fieldsOf(transaction), quantity(transaction.chainId * 2 + 35 + recoveryId), r, s])
  return { raw, hash: keccak256(raw) }
}

function digestOf(transaction: UnsignedTransaction): Uint8Array {
  const fields = fieldsOf(transaction)
  const payload =
    transaction.fees.type === 'eip1559'
      ? typed(fields)
      : encodeRlp([...fields, quantity(transaction.chainId), '0x', '0x']) // EIP-155
  return keccak256(payload, { as: 'Bytes' })
}

type Field = Hex | readonly never[]

function fieldsOf({ chainId, nonce, to, data, valueWei, gasLimit, fees }: UnsignedTransaction): Field[] {
  const call = [quantity(gasLimit), to ?? '0x', quantity(valueWei), data]
  if (fees.type === 'legacy') return [quantity(nonce), quantity(fees.gasPriceWei), ...call]
  const price = [quantity(fees.maxPriorityFeePerGasWei), quantity(fees.maxFeePerGasWei)]
  return [quantity(chainId), quantity(nonce), ...price, ...call, []]
}

function typed(fields: readonly Field[]): Hex {
  return `0x02${encodeRlp(fields).slice(2)}`
}

/** RLP scalars: big-endian without leading zeros; zero is no bytes. */
function quantity(value: number | bigint): Hex {
  if (BigInt(value) === 0n) return '0x'
  const digits = value.toString(16)
  return `0x${digits.length % 2 === 0 ? digits : `0${digits}`}`
}

function trimmed(word: Uint8Array): Hex {
  const start = word.findIndex(byte => byte !== 0)
  return bytesToHex(start < 0 ? word.subarray(0, 0) : word.subarray(start))
}
