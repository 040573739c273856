/** The simulated chain as the daemon sees it: a `ChainReader` and a `TransactionPort`, without faults; those are added around them. */
import type { ChainReader, RequestView, Snapshot, SnapshotQuery, WatchView } from '@blockhost/chain/snapshot.ts'
import type { UnsignedTransaction } from '@blockhost/chain/transaction.ts'
import type {
  EstimateOutcome,
  PortView,
  Receipt,
  SendOutcome,
  TransactionPort,
} from '@blockhost/chain/transaction-port.ts'
import type { Address, Hex } from 'viem'
import { type Block, type Endpoint, isAncestor, priceOf, type SimChain, type SimTransaction } from './chain.ts'
import { type ContractCall, type ContractRequest, type ContractState, decodeCall, execute } from './contract.ts'

/** Which endpoint answers the next call. */
export type PickEndpoint = () => Endpoint

const zeroHash: Hex = `0x${'0'.repeat(64)}`
const zeroAddress: Address = '0x0000000000000000000000000000000000000000'

/** Makes the reader: BrokerLens, page limit by size included. */
export function createSimReader(chain: SimChain, pick: PickEndpoint): ChainReader {
  return { snapshot: async query => snapshotOf(chain, chain.headOf(pick()), query) }
}

function snapshotOf(chain: SimChain, block: Block, query: SnapshotQuery): Snapshot {
  const { state } = block
  return {
    blockNumber: block.number,
    timestamp: block.timestamp,
    chainId: chain.rules.chainId,
    requestCount: BigInt(state.requests.length),
    releaseCount: state.releaseCount,
    requestFeeWei: 0n,
    generation: 3,
    operatorBalanceWei: chain.funds.wei,
    expirationSeconds: chain.rules.expirationSeconds,
    owner: chain.rules.owner,
    requests: pageOf(state, query),
    watched: query.watchIds.map(id => watch(state, id)),
  }
}

// contracts/src/BrokerLens.sol
const maxAnswer = 24_576
const emptyAnswer = 17 * 32
const emptyView = 13 * 32
const watchSize = 5 * 32

function pageOf(state: ContractState, query: SnapshotQuery): RequestView[] {
  let room = maxAnswer - emptyAnswer - watchSize * query.watchIds.length
  const page: RequestView[] = []
  for (const request of state.requests.slice(Number(query.cursor), Number(query.cursor) + query.max)) {
    const size = emptyView + Math.ceil(request.payload.length / 32) * 32
    if (size > room) break
    room -= size
    page.push(viewOf(state, request))
  }
  return page
}

function viewOf(state: ContractState, request: ContractRequest): RequestView {
  const { id, requester, nftContract, payload, status, submittedAt, digest } = request
  const nft = state.nfts.get(nftContract)
  return {
    id,
    requester,
    nftContract,
    payload,
    status,
    submittedAt,
    digest,
    mapped: state.mapping.get(nftContract) === id,
    codeHash: nft?.codeHash ?? zeroHash,
    isErc721: nft?.isErc721 ?? false,
    nftOwner: nft?.owner ?? zeroAddress,
  }
}

function watch(state: ContractState, id: bigint): WatchView {
  const request = state.requests[Number(id) - 1]
  if (request === undefined) return { id, exists: false, status: 0, digest: zeroHash, mappedId: 0n }
  const { status, digest, nftContract } = request
  return { id, exists: true, status, digest, mappedId: state.mapping.get(nftContract) ?? 0n }
}

/** What was signed, by its bytes; survives the daemon because signing is a function of the key. */
export type Signatures = Map<Hex, UnsignedTransaction & { readonly hash: Hex }>

/** Makes the port of the operator's account. */
export function createSimPort(
  chain: SimChain,
  signatures: Signatures,
  pick: PickEndpoint,
  rejects: { readonly hidesReceipt: () => boolean; readonly underpriced: () => boolean },
): TransactionPort {
  const address = chain.rules.owner
  return {
    address,
    chainId: chain.rules.chainId,
    sign: async transaction => sign(signatures, transaction),
    poll: async ({ receiptsOf }) => viewOfPort(chain, chain.headOf(pick()), receiptsOf, rejects.hidesReceipt),
    estimate: async calls => {
      const head = chain.headOf(pick())
      return calls.map(({ to, data }) => estimate(chain, head, to, data))
    },
    send: async raws => {
      const head = chain.headOf(pick())
      return raws.map(raw => take(chain, head, signatures.get(raw)!, rejects.underpriced))
    },
  }
}

/** Bytes and hash are numbers, given out once for each different transaction. */
function sign(signatures: Signatures, transaction: UnsignedTransaction): { raw: Hex; hash: Hex } {
  for (const [raw, known] of signatures) if (isSame(known, transaction)) return { raw, hash: known.hash }
  const number = signatures.size + 1
  const raw: Hex = `0x02${number.toString(16).padStart(8, '0')}`
  const hash: Hex = `0xaa${number.toString(16).padStart(62, '0')}`
  signatures.set(raw, { ...transaction, hash })
  return { raw, hash }
}

function isSame(a: UnsignedTransaction, b: UnsignedTransaction): boolean {
  if (a.nonce !== b.nonce || a.to !== b.to || a.data !== b.data || a.gasLimit !== b.gasLimit) return false
  if (a.fees.type === 'legacy' || b.fees.type === 'legacy') return false
  const sameTip = a.fees.maxPriorityFeePerGasWei === b.fees.maxPriorityFeePerGasWei
  return a.fees.maxFeePerGasWei === b.fees.maxFeePerGasWei && sameTip
}

function viewOfPort(chain: SimChain, head: Block, hashes: readonly Hex[], hides: () => boolean): PortView {
  return {
    blockNumber: head.number,
    latestNonce: head.state.operatorNonce,
    baseFeeWei: head.baseFeeWei,
    tipWei: 10n ** 9n,
    receipts: hashes.map(hash => (hides() ? undefined : receiptOf(chain, head, hash))),
  }
}

function receiptOf(chain: SimChain, head: Block, hash: Hex): Receipt | undefined {
  const block = chain.blocksOf(hash).find(block => isAncestor(block, head))
  const mined = block?.mined.find(({ transaction }) => transaction.hash === hash)
  if (block === undefined || mined === undefined) return undefined
  return {
    hash,
    blockNumber: block.number,
    blockHash: block.hash,
    succeeded: mined.error === undefined,
    gasUsed: 100_000n,
    contractAddress: undefined,
  }
}

function estimate(chain: SimChain, head: Block, to: Address | undefined, data: Hex): EstimateOutcome {
  if (chain.funds.wei === 0n) return { ok: false, kind: 'insufficient-funds', message: 'insufficient funds' }
  const context = { from: chain.rules.owner, timestamp: head.timestamp, rules: chain.rules }
  const result = execute(head.state, callOf(chain, to, data), context)
  return result.ok
    ? { ok: true, gas: 100_000n }
    : { ok: false, kind: 'reverted', message: `execution reverted: ${result.error}` }
}

function callOf(chain: SimChain, to: Address | undefined, data: Hex): ContractCall {
  return to?.toLowerCase() === chain.rules.address ? decodeCall(data) : { kind: 'nothing' }
}

function take(
  chain: SimChain,
  head: Block,
  signed: UnsignedTransaction & { hash: Hex },
  underpriced: () => boolean,
): SendOutcome {
  const { nonce, fees, hash } = signed
  if (chain.isWaiting(hash)) return { ok: false, kind: 'known', message: 'already known' }
  if (nonce < head.state.operatorNonce) return { ok: false, kind: 'nonce-too-low', message: 'nonce too low' }
  if (chain.funds.wei === 0n) return { ok: false, kind: 'insufficient-funds', message: 'insufficient funds for gas' }
  const transaction: SimTransaction = {
    hash,
    from: chain.rules.owner,
    call: callOf(chain, signed.to, signed.data),
    nonce,
    fees,
    who: `broker(n${nonce})`,
  }
  const rival = chain.waitingAt(nonce).at(-1)
  const isTooLow = rival !== undefined && priceOf(transaction) * 100n < priceOf(rival) * 110n
  if (isTooLow || underpriced())
    return { ok: false, kind: 'underpriced', message: 'replacement transaction underpriced' }
  chain.submitOperator(transaction)
  return { ok: true }
}
