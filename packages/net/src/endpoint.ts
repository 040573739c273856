import { isIPv4 } from 'node:net'
import { formatAddress, parseAddress } from './prefix.ts'

/** Where WireGuard packets are sent: a literal address or a DNS name, and a UDP port 1..65535. */
export type Endpoint = { readonly host: string; readonly port: number; readonly kind: 'ipv4' | 'ipv6' | 'name' }

/**
 * Parses `192.0.2.1:51820`, `[2001:db8::1]:51820` or `broker.example:51820`, the forms of wg(8).
 *
 * @returns `undefined` for anything else; control characters, blanks, zone ids and names that are not RFC 1123 hosts included,
 * so a returned endpoint is safe to write into a `wg-quick` file.
 */
export function parseEndpoint(text: string): Endpoint | undefined {
  const match = /^(?:\[([\da-f:.]{2,45})\]|([a-z\d.-]{1,253})):([1-9]\d{0,4})$/i.exec(text)
  // `$` also matches before a final line feed.
  if (match === null || match[0].length !== text.length || text.endsWith('\n') || Number(match[3]) > 65535)
    return undefined
  const port = Number(match[3])
  if (match[1] !== undefined) {
    const address = parseAddress(match[1])
    return address === undefined ? undefined : { host: formatAddress(address), port, kind: 'ipv6' }
  }
  const host = match[2]!
  if (isIPv4(host)) return { host, port, kind: 'ipv4' }
  return isHostName(host) ? { host: host.toLowerCase(), port, kind: 'name' } : undefined
}

/** Returns the text wg(8) takes, e.g. `[2001:db8::1]:51820`. */
export function formatEndpoint(endpoint: Endpoint): string {
  return endpoint.kind === 'ipv6' ? `[${endpoint.host}]:${endpoint.port}` : `${endpoint.host}:${endpoint.port}`
}

/** RFC 1123 section 2.1; a last label of digits only would be a broken IPv4 address. */
function isHostName(text: string): boolean {
  const labels = text.replace(/\.$/, '').split('.')
  return labels.every(label => /^(?!-)[a-z\d-]{1,63}(?<!-)$/i.test(label)) && !/^\d+$/.test(labels.at(-1)!)
}
