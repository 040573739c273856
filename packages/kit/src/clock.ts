/** Time, as an argument: services never read it from the global, so tests and the simulator own it. */
export type Clock = {
  /** Wall clock, Unix milliseconds. May jump. */
  now(): number
  /** Monotonic milliseconds since an arbitrary start. Never goes back. */
  monotonic(): number
  /** Resolves after `ms` milliseconds, or as soon as `signal` aborts (never rejects). */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise(resolve => {
      if (signal?.aborted) return resolve()
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
    }),
}

/** Returns `ms` (Unix milliseconds) as ISO 8601 in UTC, e.g. `2026-11-20T06:45:03.000Z`. */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString()
}

/**
 * Returns how long to wait before try number `attempt` (0-based): exponential, capped, with full jitter.
 *
 * @param random - Returns a number in [0, 1); pass a seeded one in tests.
 */
export function backoffMs(attempt: number, options: { baseMs: number; maxMs: number }, random = Math.random): number {
  const ceiling = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(attempt, 30))
  return Math.round(ceiling / 2 + (ceiling / 2) * random())
}
