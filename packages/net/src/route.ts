import type { IpObject } from './ip.ts'
import { formatPrefix, type Prefix, parseAddress, parsePrefix } from './prefix.ts'

/** A route of the main table. */
export type Route = {
  readonly destination: Prefix
  readonly interface: string
  /** Next hop; `undefined` when the destination is on the link. */
  readonly gateway: bigint | undefined
}

/**
 * The protocol number our routes carry (rtnetlink(7), user-defined range), so that they are found again whatever else routes on this
 * machine, and nothing else is touched.
 */
export const routeProtocol = 176

/** The question to `ip` that lists our routes, on whatever interface. */
export const ourRoutesQuestion = `route show proto ${routeProtocol}`

/** Reads the answer to `route show ...`; entries without a device (blackholes and the like) are left out. */
export function parseRoutes(answer: readonly IpObject[]): Route[] {
  return answer.flatMap(({ dst, dev, gateway }) => {
    const destination = typeof dst === 'string' ? parseDestination(dst) : undefined
    if (destination === undefined || typeof dev !== 'string') return []
    return [{ destination, interface: dev, gateway: typeof gateway === 'string' ? parseAddress(gateway) : undefined }]
  })
}

/** Routes to take away and to add. */
export type RouteDiff = { readonly remove: readonly Route[]; readonly add: readonly Prefix[] }

/** Compares our routes with the prefixes that must lead to `name`. Cost O(routes). */
export function diffRoutes(name: string, desired: readonly Prefix[], actual: readonly Route[]): RouteDiff {
  const isDesired = new Set(desired.map(formatPrefix))
  const kept = actual.filter(route => route.interface === name && isDesired.has(formatPrefix(route.destination)))
  const present = new Set(kept.map(route => formatPrefix(route.destination)))
  return {
    remove: actual.filter(route => !kept.includes(route)),
    add: desired.filter(prefix => !present.has(formatPrefix(prefix))),
  }
}

/** Returns the `ip -batch` lines of a diff; the additions may run twice. */
export function renderRoutes(name: string, diff: RouteDiff): string[] {
  return [
    ...diff.remove.map(
      route => `route del ${formatPrefix(route.destination)} dev ${route.interface} proto ${routeProtocol}`,
    ),
    ...diff.add.map(prefix => `route replace ${formatPrefix(prefix)} dev ${name} proto ${routeProtocol}`),
  ]
}

function parseDestination(text: string): Prefix | undefined {
  if (text === 'default') return { network: 0n, length: 0 }
  return parsePrefix(text.includes('/') ? text : `${text}/128`)
}
