/** One measured number, as `build/bench.json` keeps it. */
export type Figure = {
  readonly value: number
  /** `us`, `ms`, `s`, `/s`, `MiB`, `gas`, `x` (a ratio), `served` (people), or what is counted. */
  readonly unit: string
  /** What is to be reached: at least that for rates and ratios, at most that for everything else. Absent: only told. */
  readonly limit?: number
  /** What stands beside it, measured in the same run where possible. */
  readonly comparedWith?: string
}

/** What a group is given. */
export type BenchContext = {
  /** An empty folder on a real disk, removed afterwards. */
  readonly folder: string
  /** Tells the person at the terminal what is going on. */
  note(text: string): void
}

/** One file of benchmarks: figures that share their set-up. */
export type BenchGroup = {
  /** Every key that {@link BenchGroup.run} returns, in the order of the table. */
  readonly keys: readonly string[]
  /** Takes many minutes, so that it is measured only when its key is named; what was measured earlier stays. Default: no. */
  readonly isLong?: boolean
  run(context: BenchContext): Promise<Record<string, Figure>>
}

/** Returns whether the figure reaches its limit; `undefined` when it has none. */
export function reaches({ value, unit, limit }: Figure): boolean | undefined {
  if (limit === undefined) return undefined
  return isRate(unit) ? value >= limit : value <= limit
}

/** Returns whether more is better: `/s`, ratios, and people served. */
export function isRate(unit: string): boolean {
  return unit === '/s' || unit === 'x' || unit === 'served'
}
