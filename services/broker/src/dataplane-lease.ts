import { BlockHostError } from '@blockhost/kit/errors.ts'
import { parseEndpoint } from '@blockhost/net/endpoint.ts'
import { proxiedAddresses } from '@blockhost/net/ndp.ts'
import { malformed, type Parsed, parsedOk } from '@blockhost/net/parsed.ts'
import { contains, formatPrefix, indexOf, type Prefix, parsePrefix } from '@blockhost/net/prefix.ts'
import { type LeaseElement, leaseElement } from '@blockhost/net/ruleset.ts'
import { type Peer, type PeerAction, parseKey } from '@blockhost/net/wireguard.ts'
import type { DataplaneChange, DataplaneLease } from './dataplane.ts'
import { type DataplanePlan, ndpLimitReached } from './dataplane-plan.ts'

/** The network side of a prefix: what the firewall and NDP know it by. */
export type LeasedPrefix = {
  /** RFC 5952 text. */
  readonly text: string
  readonly element: LeaseElement
  /** Every address; empty but in kernel NDP mode. */
  readonly addresses: readonly string[]
}

/** A lease that was checked. */
export type CarriedLease = { readonly prefix: LeasedPrefix; readonly peer: Peer }

/** Leases sorted into those that can be carried and those that can't, with the reason. */
export type SortedLeases = {
  readonly accepted: readonly CarriedLease[]
  readonly refused: readonly { readonly prefix: string; readonly problem: string }[]
  /** Set when leases were refused for being too many. */
  readonly failure: BlockHostError | undefined
}

/** What changes mean for each part of the network. */
export type NetworkChanges = {
  /** Removals first. */
  readonly peers: readonly PeerAction[]
  readonly remove: readonly LeasedPrefix[]
  readonly add: readonly LeasedPrefix[]
}

/** Checks leases. Remembers what it parsed of the prefixes it was shown last, so that looking at the same ones again is cheap. */
export type LeaseReader = {
  /** Checks all leases; the first holder of a prefix or key wins. Cost O(leases), about 1 us for a known one. */
  readAll(leases: readonly DataplaneLease[]): SortedLeases
  /**
   * Folds changes, in their order, into the last word on each prefix and key.
   *
   * @throws {BlockHostError} `BH_LEASE_NOT_CARRIABLE`.
   */
  fold(changes: readonly DataplaneChange[]): NetworkChanges
}

/** Makes a {@link LeaseReader}. */
export function createLeaseReader(plan: DataplanePlan): LeaseReader {
  let known = new Map<string, LeasedPrefix>()

  const readPrefix = (text: string): Parsed<LeasedPrefix> => {
    const found = known.get(text)
    return found === undefined ? parseLeasedPrefix(plan, text) : parsedOk(found)
  }

  function readAll(leases: readonly DataplaneLease[]): SortedLeases {
    const accepted = new Map<string, CarriedLease>()
    const keys = new Set<string>()
    const refused: { prefix: string; problem: string }[] = []
    const seen = new Map<string, LeasedPrefix>()
    let failure: BlockHostError | undefined
    for (const lease of leases) {
      const refuse = (problem: string) => refused.push({ prefix: lease.prefix, problem })
      const prefix = readPrefix(lease.prefix)
      const peer = readPeer(plan, lease)
      if (!prefix.ok) refuse(prefix.problem)
      else if (!peer.ok) refuse(peer.problem)
      else if (accepted.has(lease.prefix)) refuse('another lease has the same prefix')
      else if (keys.has(lease.publicKey)) refuse('another lease has the same WireGuard key')
      else if (accepted.size >= plan.leaseLimit) {
        failure ??= ndpLimitReached(plan, leases.length)
        refuse(failure.message)
      } else {
        accepted.set(lease.prefix, { prefix: prefix.value, peer: peer.value })
        keys.add(lease.publicKey)
        seen.set(lease.prefix, prefix.value)
      }
    }
    known = seen
    return { accepted: [...accepted.values()], refused, failure }
  }

  function fold(changes: readonly DataplaneChange[]): NetworkChanges {
    const peers = new Map<string, PeerAction>()
    const prefixes = new Map<string, { prefix: LeasedPrefix; isLeased: boolean }>()
    /** A key that this batch gives to another prefix stays. */
    const removePeer = (publicKey: string, prefix: string) => {
      const action = peers.get(publicKey)
      if (action?.kind !== 'set' || action.peer.allowedIps[0] === prefix)
        peers.set(publicKey, { kind: 'remove', publicKey })
    }
    for (const change of changes) {
      const { lease } = change
      const prefix = carriable(lease, readPrefix(lease.prefix))
      prefixes.set(lease.prefix, { prefix, isLeased: change.kind === 'set' })
      if (change.kind === 'remove') removePeer(lease.publicKey, lease.prefix)
      else {
        const peer = carriable(lease, readPeer(plan, lease))
        const { previousPublicKey: previous } = change
        if (previous !== undefined && previous !== lease.publicKey) removePeer(previous, lease.prefix)
        peers.set(lease.publicKey, { kind: 'set', peer })
      }
    }
    const actions = [...peers.values()]
    const ends = [...prefixes.values()]
    return {
      peers: [
        ...actions.filter(action => action.kind === 'remove'),
        ...actions.filter(action => action.kind === 'set'),
      ],
      remove: ends.filter(end => !end.isLeased).map(end => end.prefix),
      add: ends.filter(end => end.isLeased).map(end => end.prefix),
    }
  }

  return { readAll, fold }
}

function parseLeasedPrefix(plan: DataplanePlan, text: string): Parsed<LeasedPrefix> {
  const prefix = parsePrefix(text)
  if (prefix === undefined || formatPrefix(prefix) !== text)
    return malformed('its prefix is no IPv6 prefix in RFC 5952 form')
  const problem = problemOf(plan, prefix)
  if (problem !== undefined) return malformed(problem)
  return parsedOk({
    text,
    element: leaseElement(prefix),
    addresses: plan.ndp.mode === 'kernel' ? [...proxiedAddresses([prefix])] : [],
  })
}

function problemOf(plan: DataplanePlan, prefix: Prefix): string | undefined {
  if (prefix.length !== plan.allocationSize) return `its prefix is no /${plan.allocationSize}`
  const index = indexOf(plan.upstream, prefix)
  if (index === undefined) return `its prefix lies outside ${formatPrefix(plan.upstream)}`
  if (index === 0n || contains(prefix, plan.brokerAddress)) return 'its prefix belongs to the broker itself'
  return undefined
}

function readPeer(plan: DataplanePlan, lease: DataplaneLease): Parsed<Peer> {
  const { publicKey, prefix, endpoint } = lease
  if (parseKey(publicKey) === undefined) return malformed('its WireGuard key is no base64 of 32 bytes')
  if (publicKey === plan.publicKey) return malformed("its WireGuard key is the broker's own")
  if (endpoint === undefined) return parsedOk({ publicKey, allowedIps: [prefix] })
  // A name would make `wg` ask the DNS, and wait for it.
  const kind = parseEndpoint(endpoint)?.kind
  if (kind === undefined || kind === 'name') return malformed('its endpoint is no address:port')
  return parsedOk({ publicKey, allowedIps: [prefix], endpoint })
}

function carriable<T>(lease: DataplaneLease, parsed: Parsed<T>): T {
  if (parsed.ok) return parsed.value
  throw new BlockHostError({
    code: 'BH_LEASE_NOT_CARRIABLE',
    message: `The lease of ${JSON.stringify(lease.prefix).slice(0, 80)} can't be carried: ${parsed.problem}`,
    fields: { prefix: lease.prefix },
  })
}
