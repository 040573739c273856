/** A step of the demo that did not see what it expected. */
export class Unexpected extends Error {
  readonly expected: string
  readonly seen: string

  constructor(expected: string, seen: string) {
    super(`expected ${expected}; saw ${seen}`)
    this.expected = expected
    this.seen = seen
  }
}

/**
 * Ends the step unless `condition` holds.
 *
 * @param expected - Completes "expected …".
 * @param seen - Completes "saw …".
 * @throws {Unexpected}
 */
export function expect(condition: boolean, expected: string, seen: unknown): asserts condition {
  if (!condition) throw new Unexpected(expected, typeof seen === 'string' ? seen : JSON.stringify(seen))
}

/** How long {@link eventually} tries. */
export type EventuallyOptions = {
  /** Default 20,000. */
  withinMs?: number
  /** Pause between two looks. Default 100. */
  everyMs?: number
}

/**
 * Looks until `look` returns something other than `undefined`, and returns that. What `look` throws counts as not yet.
 *
 * @param expected - Completes "expected …".
 * @throws {Unexpected} when time is up, with the last error seen.
 */
export async function eventually<T>(
  expected: string,
  look: () => Promise<T | undefined> | T | undefined,
  options: EventuallyOptions = {},
): Promise<T> {
  const { withinMs = 20_000, everyMs = 100 } = options
  const deadline = performance.now() + withinMs
  for (let last = 'nothing of the kind'; ; ) {
    try {
      const found = await look()
      if (found !== undefined) return found
    } catch (error) {
      last = error instanceof Error ? error.message : String(error)
    }
    if (performance.now() > deadline) throw new Unexpected(`${expected} within ${withinMs / 1000} s`, last)
    await new Promise(resolve => setTimeout(resolve, everyMs))
  }
}
