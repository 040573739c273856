/** ip(8) on the fake kernel. */
import {
  addLink,
  CommandFailure,
  dropRoutes,
  type FakeKernelState,
  type FakeLink,
  linkOf,
  removeLink,
} from './fake-kernel-state.ts'

/** Runs `ip <args>`; returns what it prints. */
export function runIp(
  state: FakeKernelState,
  args: readonly string[],
  input: string,
  options: { readonly hasWireGuardModule: boolean },
): string {
  const words = args.filter(word => word !== '-6' && word !== '-j')
  if (words[0] !== '-batch') return runLine(state, words, options)
  const printed: string[] = []
  for (const [at, line] of input.split('\n').entries()) {
    if (line.trim() === '') continue
    try {
      printed.push(runLine(state, line.trim().split(/\s+/), options))
    } catch (error) {
      if (!(error instanceof CommandFailure)) throw error
      throw new CommandFailure(1, `${error.message}\nCommand failed -:${at + 1}`)
    }
  }
  return printed.join('')
}

function runLine(
  state: FakeKernelState,
  words: readonly string[],
  options: { readonly hasWireGuardModule: boolean },
): string {
  const [object, verb, ...rest] = words
  const dev = wordAfter(rest, 'dev', '')
  switch (`${object} ${verb}`) {
    case 'link show':
      return json([...state.links.values()].map(describeLink))
    case 'addr show':
      return json([...state.links.values()].map(describeAddresses))
    case 'route show':
      return showRoutes(state, rest)
    case 'neigh show':
      return json([...state.proxies].map(describeProxy))
    case 'link add':
      return makeLink(state, dev, wordAfter(rest, 'type'), options.hasWireGuardModule)
    case 'link del':
      removeLink(state, linkOf(state, dev).name)
      return ''
    case 'link set':
      return setLink(state, linkOf(state, dev), rest)
    case 'addr replace':
    case 'addr add':
      linkOf(state, dev).addresses.add(rest[0]!)
      return ''
    case 'addr del':
      if (linkOf(state, dev).addresses.delete(rest[0]!)) return ''
      throw new CommandFailure(2, 'Error: ipv6: address not found.')
    case 'route replace':
      return replaceRoute(state, linkOf(state, dev), rest)
    case 'route del':
      linkOf(state, dev)
      if (state.routes.delete(`${rest[0]} ${dev}`)) return ''
      throw new CommandFailure(2, 'RTNETLINK answers: No such process')
    case 'neigh add':
      state.proxies.add(`${rest[1]} ${linkOf(state, dev).name}`)
      return ''
    case 'neigh del':
      if (state.proxies.delete(`${rest[1]} ${linkOf(state, dev).name}`)) return ''
      throw new CommandFailure(2, 'RTNETLINK answers: No such file or directory')
    default:
      throw new CommandFailure(255, `the fake kernel does not know \`ip ${words.join(' ')}\``)
  }
}

function makeLink(state: FakeKernelState, name: string, type: string, hasWireGuardModule: boolean): string {
  if (state.links.has(name)) throw new CommandFailure(2, 'RTNETLINK answers: File exists')
  if (type !== 'wireguard' || !hasWireGuardModule) throw new CommandFailure(2, 'Error: Unknown device type.')
  addLink(state, name, 'wireguard')
  return ''
}

function setLink(state: FakeKernelState, link: FakeLink, words: readonly string[]): string {
  if (words.includes('up')) link.up = true
  if (words.includes('down')) {
    link.up = false
    dropRoutes(state, link.name)
  }
  return ''
}

function replaceRoute(state: FakeKernelState, link: FakeLink, words: readonly string[]): string {
  if (!link.up) throw new CommandFailure(2, 'Error: Nexthop device is not up.')
  const destination = words[0]!
  const protocol = wordAfter(words, 'proto', 'boot')
  for (const [key, route] of state.routes) if (route.destination === destination) state.routes.delete(key)
  state.routes.set(`${destination} ${link.name}`, { destination, dev: link.name, protocol })
  return ''
}

function showRoutes(state: FakeKernelState, words: readonly string[]): string {
  const protocol = wordAfter(words, 'proto', '')
  const isDefault = words.includes('default')
  const found = [...state.routes.values()].filter(
    route => (protocol === '' || route.protocol === protocol) && (!isDefault || route.destination === 'default'),
  )
  return json(found.map(({ destination, dev }) => ({ dst: destination, dev, metric: 1024, flags: [], pref: 'medium' })))
}

function describeLink({ name, index, up, wireguard }: FakeLink): object {
  const flags = [
    ...(wireguard === undefined ? ['BROADCAST'] : ['POINTOPOINT', 'NOARP']),
    ...(up ? ['UP', 'LOWER_UP'] : []),
  ]
  return { ifindex: index, ifname: name, flags, mtu: 1420, operstate: up ? 'UNKNOWN' : 'DOWN' }
}

/** iproute2 prints an empty object for an interface without addresses of the family asked for. */
function describeAddresses({ name, index, addresses }: FakeLink): object {
  if (addresses.size === 0) return {}
  const addr_info = [...addresses].map(text => {
    const [local, length] = text.split('/')
    return { family: 'inet6', local, prefixlen: Number(length), scope: 'global' }
  })
  return { ifindex: index, ifname: name, addr_info }
}

function describeProxy(entry: string): object {
  const [dst, dev] = entry.split(' ')
  return { dst, dev }
}

function json(answer: readonly object[]): string {
  return `${JSON.stringify(answer)}\n`
}

function wordAfter(words: readonly string[], key: string, fallback?: string): string {
  const at = words.indexOf(key)
  const found = at < 0 ? fallback : words[at + 1]
  if (found === undefined) throw new CommandFailure(255, `Command line is not complete: "${key}" is missing.`)
  return found
}
