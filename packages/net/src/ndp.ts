import type { IpObject } from './ip.ts'
import { malformed, type Parsed, parsedOk } from './parsed.ts'
import { addressCount, capacity, contains, formatAddress, formatPrefix, type Prefix, parseAddress } from './prefix.ts'

/**
 * How the upstream learns that leased addresses are here: `routed` = it routes the prefix to us, no NDP; `kernel` = one proxy entry
 * in the kernel for each address; `ndppd` = a daemon answers, at a cost that does not depend on the number of addresses.
 */
export type NdpMode = 'routed' | 'kernel' | 'ndppd'

/** A mode and one sentence that says why it is in force. */
export type NdpDecision = { readonly mode: NdpMode; readonly reason: string }

/** What {@link decideNdpMode} looks at. */
export type NdpSituation = {
  readonly wanted: NdpMode | 'auto'
  readonly upstreamInterface: string | undefined
  readonly upstream: Prefix
  /** Length of every lease, in bits. */
  readonly allocationSize: number
  readonly hasNdppd: boolean
}

/** Addresses above which `auto` prefers ndppd: the kernel walks a sixteenth of them for each solicitation. */
export const kernelComfortLimit = 4_096

/**
 * Addresses that `kernel` mode carries at most, over all leases: the kernel joins a multicast group for each, in a list it walks each
 * time, so that to add all of them takes seconds at 16,000 and minutes at 65,000.
 */
export const kernelAddressLimit = 16_384

/** Picks the NDP mode, from the configuration alone, so that it does not change while the service runs. */
export function decideNdpMode(situation: NdpSituation): Parsed<NdpDecision> {
  const { wanted, upstreamInterface } = situation
  if (wanted === 'routed') return decided('routed', 'the configuration asks for it')
  if (upstreamInterface === undefined)
    return wanted === 'auto'
      ? decided('routed', 'no upstream_interface is configured, so the upstream must route the prefix to this machine')
      : malformed(`NDP mode ${wanted} needs upstream_interface: the interface on which the upstream asks for addresses`)
  if (wanted === 'ndppd') return decideNdppd(situation, 'the configuration asks for it')
  if (wanted === 'kernel') return decideKernel(situation, 'the configuration asks for it')
  return decideAuto(situation)
}

/** Returns every address of the prefixes as the kernel prints them; first and last included, nothing beyond. */
export function proxiedAddresses(prefixes: Iterable<Prefix>): Set<string> {
  const addresses = new Set<string>()
  for (const prefix of prefixes) {
    const end = prefix.network + addressCount(prefix)
    for (let address = prefix.network; address < end; address++) addresses.add(formatAddress(address))
  }
  return addresses
}

/** A proxy entry of the kernel: an address it answers for on an interface. */
export type ProxyNeighbor = { readonly address: string; readonly interface: string }

/** Reads the answer to `neigh show proxy`; cost O(entries). */
export function parseProxyNeighbors(answer: readonly IpObject[]): ProxyNeighbor[] {
  return answer.flatMap(({ dst, dev }) =>
    typeof dst === 'string' && typeof dev === 'string' ? [{ address: dst, interface: dev }] : [],
  )
}

/** Proxy entries to take away and to add. */
export type ProxyDiff = { readonly remove: readonly ProxyNeighbor[]; readonly add: readonly ProxyNeighbor[] }

/**
 * Compares proxy entries with the addresses that `upstreamInterface` must answer for. Entries that are not one of ours
 * (`isOurs`: within the space that can be leased) stay. Cost O(desired + actual).
 */
export function diffProxyNeighbors(
  desired: { addresses: ReadonlySet<string>; interface: string | undefined },
  actual: readonly ProxyNeighbor[],
  isOurs: (address: bigint) => boolean,
): ProxyDiff {
  const missing = new Set(desired.addresses)
  const remove: ProxyNeighbor[] = []
  for (const entry of actual) {
    const wanted = entry.interface === desired.interface && missing.delete(entry.address)
    if (!wanted && isOurs(parseAddress(entry.address) ?? -1n)) remove.push(entry)
  }
  const name = desired.interface
  return { remove, add: name === undefined ? [] : [...missing].map(address => ({ address, interface: name })) }
}

/** Returns whether `address` belongs to the part of `upstream` that can be leased: all but sub-prefix 0. */
export function isLeasable(upstream: Prefix, allocationSize: number, address: bigint): boolean {
  return contains(upstream, address) && !contains({ network: upstream.network, length: allocationSize }, address)
}

/**
 * Returns the `ip -batch` lines of a diff. Both kinds may run twice: adding an entry that exists does nothing, and one to be removed is
 * added first, since `ip` fails on one that is gone.
 */
export function renderProxyNeighbors(diff: ProxyDiff): string[] {
  const line = (verb: string, entry: ProxyNeighbor) => `neigh ${verb} proxy ${entry.address} dev ${entry.interface}`
  return [
    ...diff.remove.flatMap(entry => [line('add', entry), line('del', entry)]),
    ...diff.add.map(entry => line('add', entry)),
  ]
}

/**
 * Returns a configuration for ndppd(1) that answers for the whole leasable space (the firewall keeps back what is not leased), and
 * never for sub-prefix 0, where the upstream router itself may be.
 *
 * @param link - The upstream interface; its index is noted, because ndppd must start again when the interface was made anew.
 */
export function renderNdppdConfig(link: { name: string; index: number }, leasable: readonly Prefix[]): string {
  return [
    '# Written by blockhost-broker; changes are overwritten.',
    `# interface index ${link.index}`,
    `proxy ${link.name} {`,
    '  router yes',
    '  ttl 30000',
    ...leasable.map(prefix => `  rule ${formatPrefix(prefix)} { static }`),
    '}',
    '',
  ].join('\n')
}

function decideAuto(situation: NdpSituation): Parsed<NdpDecision> {
  const pool = capacity(situation.upstream, situation.allocationSize) * perLease(situation)
  if (pool <= BigInt(kernelComfortLimit))
    return decided(
      'kernel',
      `the whole pool is ${pool} addresses, and the kernel answers well for up to ${kernelComfortLimit}`,
    )
  if (situation.hasNdppd)
    return decided('ndppd', `the pool is larger than the ${kernelComfortLimit} addresses the kernel answers well for`)
  return decideKernel(
    situation,
    `ndppd is not installed, so no more than ${kernelAddressLimit} addresses can be leased (apt-get install ndppd lifts that)`,
  )
}

function decideNdppd(situation: NdpSituation, reason: string): Parsed<NdpDecision> {
  return situation.hasNdppd
    ? decided('ndppd', reason)
    : malformed('NDP mode ndppd needs the program ndppd: apt-get install ndppd')
}

function decideKernel(situation: NdpSituation, reason: string): Parsed<NdpDecision> {
  return perLease(situation) <= BigInt(kernelAddressLimit)
    ? decided('kernel', reason)
    : malformed(
        `a lease of /${situation.allocationSize} has more than the ${kernelAddressLimit} addresses the kernel can answer for: apt-get install ndppd, or let the upstream route the prefix`,
      )
}

function perLease(situation: NdpSituation): bigint {
  return 1n << BigInt(128 - situation.allocationSize)
}

function decided(mode: NdpMode, reason: string): Parsed<NdpDecision> {
  return parsedOk({ mode, reason })
}
