/** The chain as the outbox needs it: one account, its nonce, its fees and its receipts. */
import { type Address, type Hex, invalidAnswer, parseAddressHex, parseHex, parseQuantity, toQuantity } from './hex.ts'
import { type Rpc, type RpcCall, type RpcOutcome, resultOf } from './rpc.ts'
import type { RpcFailure } from './rpc-failure.ts'
import { type SignedTransaction, signTransaction, type UnsignedTransaction } from './transaction.ts'

/** What a block says about a transaction in it. */
export type Receipt = {
  readonly hash: Hex
  readonly blockNumber: bigint
  readonly blockHash: Hex
  /** `false`: it was mined and paid for, and undid itself. */
  readonly succeeded: boolean
  readonly gasUsed: bigint
  /** Where a creation put its contract. */
  readonly contractAddress: Address | undefined
}

/** One look at the chain. */
export type PortView = {
  /** Newest block that the endpoint knows. */
  readonly blockNumber: bigint
  /** Nonce of the account's next transaction, by that block. */
  readonly latestNonce: number
  readonly baseFeeWei: bigint | undefined
  readonly tipWei: bigint
  /** One per hash asked for, in order; `undefined` when no block known to the endpoint holds it. */
  readonly receipts: readonly (Receipt | undefined)[]
}

/** What a transaction would do, without nonce and price. */
export type CallIntent = { readonly to: Address | undefined; readonly data: Hex; readonly valueWei: bigint }

/** Gas a call would use, or why there is no telling. */
export type EstimateOutcome =
  | { readonly ok: true; readonly gas: bigint }
  | {
      readonly ok: false
      readonly kind: 'reverted' | 'insufficient-funds' | 'transient' | 'permanent'
      readonly message: string
      readonly data?: Hex
    }

/** What a node says to a transaction; `known` means it has it already. */
export type SendOutcome =
  | { readonly ok: true }
  | {
      readonly ok: false
      readonly kind: 'known' | 'nonce-too-low' | 'underpriced' | 'insufficient-funds' | 'transient' | 'permanent'
      readonly message: string
    }

/** One account on one chain. Each method but `sign` is one HTTP round trip. */
export type TransactionPort = {
  /** Lower case. */
  readonly address: Address
  readonly chainId: number
  /** Signs; the same transaction gives the same hash every time. */
  sign(transaction: UnsignedTransaction): Promise<SignedTransaction>
  /** @throws {BlockHostError} retryable, when the chain can't be seen. */
  poll(query: { readonly receiptsOf: readonly Hex[] }): Promise<PortView>
  /** Estimates at the newest state, one outcome per call. @throws {BlockHostError} retryable. */
  estimate(calls: readonly CallIntent[]): Promise<readonly EstimateOutcome[]>
  /** Hands transactions to the network, one outcome each. Whoever throws may have sent any of them. @throws {BlockHostError} retryable. */
  send(raws: readonly Hex[]): Promise<readonly SendOutcome[]>
}

/**
 * Makes the port of one private key.
 *
 * @param options.privateKey - 32 bytes; only ever used to sign here.
 * @param options.address - Its address in any case (`addressOf` of `@blockhost/crypto/key-file.ts`).
 */
export function createTransactionPort(
  rpc: Rpc,
  options: { readonly privateKey: Uint8Array; readonly address: Address; readonly chainId: number },
): TransactionPort {
  const address = options.address.toLowerCase() as Address
  return {
    address,
    chainId: options.chainId,
    sign: async transaction => signTransaction(transaction, options.privateKey),
    poll: async ({ receiptsOf }) => parseView(await rpc.batch(viewCalls(address, receiptsOf)), receiptsOf),
    estimate: async calls => {
      const outcomes = await rpc.batch(calls.map(call => estimateCall(address, call)))
      return outcomes.map(parseEstimate)
    },
    send: async raws => {
      const outcomes = await rpc.batch(raws.map(raw => ({ method: 'eth_sendRawTransaction', params: [raw] })))
      return outcomes.map(outcome => (outcome.ok ? { ok: true } : toSendOutcome(outcome.failure)))
    },
  }
}

function viewCalls(address: Address, receiptsOf: readonly Hex[]): RpcCall[] {
  return [
    { method: 'eth_getBlockByNumber', params: ['latest', false] },
    { method: 'eth_getTransactionCount', params: [address, 'latest'] },
    { method: 'eth_gasPrice', params: [] },
    { method: 'eth_maxPriorityFeePerGas', params: [] },
    ...receiptsOf.map(hash => ({ method: 'eth_getTransactionReceipt', params: [hash] })),
  ]
}

function parseView(outcomes: readonly RpcOutcome[], receiptsOf: readonly Hex[]): PortView {
  const [block, nonce, gasPrice, tip, ...receipts] = outcomes
  const header = resultOf(block!, 'eth_getBlockByNumber') as { number?: unknown; baseFeePerGas?: unknown } | null
  const baseFee = header?.baseFeePerGas
  const baseFeeWei = baseFee === undefined || baseFee === null ? undefined : parseQuantity(baseFee, 'a base fee')
  return {
    blockNumber: parseQuantity(header?.number, 'eth_getBlockByNumber'),
    latestNonce: Number(parseQuantity(resultOf(nonce!, 'eth_getTransactionCount'), 'eth_getTransactionCount')),
    baseFeeWei,
    tipWei: parseTip(baseFeeWei, gasPrice!, tip!),
    receipts: receipts.map((receipt, i) =>
      parseReceipt(resultOf(receipt, 'eth_getTransactionReceipt'), receiptsOf[i]!),
    ),
  }
}

/** Not every node knows eth_maxPriorityFeePerGas; the gas price less the base fee says about the same. */
function parseTip(baseFeeWei: bigint | undefined, gasPrice: RpcOutcome, tip: RpcOutcome): bigint {
  if (baseFeeWei !== undefined && tip.ok) return parseQuantity(tip.result, 'eth_maxPriorityFeePerGas')
  const price = parseQuantity(resultOf(gasPrice, 'eth_gasPrice'), 'eth_gasPrice')
  const floor = baseFeeWei ?? 0n
  return price > floor ? price - floor : 0n
}

function parseReceipt(value: unknown, hash: Hex): Receipt | undefined {
  if (value === null || value === undefined) return undefined
  const raw = value as Record<string, unknown>
  if (raw.blockHash === null || raw.blockNumber === null) return undefined // pending, as some nodes put it
  if (parseHex(raw.transactionHash, 'a receipt') !== hash) throw invalidAnswer('a receipt', 'is of another transaction')
  return {
    hash,
    blockNumber: parseQuantity(raw.blockNumber, 'a receipt'),
    blockHash: parseHex(raw.blockHash, 'a receipt'),
    succeeded: parseQuantity(raw.status, 'a receipt') === 1n,
    gasUsed: parseQuantity(raw.gasUsed, 'a receipt'),
    contractAddress:
      raw.contractAddress === null || raw.contractAddress === undefined
        ? undefined
        : parseAddressHex(raw.contractAddress, 'a receipt'),
  }
}

function estimateCall(from: Address, { to, data, valueWei }: CallIntent): RpcCall {
  const call = { from, data, value: toQuantity(valueWei), ...(to === undefined ? {} : { to }) }
  return { method: 'eth_estimateGas', params: [call] }
}

function parseEstimate(outcome: RpcOutcome): EstimateOutcome {
  if (outcome.ok) return { ok: true, gas: parseQuantity(outcome.result, 'eth_estimateGas') }
  const { kind, message, data } = outcome.failure
  const known = kind === 'reverted' || kind === 'insufficient-funds' || kind === 'permanent' ? kind : 'transient'
  return { ok: false, kind: known, message, ...(data === undefined ? {} : { data }) }
}

function toSendOutcome({ kind, message }: RpcFailure): SendOutcome {
  // A node that runs transactions before it takes them has refused this one for good.
  return { ok: false, kind: kind === 'reverted' ? 'permanent' : kind, message }
}
