import { containsIpv4, lastIpv4Address, parseIpv4Prefix } from '@blockhost/net/ipv4.ts'
import { contains, formatPrefix, parsePrefix } from '@blockhost/net/prefix.ts'
import { isIpv6, privateIpv4, publicIpv6 } from '@blockhost/net/public-address.ts'
import { z } from 'zod'

/** A network of which no address is on the public internet, e.g. `192.168.1.53/32` or `fd00::/64`; becomes canonical text. */
export const privateNetwork = z.string().transform((text, context) => {
  const problem = isIpv6(text) ? findIpv6Problem(text) : findIpv4Problem(text)
  if (problem === undefined) return isIpv6(text) ? formatPrefix(parsePrefix(text)!) : text
  context.addIssue(problem)
  return z.NEVER
})

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
