/** Which keys a configuration file may have: unknown ones are errors, those of earlier generations are warnings. */
import { z } from 'zod'

/** One wrong key: where in the file, and what about it. */
export type KeyProblem = { readonly path: readonly string[]; readonly message: string }

/** Keys that earlier generations wrote or documented, and why they have no effect here. */
const obsoleteKeys: Readonly<Record<string, string>> = {
  'broker.max_allocations': 'the number of leases is limited on chain: `blockhost-broker set-capacity`',
  'broker.max_allocations_per_token': 'access is granted on chain, not by tokens',
  'onchain.registry_contract': 'only clients look a broker up in the registry',
  'onchain.test_requests_contract':
    'test leases are not made; list the contract in onchain.legacy_requests_contracts to answer it',
  dns: 'no name server is part of the broker',
  auth: 'access is granted on chain, not by tokens',
  tokens: 'access is granted on chain, not by tokens',
  opnet: 'only EVM chains are served',
  cardano: 'only EVM chains are served',
  ergo: 'only EVM chains are served',
}

/**
 * Takes the keys of earlier generations out of parsed TOML.
 *
 * @returns The rest, and one warning for each key taken out.
 */
export function dropObsoleteKeys(raw: unknown): { kept: unknown; warnings: string[] } {
  if (!isTable(raw)) return { kept: raw, warnings: [] }
  const warnings: string[] = []
  const keep = (table: Record<string, unknown>, prefix: string): Record<string, unknown> =>
    Object.fromEntries(
      Object.entries(table).filter(([key]) => {
        const why = obsoleteKeys[`${prefix}${key}`]
        if (why !== undefined) warnings.push(`${prefix}${key} is ignored: ${why}`)
        return why === undefined
      }),
    )
  const sections = Object.entries(keep(raw, '')).map(([name, value]) => [
    name,
    isTable(value) ? keep(value, `${name}.`) : value,
  ])
  return { kept: Object.fromEntries(sections), warnings }
}

/**
 * Turns what the schema complains about into one problem for each key, with the nearest known spelling for unknown keys.
 *
 * @param raw - The value that was checked.
 * @param schema - Sections of keys.
 */
export function explainIssues(
  issues: readonly z.core.$ZodIssue[],
  raw: unknown,
  schema: z.ZodObject,
): readonly KeyProblem[] {
  const known = knownKeys(schema)
  return issues.flatMap(issue => {
    const path = issue.path.map(String)
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map(key => ({ path: [...path, key], message: explainUnknown([...path, key].join('.'), known) }))
    if (issue.code === 'invalid_type') return [{ path, message: explainTable(path, raw) }]
    return [{ path, message: issue.message }]
  })
}

function explainUnknown(name: string, known: readonly string[]): string {
  const last = name.split('.').at(-1)!
  const elsewhere = known.find(other => other.endsWith(`.${last}`))
  const guess = elsewhere ?? nearest(name, known)
  return guess === undefined ? 'is not a key of this file' : `is not a key of this file; did you mean ${guess}?`
}

function explainTable(path: readonly string[], raw: unknown): string {
  const found = path.reduce<unknown>((at, key) => (isTable(at) ? at[key] : undefined), raw)
  return found === undefined
    ? 'is missing, expected a section of this name'
    : `found a ${typeof found}, expected a section`
}

function knownKeys(schema: z.ZodObject): string[] {
  return Object.entries(schema.shape).flatMap(([section, inner]) => {
    const table = inner instanceof z.ZodPrefault ? inner.unwrap() : inner
    const keys = table instanceof z.ZodObject ? Object.keys(table.shape) : []
    return [section, ...keys.map(key => `${section}.${key}`)]
  })
}

/** Returns the known name that the fewest edits away, at most a third of its length. */
function nearest(name: string, known: readonly string[]): string | undefined {
  const ranked = known.map(other => ({ other, distance: editDistance(name, other) }))
  const best = ranked.sort((a, b) => a.distance - b.distance)[0]
  return best !== undefined && best.distance <= Math.max(2, best.other.length / 3) ? best.other : undefined
}

/** Returns how many letters must be put in, taken out or replaced to get from `a` to `b` (Levenshtein). Cost O(a*b). */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}
