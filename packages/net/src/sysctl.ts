/** A kernel setting, as the file below `/proc/sys` that holds it. */
export type Sysctl = { readonly path: string; readonly value: string }

/** Which kernel settings the tunnels need. */
export type SysctlNeeds = {
  /** The WireGuard interface. */
  readonly interface: string
  /** Interfaces whose default route may come from router advertisements. */
  readonly upstreamInterfaces: readonly string[]
  /** The interface on which the kernel answers neighbour solicitations for others; `undefined`: none. */
  readonly ndpInterface: string | undefined
}

/** Returns the files to read before {@link diffSysctls} can decide. */
export function sysctlPaths(needs: SysctlNeeds): string[] {
  return [
    forwarding,
    conf(needs.interface, 'disable_ipv6'),
    ...needs.upstreamInterfaces.map(name => conf(name, 'accept_ra')),
    ...ndpSettings(needs).map(({ path }) => path),
  ]
}

/**
 * Returns the settings to write, in order. `all.proxy_ndp` never is one: with it the kernel looks each forwarded packet up in a list of
 * 16 buckets (`pneigh_lookup` in ip6_forward). Turning forwarding on makes the kernel forget router advertisements unless
 * `accept_ra` is 2 (Documentation/networking/ip-sysctl), so that goes first where it was 1.
 *
 * @param actual - Path to content; a missing one means the kernel has no such setting (the interface is not there).
 */
export function diffSysctls(needs: SysctlNeeds, actual: ReadonlyMap<string, string>): Sysctl[] {
  const is = (path: string, value: string) => actual.get(path)?.trim() === value
  const writes: Sysctl[] = []
  const disabled = conf(needs.interface, 'disable_ipv6')
  if (is(disabled, '1')) writes.push({ path: disabled, value: '0' })
  if (!is(forwarding, '1')) {
    for (const name of needs.upstreamInterfaces) {
      const acceptRa = conf(name, 'accept_ra')
      if (is(acceptRa, '1')) writes.push({ path: acceptRa, value: '2' })
    }
    writes.push({ path: forwarding, value: '1' })
  }
  for (const setting of ndpSettings(needs))
    if (actual.has(setting.path) && !is(setting.path, setting.value)) writes.push(setting)
  return writes
}

const forwarding = '/proc/sys/net/ipv6/conf/all/forwarding'

function conf(name: string, key: string): string {
  return `/proc/sys/net/ipv6/conf/${name}/${key}`
}

/** Without `proxy_delay` 0 the kernel waits up to 0.8 s before each proxied answer. */
function ndpSettings({ ndpInterface }: SysctlNeeds): Sysctl[] {
  if (ndpInterface === undefined) return []
  return [
    { path: conf(ndpInterface, 'proxy_ndp'), value: '1' },
    { path: `/proc/sys/net/ipv6/neigh/${ndpInterface}/proxy_delay`, value: '0' },
  ]
}
