import { readFileSync } from 'node:fs'
import type { BenchGroup, Figure } from './figure.ts'

const snapshotFile = new URL('../contracts/gas-snapshot.json', import.meta.url)

/** Most gas, by function; the others are only told. */
const limits: Readonly<Record<string, number>> = {
  submitRequest: 300_000,
  submitResponse: 140_000,
  submitResponsesEach: 120_000,
  mint: 250_000,
}

/** The first generation's contracts, compiled and measured the same way (issue 2). */
const firstGeneration: Readonly<Record<string, number>> = { submitRequest: 511_000, submitResponse: 294_000 }

const snapshot = JSON.parse(readFileSync(snapshotFile, 'utf8')) as Readonly<Record<string, number>>

/** Whole transactions, from the committed snapshot; `node contracts/gas.ts --check` says whether it is true. */
export const gas: BenchGroup = {
  keys: Object.keys(snapshot).map(keyOf),
  async run() {
    return Object.fromEntries(Object.entries(snapshot).map(([name, value]) => [keyOf(name), figureOf(name, value)]))
  },
}

function keyOf(name: string): string {
  return `gas.${name}`
}

function figureOf(name: string, value: number): Figure {
  const limit = limits[name]
  const before = firstGeneration[name]
  return {
    value,
    unit: 'gas',
    ...(limit === undefined ? {} : { limit }),
    ...(before === undefined ? {} : { comparedWith: `the first generation: ${before.toLocaleString('en')}` }),
    ...(name === 'submitResponsesEach' ? { comparedWith: '20 in one transaction' } : {}),
  }
}
