import { type RequestView, requestStatus } from '@blockhost/chain/snapshot.ts'

/** What a request asks for, after decryption and parsing. */
export type Wish = {
  /** WireGuard public key, base64. */
  readonly publicKey: string
  /** Whom to encrypt the answer to: uncompressed secp256k1 key, hex without `0x`. */
  readonly serverPublicKey: string
  /** NFT contract that the payload names. */
  readonly nftContract: string
}

/** Decrypts and parses a payload; bad input is a reason, never an exception. */
export type OpenPayload = (
  payload: Uint8Array,
) => { readonly ok: true; readonly wish: Wish } | { readonly ok: false; readonly reason: string }

/** What the operator and the database say about a request. */
export type JudgeContext = {
  /** Chain time of the snapshot, Unix s. */
  readonly now: number
  /** How long the contract accepts an answer, s. */
  readonly expirationSeconds: number
  readonly openPayload: OpenPayload
  /** Lower-case code hashes; empty accepts any. */
  readonly acceptedCodeHashes: readonly string[]
  /** 0 is no limit. */
  readonly maxLeasesPerWallet: number
  /** 0 is no limit. */
  readonly requestsPerWalletPerDay: number
  /** The broker's own WireGuard key, which no host may have. */
  readonly brokerPublicKey: string
  /** NFT contract (lower case) of the lease that has this WireGuard key. */
  findHolder(publicKey: string): string | undefined
  hasLease(nftContract: string): boolean
  countLeases(wallet: string): number
  countRequestsToday(wallet: string): number
}

/**
 * What to do with a request. `skip`: the chain has decided already; `supersede`: a newer request of the same NFT contract
 * replaced it; `refuse`: no, once and for all, at no cost; `lease`: give or keep the prefix for this key.
 */
export type Verdict =
  | { readonly kind: 'skip' }
  | { readonly kind: 'supersede' }
  | { readonly kind: 'refuse'; readonly reason: string }
  | { readonly kind: 'lease'; readonly wish: Wish }

/**
 * Judges one request. Pure and final: everything it needs was read in one block, so no answer is "try later".
 * The contract checks ownership when a request is made; it is checked again because the NFT contract may have changed hands.
 */
export function judge(view: RequestView, context: JudgeContext): Verdict {
  if (view.status !== requestStatus.pending) return { kind: 'skip' }
  if (!view.mapped) return { kind: 'supersede' }
  const refusal = refusalOnChain(view, context)
  if (refusal !== undefined) return { kind: 'refuse', reason: refusal }
  const opened = context.openPayload(view.payload)
  if (!opened.ok) return { kind: 'refuse', reason: opened.reason }
  const objection = objectionTo(opened.wish, view, context)
  return objection === undefined ? { kind: 'lease', wish: opened.wish } : { kind: 'refuse', reason: objection }
}

// The contract refuses an answer after the expiration; an answer takes a few blocks to be mined.
const expiryMarginSeconds = 120

const noCode = new Set([
  '0x',
  `0x${'0'.repeat(64)}`,
  '0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470',
])

function refusalOnChain(view: RequestView, context: JudgeContext): string | undefined {
  const wallet = view.requester.toLowerCase()
  const nft = view.nftContract.toLowerCase()
  const codeHash = view.codeHash.toLowerCase()
  if (context.now > view.submittedAt + context.expirationSeconds - expiryMarginSeconds) return 'expired'
  if (noCode.has(codeHash)) return 'nft-contract-has-no-code'
  if (!view.isErc721) return 'nft-contract-is-not-erc721'
  if (view.nftOwner.toLowerCase() !== wallet) return 'requester-does-not-own-nft-contract'
  if (context.acceptedCodeHashes.length > 0 && !context.acceptedCodeHashes.includes(codeHash))
    return 'nft-contract-code-not-accepted'
  if (over(context.requestsPerWalletPerDay, context.countRequestsToday(wallet))) return 'too-many-requests-of-wallet'
  if (!context.hasLease(nft) && over(context.maxLeasesPerWallet, context.countLeases(wallet)))
    return 'too-many-leases-of-wallet'
  return undefined
}

function over(limit: number, count: number): boolean {
  return limit > 0 && count >= limit
}

function objectionTo(wish: Wish, view: RequestView, context: JudgeContext): string | undefined {
  const nft = view.nftContract.toLowerCase()
  if (wish.nftContract.toLowerCase() !== nft) return 'payload-names-another-nft-contract'
  if (wish.publicKey === context.brokerPublicKey) return 'wireguard-key-is-the-brokers'
  const holder = context.findHolder(wish.publicKey)
  return holder === undefined || holder === nft ? undefined : 'wireguard-key-belongs-to-another-lease'
}
