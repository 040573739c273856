/** The broker's BrokerRequests as the client reads it: any of the three generations that store their answers. */
import {
  type Address,
  type Hex,
  invalidAnswer,
  parseAddressHex,
  parseHex,
  parseQuantity,
  toQuantity,
} from '@blockhost/chain/hex.ts'
import { type Rpc, type RpcCall, type RpcOutcome, resultOf } from '@blockhost/chain/rpc.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { decodeResult, encodeData, fromAbi } from 'ox/AbiFunction'
import { type Generation, type RequestStatus, requestStatuses } from './decide.ts'

/** What a requests contract says about itself. */
export type ContractFacts = {
  readonly generation: Generation
  /** The only wallet that can answer. Lower case. */
  readonly owner: Address
  /** Wei; 0 in generations 1 and 2, which take no money. */
  readonly requestFeeWei: bigint
  /** How long a request may wait for its answer. */
  readonly expirationSeconds: number
  /** Places left; `undefined` where the contract does not count (generation 1). */
  readonly availableCapacity: bigint | undefined
  /** Requests that wait or hold a lease; `undefined` where the contract does not count. */
  readonly liveRequests: bigint | undefined
}

/** Facts, or one clause that says why the contract can't be used. */
export type ContractProbe =
  | { readonly ok: true; readonly facts: ContractFacts }
  | { readonly ok: false; readonly problem: string }

/** The live request of an NFT contract. */
export type StoredRequest = {
  readonly id: bigint
  readonly requester: Address
  readonly payload: Hex
  readonly status: RequestStatus
  /** The stored answer; `0x` while there is none. */
  readonly response: Hex
  /** Unix seconds. */
  readonly submittedAt: number
}

/** All of one block. */
export type ChainView = {
  readonly blockNumber: bigint
  /** Block time, Unix seconds. */
  readonly timestamp: number
  /** Transactions of the wallet mined by then. */
  readonly minedNonce: number
  readonly mapped: StoredRequest | undefined
}

/**
 * Finds out what each contract is, in one round trip. Which generation it is follows from the functions that answer.
 *
 * @throws {BlockHostError} `BH_RPC_UNAVAILABLE` and the others of {@link Rpc}.
 */
export async function probeContracts(rpc: Rpc, contracts: readonly Address[]): Promise<readonly ContractProbe[]> {
  const outcomes = await rpc.batch(contracts.flatMap(contract => probes.map(probe => probe(contract))))
  return contracts.map((_, index) => readProbe(outcomes.slice(index * probes.length, (index + 1) * probes.length)))
}

/** Same as {@link probeContracts} for one. @throws {BlockHostError} `BH_REQUESTS_CONTRACT_UNUSABLE` beside. */
export async function readFacts(rpc: Rpc, contract: Address): Promise<ContractFacts> {
  const [probe] = await probeContracts(rpc, [contract])
  if (probe?.ok) return probe.facts
  throw new BlockHostError({
    code: 'BH_REQUESTS_CONTRACT_UNUSABLE',
    message: `The requests contract ${contract} can't be used: ${probe?.problem}`,
    hint: 'Check --requests-contract, --broker-id and --chain-id.',
    fields: { contract },
  })
}

/**
 * Reads the NFT contract's live request and the wallet's nonce, both as of one block: two round trips, a third when the live request is not `guess`.
 *
 * @param guess - Id the live request probably has.
 * @throws {BlockHostError} retryable, also when the endpoint that answers second does not know the block yet.
 */
export async function readChainView(
  rpc: Rpc,
  query: {
    readonly requestsContract: Address
    readonly nftContract: Address
    readonly wallet: Address
    readonly guess: bigint | undefined
  },
): Promise<ChainView> {
  const block = readHeader(await rpc.call('eth_getBlockByNumber', ['latest', false]))
  const at = toQuantity(block.number)
  const getRequest = (id: bigint) =>
    callAt(query.requestsContract, encodeData(fromAbi(brokerRequestsAbi, 'getRequest'), [id]), at)
  const [nonce, mapping, guessed] = await rpc.batch([
    { method: 'eth_getTransactionCount', params: [query.wallet, at] },
    callAt(
      query.requestsContract,
      encodeData(fromAbi(brokerRequestsAbi, 'nftContractToRequestId'), [query.nftContract]),
      at,
    ),
    ...(query.guess === undefined ? [] : [getRequest(query.guess)]),
  ])
  const id = readWord(mapping!, 'nftContractToRequestId')
  const outcome = id === 0n ? undefined : id === query.guess ? guessed : (await rpc.batch([getRequest(id)]))[0]
  return {
    blockNumber: block.number,
    timestamp: block.timestamp,
    minedNonce: Number(parseQuantity(resultOf(nonce!, 'eth_getTransactionCount'), 'eth_getTransactionCount')),
    mapped: outcome === undefined ? undefined : readRequest(outcome, id),
  }
}

/**
 * Says for each contract whether the NFT contract has a live request there, in one round trip; `false` for a contract that does not answer.
 *
 * @throws {BlockHostError} those of {@link Rpc}.
 */
export async function readHasLive(
  rpc: Rpc,
  contracts: readonly Address[],
  nftContract: Address,
): Promise<readonly boolean[]> {
  const data = encodeData(fromAbi(brokerRequestsAbi, 'nftContractToRequestId'), [nftContract])
  const outcomes = await rpc.batch(contracts.map(contract => callAt(contract, data, 'latest')))
  return outcomes.map(outcome => (findWord(outcome) ?? 0n) !== 0n)
}

/** Returns the nonce that a new transaction of the wallet gets, those still waiting to be mined counted. */
export async function readPendingNonce(rpc: Rpc, wallet: Address): Promise<number> {
  return Number(
    parseQuantity(await rpc.call('eth_getTransactionCount', [wallet, 'pending']), 'eth_getTransactionCount'),
  )
}

/** Returns the call data of `submitRequest`. */
export function submitRequestData(nftContract: Address, payload: Hex): Hex {
  return encodeData(fromAbi(brokerRequestsAbi, 'submitRequest'), [nftContract, payload])
}

/** Returns the call data of `markExpired` for one request. */
export function markExpiredData(id: bigint): Hex {
  return encodeData(fromAbi(brokerRequestsAbi, 'markExpired'), [[id]])
}

/** Returns the call data of `releaseAllocation`. */
export function releaseAllocationData(nftContract: Address): Hex {
  return encodeData(fromAbi(brokerRequestsAbi, 'releaseAllocation'), [nftContract])
}

const latest = (data: Hex) => (contract: Address) => callAt(contract, data, 'latest')
const read = (
  name: 'owner' | 'requestFee' | 'requestExpirationTime' | 'getAvailableCapacity' | '_activeCount' | '_pendingCount',
) => latest(encodeData(fromAbi(brokerRequestsAbi, name)))

/** In the order {@link readProbe} reads them. `6e77fd2f` is capacityStatus() of the generation that stores no answers. */
const probes: readonly ((contract: Address) => RpcCall)[] = [
  contract => ({ method: 'eth_getCode', params: [contract, 'latest'] }),
  read('owner'),
  read('requestExpirationTime'),
  read('requestFee'),
  read('getAvailableCapacity'),
  read('_activeCount'),
  read('_pendingCount'),
  latest('0x6e77fd2f'),
]

function readProbe(outcomes: readonly RpcOutcome[]): ContractProbe {
  if (parseHex(resultOf(outcomes[0]!, 'eth_getCode'), 'eth_getCode') === '0x')
    return { ok: false, problem: 'there is no contract at that address on this chain' }
  const [owner, expiration, fee, available, active, pending, capacityStatus] = outcomes.slice(1).map(findWord)
  if (capacityStatus !== undefined && expiration === undefined)
    return { ok: false, problem: 'it is of the generation that stores no answers, which this client does not speak' }
  if (owner === undefined || expiration === undefined)
    return { ok: false, problem: 'it does not answer like a requests contract' }
  return {
    ok: true,
    facts: {
      generation: fee !== undefined ? 3 : available !== undefined ? 2 : 1,
      owner: parseAddressHex(`0x${owner.toString(16).padStart(40, '0')}`, 'owner'),
      requestFeeWei: fee ?? 0n,
      expirationSeconds: Number(expiration),
      availableCapacity: available,
      liveRequests: active === undefined || pending === undefined ? undefined : active + pending,
    },
  }
}

/** `undefined`: the contract has no such function. Anything that may pass is thrown. */
function findWord(outcome: RpcOutcome): bigint | undefined {
  if (!outcome.ok && outcome.failure.kind === 'reverted') return undefined
  const data = parseHex(resultOf(outcome, 'a call of the requests contract'), 'a call of the requests contract')
  return data.length === 66 ? BigInt(data) : undefined
}

function readWord(outcome: RpcOutcome, label: string): bigint {
  const word = findWord(outcome)
  if (word === undefined) throw invalidAnswer(label, 'is not one word')
  return word
}

function callAt(to: Address, data: Hex, block: Hex | 'latest'): RpcCall {
  return { method: 'eth_call', params: [{ to, data }, block] }
}

function readHeader(value: unknown): { number: bigint; timestamp: number } {
  const header = (value ?? {}) as { number?: unknown; timestamp?: unknown }
  return {
    number: parseQuantity(header.number, 'eth_getBlockByNumber'),
    timestamp: Number(parseQuantity(header.timestamp, 'eth_getBlockByNumber')),
  }
}

/** A mapped request always exists; an endpoint that says otherwise has answered from two states, and will not the next time. */
function readRequest(outcome: RpcOutcome, id: bigint): StoredRequest {
  if (!outcome.ok && outcome.failure.kind === 'reverted')
    throw invalidAnswer(`getRequest(${id})`, 'contradicts nftContractToRequestId')
  const data = parseHex(resultOf(outcome, 'getRequest'), 'getRequest')
  const raw = decodeRequest(data)
  const status = requestStatuses[raw.status]
  if (raw.id !== id || status === undefined)
    throw invalidAnswer('getRequest', 'is about another request than asked for')
  return {
    id,
    requester: raw.requester,
    payload: raw.encryptedPayload,
    status,
    response: raw.responsePayload,
    submittedAt: Number(raw.submittedAt),
  }
}

function decodeRequest(data: Hex) {
  try {
    return decodeResult(fromAbi(brokerRequestsAbi, 'getRequest'), data)
  } catch (cause) {
    throw invalidAnswer('getRequest', 'does not decode', cause)
  }
}
