import type { Clock } from '@blockhost/kit/clock.ts'
import { formatAddress, parseAddress } from '@blockhost/net/prefix.ts'

/** Lets so many pass in a minute for each key, and as many at once after a pause. */
export type RateLimit = {
  /** Whether one more may pass; if so, it is counted. */
  take(key: string): boolean
}

const minuteMs = 60_000
const maxKeys = 10_000

/**
 * Makes a token bucket for each key, filled at `perMinute`. A key that was quiet for a minute is as new, so ending a service that was
 * idle for a minute loses nothing. Cost O(1); at most 10,000 keys are held, the one used longest ago makes room.
 */
export function createRateLimit(perMinute: number, clock: Pick<Clock, 'monotonic'>): RateLimit {
  const buckets = new Map<string, { tokens: number; atMs: number }>()
  return {
    take(key) {
      const nowMs = clock.monotonic()
      const { tokens, atMs } = buckets.get(key) ?? { tokens: perMinute, atMs: nowMs }
      const filled = Math.min(perMinute, tokens + ((nowMs - atMs) / minuteMs) * perMinute)
      const passes = filled >= 1
      buckets.delete(key) // to the end of the order
      if (buckets.size >= maxKeys) buckets.delete(buckets.keys().next().value!)
      buckets.set(key, { tokens: passes ? filled - 1 : filled, atMs: nowMs })
      return passes
    },
  }
}

/**
 * Returns what counts as one source: the address; for IPv6 its /64, which is what one subscriber has.
 *
 * @param rhost - PAM_RHOST: an address, a name, or empty for a local one.
 */
export function sourceOf(rhost: string): string {
  const address = parseAddress(rhost.replace(/%.*$/, ''))
  if (address === undefined) return rhost.toLowerCase()
  const isMapped = address >> 32n === 0xffffn
  if (isMapped) return [24n, 16n, 8n, 0n].map(shift => (address >> shift) & 255n).join('.')
  return `${formatAddress((address >> 64n) << 64n)}/64`
}
