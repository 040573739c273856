/** What the broker sees of the chain: types only. */
import type { Address, Hex } from './hex.ts'

/** Status of a request on chain; `rejected` is never set by any generation. */
export const requestStatus = { pending: 0, approved: 1, rejected: 2, expired: 3 } as const

/** One request that the reader had not seen before. */
export type RequestView = {
  readonly id: bigint
  readonly requester: Address
  readonly nftContract: Address
  /** ECIES message for the broker, at most 4096 bytes; empty when the request holds a longer one. */
  readonly payload: Uint8Array
  /** One of {@link requestStatus}. */
  readonly status: number
  /** Block time of the request, Unix seconds. */
  readonly submittedAt: number
  /** What an answer is bound to; see `requestDigest`. */
  readonly digest: Hex
  /** Whether this is the live request of its NFT contract. */
  readonly mapped: boolean
  /** EXTCODEHASH of the NFT contract. */
  readonly codeHash: Hex
  /** Whether the NFT contract claims ERC-721 (0x80ac58cd) through ERC-165. */
  readonly isErc721: boolean
  /** `owner()` of the NFT contract; the zero address when it gives none. */
  readonly nftOwner: Address
}

/** The state of a request already known. */
export type WatchView = {
  readonly id: bigint
  /** Whether the contract has a request of this id; `false` after a reorg took it. Everything else is zero then. */
  readonly exists: boolean
  /** One of {@link requestStatus}. */
  readonly status: number
  readonly digest: Hex
  /** The live request of the same NFT contract: this one, a newer one, or 0 after a release. */
  readonly mappedId: bigint
}

/** The requests contract at one block; all values are of that block. Addresses are lower case. */
export type Snapshot = {
  readonly blockNumber: bigint
  /** Block time, Unix seconds. */
  readonly timestamp: number
  readonly chainId: number
  /** Highest request id. */
  readonly requestCount: bigint
  /** Releases ever; 0 in generations 1 and 2, which do not count them. */
  readonly releaseCount: bigint
  readonly requestFeeWei: bigint
  /** 1 and 2: the contracts in the field; 3: ours. */
  readonly generation: 1 | 2 | 3
  readonly operatorBalanceWei: bigint
  /** How long a request may wait for its answer. */
  readonly expirationSeconds: number
  /** Who may answer. */
  readonly owner: Address
  /** Requests after the cursor, ascending and without gap; fewer than asked for when the answer was full. */
  readonly requests: readonly RequestView[]
  /** One per id asked for, in the same order. */
  readonly watched: readonly WatchView[]
}

/** What to look at. */
export type SnapshotQuery = {
  /** The requests contract. */
  readonly requests: Address
  /** Highest request id already known; 0 at the start. */
  readonly cursor: bigint
  /** Requests wanted at most; about 28 of usual size fit into one answer. */
  readonly max: number
  /** Known requests whose state is wanted again; at most 120. */
  readonly watchIds: readonly bigint[]
  /** Wallet whose balance is wanted. */
  readonly operator: Address
}

/** The daemon's only way to read the chain. */
export type ChainReader = {
  /**
   * Reads one consistent view in one HTTP round trip.
   *
   * @throws {BlockHostError} `BH_RPC_UNAVAILABLE`, `BH_RPC_ANSWER_INVALID`, `BH_REQUESTS_CONTRACT_MISSING` (retryable: the endpoint
   *   may be behind), `BH_REQUESTS_CONTRACT_UNSUPPORTED`, `BH_WRONG_CHAIN`.
   */
  snapshot(query: SnapshotQuery): Promise<Snapshot>
}
