import type { Abi } from 'ox/Abi'
import { decode, fromAbi } from 'ox/AbiError'
import type { Hex } from './hex.ts'

/** Why a contract refused, by its own words. */
export type ContractError = {
  /** Name of the custom error, `Error` for a text, `Panic` for a compiler check. */
  readonly name: string
  /** Its arguments, in order. */
  readonly args: readonly unknown[]
}

/**
 * Reads the return data of a revert: a custom error of `abi`, `Error(string)` or `Panic(uint256)`.
 *
 * @returns `undefined` when there is no data, or it is none of them.
 */
export function decodeContractError(abi: Abi, data: Hex | undefined): ContractError | undefined {
  if (data === undefined || data.length < 10) return undefined
  try {
    const item = fromAbi(abi, data.slice(0, 10) as Hex)
    const decoded: unknown = item.inputs.length === 0 ? [] : decode(item, data, { as: 'Array' })
    return { name: item.name, args: Array.isArray(decoded) ? decoded : [decoded] }
  } catch {
    return undefined // foreign bytes; the caller says what it was doing
  }
}

/** Renders a contract's refusal for people: `NotNftOwner(0x…, 0x…)`, or the text of a `require`. */
export function describeContractError(error: ContractError): string {
  if (error.name === 'Error') return `"${String(error.args[0]).slice(0, 200)}"`
  return `${error.name}(${error.args.map(value => String(value).slice(0, 100)).join(', ')})`
}
