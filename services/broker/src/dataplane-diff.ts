import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { diffFirewall } from '@blockhost/net/firewall.ts'
import { renderAddAddress, renderDeleteAddress, renderLinkUp } from '@blockhost/net/link.ts'
import {
  diffProxyNeighbors,
  isLeasable,
  type ProxyNeighbor,
  renderNdppdConfig,
  renderProxyNeighbors,
} from '@blockhost/net/ndp.ts'
import { contains, formatAddress, formatPrefix } from '@blockhost/net/prefix.ts'
import { diffRoutes, renderRoutes } from '@blockhost/net/route.ts'
import { diffSysctls, type Sysctl } from '@blockhost/net/sysctl.ts'
import { diffPeers, type InterfaceSettings, type PeerAction } from '@blockhost/net/wireguard.ts'
import { type DataplaneFacts, sysctlNeeds } from './dataplane-facts.ts'
import type { CarriedLease } from './dataplane-lease.ts'
import type { DataplanePlan } from './dataplane-plan.ts'

/** What makes the facts equal to the leases, for each tool, and the same in words. */
export type DataplaneRepair = {
  /** Empty: nothing to do. */
  readonly firewallScript: string
  readonly createLink: boolean
  readonly sysctls: readonly Sysctl[]
  readonly settings: InterfaceSettings
  readonly peerActions: readonly PeerAction[]
  readonly ipLines: readonly string[]
  /** The configuration ndppd must run with; `undefined`: it must not run. */
  readonly ndppdConfig: string | undefined
  readonly changes: readonly string[]
  readonly warnings: readonly string[]
}

/** Compares the network with what it must be. Pure; cost O(leases + what is there). */
export function diffDataplane(
  plan: DataplanePlan,
  leases: readonly CarriedLease[],
  facts: DataplaneFacts,
): DataplaneRepair {
  const firewall = diffFirewall(
    plan.firewall,
    leases.map(lease => lease.prefix.element),
    facts.firewall,
  )
  const sysctls = diffSysctls(sysctlNeeds(plan, facts.defaultRoutes), facts.sysctls)
  const wireguard = diffWireGuard(plan, leases, facts)
  const ip = [
    diffLink(plan, facts),
    diffGateway(plan, facts),
    diffCovering(plan, facts),
    diffProxies(plan, leases, facts),
  ]
  return {
    firewallScript: firewall?.script ?? '',
    createLink: !hasLink(plan.interface, facts),
    sysctls,
    ...wireguard.repair,
    ipLines: ip.flatMap(part => part.lines),
    ndppdConfig: ndppdConfig(plan, facts),
    changes: [
      ...(firewall === undefined ? [] : [firewall.change]),
      ...sysctls.map(({ path, value }) => `set ${path} to ${value}`),
      ...wireguard.changes,
      ...ip.flatMap(part => part.changes),
    ],
    warnings: facts.addresses
      .filter(entry => entry.duplicate && entry.address === plan.brokerAddress)
      .map(
        entry => `Another machine on ${entry.interface} has ${formatAddress(entry.address)} too: hosts can't reach it`,
      ),
  }
}

/**
 * Finds what must not be where leases are, before anything is changed: the covering routes would take it away from this machine
 * (docs/decisions/0001-covering-routes.md).
 *
 * @returns `BH_DATAPLANE_ADDRESS_CONFLICT` (exit 78), or `undefined`.
 */
export function findConflict(plan: DataplanePlan, facts: DataplaneFacts): BlockHostError | undefined {
  const isForLeases = isForLease(plan)
  const own = facts.addresses.find(entry => entry.interface !== plan.interface && isForLeases(entry.address))
  if (own !== undefined) return conflict(plan, `the address ${formatAddress(own.address)} on ${own.interface}`)
  for (const { gateway, interface: name } of facts.defaultRoutes) {
    if (gateway === undefined) continue
    if (isForLeases(gateway)) return conflict(plan, `the default gateway ${formatAddress(gateway)} on ${name}`)
    if (gateway === plan.brokerAddress) return gatewayIsBroker(gateway)
  }
  return undefined
}

/** Says that the upstream interface is not there; everything else was repaired. */
export function findMissingUpstream(plan: DataplanePlan, facts: DataplaneFacts): BlockHostError | undefined {
  const name = plan.ndpInterface
  if (name === undefined || hasLink(name, facts)) return undefined
  return new BlockHostError({
    code: 'BH_UPSTREAM_INTERFACE_MISSING',
    message: `There is no interface ${name} to answer neighbour solicitations on`,
    hint: `Bring the tunnel or link to the upstream up, or correct wireguard.upstream_interface.`,
    retryable: true,
  })
}

type IpPart = { readonly lines: readonly string[]; readonly changes: readonly string[] }

const nothing: IpPart = { lines: [], changes: [] }

function diffWireGuard(plan: DataplanePlan, leases: readonly CarriedLease[], facts: DataplaneFacts) {
  const { wireguard } = facts
  const hasKey = wireguard?.publicKey === plan.publicKey
  const hasPort = wireguard !== undefined && (plan.listenPort === 0 || wireguard.listenPort === plan.listenPort)
  const settings: InterfaceSettings = {
    ...(hasPort ? {} : { listenPort: plan.listenPort }),
    ...(hasKey ? {} : { privateKeyFile: plan.privateKeyFile }),
  }
  const peerActions = diffPeers(
    leases.map(lease => lease.peer),
    wireguard?.peers ?? [],
  )
  const removed = peerActions.filter(action => action.kind === 'remove').length
  const set = peerActions.length - removed
  return {
    repair: { settings, peerActions },
    changes: [
      ...(hasKey ? [] : [`gave ${plan.interface} its key`]),
      ...(hasPort ? [] : [`let ${plan.interface} listen on UDP port ${plan.listenPort}`]),
      ...(set === 0 ? [] : [`set ${set} peers`]),
      ...(removed === 0 ? [] : [`removed ${removed} peers without a lease`]),
    ],
  }
}

function diffLink(plan: DataplanePlan, facts: DataplaneFacts): IpPart {
  if (facts.links.some(link => link.name === plan.interface && link.up)) return nothing
  return { lines: renderLinkUp(plan.interface), changes: [`brought ${plan.interface} up`] }
}

/**
 * The broker's address must be on this machine: on the upstream interface where the upstream asks for it, else anywhere; on the tunnel
 * only when it is nowhere else. Linux answers for it on every interface, so one place is enough.
 */
function diffGateway(plan: DataplanePlan, facts: DataplaneFacts): IpPart {
  const { brokerAddress, ndpInterface: asked } = plan
  const text = formatAddress(brokerAddress)
  const places = facts.addresses.filter(entry => entry.address === brokerAddress)
  const onTunnel = places.filter(entry => entry.interface === plan.interface)
  const remove: IpPart = {
    lines: onTunnel.map(renderDeleteAddress),
    changes: onTunnel.map(() => `took ${text} off ${plan.interface}`),
  }
  if (asked !== undefined && contains(plan.upstream, brokerAddress)) {
    if (!hasLink(asked, facts) || places.some(entry => entry.interface === asked)) return remove
    // Sub-prefix 0 is on the link: the router is there, and ndppd needs a route to whoever asked.
    const onLinkLength = isLeasable(plan.upstream, plan.allocationSize, brokerAddress) ? 128 : plan.allocationSize
    return {
      lines: [...remove.lines, renderAddAddress(asked, brokerAddress, onLinkLength)],
      changes: [...remove.changes, `gave ${asked} the broker's address ${text}`],
    }
  }
  if (places.length > onTunnel.length) return remove
  if (onTunnel.length > 0) return nothing
  return {
    lines: [renderAddAddress(plan.interface, brokerAddress, 128)],
    changes: [`gave ${plan.interface} the broker's address ${text}`],
  }
}

function diffCovering(plan: DataplanePlan, facts: DataplaneFacts): IpPart {
  const ours = facts.routes.filter(
    route => contains(plan.upstream, route.destination) || route.interface === plan.interface,
  )
  const diff = diffRoutes(plan.interface, plan.coveringRoutes, ours)
  return {
    lines: renderRoutes(plan.interface, diff),
    changes: [
      ...(diff.add.length === 0 ? [] : [`led ${diff.add.length} covering routes into ${plan.interface}`]),
      ...diff.remove.map(route => `removed the route of ${formatPrefix(route.destination)} to ${route.interface}`),
    ],
  }
}

function diffProxies(plan: DataplanePlan, leases: readonly CarriedLease[], facts: DataplaneFacts): IpPart {
  const canAnswer = plan.ndp.mode === 'kernel' && plan.ndpInterface !== undefined && hasLink(plan.ndpInterface, facts)
  const addresses = new Set(canAnswer ? leases.flatMap(lease => lease.prefix.addresses) : [])
  const diff = diffProxyNeighbors(
    { addresses, interface: canAnswer ? plan.ndpInterface : undefined },
    facts.proxies,
    isForLease(plan),
  )
  return {
    lines: renderProxyNeighbors(diff),
    changes: [
      ...(diff.add.length === 0 ? [] : [`added ${diff.add.length} NDP entries`]),
      ...(diff.remove.length === 0 ? [] : [`removed ${diff.remove.length} NDP entries`]),
    ],
  }
}

/** Returns the entries that are ours by their address, to be removed when the service is taken down. */
export function findStaleProxies(plan: DataplanePlan, actual: readonly ProxyNeighbor[]): readonly ProxyNeighbor[] {
  return diffProxyNeighbors({ addresses: new Set(), interface: undefined }, actual, isForLease(plan)).remove
}

function ndppdConfig(plan: DataplanePlan, facts: DataplaneFacts): string | undefined {
  if (plan.ndp.mode !== 'ndppd') return undefined
  const link = facts.links.find(({ name }) => name === plan.ndpInterface)
  return link === undefined ? undefined : renderNdppdConfig(link, plan.coveringRoutes)
}

/** Tells whether an address is leased or may be: neither in sub-prefix 0 nor the broker's own. */
function isForLease(plan: DataplanePlan): (address: bigint) => boolean {
  return address => address !== plan.brokerAddress && isLeasable(plan.upstream, plan.allocationSize, address)
}

function hasLink(name: string, facts: DataplaneFacts): boolean {
  return facts.links.some(link => link.name === name)
}

function conflict(plan: DataplanePlan, what: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_DATAPLANE_ADDRESS_CONFLICT',
    message: `Of ${formatPrefix(plan.upstream)}, everything but its first /${plan.allocationSize} is for leases; ${what} lies in there`,
    hint: `Move it into ${formatPrefix({ network: plan.upstream.network, length: plan.allocationSize })}, or lease larger prefixes.`,
    exitCode: exitCodes.badConfig,
  })
}

function gatewayIsBroker(gateway: bigint): BlockHostError {
  return new BlockHostError({
    code: 'BH_DATAPLANE_ADDRESS_CONFLICT',
    message: `broker_ipv6 is ${formatAddress(gateway)}, but that is this machine's default gateway: the upstream router`,
    hint: "Set broker_ipv6 to this machine's own address on the upstream link.",
    exitCode: exitCodes.badConfig,
  })
}
