import { parseIpv4Address } from '@blockhost/net/ipv4.ts'
import { formatAddress, parseAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import { z } from 'zod'

// Every expression is anchored at both ends; in JavaScript `$` without the flag m matches at the very end only.

/** The name of a VM, of its libvirt domain and of its files: lower-case letters, digits, `-`; begins with a letter. */
export const vmName = z.string().regex(/^[a-z][a-z\d-]{0,62}$/, 'expected up to 63 lower-case letters, digits, "-"')

/** A content-addressed template: the first 12 to all 64 hex digits of its SHA-256, as its file is named. */
export const templateId = z.string().regex(/^[\da-f]{12,64}$/, 'expected 12 to 64 hex digits')

/** A unicast, locally administered Ethernet address, as QEMU's: 52:54:xx:xx:xx:xx. */
export const mac = z.string().regex(/^52:54(?::[\da-f]{2}){4}$/, 'expected 52:54 and four more bytes, lower-case')

/** Dotted decimal. */
export const ipv4 = z.string().refine(text => parseIpv4Address(text) !== undefined, 'expected an IPv4 address')

/** Any spelling of an IPv6 address; becomes RFC 5952 text. Scoped and IPv4-mapped ones are refused. */
export const ipv6 = z.string().transform((text, context) => {
  const address = parseAddress(text)
  if (address !== undefined && address >> 32n !== 0xffffn) return formatAddress(address)
  context.addIssue('expected an IPv6 address')
  return z.NEVER
})

/** One IPv6 address with `/128`; becomes RFC 5952 text without the length. */
export const ipv6HostRoute = z.string().transform((text, context) => {
  const prefix = parsePrefix(text)
  if (prefix?.length === 128) return formatAddress(prefix.network)
  context.addIssue('expected an IPv6 address and /128')
  return z.NEVER
})

/** The name of an interface; whether it is one of the configured ones is decided by the action. */
export const deviceName = z.string().regex(/^[a-z\d_][a-z\d_.-]{0,14}$/i, 'expected the name of an interface')

/** A TCP or UDP port. */
export const port = z.number().int().min(1).max(65_535)

/** A whole number within bounds; `true`, `"5"` and 1.5 are refused. */
export function int(least: number, most: number): z.ZodInt {
  return z.int(`expected a whole number from ${least} to ${most}`).min(least).max(most)
}
