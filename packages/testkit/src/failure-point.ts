/** Makes one call fail, whichever: for tests that go through all of them. */

/** A moment at which something fails, counted over everything it is wrapped around. */
export type FailurePoint = {
  /** The call that failed; `undefined` while none has. */
  readonly struck: () => string | undefined
  readonly when: 'before' | 'after'
  /** What is thrown. */
  readonly error: Error
  /** Returns `target` with calls of these methods counted, and the one whose turn it is failing. Synchronous calls stay so. */
  wrap<T extends object, K extends keyof T & string>(target: T, methods: readonly K[]): T
}

/**
 * Makes the call number `at` fail (0: the first of all), once.
 *
 * @param when - `before`: it did nothing. `after`: it did its work, and the answer was lost.
 */
export function failingAt(at: number, when: 'before' | 'after', error: Error): FailurePoint {
  let calls = 0
  let struck: string | undefined
  return {
    struck: () => struck,
    when,
    error,
    wrap: (target, methods) => {
      const strike = (name: string) => {
        struck = `${name} (call ${at}), ${when} its work`
      }
      const copy = { ...target } as Record<string, unknown>
      for (const name of methods) {
        const real = copy[name] as (...args: unknown[]) => unknown
        copy[name] = (...args: unknown[]) => {
          if (calls++ !== at) return real(...args)
          strike(typeof args[0] === 'string' ? `${name} ${args[0]}` : name)
          // Whoever awaits the call hears of it the same way as of a rejection.
          if (when === 'before') throw error
          const result = real(...args)
          if (result instanceof Promise) return result.then(() => Promise.reject(error))
          throw error
        }
      }
      return copy as typeof target
    },
  }
}

/**
 * Calls `attempt` with a failure at its first call, its second and so on, before and after the call's work, until one goes by without.
 *
 * @returns How many failures there were.
 */
export async function atEveryCall(
  makeError: () => Error,
  attempt: (point: FailurePoint) => Promise<void>,
): Promise<number> {
  let tried = 0
  for (const when of ['before', 'after'] as const)
    for (let at = 0; ; at++) {
      const point = failingAt(at, when, makeError())
      try {
        await attempt(point)
      } catch (cause) {
        throw new Error(`with a failure of ${point.struck() ?? 'nothing'}`, { cause })
      }
      if (point.struck() === undefined) break
      tried += 1
    }
  return tried
}
