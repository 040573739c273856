/** Logs that the engine reads: what buyers wrote, wake-ups, and which token a transaction minted. */
import { accessCredentialNftAbi } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { blockhostSubscriptionsAbi } from '@blockhost/contracts/abi/blockhost-subscriptions.ts'
import { decode, fromAbi, getSelector } from 'ox/AbiEvent'
import { type Address, type Hex, hexToBytes, invalidAnswer, parseHex, parseQuantity, toQuantity } from './hex.ts'
import { type Rpc, type RpcCall, resultOf } from './rpc.ts'
import type { BlockRange, ChainNews, MintedToken, PurchaseData } from './subscription-view.ts'

/** What the strictest of the big providers takes in one eth_getLogs. */
const maxBlocks = 2_000n
/** Ids in one topic filter; longer ones are refused here and there. */
const maxIds = 200
/** eth_getLogs in one HTTP round trip. */
const callsPerTrip = 20

const created = fromAbi(blockhostSubscriptionsAbi, 'SubscriptionCreated')
const extended = fromAbi(blockhostSubscriptionsAbi, 'SubscriptionExtended')
const cancelled = fromAbi(blockhostSubscriptionsAbi, 'SubscriptionCancelled')
const transfer = fromAbi(accessCredentialNftAbi, 'Transfer')
const topics = {
  created: getSelector(created),
  extended: getSelector(extended),
  cancelled: getSelector(cancelled),
  transfer: getSelector(transfer),
}

/** Makes the call for {@link parseNews}: everything that both contracts told from a block on. */
export function newsFilter(subscriptions: Address, nft: Address | undefined, fromBlock: bigint): RpcCall {
  const address = nft === undefined ? [subscriptions] : [subscriptions, nft]
  const filter = { address, topics: [Object.values(topics)], fromBlock: toQuantity(fromBlock), toBlock: 'latest' }
  return { method: 'eth_getLogs', params: [filter] }
}

/** Reads the answer to {@link newsFilter}. Logs that are not of these contracts are left out. */
export function parseNews(result: unknown, subscriptions: Address, nft: Address | undefined): ChainNews {
  const logs = parseLogs(result)
  const mine = logs.filter(log => log.address === subscriptions && log.topics.length > 1)
  const tokens = logs.filter(log => log.address === nft?.toLowerCase() && log.topics[0] === topics.transfer)
  return {
    purchases: mine.flatMap(log => toPurchase(log) ?? []),
    subscriptionIds: mine.map(log => BigInt(log.topics[1]!)),
    tokenIds: tokens.filter(log => log.topics.length === 4).map(log => BigInt(log.topics[3]!)),
  }
}

/** As `SubscriptionsReader.purchaseData` documents. */
export async function purchaseData(
  rpc: Rpc,
  subscriptions: Address,
  wanted: readonly { readonly id: bigint; readonly block: bigint }[],
): Promise<PurchaseData[]> {
  return (await runSearches(rpc, subscriptions, clusters(wanted))).found
}

/** As `SubscriptionsReader.scanPurchases` documents. */
export async function scanPurchases(
  rpc: Rpc,
  subscriptions: Address,
  ids: readonly bigint[],
  range: BlockRange,
): Promise<{ found: PurchaseData[]; scannedTo: bigint }> {
  const searches: Search[] = []
  for (let from = range.fromBlock; from <= range.toBlock; from += maxBlocks) {
    const to = from + maxBlocks - 1n < range.toBlock ? from + maxBlocks - 1n : range.toBlock
    for (let at = 0; at < ids.length; at += maxIds)
      searches.push({ ids: ids.slice(at, at + maxIds), fromBlock: from, toBlock: to })
  }
  const { found, refused } = await runSearches(rpc, subscriptions, searches)
  const scannedTo = refused.reduce((end, { fromBlock }) => (fromBlock - 1n < end ? fromBlock - 1n : end), range.toBlock)
  return { found, scannedTo }
}

/** As `SubscriptionsReader.mintedTokens` documents. */
export async function mintedTokens(
  rpc: Rpc,
  nft: Address,
  hashes: readonly Hex[],
): Promise<readonly (MintedToken | undefined)[]> {
  const calls = hashes.map(hash => ({ method: 'eth_getTransactionReceipt', params: [hash] }))
  const outcomes = await rpc.batch(calls)
  return outcomes.map((outcome, i) => parseMinted(resultOf(outcome, 'eth_getTransactionReceipt'), nft, hashes[i]!))
}

function parseMinted(value: unknown, nft: Address, hash: Hex): MintedToken | undefined {
  if (value === null || value === undefined) return undefined
  const receipt = value as Record<string, unknown>
  if (parseHex(receipt.transactionHash, 'a receipt') !== hash)
    throw invalidAnswer('a receipt', 'is of another transaction')
  const mint = parseLogs(receipt.logs).find(
    log =>
      log.address === nft.toLowerCase() &&
      log.topics[0] === topics.transfer &&
      log.topics.length === 4 &&
      BigInt(log.topics[1]!) === 0n,
  )
  return mint && { tokenId: BigInt(mint.topics[3]!), to: `0x${mint.topics[2]!.slice(-40)}` }
}

// --- searching --------------------------------------------------------------------------------------------------------

type Search = BlockRange & { readonly ids: readonly bigint[] }

/** Joins purchases of neighbouring blocks into as few calls as providers allow. */
function clusters(wanted: readonly { readonly id: bigint; readonly block: bigint }[]): Search[] {
  const searches: { ids: bigint[]; fromBlock: bigint; toBlock: bigint }[] = []
  for (const { id, block } of wanted.toSorted((a, b) => Number(a.block - b.block))) {
    const last = searches.at(-1)
    if (last !== undefined && block - last.fromBlock < maxBlocks && last.ids.length < maxIds) {
      last.ids.push(id)
      last.toBlock = block
    } else searches.push({ ids: [id], fromBlock: block, toBlock: block })
  }
  return searches
}

/** Runs searches, several a round trip; one that is refused goes on in halves until one block and one id are left. */
async function runSearches(rpc: Rpc, subscriptions: Address, searches: readonly Search[]) {
  const found: PurchaseData[] = []
  const refused: Search[] = []
  let waiting = [...searches]
  while (waiting.length > 0) {
    const now = waiting.slice(0, callsPerTrip)
    waiting = waiting.slice(callsPerTrip)
    const outcomes = await rpc.batch(now.map(search => searchCall(subscriptions, search)))
    for (const [i, outcome] of outcomes.entries()) {
      const search = now[i]!
      if (outcome.ok) found.push(...parseFound(outcome.result, subscriptions, search))
      else {
        const parts = halve(search)
        if (parts.length === 0) refused.push(search)
        waiting.push(...parts)
      }
    }
  }
  return { found, refused }
}

function searchCall(subscriptions: Address, { ids, fromBlock, toBlock }: Search): RpcCall {
  const idTopics = ids.map(id => `0x${id.toString(16).padStart(64, '0')}`)
  const range = { fromBlock: toQuantity(fromBlock), toBlock: toQuantity(toBlock) }
  return {
    method: 'eth_getLogs',
    params: [{ address: subscriptions, topics: [topics.created, idTopics], ...range }],
  }
}

function halve({ ids, fromBlock, toBlock }: Search): Search[] {
  if (toBlock > fromBlock) {
    const middle = (fromBlock + toBlock) / 2n
    return [
      { ids, fromBlock, toBlock: middle },
      { ids, fromBlock: middle + 1n, toBlock },
    ]
  }
  if (ids.length < 2) return []
  const half = ids.length >> 1
  return [ids.slice(0, half), ids.slice(half)].map(part => ({ ids: part, fromBlock, toBlock }))
}

function parseFound(result: unknown, subscriptions: Address, { ids }: Search): PurchaseData[] {
  const wanted = new Set(ids)
  return parseLogs(result).flatMap(log => {
    const purchase = log.address === subscriptions ? toPurchase(log) : undefined
    return purchase !== undefined && wanted.has(purchase.id) ? [purchase] : []
  })
}

// --- logs -------------------------------------------------------------------------------------------------------------

type ParsedLog = { address: Address; topics: Hex[]; data: Hex; blockNumber: bigint }

function parseLogs(result: unknown): ParsedLog[] {
  if (!Array.isArray(result)) throw invalidAnswer('logs', 'is no list')
  return result.flatMap(value => {
    const log = value as Record<string, unknown>
    if (log.removed === true || !Array.isArray(log.topics)) return []
    return [
      {
        address: parseHex(log.address, 'a log') as Address,
        topics: log.topics.map(topic => parseHex(topic, 'a log')),
        data: parseHex(log.data, 'a log'),
        blockNumber: parseQuantity(log.blockNumber, 'a log'),
      },
    ]
  })
}

function toPurchase({ topics: [topic, ...rest], data, blockNumber }: ParsedLog): PurchaseData | undefined {
  if (topic !== topics.created || rest.length !== 3) return undefined
  try {
    const args = decode(created, { topics: [topic, ...rest], data }) as {
      subscriptionId: bigint
      subscriber: Address
      userEncrypted: Hex
    }
    return {
      id: args.subscriptionId,
      subscriber: args.subscriber.toLowerCase() as Address,
      userEncrypted: hexToBytes(args.userEncrypted),
      blockNumber,
    }
  } catch (cause) {
    throw invalidAnswer('a log', 'does not decode as SubscriptionCreated', cause)
  }
}
