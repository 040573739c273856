/** What the fake kernel remembers. */

/** A WireGuard peer as the kernel keeps it. */
export type FakePeer = {
  readonly publicKey: string
  /** RFC 5952 prefixes; the kernel gives each to one peer only. */
  allowedIps: string[]
  endpoint: string | undefined
  hasPresharedKey: boolean
  /** Unix seconds; 0 = never. */
  latestHandshake: number
}

/** A network interface. */
export type FakeLink = {
  readonly name: string
  readonly index: number
  up: boolean
  /** `address/length`. */
  readonly addresses: Set<string>
  /** Present on WireGuard interfaces. */
  readonly wireguard:
    | {
        privateKey: string | undefined
        publicKey: string | undefined
        listenPort: number
        readonly peers: Map<string, FakePeer>
      }
    | undefined
}

/** A route of the IPv6 main table. */
export type FakeRoute = { readonly destination: string; readonly dev: string; readonly protocol: string }

/** An nftables table of family ip6. */
export type FakeTable = {
  readonly sets: Map<string, { readonly type: string; readonly elements: Set<string> }>
  readonly chains: Map<
    string,
    {
      readonly type: string
      readonly hook: string
      readonly priority: number
      readonly policy: string
      readonly rules: readonly { readonly text: string; readonly comment: string | undefined }[]
    }
  >
}

/** A running program. */
export type FakeProcess = { readonly pid: number; readonly argv: readonly string[]; readonly onEnd: () => void }

/** Everything that a restart of the machine forgets. */
export type FakeKernelState = {
  readonly links: Map<string, FakeLink>
  /** By `destination dev`. */
  readonly routes: Map<string, FakeRoute>
  /** `address dev`. */
  readonly proxies: Set<string>
  tables: Map<string, FakeTable>
  readonly processes: Map<number, FakeProcess>
  /** `/proc/sys` and `/run`. */
  readonly files: Map<string, string>
  nextIndex: number
  nextPid: number
}

/** A command that ends with an error; becomes an `ExecError`. */
export class CommandFailure extends Error {
  readonly status: number

  constructor(status: number, stderr: string) {
    super(stderr)
    this.status = status
  }
}

/** Returns the interface, or fails as `ip` does. */
export function linkOf(state: FakeKernelState, name: string): FakeLink {
  const link = state.links.get(name)
  if (link === undefined) throw new CommandFailure(1, `Cannot find device "${name}"`)
  return link
}

/** Adds an interface with the settings that Linux gives a new one. */
export function addLink(state: FakeKernelState, name: string, kind: 'wireguard' | 'ethernet'): FakeLink {
  const link: FakeLink = {
    name,
    index: state.nextIndex++,
    up: false,
    addresses: new Set(),
    wireguard:
      kind === 'wireguard'
        ? { privateKey: undefined, publicKey: undefined, listenPort: 0, peers: new Map() }
        : undefined,
  }
  state.links.set(name, link)
  for (const [key, value] of [
    ['disable_ipv6', '0'],
    ['accept_ra', '1'],
    ['proxy_ndp', '0'],
  ])
    state.files.set(`/proc/sys/net/ipv6/conf/${name}/${key}`, `${value}\n`)
  state.files.set(`/proc/sys/net/ipv6/neigh/${name}/proxy_delay`, '80\n')
  return link
}

/** Removes an interface with all that hangs on it. */
export function removeLink(state: FakeKernelState, name: string): void {
  state.links.delete(name)
  dropRoutes(state, name)
  for (const entry of state.proxies) if (entry.endsWith(` ${name}`)) state.proxies.delete(entry)
  for (const path of state.files.keys())
    if (path.startsWith('/proc/sys/') && path.split('/').includes(name)) state.files.delete(path)
}

/** Linux forgets the IPv6 routes of an interface that goes down. */
export function dropRoutes(state: FakeKernelState, dev: string): void {
  for (const [key, route] of state.routes) if (route.dev === dev) state.routes.delete(key)
}

/** Starts a program in the background. */
export function startProcess(state: FakeKernelState, argv: readonly string[], onEnd: () => void): number {
  const pid = state.nextPid++
  state.processes.set(pid, { pid, argv, onEnd })
  return pid
}
