import { containsIpv4, parseIpv4Address, parseIpv4Prefix } from './ipv4.ts'
import { contains, parseAddress, parsePrefix } from './prefix.ts'

/**
 * IPv4 that is not the public internet (RFC 6890 and the IANA registry it set up): the host's LAN, its provider's, cloud metadata,
 * multicast. Without the three ranges for documentation (RFC 5737), which lead nowhere.
 */
export const privateIpv4: readonly string[] = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/3',
]

/** All IPv6 of the public internet (RFC 4291 section 2.4, IANA); everything else is local, multicast, a translator's or nobody's. */
export const publicIpv6 = '2000::/3'

/** Returns whether the text of an address or network is IPv6. */
export function isIpv6(text: string): boolean {
  return text.includes(':')
}

/** Returns whether an address, as text, is on the public internet; `undefined` for what is no address. */
export function isPublicAddress(text: string): boolean | undefined {
  if (isIpv6(text)) {
    const address = parseAddress(text)
    return address === undefined ? undefined : contains(parsePrefix(publicIpv6)!, address)
  }
  const address = parseIpv4Address(text)
  if (address === undefined) return undefined
  return !privateIpv4.some(range => containsIpv4(parseIpv4Prefix(range)!, address))
}

/** Returns whether a network holds an address, both as text; `false` where either is none, or they are of different families. */
export function networkHolds(network: string, text: string): boolean {
  if (isIpv6(network) !== isIpv6(text)) return false
  if (isIpv6(network)) {
    const [prefix, address] = [parsePrefix(network), parseAddress(text)]
    return prefix !== undefined && address !== undefined && contains(prefix, address)
  }
  const [prefix, address] = [parseIpv4Prefix(network), parseIpv4Address(text)]
  return prefix !== undefined && address !== undefined && containsIpv4(prefix, address)
}
