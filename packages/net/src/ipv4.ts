/** An IPv4 prefix: network address (32-bit unsigned, host bits zero) and length in bits, 0..32. */
export type Ipv4Prefix = { readonly network: number; readonly length: number }

/**
 * Parses dotted decimal (RFC 6943 section 3.1.1, strict): four numbers without leading zeros.
 *
 * @returns The address as an unsigned 32-bit integer, or `undefined` for anything else.
 */
export function parseIpv4Address(text: string): number | undefined {
  const octets = text.length > 15 ? [] : text.split('.')
  if (octets.length !== 4) return undefined
  let address = 0
  for (const octet of octets) {
    if (!/^(?:0|[1-9]\d{0,2})$/.test(octet) || Number(octet) > 255) return undefined
    address = address * 256 + Number(octet)
  }
  return address
}

/** Returns the dotted decimal text of an unsigned 32-bit integer. */
export function formatIpv4Address(address: number): string {
  return [24, 16, 8, 0].map(shift => (address >>> shift) & 255).join('.')
}

/**
 * Parses `address/length`, e.g. `192.168.122.0/24`.
 *
 * @returns `undefined` for anything else: no length, a length over 32 or with leading zeros, host bits that are set.
 */
export function parseIpv4Prefix(text: string): Ipv4Prefix | undefined {
  const slash = text.indexOf('/')
  if (slash < 0 || !/^(?:0|[1-9]\d?)$/.test(text.slice(slash + 1))) return undefined
  const length = Number(text.slice(slash + 1))
  const network = parseIpv4Address(text.slice(0, slash))
  if (network === undefined || length > 32 || network % sizeOf(length) !== 0) return undefined
  return { network, length }
}

/** Returns `address/length`. */
export function formatIpv4Prefix(prefix: Ipv4Prefix): string {
  return `${formatIpv4Address(prefix.network)}/${prefix.length}`
}

/** Returns whether `prefix` holds `address`. */
export function containsIpv4(prefix: Ipv4Prefix, address: number): boolean {
  return address >= prefix.network && address <= lastIpv4Address(prefix)
}

/** Returns the highest address: the broadcast address where the prefix has one (RFC 919; not in a /31 or /32, RFC 3021). */
export function lastIpv4Address(prefix: Ipv4Prefix): number {
  return prefix.network + sizeOf(prefix.length) - 1
}

function sizeOf(length: number): number {
  return 2 ** (32 - length)
}
