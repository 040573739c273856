/** Returns the median of at least one number. */
export function median(values: readonly number[]): number {
  return percentile(values, 50)
}

/** Returns the value below or at which `percent` of the numbers lie (nearest rank); of at least one number. */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new RangeError('there are no values')
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!
}

/** Rounds to `digits` significant digits, so that a figure does not pretend to be more exact than it is. */
export function round(value: number, digits = 3): number {
  return Number(value.toPrecision(digits))
}

/** Runs `work` and returns how many milliseconds it took. */
export async function timeMs(work: () => unknown): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}
