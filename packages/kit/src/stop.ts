/** How a service comes to its end: a signal of the system, and work that gets a little time to finish. */
import type { Clock } from './clock.ts'

/** The part of Node's `process` that hears signals. */
export type SignalSource = { once(name: 'SIGTERM' | 'SIGINT', listener: () => void): unknown }

/** Returns a signal that aborts on SIGTERM and SIGINT; a second one of the same name ends the process as usual. */
export function stopSignal(process: SignalSource): AbortSignal {
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort())
  return stop.signal
}

/** Resolves when `signal` aborts; at once when it has. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/**
 * Waits for `work`, but once `signal` aborts only `graceMs` milliseconds longer. Work that outlives its grace runs on unheard: what it
 * fails with then is dropped.
 *
 * @returns What `work` resolves to; `'stopped'` when the grace was over first.
 * @throws what `work` rejects with in time.
 */
export async function untilStopped<T>(
  work: Promise<T>,
  { signal, clock, graceMs }: { signal: AbortSignal; clock: Clock; graceMs: number },
): Promise<T | 'stopped'> {
  work.catch(() => undefined)
  const settled = new AbortController()
  const graceIsOver = async (): Promise<'stopped'> => {
    await aborted(AbortSignal.any([signal, settled.signal]))
    await clock.sleep(graceMs, settled.signal)
    return 'stopped'
  }
  try {
    return await Promise.race([work, graceIsOver()])
  } finally {
    settled.abort()
  }
}
