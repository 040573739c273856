import type { Exec } from '@blockhost/kit/exec.ts'
import type { Firewall, FirewallTable } from '@blockhost/net/firewall.ts'
import { queryIp } from '@blockhost/net/ip.ts'
import { type InterfaceAddress, type Link, parseInterfaceAddresses, parseLinks } from '@blockhost/net/link.ts'
import { type ProxyNeighbor, parseProxyNeighbors } from '@blockhost/net/ndp.ts'
import { ourRoutesQuestion, parseRoutes, type Route } from '@blockhost/net/route.ts'
import { type SysctlNeeds, sysctlPaths } from '@blockhost/net/sysctl.ts'
import type { System } from '@blockhost/net/system.ts'
import type { WireGuard, WireGuardStatus } from '@blockhost/net/wireguard.ts'
import type { DataplanePlan } from './dataplane-plan.ts'

/** The network as it is. */
export type DataplaneFacts = {
  readonly links: readonly Link[]
  readonly addresses: readonly InterfaceAddress[]
  /** Our own routes, see `routeProtocol`. */
  readonly routes: readonly Route[]
  readonly proxies: readonly ProxyNeighbor[]
  /** As they were when the service started: with a full routing table it takes long to find them. */
  readonly defaultRoutes: readonly Route[]
  /** `undefined` when the interface does not exist. */
  readonly wireguard: WireGuardStatus | undefined
  /** `undefined` when there is no table of ours. */
  readonly firewall: FirewallTable | undefined
  /** Path to content. */
  readonly sysctls: ReadonlyMap<string, string>
}

/** Reads the facts: three processes side by side, and a few files. */
export type FactReader = { read(): Promise<DataplaneFacts> }

/** Makes a {@link FactReader}. */
export function createFactReader(
  plan: DataplanePlan,
  deps: { exec: Exec; system: System; wireguard: WireGuard; firewall: Firewall },
): FactReader {
  const { exec, system, wireguard, firewall } = deps
  let defaultRoutes: readonly Route[] | undefined

  async function read(): Promise<DataplaneFacts> {
    const [ip, status, table] = await Promise.all([readIp(), settle(wireguard.readStatus()), settle(firewall.read())])
    const sysctls = await readSysctls(sysctlNeeds(plan, ip.defaultRoutes))
    const exists = ip.links.some(link => link.name === plan.interface)
    return { ...ip, wireguard: exists ? unwrap(status) : undefined, firewall: unwrap(table), sysctls }
  }

  async function readIp() {
    const questions = ['link show', 'addr show', ourRoutesQuestion, 'neigh show proxy']
    const first = defaultRoutes === undefined ? ['route show default'] : []
    const [links, addresses, routes, proxies, defaults] = await queryIp(exec, [...questions, ...first])
    defaultRoutes ??= parseRoutes(defaults ?? [])
    return {
      links: parseLinks(links!),
      addresses: parseInterfaceAddresses(addresses!),
      routes: parseRoutes(routes!),
      proxies: parseProxyNeighbors(proxies!),
      defaultRoutes,
    }
  }

  async function readSysctls(needs: SysctlNeeds): Promise<ReadonlyMap<string, string>> {
    const entries = await Promise.all(sysctlPaths(needs).map(async path => [path, await system.read(path)] as const))
    return new Map(entries.filter((entry): entry is [string, string] => entry[1] !== undefined))
  }

  return { read }
}

/** Returns which kernel settings matter, given where the default routes lead. */
export function sysctlNeeds(plan: DataplanePlan, defaultRoutes: readonly Route[]): SysctlNeeds {
  const upstream = plan.upstreamInterface === undefined ? [] : [plan.upstreamInterface]
  return {
    interface: plan.interface,
    upstreamInterfaces: [...new Set([...upstream, ...defaultRoutes.map(route => route.interface)])],
    ndpInterface: plan.ndp.mode === 'kernel' ? plan.ndpInterface : undefined,
  }
}

type Settled<T> = { readonly value: T } | { readonly error: unknown }

/** Keeps a failure for later: reading an interface that does not exist fails, which is no error. */
async function settle<T>(promise: Promise<T>): Promise<Settled<T>> {
  try {
    return { value: await promise }
  } catch (error) {
    return { error }
  }
}

function unwrap<T>(settled: Settled<T>): T {
  if ('error' in settled) throw settled.error
  return settled.value
}
