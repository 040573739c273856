import { containsIpv4, lastIpv4Address, parseIpv4Prefix } from '@blockhost/net/ipv4.ts'
import { contains, formatPrefix, parsePrefix } from '@blockhost/net/prefix.ts'
import { z } from 'zod'

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

/** A network of which no address is on the public internet, e.g. `192.168.1.53/32` or `fd00::/64`; becomes canonical text. */
export const privateNetwork = z.string().transform((text, context) => {
  const problem = isIpv6(text) ? findIpv6Problem(text) : findIpv4Problem(text)
  if (problem === undefined) return isIpv6(text) ? formatPrefix(parsePrefix(text)!) : text
  context.addIssue(problem)
  return z.NEVER
})

/** Returns whether the text of an address or network is IPv6. */
export function isIpv6(text: string): boolean {
  return text.includes(':')
}

const malformed = 'expected a network like 192.168.1.53/32 or fd00::/64, host bits zero'
const isPublic = 'it is, or holds, public addresses: VMs reach those anyway'

function findIpv4Problem(text: string): string | undefined {
  const network = parseIpv4Prefix(text)
  if (network === undefined) return malformed
  const isPrivate = privateIpv4
    .map(range => parseIpv4Prefix(range)!)
    .some(range => containsIpv4(range, network.network) && containsIpv4(range, lastIpv4Address(network)))
  return isPrivate ? undefined : isPublic
}

function findIpv6Problem(text: string): string | undefined {
  const network = parsePrefix(text)
  if (network === undefined) return malformed
  // A network without a bit in common with 2000::/3, not one that holds it either.
  return network.length >= 3 && !contains(parsePrefix(publicIpv6)!, network) ? undefined : isPublic
}
