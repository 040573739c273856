/** What the engine sees of the chain: types only. */
import type { Address, Hex } from './hex.ts'

/** One subscription as the contract keeps it. */
export type SubscriptionView = {
  readonly id: bigint
  /** Lower case. */
  readonly subscriber: Address
  readonly planId: number
  /** Unix seconds; a cancelled one ends when it was cancelled. */
  readonly expiresAt: number
  /** Block of the purchase as the contract counts blocks, like {@link SubscriptionsSnapshot.blockNumber}: on Arbitrum those of L1. */
  readonly purchaseBlock: bigint
  readonly cancelled: boolean
  readonly planActive: boolean
  readonly planRenewable: boolean
}

/** One access token; `owner` is `undefined` when there is no such token. */
export type TokenView = {
  readonly id: bigint
  /** Lower case. */
  readonly owner: Address | undefined
  /** Unix seconds; 0: never. */
  readonly expiresAt: number
}

/** One plan. */
export type PlanView = {
  readonly id: number
  readonly pricePerDayUsdCents: bigint
  readonly active: boolean
  readonly renewable: boolean
}

/** The subscriptions contract and the tokens at one block; all values are of that block. Addresses are lower case. */
export type SubscriptionsSnapshot = {
  /** As the contract counts: on Arbitrum that of L1. */
  readonly blockNumber: bigint
  /** Block time, Unix seconds. */
  readonly timestamp: number
  readonly chainId: number
  /** Highest subscription id. */
  readonly subscriptionCount: bigint
  readonly planCount: bigint
  readonly owner: Address
  readonly purchasesPaused: boolean
  /** Zero address without an NFT contract. */
  readonly nftOwner: Address
  /** Zero address when the contract has no minter beside its owner. */
  readonly nftMinter: Address
  readonly tokenCount: bigint
  /** Subscriptions after the cursor, ascending and without gap; fewer than asked for when the answer was full. */
  readonly subscriptions: readonly SubscriptionView[]
  /** One per id asked for, in the same order; `undefined` when the contract has no such subscription. */
  readonly watched: readonly (SubscriptionView | undefined)[]
  /** One per id asked for, in the same order. */
  readonly tokens: readonly TokenView[]
  /** The first 64. */
  readonly plans: readonly PlanView[]
  /** Wei, one per wallet asked for. */
  readonly balances: readonly bigint[]
}

/** What to look at. */
export type SubscriptionsQuery = {
  readonly subscriptions: Address
  /** The host's NFT contract; absent: none yet. */
  readonly nft?: Address | undefined
  /** Highest subscription id already known; 0 at the start. */
  readonly cursor: bigint
  /** Subscriptions wanted at most. */
  readonly max: number
  readonly watchIds: readonly bigint[]
  readonly tokenIds: readonly bigint[]
  /** Wallets whose balance is wanted. Together with watchIds and tokenIds at most 500. */
  readonly wallets: readonly Address[]
}

/** What a buyer wrote to the host; the contract does not keep it, only the event has it. */
export type PurchaseData = {
  readonly id: bigint
  /** Lower case. */
  readonly subscriber: Address
  readonly userEncrypted: Uint8Array
  /** Block of the log, as the RPC endpoint counts. */
  readonly blockNumber: bigint
}

/** What happened since a block: wake-ups, never the truth. */
export type ChainNews = {
  readonly purchases: readonly PurchaseData[]
  /** Subscriptions that were bought, extended or cancelled. */
  readonly subscriptionIds: readonly bigint[]
  /** Tokens that changed hands. */
  readonly tokenIds: readonly bigint[]
}

/** A range of blocks as the RPC endpoint counts them; both ends included. */
export type BlockRange = { readonly fromBlock: bigint; readonly toBlock: bigint }

/** The engine's only way to read the chain. Every failure is a retryable `BlockHostError` unless said otherwise. */
export type SubscriptionsReader = {
  /**
   * Reads one consistent view in one HTTP round trip.
   *
   * @param newsSince - Also tells what happened from that block on, in the same round trip. Absent, or when the endpoint refuses so
   *   wide a range: `news` is `undefined`.
   * @returns `head`: newest block as the endpoint counts, for the outbox and the next `newsSince`.
   * @throws {BlockHostError} `BH_RPC_UNAVAILABLE`, `BH_RPC_ANSWER_INVALID`, `BH_RPC_GAS_LIMIT`, `BH_SUBSCRIPTIONS_CONTRACT_MISSING` (all
   *   retryable); `BH_SUBSCRIPTIONS_CONTRACT_UNSUPPORTED`, `BH_WRONG_CHAIN` (exit 78).
   */
  snapshot(
    query: SubscriptionsQuery,
    newsSince?: bigint,
  ): Promise<{ readonly snapshot: SubscriptionsSnapshot; readonly head: bigint; readonly news: ChainNews | undefined }>
  /**
   * Finds purchase data by subscription id and the block of the purchase. Neighbouring blocks share a call (2,000 blocks, 200 ids
   * at most), calls share a round trip, and what an endpoint refuses is asked for in halves.
   *
   * @returns What was found. An id that is missing may be there later, or on another endpoint.
   */
  purchaseData(wanted: readonly { readonly id: bigint; readonly block: bigint }[]): Promise<PurchaseData[]>
  /**
   * Looks for purchase data in a range of blocks of any size; for chains whose contracts count other blocks than their endpoints.
   *
   * @returns What was found, and the last block that was looked at: the range's end, or less when calls failed.
   */
  scanPurchases(ids: readonly bigint[], range: BlockRange): Promise<{ found: PurchaseData[]; scannedTo: bigint }>
  /**
   * Returns which token each transaction minted, from its receipt's Transfer log: one round trip.
   *
   * @returns One per hash; `undefined` when the chain has no such receipt, or it minted nothing.
   */
  mintedTokens(nft: Address, hashes: readonly Hex[]): Promise<readonly (MintedToken | undefined)[]>
}

/** What a transaction minted. */
export type MintedToken = { readonly tokenId: bigint; readonly to: Address }
