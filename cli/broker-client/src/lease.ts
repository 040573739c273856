/** What a broker grants, after every field was checked. Nothing of a broker's answer, or of a file, reaches root's commands but through here. */
import { type Endpoint, formatEndpoint, parseEndpoint } from '@blockhost/net/endpoint.ts'
import { malformed, type Parsed, parsedOk } from '@blockhost/net/parsed.ts'
import {
  addressAt,
  contains,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '@blockhost/net/prefix.ts'
import { parseKey } from '@blockhost/net/wireguard.ts'

/** A lease whose fields are safe to use. */
export type Lease = {
  readonly prefix: Prefix
  /** The broker's own address, 128-bit unsigned; outside of the prefix. Pinged to see whether the tunnel works. */
  readonly gateway: bigint
  /** WireGuard public key of the broker, canonical base64. */
  readonly brokerPubkey: string
  readonly endpoint: Endpoint
  /** Domain under which the broker names addresses; empty when it has none. */
  readonly dnsZone: string
}

/** A lease as the broker or a file writes it; each member may be anything. */
export type LeaseFields = {
  readonly prefix: unknown
  readonly gateway: unknown
  readonly brokerPubkey: unknown
  readonly brokerEndpoint: unknown
  readonly dnsZone?: unknown
}

/** Prefix and gateway must lie in here where it is known. */
export type LeaseRules = { readonly expectUpstream: Prefix | undefined }

/** Longest and shortest prefix anyone leases. A broker that answers `::/0` wants the host's whole traffic. */
const lengths = { min: 48, max: 128 } as const

/** Global unicast (RFC 4291), and unique local (RFC 4193) for labs. */
const unicast = [parsePrefix('2000::/3')!, parsePrefix('fc00::/7')!]

/** Checks every field. The problem names the field and what is wrong with it; it never repeats control characters. */
export function parseLease(fields: LeaseFields, rules: LeaseRules): Parsed<Lease> {
  const prefix = readPrefix(fields.prefix, rules)
  if (!prefix.ok) return prefix
  const gateway = readGateway(fields.gateway, prefix.value, rules)
  if (!gateway.ok) return gateway
  const brokerPubkey = readKey(fields.brokerPubkey)
  if (!brokerPubkey.ok) return brokerPubkey
  const endpoint = readEndpoint(fields.brokerEndpoint)
  if (!endpoint.ok) return endpoint
  const dnsZone = readZone(fields.dnsZone)
  if (!dnsZone.ok) return dnsZone
  return parsedOk({
    prefix: prefix.value,
    gateway: gateway.value,
    brokerPubkey: brokerPubkey.value,
    endpoint: endpoint.value,
    dnsZone: dnsZone.value,
  })
}

/** Returns the host's own address in its prefix: the second one, as in the first generation; of a /128 the only one. */
export function hostAddress(prefix: Prefix): string {
  return formatAddress(addressAt(prefix, prefix.length === 128 ? 0n : 1n))
}

/**
 * Returns the broker's address if the host may have a route to it beside the leased prefix. A broker whose address is far from what it leases
 * (no 32 bits in common, the size of a provider) could draw the host's traffic to anybody's address into the tunnel; it is pinged from the leased address only.
 */
export function routableGateway(lease: Lease): string | undefined {
  return lease.gateway >> 96n === lease.prefix.network >> 96n ? formatAddress(lease.gateway) : undefined
}

/** Returns the members of the lease as text, in the spelling of the files: canonical, ready to be compared or written. */
export function leaseTexts(lease: Lease): {
  prefix: string
  gateway: string
  brokerPubkey: string
  brokerEndpoint: string
  dnsZone: string
} {
  return {
    prefix: formatPrefix(lease.prefix),
    gateway: formatAddress(lease.gateway),
    brokerPubkey: lease.brokerPubkey,
    brokerEndpoint: formatEndpoint(lease.endpoint),
    dnsZone: lease.dnsZone,
  }
}

function readPrefix(value: unknown, rules: LeaseRules): Parsed<Prefix> {
  const prefix = typeof value === 'string' ? parsePrefix(value) : undefined
  if (prefix === undefined) return malformed('prefix is not an IPv6 prefix without host bits')
  const text = formatPrefix(prefix)
  if (prefix.length < lengths.min || prefix.length > lengths.max)
    return malformed(`prefix ${text} is not between /${lengths.min} and /${lengths.max}`)
  if (!isUnicast(prefix)) return malformed(`prefix ${text} is not unicast space`)
  if (rules.expectUpstream !== undefined && !contains(rules.expectUpstream, prefix))
    return malformed(
      `prefix ${text} is outside of ${formatPrefix(rules.expectUpstream)}, which the broker is expected to lease from`,
    )
  return parsedOk(prefix)
}

function readGateway(value: unknown, prefix: Prefix, { expectUpstream }: LeaseRules): Parsed<bigint> {
  const gateway = typeof value === 'string' ? parseAddress(value) : undefined
  if (gateway === undefined) return malformed('gateway is not an IPv6 address')
  if (!isUnicast(gateway)) return malformed(`gateway ${formatAddress(gateway)} is not a unicast address`)
  if (contains(prefix, gateway)) return malformed(`gateway ${formatAddress(gateway)} lies inside the leased prefix`)
  if (expectUpstream !== undefined && !contains(expectUpstream, gateway))
    return malformed(`gateway ${formatAddress(gateway)} is outside of ${formatPrefix(expectUpstream)}`)
  return parsedOk(gateway)
}

function isUnicast(what: Prefix | bigint): boolean {
  return unicast.some(space => contains(space, what))
}

function readKey(value: unknown): Parsed<string> {
  const key = typeof value === 'string' ? parseKey(value) : undefined
  return key === undefined ? malformed('brokerPubkey is not a WireGuard key (base64 of 32 bytes)') : parsedOk(key)
}

function readEndpoint(value: unknown): Parsed<Endpoint> {
  const endpoint = typeof value === 'string' ? parseEndpoint(value) : undefined
  if (endpoint === undefined) return malformed('brokerEndpoint is not host:port')
  // Unspecified and multicast destinations: RFC 1122 §3.2.1.3, RFC 4291 §2.5.2 and §2.7.
  if (endpoint.kind === 'ipv4' && /^(0|22[4-9]|2[34]\d|25[0-5])\./.test(endpoint.host))
    return malformed('brokerEndpoint is not a host address')
  if (endpoint.kind === 'ipv6' && /^(::$|ff)/.test(endpoint.host))
    return malformed('brokerEndpoint is not a host address')
  return parsedOk(endpoint)
}

function readZone(value: unknown): Parsed<string> {
  if (value === undefined || value === null || value === '') return parsedOk('')
  if (typeof value !== 'string' || value.length > 253) return malformed('dnsZone is not a domain name')
  const labels = value.split('.')
  if (!labels.every(label => /^(?!-)[A-Za-z\d_-]{1,63}(?<!-)$/.test(label)) || value.includes('\n'))
    return malformed('dnsZone is not a domain name')
  return parsedOk(value.toLowerCase())
}
