/** What `npm run simulate` asks of each simulator. */
import { readFileSync } from 'node:fs'

/** A rule that was broken, and how. */
export type Violation = { readonly invariant: string; readonly detail: string }

/** What came of one seed. */
export type PartResult = {
  readonly violations: readonly Violation[]
  /** The story, a line each. */
  readonly trace: readonly string[]
  /** Figures that add up over seeds. */
  readonly counts: Readonly<Record<string, number>>
  /** Figures of which the highest is of interest. */
  readonly peaks: Readonly<Record<string, number>>
  /** What went wrong on purpose, and how often. */
  readonly faults: Readonly<Record<string, number>>
}

/** The simulator of one program. */
export type Part = {
  readonly name: 'broker' | 'engine'
  /** Seeds that found something; they run first, always. */
  readonly keptSeeds: readonly string[]
  /** Runs one seed; the same seed gives the same story. */
  run(seed: string): Promise<PartResult>
}

/** Reads a file of kept seeds: lines of `seed reason`, and comments after `#`. */
export function readKeptSeeds(file: URL): string[] {
  const lines = readFileSync(file, 'utf8').split('\n')
  return lines.flatMap(line => (line === '' || line.startsWith('#') ? [] : [line.split(/\s/)[0]!]))
}
