/** The wallet that owns the NFT contract: prices, signs and sends its transactions. */

import { decodeContractError, describeContractError } from '@blockhost/chain/contract-error.ts'
import { type FeeMarket, firstFees, mostPaid, raisedFees } from '@blockhost/chain/fees.ts'
import { type Address, type Hex, parseQuantity } from '@blockhost/chain/hex.ts'
import type { Rpc } from '@blockhost/chain/rpc.ts'
import type { Fees } from '@blockhost/chain/transaction.ts'
import type { CallIntent, EstimateOutcome, SendOutcome, TransactionPort } from '@blockhost/chain/transaction-port.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { readPendingNonce } from './requests-contract.ts'

/** A signed transaction and what is needed to sign it again with higher fees. */
export type PreparedTransaction = {
  readonly call: CallIntent
  readonly nonce: number
  readonly gasLimit: bigint
  readonly fees: Fees
  readonly hash: Hex
  readonly raw: Hex
}

/** What {@link Wallet} needs of the chain: a transaction port, and the two facts it has no method for. */
export type WalletPort = Pick<TransactionPort, 'address' | 'chainId' | 'sign' | 'estimate' | 'send'> & {
  pendingNonce(): Promise<number>
  balanceWei(): Promise<bigint>
  market(): Promise<FeeMarket>
}

/** One wallet on one chain. */
export type Wallet = {
  /** Lower case. */
  readonly address: Address
  readonly chainId: number
  /**
   * Signs a transaction with the next nonce, after the node has run it; nothing is sent.
   *
   * @param doing - What it does, for messages: `ask for a lease`.
   * @throws {BlockHostError} `BH_CALL_REFUSED` with the contract's own words, `BH_BALANCE_TOO_LOW`; retryable ones when the chain can't be seen.
   */
  prepare(call: CallIntent, doing: string): Promise<PreparedTransaction>
  /** Signs the same transaction (same nonce) with fees that nodes take as a replacement. */
  raise(previous: Omit<PreparedTransaction, 'hash' | 'raw'>): Promise<PreparedTransaction>
  send(raw: Hex): Promise<SendOutcome>
}

/** Joins a transaction port and the RPC behind it. */
export function createWalletPort(port: TransactionPort, rpc: Rpc): WalletPort {
  return {
    address: port.address,
    chainId: port.chainId,
    sign: port.sign,
    estimate: port.estimate,
    send: port.send,
    market: () => port.poll({ receiptsOf: [] }),
    pendingNonce: () => readPendingNonce(rpc, port.address),
    balanceWei: async () => parseQuantity(await rpc.call('eth_getBalance', [port.address, 'latest']), 'eth_getBalance'),
  }
}

/** Makes the {@link Wallet} of a port. */
export function createWallet(port: WalletPort): Wallet {
  const sign = async (unsigned: Omit<PreparedTransaction, 'hash' | 'raw'>): Promise<PreparedTransaction> => {
    const { call, nonce, gasLimit, fees } = unsigned
    const signed = await port.sign({
      chainId: port.chainId,
      nonce,
      to: call.to,
      data: call.data,
      valueWei: call.valueWei,
      gasLimit,
      fees,
    })
    return { ...unsigned, ...signed }
  }
  return {
    address: port.address,
    chainId: port.chainId,
    prepare: async (call, doing) => {
      const [estimate] = await port.estimate([call])
      const [market, balance, nonce] = await Promise.all([port.market(), port.balanceWei(), port.pendingNonce()])
      const gasLimit = gasLimitOf(estimate!, doing, port.address)
      const fees = firstFees(market, undefined)!
      checkBalance({ address: port.address, balance, needed: gasLimit * mostPaid(fees) + call.valueWei, doing })
      return sign({ call, nonce, gasLimit, fees })
    },
    raise: async previous =>
      sign({ ...previous, fees: raisedFees(previous.fees, await port.market(), 12.5, undefined)! }),
    send: async raw => (await port.send([raw]))[0]!,
  }
}

/** A fifth more than estimated, as the state may differ when it is mined. */
function gasLimitOf(estimate: EstimateOutcome, doing: string, address: Address): bigint {
  if (estimate.ok) return (estimate.gas * 12n) / 10n + 20_000n
  if (estimate.kind === 'insufficient-funds') throw tooPoor(address, doing)
  if (estimate.kind === 'transient')
    throw new BlockHostError({
      code: 'BH_RPC_UNAVAILABLE',
      message: `The RPC endpoint could not say what it would cost to ${doing}: ${estimate.message}`,
      retryable: true,
    })
  const refusal = decodeContractError(brokerRequestsAbi, estimate.data)
  throw new BlockHostError({
    code: 'BH_CALL_REFUSED',
    message: `The requests contract does not let this wallet ${doing}: ${refusal === undefined ? estimate.message : describeContractError(refusal)}`,
    hint: hints[refusal?.name ?? ''] ?? 'Check --nft-contract and --wallet-key.',
    fields: { wallet: address, ...(refusal === undefined ? {} : { error: refusal.name }) },
  })
}

const hints: Readonly<Record<string, string>> = {
  CapacityExhausted: 'This broker is full; choose another with --broker-id (see list-brokers).',
  NotErc721: '--nft-contract must name an ERC-721 contract on this chain.',
  NotNftOwner: "--wallet-key must be the key of the NFT contract's owner.",
  NoAllocation: 'There is nothing to release.',
}

function checkBalance(facts: { address: Address; balance: bigint; needed: bigint; doing: string }): void {
  if (facts.balance < facts.needed) throw tooPoor(facts.address, facts.doing, facts)
}

function tooPoor(address: Address, doing: string, amounts?: { balance: bigint; needed: bigint }): BlockHostError {
  const how = amounts === undefined ? '' : `: it holds ${amounts.balance} wei and may need ${amounts.needed}`
  return new BlockHostError({
    code: 'BH_BALANCE_TOO_LOW',
    message: `The wallet ${address} can't pay to ${doing}${how}`,
    hint: `Send some of the chain's currency to ${address}, then run this again.`,
    fields: {
      wallet: address,
      ...(amounts === undefined ? {} : { balanceWei: `${amounts.balance}`, neededWei: `${amounts.needed}` }),
    },
  })
}
