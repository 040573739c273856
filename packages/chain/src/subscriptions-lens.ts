/** The one eth_call that reads everything the engine needs; see contracts/src/SubscriptionsLens.sol. */
import { subscriptionsLensAbi, subscriptionsLensBytecode } from '@blockhost/contracts/abi/subscriptions-lens.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { decodeResult, fromAbi } from 'ox/AbiFunction'
import { encode } from 'ox/AbiParameters'
import { decodeContractError } from './contract-error.ts'
import { type Address, type Hex, invalidAnswer, parseHex, parseQuantity, zeroAddress } from './hex.ts'
import { tooLittleGas, wrongChain } from './lens-errors.ts'
import { type Rpc, type RpcCall, type RpcOutcome, resultOf } from './rpc.ts'
import { mintedTokens, newsFilter, parseNews, purchaseData, scanPurchases } from './subscription-logs.ts'
import type {
  PlanView,
  SubscriptionsQuery,
  SubscriptionsReader,
  SubscriptionsSnapshot,
  SubscriptionView,
  TokenView,
} from './subscription-view.ts'

/** Most watched ids, tokens and wallets of one snapshot together: a limit of the lens. */
export const maxWatched = 500

/** EIP-170: the lens's answer passes for contract code. */
const maxAnswerBytes = 24_576

/**
 * Makes the engine's reader.
 *
 * @param options.chainId - EIP-155 id every snapshot must be of.
 */
export function createSubscriptionsReader(
  rpc: Rpc,
  options: { readonly subscriptions: Address; readonly chainId: number },
): SubscriptionsReader {
  const contract = options.subscriptions.toLowerCase() as Address
  return {
    async snapshot(query, newsSince) {
      const calls = [subscriptionsSnapshotCall(query), { method: 'eth_blockNumber', params: [] }]
      if (newsSince !== undefined) calls.push(newsFilter(contract, query.nft, newsSince))
      const [outcome, height, logs] = await rpc.batch(calls)
      const snapshot = decodeSubscriptionsSnapshot(outcome!, query)
      if (snapshot.chainId !== options.chainId) throw wrongChain(snapshot.chainId, options.chainId)
      const head = parseQuantity(resultOf(height!, 'eth_blockNumber'), 'eth_blockNumber')
      return { snapshot, head, news: logs?.ok ? parseNews(logs.result, contract, query.nft) : undefined }
    },
    purchaseData: wanted => purchaseData(rpc, contract, wanted),
    scanPurchases: (ids, range) => scanPurchases(rpc, contract, ids, range),
    mintedTokens: (nft, hashes) => mintedTokens(rpc, nft, hashes),
  }
}

/**
 * Makes the call for {@link decodeSubscriptionsSnapshot}.
 *
 * @throws {RangeError} when more than {@link maxWatched} things are watched.
 */
export function subscriptionsSnapshotCall(query: SubscriptionsQuery): RpcCall {
  const { subscriptions, nft, cursor, max, watchIds, tokenIds, wallets } = query
  const watched = watchIds.length + tokenIds.length + wallets.length
  if (watched > maxWatched) throw new RangeError(`a snapshot watches ${maxWatched} at most; ${watched} were given`)
  const args = [subscriptions, nft ?? zeroAddress, cursor, BigInt(max), watchIds, tokenIds, wallets] as const
  const encoded = encode(fromAbi(subscriptionsLensAbi, 'snapshot').inputs, args)
  return { method: 'eth_call', params: [{ data: subscriptionsLensBytecode + encoded.slice(2) }, 'latest'] }
}

/**
 * Reads the answer to {@link subscriptionsSnapshotCall}, checking that it is about what was asked.
 *
 * @throws {BlockHostError} as `SubscriptionsReader.snapshot` documents.
 */
export function decodeSubscriptionsSnapshot(outcome: RpcOutcome, query: SubscriptionsQuery): SubscriptionsSnapshot {
  if (!outcome.ok && outcome.failure.kind === 'reverted') throw refusal(outcome.failure.data, query.subscriptions)
  const data = parseHex(resultOf(outcome, 'the snapshot of the subscriptions contract'), label)
  if (data.length > 2 + 2 * maxAnswerBytes) throw invalidAnswer(label, 'is longer than the lens can answer')
  const raw = decodeRaw(data)
  checkAnswersQuery(raw, query)
  return {
    blockNumber: raw.blockNumber,
    timestamp: toNumber(raw.timestamp, 'timestamp'),
    chainId: toNumber(raw.chainId, 'chain id'),
    subscriptionCount: raw.subscriptionCount,
    planCount: raw.planCount,
    owner: lower(raw.owner),
    purchasesPaused: raw.purchasesPaused,
    nftOwner: lower(raw.nftOwner),
    nftMinter: lower(raw.nftMinter),
    tokenCount: raw.tokenCount,
    subscriptions: raw.subscriptions.map((word, i) => {
      const view = parseSubscription(query.cursor + BigInt(i) + 1n, word)
      if (view === undefined) throw invalidAnswer(label, 'holds no subscription where one is counted')
      return view
    }),
    watched: raw.watched.map((word, i) => parseSubscription(query.watchIds[i]!, word)),
    tokens: raw.tokens.map((word, i) => parseToken(query.tokenIds[i]!, word)),
    plans: raw.plans.map((word, i) => parsePlan(i + 1, word)),
    balances: raw.balances,
  }
}

const label = 'the snapshot'

function decodeRaw(data: Hex) {
  try {
    return decodeResult(fromAbi(subscriptionsLensAbi, 'snapshot'), data)
  } catch (cause) {
    throw invalidAnswer(label, 'does not decode; the node may not run eth_call without `to`', cause)
  }
}

function checkAnswersQuery(raw: ReturnType<typeof decodeRaw>, query: SubscriptionsQuery): void {
  const { subscriptions, watched, tokens, balances } = raw
  const left = raw.subscriptionCount - query.cursor
  const isTooMuch = subscriptions.length > query.max || subscriptions.length > (left > 0n ? left : 0n)
  const isOther =
    watched.length !== query.watchIds.length ||
    tokens.length !== query.tokenIds.length ||
    balances.length !== query.wallets.length
  if (isTooMuch || isOther) throw invalidAnswer(label, 'holds other things than asked for')
}

function parseSubscription(id: bigint, word: bigint): SubscriptionView | undefined {
  if (word === 0n) return undefined
  return {
    id,
    subscriber: toAddress(word),
    expiresAt: bits(word, 160n, 40n),
    planId: bits(word, 200n, 16n),
    purchaseBlock: BigInt(bits(word, 216n, 32n)),
    cancelled: bits(word, 248n, 1n) === 1,
    planActive: bits(word, 249n, 1n) === 1,
    planRenewable: bits(word, 250n, 1n) === 1,
  }
}

function parseToken(id: bigint, word: bigint): TokenView {
  return { id, owner: word === 0n ? undefined : toAddress(word), expiresAt: bits(word, 160n, 40n) }
}

function parsePlan(id: number, word: bigint): PlanView {
  const pricePerDayUsdCents = word & ((1n << 96n) - 1n)
  return { id, pricePerDayUsdCents, active: bits(word, 96n, 1n) === 1, renewable: bits(word, 97n, 1n) === 1 }
}

function bits(word: bigint, from: bigint, count: bigint): number {
  return Number((word >> from) & ((1n << count) - 1n))
}

function toAddress(word: bigint): Address {
  return `0x${(word & ((1n << 160n) - 1n)).toString(16).padStart(40, '0')}`
}

function lower(address: Address): Address {
  return address.toLowerCase() as Address
}

function toNumber(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw invalidAnswer(label, `holds a ${what} of ${value}`)
  return Number(value)
}

function refusal(data: Hex | undefined, subscriptions: Address): BlockHostError {
  const error = decodeContractError(subscriptionsLensAbi, data)
  if (error?.name === 'NoContract')
    return new BlockHostError({
      code: 'BH_SUBSCRIPTIONS_CONTRACT_MISSING',
      message: `There is no contract at ${String(error.args[0])} in the block that was read`,
      hint: 'Check `subscription_contract`, `nft_contract` and `chain_id`; an endpoint that is behind sees it later.',
      fields: { address: String(error.args[0]) },
      retryable: true,
    })
  if (error?.name === 'NotEnoughGas') return tooLittleGas('subscription')
  return new BlockHostError({
    code: 'BH_SUBSCRIPTIONS_CONTRACT_UNSUPPORTED',
    message: `The contract ${subscriptions} does not answer like a subscriptions contract`,
    hint: 'Check `subscription_contract`. The first generation of the contract has to be replaced by the current one.',
    fields: { subscriptions, ...(data === undefined ? {} : { data: data.slice(0, 138) }) },
    exitCode: exitCodes.badConfig,
  })
}
