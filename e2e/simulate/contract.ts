/** The rules of contracts/src/BrokerRequests.sol (generation 3) as a pure state machine. */

import { requestDigest } from '@blockhost/chain/request-digest.ts'
import { requestStatus } from '@blockhost/chain/snapshot.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { type Address, decodeFunctionData, type Hex } from 'viem'

/** One request, as the contract keeps it. */
export type ContractRequest = {
  readonly id: bigint
  readonly requester: Address
  readonly nftContract: Address
  readonly payload: Uint8Array
  readonly submittedAt: number
  readonly digest: Hex
  /** One of `requestStatus`. */
  readonly status: number
  readonly response: Hex | undefined
}

/** A foreign NFT contract. */
export type NftContract = { readonly owner: Address; readonly codeHash: Hex; readonly isErc721: boolean }

/** Everything that a transaction can change; never changed in place, so every block keeps its own. */
export type ContractState = {
  /** By id, the first at 0. */
  readonly requests: readonly ContractRequest[]
  readonly mapping: ReadonlyMap<Address, bigint>
  readonly releaseCount: bigint
  readonly nfts: ReadonlyMap<Address, NftContract>
  readonly operatorNonce: number
}

/** A transaction's call, decoded. */
export type ContractCall =
  | { readonly kind: 'submitRequest'; readonly nftContract: Address; readonly payload: Uint8Array }
  | {
      readonly kind: 'submitResponses'
      readonly answers: readonly { readonly id: bigint; readonly digest: Hex | undefined; readonly payload: Hex }[]
      /** `submitResponse`: one answer, and whatever is wrong with it reverts. */
      readonly isStrict: boolean
    }
  | { readonly kind: 'releaseAllocation'; readonly nftContract: Address }
  | { readonly kind: 'releaseRequest'; readonly id: bigint }
  | { readonly kind: 'markExpired'; readonly ids: readonly bigint[] }
  /** Of the NFT contract, not of ours. */
  | { readonly kind: 'transferOwnership'; readonly nftContract: Address; readonly to: Address }
  /** A transaction without effect: what the outbox uses a nonce up with. */
  | { readonly kind: 'nothing' }

/** Where and when a call runs. */
export type CallContext = { readonly from: Address; readonly timestamp: number; readonly rules: ContractRules }

/** What does not change: who may answer, and for how long. */
export type ContractRules = {
  readonly chainId: number
  readonly address: Address
  readonly owner: Address
  readonly expirationSeconds: number
}

/** A state after a call, or the name of the error it reverted with. */
export type CallResult =
  | { readonly ok: true; readonly state: ContractState; readonly skipped: readonly bigint[] }
  | { readonly ok: false; readonly error: string }

/** The state of a contract that was just deployed. */
export const emptyContract: ContractState = {
  requests: [],
  mapping: new Map(),
  releaseCount: 0n,
  nfts: new Map(),
  operatorNonce: 0,
}

/** Runs one call on a state. Pure; cost O(requests + contracts). */
export function execute(state: ContractState, call: ContractCall, context: CallContext): CallResult {
  switch (call.kind) {
    case 'submitRequest':
      return submitRequest(state, call, context)
    case 'submitResponses':
      return submitResponses(state, call, context)
    case 'releaseAllocation':
      return releaseAllocation(state, call.nftContract, context)
    case 'releaseRequest':
      return releaseRequest(state, call.id, context)
    case 'markExpired':
      return markExpired(state, call.ids, context)
    case 'transferOwnership':
      return transferOwnership(state, call, context)
    case 'nothing':
      return done(state)
  }
}

/** Decodes the calldata of a transaction to the requests contract. @throws on a function that is not one of its own. */
export function decodeCall(data: Hex): ContractCall {
  const known = decoded.get(data)
  if (known !== undefined) return known
  if (decoded.size > 1000) decoded.clear()
  const call = decodeFresh(data)
  decoded.set(data, call)
  return call
}

/** The same transaction is looked at by the outbox, the pool, each fork and each invariant. */
const decoded = new Map<Hex, ContractCall>()

function decodeFresh(data: Hex): ContractCall {
  if (data === '0x') return { kind: 'nothing' }
  const { functionName, args } = decodeFunctionData({ abi: brokerRequestsAbi, data })
  switch (functionName) {
    case 'submitResponse':
      return {
        kind: 'submitResponses',
        isStrict: true,
        answers: [{ id: args[0], digest: undefined, payload: args[1] }],
      }
    case 'submitResponses': {
      const [ids, digests, payloads] = args
      if (ids.length !== digests.length || ids.length !== payloads.length) throw new Error('LengthMismatch')
      const answers = ids.map((id, at) => ({ id, digest: digests[at]!, payload: payloads[at]! }))
      return { kind: 'submitResponses', isStrict: false, answers }
    }
    case 'releaseAllocation':
      return { kind: 'releaseAllocation', nftContract: args[0].toLowerCase() as Address }
    case 'releaseRequest':
      return { kind: 'releaseRequest', id: args[0] }
    case 'markExpired':
      return { kind: 'markExpired', ids: args[0] }
    default:
      throw new Error(`the simulated contract has no ${functionName}`)
  }
}

/** Returns the live request of an NFT contract. */
export function liveRequest(state: ContractState, nftContract: Address): ContractRequest | undefined {
  const id = state.mapping.get(nftContract)
  return id === undefined ? undefined : state.requests[Number(id) - 1]
}

const maxPayloadBytes = 4096

function submitRequest(
  state: ContractState,
  { nftContract, payload }: Extract<ContractCall, { kind: 'submitRequest' }>,
  { from, timestamp, rules }: CallContext,
): CallResult {
  const problem = payloadProblem(payload.length) ?? ownerProblem(state, nftContract, from)
  if (problem !== undefined) return { ok: false, error: problem }
  const superseded = state.mapping.get(nftContract)
  const before = superseded === undefined ? state : close(state, superseded)
  const id = BigInt(state.requests.length + 1)
  const digest = digestOf(rules, id, from, nftContract, payload)
  const request: ContractRequest = {
    id,
    requester: from,
    nftContract,
    payload,
    submittedAt: timestamp,
    digest,
    status: requestStatus.pending,
    response: undefined,
  }
  const mapping = new Map(before.mapping).set(nftContract, id)
  return done({ ...before, mapping, requests: [...before.requests, request] })
}

function submitResponses(
  state: ContractState,
  { answers, isStrict }: Extract<ContractCall, { kind: 'submitResponses' }>,
  { from, timestamp, rules }: CallContext,
): CallResult {
  if (from !== rules.owner) return { ok: false, error: 'OwnableUnauthorizedAccount' }
  for (const { payload } of answers) {
    const problem = payloadProblem(payload.length / 2 - 1)
    if (problem !== undefined) return { ok: false, error: problem }
  }
  const requests = [...state.requests]
  const skipped: bigint[] = []
  for (const { id, digest, payload } of answers) {
    const request = requests[Number(id) - 1]
    const error = answerProblem(request, digest, timestamp, rules)
    if (request !== undefined && error === undefined)
      requests[Number(id) - 1] = { ...request, status: requestStatus.approved, response: payload }
    else if (isStrict) return { ok: false, error: error ?? 'InvalidRequestId' }
    else skipped.push(id)
  }
  return { ok: true, state: { ...state, requests }, skipped }
}

function answerProblem(
  request: ContractRequest | undefined,
  digest: Hex | undefined,
  timestamp: number,
  rules: ContractRules,
): string | undefined {
  if (request === undefined) return 'InvalidRequestId'
  if (request.status !== requestStatus.pending) return 'RequestNotPending'
  if (timestamp > request.submittedAt + rules.expirationSeconds) return 'RequestOutOfTime'
  return digest !== undefined && digest !== request.digest ? 'another request' : undefined
}

function releaseAllocation(state: ContractState, nftContract: Address, { from, rules }: CallContext): CallResult {
  const id = state.mapping.get(nftContract)
  if (id === undefined) return { ok: false, error: 'NoAllocation' }
  if (from !== rules.owner && from !== state.nfts.get(nftContract)?.owner) return { ok: false, error: 'NotNftOwner' }
  return done(release(state, id))
}

function releaseRequest(state: ContractState, id: bigint, { from, rules }: CallContext): CallResult {
  const request = state.requests[Number(id) - 1]
  if (request === undefined || state.mapping.get(request.nftContract) !== id)
    return { ok: false, error: 'NoAllocation' }
  if (from !== rules.owner && from !== state.nfts.get(request.nftContract)?.owner)
    return { ok: false, error: 'NotNftOwner' }
  return done(release(state, id))
}

function markExpired(state: ContractState, ids: readonly bigint[], { timestamp, rules }: CallContext): CallResult {
  let after = state
  for (const id of ids) {
    const request = after.requests[Number(id) - 1]
    if (request?.status !== requestStatus.pending) continue
    if (timestamp > request.submittedAt + rules.expirationSeconds) after = close(after, id)
  }
  return done(after)
}

function transferOwnership(
  state: ContractState,
  { nftContract, to }: Extract<ContractCall, { kind: 'transferOwnership' }>,
  { from }: CallContext,
): CallResult {
  const nft = state.nfts.get(nftContract)
  if (nft?.owner !== from) return { ok: false, error: 'OwnableUnauthorizedAccount' }
  return done({ ...state, nfts: new Map(state.nfts).set(nftContract, { ...nft, owner: to }) })
}

function release(state: ContractState, id: bigint): ContractState {
  return { ...close(state, id), releaseCount: state.releaseCount + 1n }
}

/** A request that leaves the mapping is Expired in the same step. */
function close(state: ContractState, id: bigint): ContractState {
  const request = state.requests[Number(id) - 1]!
  const requests = state.requests.with(Number(id) - 1, { ...request, status: requestStatus.expired })
  const mapping = new Map(state.mapping)
  mapping.delete(request.nftContract)
  return { ...state, requests, mapping }
}

function done(state: ContractState): CallResult {
  return { ok: true, state, skipped: [] }
}

function payloadProblem(bytes: number): string | undefined {
  return bytes === 0 || bytes > maxPayloadBytes ? 'InvalidPayloadLength' : undefined
}

function ownerProblem(state: ContractState, nftContract: Address, from: Address): string | undefined {
  const nft = state.nfts.get(nftContract)
  if (nft?.isErc721 !== true) return 'NotErc721'
  return nft.owner === from ? undefined : 'NotNftOwner'
}

/** Payloads are few and long-lived; the hash of one is asked for again in every fork and every seed. */
const digests = new WeakMap<Uint8Array, Map<string, Hex>>()

function digestOf(rules: ContractRules, id: bigint, from: Address, nftContract: Address, payload: Uint8Array): Hex {
  const known = digests.get(payload) ?? new Map<string, Hex>()
  digests.set(payload, known)
  const key = `${rules.chainId} ${rules.address} ${id} ${from} ${nftContract}`
  const digest =
    known.get(key) ?? requestDigest({ ...rules, requests: rules.address, id, requester: from, nftContract, payload })
  known.set(key, digest)
  return digest
}
