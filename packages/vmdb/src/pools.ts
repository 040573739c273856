import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import {
  containsIpv4,
  formatIpv4Address,
  formatIpv4Prefix,
  lastIpv4Address,
  parseIpv4Address,
  parseIpv4Prefix,
} from '@blockhost/net/ipv4.ts'
import {
  addressAt,
  addressCount,
  contains,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '@blockhost/net/prefix.ts'

/** What VMs are given numbers from, as configured. */
export type VmPools = {
  readonly vmid: { readonly first: number; readonly last: number }
  readonly ipv4: {
    /** Any size, e.g. `192.168.4.0/22`. Network and broadcast address are never handed out. */
    readonly network: string
    readonly gateway: string
    /** Default: the whole network. */
    readonly first?: string
    readonly last?: string
    /** Further addresses of hosts in that network that are never handed out. */
    readonly reserved?: readonly string[]
  }
  /** Absent: VMs get no IPv6. */
  readonly ipv6?: {
    /** Any length up to /126, e.g. `2001:db8::/64`. Addresses 0 and 1 (the host's) are never handed out. */
    readonly prefix: string
    /** Numbers within the prefix, for prefixes longer than /64. Default 2 to 254. A /64 or larger is used from number 256 on. */
    readonly first?: number
    readonly last?: number
    readonly reserved?: readonly string[]
  }
  /** How long numbers of a destroyed VM are kept from others, seconds. Default one hour. */
  readonly restSeconds?: number
}

/** A contiguous range of numbers, both ends included. */
export type NumberRange = { readonly first: number; readonly last: number }

/** One pool: which numbers it has, and how a number is written. */
export type NumberPool = {
  /** Ascending, without what is reserved. */
  readonly ranges: readonly NumberRange[]
  /** Returns the text of a number. */
  format(number: number): string
  /** Returns the number of a text, `undefined` when the pool's space does not hold it. */
  parse(text: string): number | undefined
}

/** The pools, checked. */
export type ParsedPools = {
  readonly vmid: NumberPool
  readonly ipv4: NumberPool
  readonly ipv6: (NumberPool & { readonly byName: boolean }) | undefined
  readonly restSeconds: number
  /** Equal texts mean equal pools. */
  readonly fingerprint: string
}

/**
 * Checks the pools and reserves what must never be handed out.
 *
 * @throws {BlockHostError} `BH_VM_POOL_INVALID` (exit 78) naming the pool and what is wrong with it.
 */
export function parsePools(pools: VmPools): ParsedPools {
  const vmid = parseVmidPool(pools.vmid)
  const ipv4 = parseIpv4Pool(pools.ipv4)
  const ipv6 = pools.ipv6 === undefined ? undefined : parseIpv6Pool(pools.ipv6)
  const restSeconds = pools.restSeconds ?? 3600
  if (!Number.isSafeInteger(restSeconds) || restSeconds < 0) throw invalid('rest', 'restSeconds must be 0 or more')
  const fingerprint = JSON.stringify([vmid.ranges, pools.ipv4.network, ipv4.ranges, pools.ipv6?.prefix, ipv6?.ranges])
  return { vmid, ipv4, ipv6, restSeconds, fingerprint }
}

/** Where addresses of VMs that are not numbered by their name begin in a /64 or larger: beyond every subscription's. */
export const unnamedIpv6Start = 2 ** 40

/**
 * Returns the address number that belongs to a VM's name in a /64 or larger: 256 + NNN of `blockhost-NNN`.
 * `undefined` for other names.
 */
export function ipv6NumberOf(name: string): number | undefined {
  const id = /^blockhost-(\d{1,10})$/.exec(name)?.[1]
  return id === undefined ? undefined : 256 + Number(id)
}

function parseVmidPool({ first, last }: VmPools['vmid']): NumberPool {
  if (!isNumber(first) || !isNumber(last) || first < 1 || last < first)
    throw invalid('VM id', `${first} to ${last} is no range of positive whole numbers`)
  const parse = (text: string) => (/^\d{1,15}$/.test(text) ? Number(text) : undefined)
  return { ranges: [{ first, last }], format: String, parse }
}

function parseIpv4Pool(pool: VmPools['ipv4']): NumberPool {
  const network = parseIpv4Prefix(pool.network)
  if (network === undefined || network.length > 30) throw invalid('IPv4', `${pool.network} is no network up to /30`)
  const inside = (text: string, what: string): number => {
    const address = parseIpv4Address(text)
    if (address === undefined || !containsIpv4(network, address))
      throw invalid('IPv4', `the ${what} ${text} is no address in ${formatIpv4Prefix(network)}`)
    return address
  }
  const usable = { first: network.network + 1, last: lastIpv4Address(network) - 1 }
  const first = pool.first === undefined ? usable.first : Math.max(inside(pool.first, 'first address'), usable.first)
  const last = pool.last === undefined ? usable.last : Math.min(inside(pool.last, 'last address'), usable.last)
  const reserved = [
    inside(pool.gateway, 'gateway'),
    ...(pool.reserved ?? []).map(text => inside(text, 'reserved address')),
  ]
  const ranges = without({ first, last }, reserved)
  if (ranges.length === 0)
    throw invalid('IPv4', `no address is left from ${pool.first ?? 'start'} to ${pool.last ?? 'end'}`)
  const parse = (text: string) => {
    const address = parseIpv4Address(text)
    return address !== undefined && containsIpv4(network, address) ? address : undefined
  }
  return { ranges, format: formatIpv4Address, parse }
}

function parseIpv6Pool(pool: NonNullable<VmPools['ipv6']>): NumberPool & { byName: boolean } {
  const prefix = parsePrefix(pool.prefix)
  if (prefix === undefined || prefix.length > 126) throw invalid('IPv6', `${pool.prefix} is no prefix up to /126`)
  const byName = prefix.length <= 64
  const size = addressCount(prefix)
  const most = size - 1n < BigInt(Number.MAX_SAFE_INTEGER) ? Number(size - 1n) : Number.MAX_SAFE_INTEGER
  const first = byName ? 256 : (pool.first ?? 2)
  const last = byName ? most : Math.min(pool.last ?? 254, most)
  if (!isNumber(first) || !isNumber(last) || last < first)
    throw invalid('IPv6', `numbers ${first} to ${last} are no range in ${formatPrefix(prefix)}`)
  const reserved = (pool.reserved ?? []).map(text => {
    const number = numberIn(prefix, text)
    if (number === undefined) throw invalid('IPv6', `the reserved address ${text} is not in ${formatPrefix(prefix)}`)
    return number
  })
  const ranges = without({ first, last }, [0, 1, ...reserved])
  if (ranges.length === 0) throw invalid('IPv6', `no address is left from number ${first} to ${last}`)
  return {
    byName,
    ranges,
    format: number => formatAddress(addressAt(prefix, BigInt(number))),
    parse: text => numberIn(prefix, text),
  }
}

function numberIn(prefix: Prefix, text: string): number | undefined {
  const address = parseAddress(text)
  if (address === undefined || !contains(prefix, address)) return undefined
  const number = address - prefix.network
  return number <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(number) : undefined
}

/** Cuts numbers out of a range. */
function without(range: NumberRange, numbers: readonly number[]): NumberRange[] {
  const ranges: NumberRange[] = []
  let first = range.first
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) {
    if (number < first || number > range.last) continue
    if (number > first) ranges.push({ first, last: number - 1 })
    first = number + 1
  }
  if (first <= range.last) ranges.push({ first, last: range.last })
  return ranges
}

function isNumber(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

function invalid(pool: string, problem: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_VM_POOL_INVALID',
    message: `The ${pool} pool can't be used: ${problem}`,
    hint: 'Correct vmid_range, ip_pool or ipv6_pool in /etc/blockhost/db.yaml.',
    fields: { pool },
    exitCode: exitCodes.badConfig,
  })
}
