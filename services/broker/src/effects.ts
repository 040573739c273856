import type { DataplaneChange, DataplaneLease } from './dataplane.ts'
import type { RequestRow } from './requests.ts'
import type { Lease, RequestRef, RestTimes, Store } from './store.ts'

// What decisions do to the database, and the changes of the network that follow. Every function runs inside the caller's
// transaction and returns the changes to apply after the commit: a crash in between is healed by the reconcile at start.

/** Gives a prefix to a request, or moves the lease of the same NFT contract to its key. @returns `undefined`: pool full. */
export function grant(
  store: Store,
  input: { nftContract: string; publicKey: string; wallet: string; request: RequestRef },
): { lease: Lease; previous: RequestRow['previous']; change: DataplaneChange } | undefined {
  const before = store.findLease({ nftContract: input.nftContract })
  if (before === undefined) {
    const lease = store.allocate(input)
    return lease && { lease, previous: undefined, change: { kind: 'set', lease: toDataplane(lease) } }
  }
  const lease = store.rekey(before, input.publicKey, input.request)
  return {
    lease,
    previous: { publicKey: before.publicKey, request: before.request },
    change: { kind: 'set', lease: toDataplane(lease), previousPublicKey: before.publicKey },
  }
}

/**
 * Takes back what a request did, if its lease still is what that request made it: a new lease goes, a new key gives way
 * to the one before. The prefix rests, so that the same NFT contract gets it again when the request comes back: the answer
 * that named it may still be mined.
 */
export function undo(store: Store, row: RequestRow, reason: string, rest: RestTimes): DataplaneChange[] {
  const lease = store.findLease({ nftContract: row.nftContract })
  if (lease === undefined || !isBasis(lease, row)) return []
  const previous = findInForce(store, row)
  const holder = previous && store.findLease({ publicKey: previous.publicKey })
  if (previous === undefined || (holder !== undefined && holder.id !== lease.id))
    return takeBack(store, lease, reason, lease.tunnelSeen && daysOf(rest) > daysOf(reorgRest) ? rest : reorgRest)
  const restored = store.rekey(lease, previous.publicKey, previous.request)
  return [{ kind: 'set', lease: toDataplane(restored), previousPublicKey: lease.publicKey }]
}

/** A quarter of an hour: longer than an answer that was sent may take to be mined, or a reorg to be over. */
const reorgRest: RestTimes = { keepDays: 15 / (24 * 60), quarantineDays: 0 }

function daysOf(rest: RestTimes): number {
  return rest.keepDays + rest.quarantineDays
}

/**
 * Finds what the lease was before `row` and still may be: a request before it may be over too (dropped by the same reorg,
 * released with this one) while this one covered its effect.
 */
function findInForce(store: Store, row: RequestRow): RequestRow['previous'] {
  const seen = new Set<string>()
  for (let previous = row.previous; previous !== undefined; ) {
    if (previous.request === undefined) return previous
    const { contract, id, digest } = previous.request
    const before = store.requests.find(previous.request)
    if (before === undefined || isInForce(before)) return previous
    // Two requests that a reorg dropped and brought back in turn name each other.
    if (seen.has(`${contract}:${id}:${digest}`)) return undefined
    seen.add(`${contract}:${id}:${digest}`)
    previous = before.previous
  }
  return undefined
}

function isInForce({ state }: RequestRow): boolean {
  return state === 'leased' || state === 'answering' || state === 'answered'
}

/** Ends a lease. `rest` holds the prefix back; without it (nobody ever used the prefix) it is free at once. */
export function takeBack(store: Store, lease: Lease, reason: string, rest: RestTimes | undefined): DataplaneChange[] {
  store.release(lease, reason, rest)
  return [{ kind: 'remove', lease: toDataplane(lease) }]
}

/** Returns the network's view of a lease. */
export function toDataplane(lease: Lease): DataplaneLease {
  return { prefix: lease.prefix, publicKey: lease.publicKey, ...(lease.endpoint && { endpoint: lease.endpoint }) }
}

/** Whether `lease` answers exactly this request. */
export function isBasis(lease: Lease, ref: RequestRef): boolean {
  const basis = lease.request
  return basis?.contract === ref.contract && basis.id === ref.id && basis.digest === ref.digest
}
