import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { encode, fromAbi } from 'ox/AbiEvent'
import { decodeSnapshot, snapshotCall } from './broker-lens.ts'
import { type Address, type Hex, invalidAnswer, parseAddressHex, parseHex, parseQuantity, toQuantity } from './hex.ts'
import { type Rpc, type RpcOutcome, resultOf } from './rpc.ts'
import type { ChainReader, ReleaseEvent } from './snapshot.ts'

/** Blocks one eth_getLogs spans; public endpoints refuse anything between 500 and 10,000. */
const logSpan = 1000n
/** Below this span a refusal is taken as final. */
const minLogSpan = 10n

/**
 * Makes the daemon's reader: one HTTP round trip for each snapshot.
 *
 * @param options.chainId - EIP-155 id every snapshot must be of.
 * @param options.blockTag - Which block to look at; default `latest`.
 */
export function createChainReader(
  rpc: Rpc,
  options: { readonly chainId: number; readonly blockTag?: 'latest' | 'safe' | 'finalized' },
): ChainReader {
  return {
    async snapshot(query) {
      const [outcome] = await rpc.batch([snapshotCall(query, options.blockTag)])
      const snapshot = decodeSnapshot(outcome!, query)
      if (snapshot.chainId !== options.chainId) throw wrongChain(snapshot.chainId, options.chainId)
      return snapshot
    },
    releases: ({ requests, fromBlock, toBlock }) => readReleases(rpc, requests, fromBlock, toBlock, logSpan),
  }
}

/** All spans in one round trip; those that were refused again in halves, as limits differ from endpoint to endpoint. */
async function readReleases(
  rpc: Rpc,
  requests: Address,
  fromBlock: bigint,
  toBlock: bigint,
  span: bigint,
): Promise<ReleaseEvent[]> {
  const spans: { from: bigint; to: bigint }[] = []
  for (let from = fromBlock; from <= toBlock; from += span)
    spans.push({ from, to: from + span - 1n < toBlock ? from + span - 1n : toBlock })
  const topics = encode(fromAbi(brokerRequestsAbi, 'AllocationReleased')).topics
  const outcomes = await rpc.batch(
    spans.map(({ from, to }) => ({
      method: 'eth_getLogs',
      params: [{ address: requests, topics, fromBlock: toQuantity(from), toBlock: toQuantity(to) }],
    })),
  )
  const events: ReleaseEvent[] = []
  for (const [index, { from, to }] of spans.entries()) {
    const outcome = outcomes[index]!
    if (outcome.ok || to - from < minLogSpan) events.push(...parseReleases(outcome))
    else events.push(...(await readReleases(rpc, requests, from, to, (to - from + 2n) / 2n)))
  }
  return events
}

function parseReleases(outcome: RpcOutcome): ReleaseEvent[] {
  const logs = resultOf(outcome, 'eth_getLogs')
  if (!Array.isArray(logs)) throw invalidAnswer('eth_getLogs', 'is not a list')
  return logs.filter(log => log?.removed !== true).map(parseRelease)
}

function parseRelease(log: { topics?: unknown; blockNumber?: unknown }): ReleaseEvent {
  const topics = Array.isArray(log.topics) ? log.topics : []
  if (topics.length !== 4) throw invalidAnswer('eth_getLogs', 'holds another event than asked for')
  return {
    requestId: parseQuantity(topics[1], 'a release'),
    nftContract: addressOfTopic(topics[2]),
    by: addressOfTopic(topics[3]),
    blockNumber: parseQuantity(log.blockNumber, 'a release'),
  }
}

/** An indexed address stands in a word of its own, zeros in front. */
function addressOfTopic(topic: unknown): Address {
  const word: Hex = parseHex(topic, 'a release')
  return parseAddressHex(`0x${word.slice(26)}`, 'a release')
}

function wrongChain(actual: number, expected: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_WRONG_CHAIN',
    message: `The RPC endpoint is on chain ${actual}; the configuration says ${expected}`,
    hint: 'Correct `rpc_url` or `chain_id`.',
    fields: { chainId: actual, expected },
    exitCode: exitCodes.badConfig,
  })
}
