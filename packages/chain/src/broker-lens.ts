/** The one eth_call that reads everything the broker needs; see contracts/src/BrokerLens.sol. */
import { brokerLensAbi, brokerLensBytecode } from '@blockhost/contracts/abi/broker-lens.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { decodeResult, fromAbi } from 'ox/AbiFunction'
import { encode } from 'ox/AbiParameters'
import { decodeContractError } from './contract-error.ts'
import { type Address, type Hex, hexToBytes, invalidAnswer, parseHex } from './hex.ts'
import { tooLittleGas } from './lens-errors.ts'
import { type RpcCall, type RpcOutcome, resultOf } from './rpc.ts'
import type { RequestView, Snapshot, SnapshotQuery, WatchView } from './snapshot.ts'

/** Most ids one snapshot may watch: a limit of the lens. */
export const maxWatchIds = 120

/** EIP-170: the lens's answer passes for contract code. */
const maxAnswerBytes = 24_576
const maxPayloadBytes = 4096

/**
 * Makes the call for {@link decodeSnapshot}.
 *
 * @param blockTag - Block to look at; default `latest`.
 * @throws {RangeError} when more than {@link maxWatchIds} are watched.
 */
export function snapshotCall(
  query: SnapshotQuery,
  blockTag: 'latest' | 'safe' | 'finalized' | Hex = 'latest',
): RpcCall {
  if (query.watchIds.length > maxWatchIds)
    throw new RangeError(`a snapshot watches ${maxWatchIds} ids at most; ${query.watchIds.length} were given`)
  const { requests, cursor, max, watchIds, operator } = query
  const args = encode(lensArguments, [requests, cursor, BigInt(max), watchIds, operator])
  return { method: 'eth_call', params: [{ data: brokerLensBytecode + args.slice(2) }, blockTag] }
}

/**
 * Reads the answer to {@link snapshotCall}, checking that it is about what was asked.
 *
 * @throws {BlockHostError} as `ChainReader.snapshot` documents.
 */
export function decodeSnapshot(outcome: RpcOutcome, query: SnapshotQuery): Snapshot {
  if (!outcome.ok && outcome.failure.kind === 'reverted') throw refusal(outcome.failure.data, query.requests)
  const data = parseHex(resultOf(outcome, 'the snapshot of the requests contract'), 'the snapshot')
  if (data.length > 2 + 2 * maxAnswerBytes) throw invalidAnswer('the snapshot', 'is longer than the lens can answer')
  const raw = decodeRaw(data)
  const snapshot: Snapshot = {
    blockNumber: raw.blockNumber,
    timestamp: toNumber(raw.timestamp, 'timestamp'),
    chainId: toNumber(raw.chainId, 'chain id'),
    requestCount: raw.requestCount,
    releaseCount: raw.releaseCount,
    requestFeeWei: raw.requestFee,
    generation: toGeneration(raw.generation),
    operatorBalanceWei: raw.operatorBalance,
    expirationSeconds: toNumber(raw.expirationTime, 'expiration time'),
    owner: raw.owner,
    requests: raw.requests.map(toRequestView),
    watched: raw.watched.map(toWatchView),
  }
  checkAnswersQuery(snapshot, query)
  return snapshot
}

const lensArguments = [
  { name: 'requests', type: 'address' },
  { name: 'cursor', type: 'uint256' },
  { name: 'max', type: 'uint256' },
  { name: 'watchIds', type: 'uint256[]' },
  { name: 'operator', type: 'address' },
] as const

function decodeRaw(data: Hex) {
  try {
    return decodeResult(fromAbi(brokerLensAbi, 'snapshot'), data)
  } catch (cause) {
    throw invalidAnswer('the snapshot', 'does not decode; the node may not run eth_call without `to`', cause)
  }
}

type RawSnapshot = ReturnType<typeof decodeRaw>

function toRequestView(raw: RawSnapshot['requests'][number]): RequestView {
  const payload = hexToBytes(raw.payload)
  if (payload.length > maxPayloadBytes) throw invalidAnswer('the snapshot', 'holds a payload above 4096 bytes')
  return { ...raw, payload, submittedAt: toNumber(raw.submittedAt, 'submission time') }
}

function toWatchView(raw: RawSnapshot['watched'][number]): WatchView {
  return { ...raw }
}

function toNumber(value: bigint, label: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw invalidAnswer('the snapshot', `holds a ${label} of ${value}`)
  return Number(value)
}

function toGeneration(value: bigint): 1 | 2 | 3 {
  if (value === 1n || value === 2n || value === 3n) return Number(value) as 1 | 2 | 3
  throw invalidAnswer('the snapshot', `names the unknown generation ${value}`)
}

function checkAnswersQuery(snapshot: Snapshot, query: SnapshotQuery): void {
  const { requests, watched } = snapshot
  const inOrder = requests.every((request, index) => request.id === query.cursor + BigInt(index) + 1n)
  if (!inOrder || requests.length > query.max)
    throw invalidAnswer('the snapshot', 'holds other requests than asked for')
  const expected = watched.length === query.watchIds.length && watched.every((view, i) => view.id === query.watchIds[i])
  if (!expected) throw invalidAnswer('the snapshot', 'watches other requests than asked for')
}

function refusal(data: Hex | undefined, requests: Address): BlockHostError {
  const name = decodeContractError(brokerLensAbi, data)?.name
  if (name === 'NoContract')
    return new BlockHostError({
      code: 'BH_REQUESTS_CONTRACT_MISSING',
      message: `There is no contract at ${requests} in the block that was read`,
      hint: 'Check `requests_contract` and `chain_id`; an endpoint that is behind sees it later.',
      fields: { requests },
      retryable: true,
    })
  if (name === 'UnsupportedGeneration')
    return new BlockHostError({
      code: 'BH_REQUESTS_CONTRACT_UNSUPPORTED',
      message: `The requests contract ${requests} is of the generation that stores no answers, which is not supported`,
      hint: 'Deploy the current contracts with `blockhost-broker deploy` and configure their address.',
      fields: { requests },
      exitCode: exitCodes.badConfig,
    })
  if (name === 'NotEnoughGas') return tooLittleGas('request')
  return new BlockHostError({
    code: 'BH_REQUESTS_CONTRACT_UNSUPPORTED',
    message: `The contract ${requests} does not answer like a requests contract`,
    hint: 'Check `requests_contract`.',
    fields: { requests, ...(data === undefined ? {} : { data: data.slice(0, 138) }) },
    exitCode: exitCodes.badConfig,
  })
}
