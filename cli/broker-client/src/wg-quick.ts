/**
 * The host's `wg-quick(8)` file. Pure.
 *
 * Only packets *from* the leased prefix go into the tunnel (the host's own provider would drop them: BCP 38), and those to the broker's own address.
 * The host's other routes stay as they are, so a default route that exists neither breaks `wg-quick up` nor is broken by it.
 */
import { BlockHostError } from '@blockhost/kit/errors.ts'

/** What the file says. All texts canonical and validated before they come here; checked again, as bash runs parts of the file. */
export type WgQuickInput = {
  readonly wgInterface: string
  /** Base64, 44 characters. */
  readonly privateKey: string
  /** The host's own address in the prefix, without length. */
  readonly hostAddress: string
  /** Leased prefix, CIDR. */
  readonly prefix: string
  /** The broker's own address, when the host may have a route to it for pings; `undefined`: none. */
  readonly gateway: string | undefined
  readonly brokerPubkey: string
  /** `host:port`, `[v6]:port`. */
  readonly brokerEndpoint: string
  /** Turn IPv6 forwarding on, which VMs behind the host need. */
  readonly forwarding: boolean
  /** Interfaces whose default route comes from router advertisements the kernel reads; forwarding would make it stop reading them. */
  readonly advertisedUplinks: readonly string[]
  /** Offer the tunnel as the host's own default route of last resort. */
  readonly defaultRoute: boolean
}

/** First line of every file made here. */
export const confHeader = '# Written by broker-client; `broker-client install` writes it anew.'

/** 1500 less the most that WireGuard over IPv6 adds (80 bytes), so that it fits whatever the endpoint is. */
export const tunnelMtu = 1420

/** Priority of the two rules; far before main (32766) and what wg-quick itself adds just below it. */
export const rulePriorities = { local: 5200, tunnel: 5201 } as const

/** Any real route to the prefix (a bridge, a VM) is better than this one. */
const lastMetric = 2_147_483_647

/**
 * Returns the routing table of an interface's tunnel route: in 520000..529999, the same for the same name, away from wg-quick's own (51820 and up).
 */
export function routingTable(wgInterface: string): number {
  let hash = 0x811c9dc5 // FNV-1a
  for (const byte of Buffer.from(wgInterface)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return 520_000 + (hash % 10_000)
}

/**
 * Returns the whole file. Every `PostUp` may run twice, and none fails because a route or rule is there already.
 *
 * @throws {BlockHostError} `BH_WG_QUICK_FIELD_INVALID` when a field holds anything but its own alphabet: nothing to escape, nothing to inject.
 */
export function renderWgQuick(input: WgQuickInput): string {
  check(input)
  const up = [...routeCommands(input), ...ruleCommands(input), ...forwardingCommands(input)]
  const down = undoCommands(input.prefix, routingTable(input.wgInterface))
  return [
    confHeader,
    '[Interface]',
    `PrivateKey = ${input.privateKey}`,
    `Address = ${input.hostAddress}/128`,
    `MTU = ${tunnelMtu}`,
    'Table = off',
    ...up.map(command => `PostUp = ${command}`),
    ...down.map(command => `PostDown = ${command.join(' ')} 2>/dev/null || true`),
    '',
    '[Peer]',
    `PublicKey = ${input.brokerPubkey}`,
    `Endpoint = ${input.brokerEndpoint}`,
    'AllowedIPs = ::/0',
    'PersistentKeepalive = 25',
    '',
  ].join('\n')
}

/** Returns the argv of each command that takes back what the file's `PostUp` lines did outside the interface itself; failures mean "not there". */
export function undoCommands(prefix: string, table: number): string[][] {
  return [
    ['ip', '-6', 'rule', 'del', ...tunnelRule(prefix, table)],
    ['ip', '-6', 'rule', 'del', ...localRule(prefix)],
    ['ip', '-6', 'route', 'del', ...unusedRoute(prefix)],
  ]
}

function routeCommands({ prefix, wgInterface, gateway, defaultRoute }: WgQuickInput): string[] {
  return [
    // What no VM uses is answered here; it neither leaves by the host's own uplink nor bounces back to the broker.
    `ip -6 route replace ${unusedRoute(prefix).join(' ')}`,
    `ip -6 route replace default dev %i table ${routingTable(wgInterface)}`,
    // Without `src`: the kernel refuses one that it has not finished to take on yet, and picks the interface's address anyway (RFC 6724 rule 5).
    ...(gateway === undefined ? [] : [`ip -6 route replace ${gateway}/128 dev %i`]),
    ...(defaultRoute ? ['ip -6 route replace default dev %i metric 65535'] : []),
  ]
}

function ruleCommands({ prefix, wgInterface }: WgQuickInput): string[] {
  return [localRule(prefix), tunnelRule(prefix, routingTable(wgInterface))].flatMap(rule => [
    `ip -6 rule del ${rule.join(' ')} 2>/dev/null || true`,
    `ip -6 rule add ${rule.join(' ')}`,
  ])
}

/** Between two addresses of the prefix, the host's own routes decide (bridge, VM). */
function localRule(prefix: string): string[] {
  return ['pref', `${rulePriorities.local}`, 'from', prefix, 'to', prefix, 'table', 'main']
}

function tunnelRule(prefix: string, table: number): string[] {
  return ['pref', `${rulePriorities.tunnel}`, 'from', prefix, 'table', `${table}`]
}

function unusedRoute(prefix: string): string[] {
  return ['unreachable', prefix, 'dev', 'lo', 'metric', `${lastMetric}`]
}

/** Plain writes to /proc: Debian's `sysctl` command is not on every machine. A read-only /proc is reported by `install`, not fatal to the tunnel. */
function forwardingCommands({ forwarding, advertisedUplinks }: WgQuickInput): string[] {
  if (!forwarding) return []
  return [
    // 2 = read advertisements although forwarding; must come first, as switching forwarding on drops advertised default routes.
    ...advertisedUplinks.map(name => `echo 2 > /proc/sys/net/ipv6/conf/${name}/accept_ra || true`),
    'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding || true',
  ]
}

const alphabets: Readonly<Record<string, RegExp>> = {
  wgInterface: /^[a-zA-Z0-9_=+.-]{1,15}$/,
  privateKey: /^[A-Za-z0-9+/]{43}=$/,
  hostAddress: /^[0-9a-f:.]{2,45}$/,
  prefix: /^[0-9a-f:.]{2,45}\/[0-9]{1,3}$/,
  gateway: /^[0-9a-f:.]{2,45}$/,
  brokerPubkey: /^[A-Za-z0-9+/]{43}=$/,
  brokerEndpoint: /^[A-Za-z0-9.:[\]-]{3,261}$/,
  advertisedUplinks: /^[a-zA-Z0-9_=+.-]{1,15}$/,
}

function check(input: WgQuickInput): void {
  for (const [field, alphabet] of Object.entries(alphabets))
    for (const value of [input[field as keyof WgQuickInput] ?? []].flat())
      if (typeof value !== 'string' || !alphabet.test(value) || value.includes('\n'))
        throw new BlockHostError({
          code: 'BH_WG_QUICK_FIELD_INVALID',
          message: `The WireGuard file was not written: its ${field} has a character that does not belong there`,
          fields: { field },
        })
}
