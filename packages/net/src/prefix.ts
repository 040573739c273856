import { BlockHostError } from '@blockhost/kit/errors.ts'

/** An IPv6 prefix: network address (128-bit unsigned, host bits zero) and length in bits, 0..128. */
export type Prefix = { readonly network: bigint; readonly length: number }

/**
 * Parses the text form of one IPv6 address (RFC 4291 section 2.2, all three forms; upper case allowed).
 *
 * @returns The address as a 128-bit unsigned integer, or `undefined` when `text` is anything else: zone ids, brackets,
 * blanks, lengths and IPv4 parts with leading zeros are refused.
 */
export function parseAddress(text: string): bigint | undefined {
  if (text.length < 2 || text.length > 45) return undefined
  const gap = text.indexOf('::')
  if (gap < 0) {
    const groups = parseGroups(text, true)
    return groups?.length === 8 ? joinGroups(groups) : undefined
  }
  // A second `::` leaves an empty group on one side, which parseGroups refuses.
  const head = gap === 0 ? [] : parseGroups(text.slice(0, gap), false)
  const tail = gap + 2 === text.length ? [] : parseGroups(text.slice(gap + 2), true)
  if (head === undefined || tail === undefined || head.length + tail.length > 7) return undefined
  return joinGroups([...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail])
}

/**
 * Returns the canonical text of an IPv6 address: RFC 5952 section 4, and section 5 (dotted decimal tail) for
 * IPv4-mapped addresses `::ffff:0:0/96`, as `inet_ntop` prints them.
 */
export function formatAddress(address: bigint): string {
  const groups = splitGroups(address)
  if (address >> 32n === 0xffffn) return `::ffff:${formatIpv4(groups[6]!, groups[7]!)}`
  const run = longestZeroRun(groups)
  if (run.length < 2) return formatGroups(groups)
  return `${formatGroups(groups.slice(0, run.start))}::${formatGroups(groups.slice(run.start + run.length))}`
}

/** Options of {@link parsePrefix}. */
export type ParsePrefixOptions = {
  /** Accept an address with host bits set and clear them, as the first generation did. Default `false`: refuse. */
  allowHostBits?: boolean
}

/**
 * Parses `address/length`, e.g. `2001:db8::/64`.
 *
 * @returns `undefined` for anything else: no length, a length over 128 or with leading zeros, or host bits that are set.
 */
export function parsePrefix(text: string, options: ParsePrefixOptions = {}): Prefix | undefined {
  const slash = text.indexOf('/')
  if (slash < 0 || !/^(?:0|[1-9]\d{0,2})$/.test(text.slice(slash + 1))) return undefined
  const length = Number(text.slice(slash + 1))
  const address = parseAddress(text.slice(0, slash))
  if (address === undefined || length > 128) return undefined
  const network = address & maskOf(length)
  if (network !== address && !options.allowHostBits) return undefined
  return { network, length }
}

/** Returns `address/length` with the address in RFC 5952 form. */
export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.network)}/${prefix.length}`
}

/** Returns the netmask of a prefix length (0..128): that many ones, then zeros, 128 bits in all. */
export function maskOf(length: number): bigint {
  return masks[length] ?? outOfRange(`a prefix length of ${length}`)
}

/** Returns whether `outer` holds every address of `inner`, which is a prefix or one address; equal prefixes do. */
export function contains(outer: Prefix, inner: Prefix | bigint): boolean {
  const [network, length] = typeof inner === 'bigint' ? [inner, 128] : [inner.network, inner.length]
  return length >= outer.length && (network & maskOf(outer.length)) === outer.network
}

/** Returns whether the two prefixes have an address in common; then one contains the other. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return contains(a, b) || contains(b, a)
}

/**
 * Returns how many sub-prefixes of `length` bits can be leased from `upstream`: all but index 0, which is the broker's own.
 * 0 when `length` is not longer than the upstream's. Exact for any lengths (up to 2^128 - 1).
 */
export function capacity(upstream: Prefix, length: number): bigint {
  return length <= upstream.length ? 0n : (1n << BigInt(length - upstream.length)) - 1n
}

/**
 * Returns sub-prefix number `index` (0-based) of `length` bits of `upstream`.
 *
 * @throws {BlockHostError} `BH_PREFIX_OUT_OF_RANGE` when there is no such sub-prefix.
 */
export function subPrefix(upstream: Prefix, index: bigint, length: number): Prefix {
  if (length < upstream.length || length > 128 || index < 0n || index >> BigInt(length - upstream.length) !== 0n)
    return outOfRange(`sub-prefix ${index} of /${length} in ${formatPrefix(upstream)}`)
  return { network: upstream.network | (index << BigInt(128 - length)), length }
}

/** Returns the number of `prefix` among the sub-prefixes of its own length in `upstream`; `undefined` when it lies outside. */
export function indexOf(upstream: Prefix, prefix: Prefix): bigint | undefined {
  if (!contains(upstream, prefix)) return undefined
  return (prefix.network ^ upstream.network) >> BigInt(128 - prefix.length)
}

/**
 * Returns the prefixes that together cover `upstream` without its sub-prefix 0 of `length` bits, in ascending order:
 * `length - upstream.length` of them (56 for /120 in a /64), none when `length` is not longer than the upstream's.
 */
export function complementOfFirst(upstream: Prefix, length: number): Prefix[] {
  const cover: Prefix[] = []
  for (let bits = length; bits > upstream.length; bits--) cover.push(subPrefix(upstream, 1n, bits))
  return cover
}

/**
 * Returns address number `n` (0-based) of `prefix`.
 *
 * @throws {BlockHostError} `BH_PREFIX_OUT_OF_RANGE` when the prefix has fewer.
 */
export function addressAt(prefix: Prefix, n: bigint): bigint {
  return subPrefix(prefix, n, 128).network
}

/** Returns how many addresses `prefix` holds. */
export function addressCount(prefix: Prefix): bigint {
  return 1n << BigInt(128 - prefix.length)
}

const allOnes = (1n << 128n) - 1n
const masks: readonly bigint[] = Array.from({ length: 129 }, (_, length) => allOnes ^ (allOnes >> BigInt(length)))

function outOfRange(what: string): never {
  throw new BlockHostError({ code: 'BH_PREFIX_OUT_OF_RANGE', message: `There is no ${what}` })
}

/** Reads `a:b:c`, at least one group; the last one may be a dotted IPv4 address, worth two groups. */
function parseGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  const groups: number[] = []
  const parts = text.split(':')
  for (const [at, part] of parts.entries()) {
    if (mayEndInIpv4 && at === parts.length - 1 && part.includes('.')) {
      const ipv4 = parseIpv4(part)
      if (ipv4 === undefined) return undefined
      groups.push(...ipv4)
    } else {
      if (!/^[\da-f]{1,4}$/i.test(part)) return undefined
      groups.push(Number.parseInt(part, 16))
    }
  }
  return groups.length > 8 ? undefined : groups
}

function parseIpv4(text: string): [number, number] | undefined {
  const octets = text.split('.')
  if (octets.length !== 4 || octets.some(octet => !/^(?:0|[1-9]\d{0,2})$/.test(octet) || Number(octet) > 255))
    return undefined
  const [a, b, c, d] = octets.map(Number) as [number, number, number, number]
  return [a * 256 + b, c * 256 + d]
}

function joinGroups(groups: readonly number[]): bigint {
  const word = (at: number) => BigInt(groups[at]! * 65536 + groups[at + 1]!)
  return (word(0) << 96n) | (word(2) << 64n) | (word(4) << 32n) | word(6)
}

function splitGroups(address: bigint): number[] {
  if (address < 0n || address > allOnes) return outOfRange(`IPv6 address ${address}`)
  const groups: number[] = []
  for (let shift = 96n; shift >= 0n; shift -= 32n) {
    const word = Number((address >> shift) & 0xffffffffn)
    groups.push(Math.floor(word / 65536), word % 65536)
  }
  return groups
}

function formatGroups(groups: readonly number[]): string {
  return groups.map(group => group.toString(16)).join(':')
}

function formatIpv4(high: number, low: number): string {
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}

/** The first of the longest runs of zero groups (RFC 5952 section 4.2.3). */
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  for (let start = 0; start < groups.length; start++) {
    let end = start
    while (groups[end] === 0) end++
    if (end - start > best.length) best = { start, length: end - start }
    start = end
  }
  return best
}
