/**
 * What `request` and `renew` do next. Pure: given what is saved here and what the chain says at one block, one action.
 *
 * A request is recognised by its encrypted payload, which no other request shares (each has an ephemeral key of its own), never by its id or
 * transaction hash: ids move in a reorg, receipts get lost, a replaced transaction has another hash.
 *
 * Two facts of the same block tell whether a request that was sent is dead: the wallet's nonce has passed the transaction's, and the NFT contract's
 * mapping does not hold our payload. Then it was dropped, reverted, superseded, released or expired; it can't become live again. Only then may
 * a second one be sent.
 */

/** Generation of the broker's BrokerRequests: 1 and 2 are the ones of February 2026 in the field, 3 is this house's. */
export type Generation = 1 | 2 | 3

/** Status words of `IBrokerRequests.RequestStatus`, by index. */
export const requestStatuses = ['pending', 'approved', 'rejected', 'expired'] as const
/** One of {@link requestStatuses}. */
export type RequestStatus = (typeof requestStatuses)[number]

/** What the broker's stored answer turned out to be when opened with `server.key`. */
export type Answer<Lease> =
  | { readonly kind: 'none' }
  | { readonly kind: 'good'; readonly lease: Lease }
  /** Made for request `id`, which is not the one it is stored under. */
  | { readonly kind: 'other-id'; readonly id: bigint }
  | { readonly kind: 'undecryptable' }
  /** Readable, but a field is not acceptable. */
  | { readonly kind: 'invalid'; readonly reason: string }

/** The request that `nftContractToRequestId` names. */
export type MappedRequest<Lease> = {
  readonly id: bigint
  /** Whether its payload is the one of our intent. */
  readonly isOurs: boolean
  readonly status: RequestStatus
  /** Unix seconds after which it may not be answered any more. */
  readonly expiresAt: number
  readonly answer: Answer<Lease>
}

/** Everything {@link decide} looks at. */
export type Situation<Lease> = {
  readonly purpose: 'request' | 'renew'
  readonly generation: Generation
  /** Block time, Unix seconds, of the block that all chain facts here are from. */
  readonly now: number
  /** Transactions of the wallet that are mined in that block: the lowest free nonce. */
  readonly minedNonce: number
  /** `undefined` when the NFT contract has no live request. */
  readonly mapped: MappedRequest<Lease> | undefined
  /** Our journal: a transaction was signed and may have been sent. `refusedId`: the request whose answer an earlier run refused. */
  readonly intent: { readonly txNonce: number; readonly refusedId: bigint | undefined } | undefined
  /** Whether `broker-allocation.json` holds the WireGuard key that belongs to the mapped request. */
  readonly savedKeyFits: boolean
  /** How often this run may still ask again after its request died. */
  readonly retriesLeft: number
}

/** Why a request is sent. */
export type SubmitReason =
  | 'first'
  | 'renewal'
  /** The live request's WireGuard key is not known here. */
  | 'unknown-key'
  | 'stale-answer'
  | 'undecryptable-answer'
  | 'refused-answer'
  | 'out-of-time'
  /** Another request of the same NFT contract took its place. */
  | 'superseded'
  /** Dropped, reverted, released or expired. */
  | 'gone'

/** Why a first-generation contract keeps us from asking. */
export type BlockReason = 'pending-unknown-key' | 'answered-unknown-key' | 'answer-unusable' | 'rejected'

/** What to do next. */
export type Action<Lease> =
  | { readonly do: 'submit'; readonly because: SubmitReason }
  /** Our transaction is not mined: hand it to the node again, then look again. */
  | { readonly do: 'resend' }
  | { readonly do: 'wait-answer'; readonly id: bigint; readonly expiresAt: number }
  /** Only the broker can free the NFT contract (generation 1); look again. */
  | { readonly do: 'wait-release'; readonly id: bigint; readonly because: BlockReason; readonly expiresAt: number }
  /** Call `markExpired([id])`, as anyone may. */
  | { readonly do: 'mark-expired'; readonly id: bigint }
  /** The lease is ours, with the WireGuard key of the journal or of the saved allocation. */
  | { readonly do: 'finish'; readonly id: bigint; readonly lease: Lease; readonly key: 'intent' | 'saved' }
  | { readonly do: 'fail'; readonly because: FailReason; readonly id: bigint | undefined; readonly detail: string }

/** Why nothing more can be done in this run. */
export type FailReason = 'answer-invalid' | 'rejected' | 'kept-dying' | 'renew-blocked'

/** Returns the next action. Total: any combination of facts gives one. */
export function decide<Lease>(s: Situation<Lease>): Action<Lease> {
  if (s.intent === undefined) return decideUnsent(s)
  if (s.mapped?.isOurs) return decideOurs(s, s.mapped)
  if (s.minedNonce <= s.intent.txNonce) return { do: 'resend' }
  return askAgain(s, s.mapped === undefined ? 'gone' : 'superseded')
}

/** Nothing of ours is on its way. */
function decideUnsent<Lease>(s: Situation<Lease>): Action<Lease> {
  const { mapped } = s
  if (mapped === undefined) return { do: 'submit', because: s.purpose === 'renew' ? 'renewal' : 'first' }
  if (s.purpose === 'request' && mapped.status === 'approved' && mapped.answer.kind === 'good' && s.savedKeyFits)
    return { do: 'finish', id: mapped.id, lease: mapped.answer.lease, key: 'saved' }
  if (s.generation === 1) return decideBlocked(s, mapped)
  return { do: 'submit', because: s.purpose === 'renew' ? 'renewal' : 'unknown-key' }
}

/** The live request carries our payload. */
function decideOurs<Lease>(s: Situation<Lease>, mapped: MappedRequest<Lease>): Action<Lease> {
  const { id, answer } = mapped
  switch (mapped.status) {
    case 'pending':
      if (s.now <= mapped.expiresAt) return { do: 'wait-answer', id, expiresAt: mapped.expiresAt }
      return askAgain(s, 'out-of-time')
    case 'rejected':
      if (s.intent?.refusedId === id) return askAgain(s, 'refused-answer')
      return { do: 'fail', because: 'rejected', id, detail: 'the broker rejected it on chain' }
    case 'expired':
      return askAgain(s, 'out-of-time')
    case 'approved':
      break
  }
  switch (answer.kind) {
    case 'good':
      return { do: 'finish', id, lease: answer.lease, key: 'intent' }
    case 'invalid':
      if (s.intent?.refusedId === id) return askAgain(s, 'refused-answer')
      return { do: 'fail', because: 'answer-invalid', id, detail: answer.reason }
    case 'undecryptable':
      return askAgain(s, 'undecryptable-answer')
    case 'other-id':
    case 'none':
      return askAgain(s, 'stale-answer')
  }
}

/** Our request is dead or its answer useless: ask once more where the contract lets us. */
function askAgain<Lease>(s: Situation<Lease>, because: SubmitReason): Action<Lease> {
  if (s.generation === 1 && s.mapped !== undefined) return decideBlocked(s, s.mapped)
  if (s.retriesLeft > 0) return { do: 'submit', because }
  return { do: 'fail', because: 'kept-dying', id: s.mapped?.id, detail: because }
}

/** Generation 1 refuses a request while the NFT contract has one, whatever its state. */
function decideBlocked<Lease>(s: Situation<Lease>, mapped: MappedRequest<Lease>): Action<Lease> {
  const { id, expiresAt } = mapped
  if (mapped.status === 'pending' && s.now > expiresAt) return { do: 'mark-expired', id }
  if (s.purpose === 'renew' && s.intent === undefined && mapped.status === 'approved')
    return { do: 'fail', because: 'renew-blocked', id, detail: 'first-generation contracts take no second request' }
  return { do: 'wait-release', id, because: blockReason(mapped), expiresAt }
}

function blockReason<Lease>(mapped: MappedRequest<Lease>): BlockReason {
  if (mapped.status === 'pending') return 'pending-unknown-key'
  if (mapped.status === 'rejected') return 'rejected'
  return mapped.answer.kind === 'good' ? 'answered-unknown-key' : 'answer-unusable'
}
