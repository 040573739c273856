import type { DatabaseSync } from 'node:sqlite'
import { createFreeRanges } from '@blockhost/kit/free-ranges.ts'
import type { NumberPool, NumberRange, ParsedPools } from './pools.ts'

/** The kinds of numbers a VM gets. */
export const poolNames = ['vmid', 'ipv4', 'ipv6'] as const
/** One of {@link poolNames}. */
export type PoolName = (typeof poolNames)[number]

/** Gives out the numbers of VMs. Every call runs inside the caller's transaction; cost O(log n). */
export type Allocator = {
  /**
   * Takes a number: the one that rests for a VM of this name, else `preferred` if it is free, else the lowest from `from` on.
   *
   * @returns Its text; `undefined` when the pool is exhausted (resting numbers are not free).
   */
  take(pool: PoolName, about: TakeOptions): string | undefined
  /** Takes a number that is known, also a resting one. @returns `false` when it is somebody's already; `true` also outside the pool. */
  takeExact(pool: PoolName, text: string): boolean
  /** Keeps a number for its name until `availableAt`; one outside the pool is forgotten. */
  rest(pool: PoolName, text: string, about: { name: string; availableAt: number }): void
  /** Gives a number back at once. */
  giveBack(pool: PoolName, text: string): void
  /** How many numbers of a pool rest, and until when the first of them does. */
  resting(pool: PoolName): { count: number; next: number | undefined }
}

/** What {@link Allocator.take} needs to know. */
export type TakeOptions = { name: string; now: number; preferred?: number | undefined; from?: number | undefined }

/** Makes the {@link Allocator} of the database. Statements are prepared once. */
export function createAllocator(db: DatabaseSync, pools: ParsedPools): Allocator {
  const free = {
    vmid: createFreeRanges(db, 'free_vmid'),
    ipv4: createFreeRanges(db, 'free_ipv4'),
    ipv6: createFreeRanges(db, 'free_ipv6'),
  }
  const ofName = db.prepare(
    'SELECT number FROM resting WHERE pool = ? AND name = ? ORDER BY available_at DESC, number LIMIT 1',
  )
  const wake = db.prepare('DELETE FROM resting WHERE pool = ? AND number = ?')
  const ripe = db.prepare('SELECT pool, number FROM resting WHERE available_at <= ? ORDER BY available_at LIMIT 100')
  const insert = db.prepare('INSERT INTO resting (pool, number, name, available_at) VALUES (?, ?, ?, ?)')
  const count = db.prepare('SELECT count(*) AS count, min(available_at) AS next FROM resting WHERE pool = ?')

  const collect = (now: number): void => {
    for (const row of ripe.all(now) as { pool: PoolName; number: number }[]) {
      wake.run(row.pool, row.number)
      free[row.pool].giveBack(row.number)
    }
  }
  const takeNumber = (pool: PoolName, { name, now, preferred, from }: TakeOptions): number | undefined => {
    const kept = ofName.get(pool, name) as { number: number } | undefined
    if (kept !== undefined) {
      wake.run(pool, kept.number)
      return kept.number
    }
    collect(now)
    if (preferred !== undefined && free[pool].takeExact(preferred)) return preferred
    return free[pool].take(from)
  }
  /** The number of a text that this pool hands out. */
  const numberOf = (pool: PoolName, text: string): number | undefined => {
    const number = pools[pool]?.parse(text)
    return number !== undefined && isInside(pools[pool]!, number) ? number : undefined
  }
  return {
    take(pool, options) {
      const number = pools[pool] === undefined ? undefined : takeNumber(pool, options)
      return number === undefined ? undefined : pools[pool]!.format(number)
    },
    takeExact(pool, text) {
      const number = numberOf(pool, text)
      return number === undefined || free[pool].takeExact(number) || wake.run(pool, number).changes === 1
    },
    rest(pool, text, { name, availableAt }) {
      const number = numberOf(pool, text)
      if (number !== undefined) insert.run(pool, number, name, availableAt)
    },
    giveBack(pool, text) {
      const number = numberOf(pool, text)
      if (number !== undefined) free[pool].giveBack(number)
    },
    resting(pool) {
      const row = count.get(pool) as { count: number; next: number | null }
      return { count: row.count, next: row.next ?? undefined }
    },
  }
}

/**
 * Makes the free space anew when the configured pools differ from those that the database was last opened with. VMs keep what they
 * have, also outside the new pools. Runs inside the caller's transaction. Cost O(VMs) then, O(1) otherwise.
 */
export function adoptPools(db: DatabaseSync, pools: ParsedPools): void {
  const known = db.prepare("SELECT value FROM settings WHERE key = 'pools'").get()?.value
  if (known === pools.fingerprint) return
  const held = db.prepare('SELECT vmid AS text FROM held_vmids').all() as { text: number }[]
  for (const name of poolNames) {
    const pool = pools[name]
    const rows = db.prepare(`SELECT ${name} AS text FROM vms WHERE state <> 'destroyed' AND ${name} IS NOT NULL`).all()
    const used = [...rows, ...(name === 'vmid' ? held : [])].flatMap(row => pool?.parse(String(row.text)) ?? [])
    rebuild(db, name, pool, used)
  }
  db.prepare("INSERT INTO settings VALUES ('pools', ?) ON CONFLICT DO UPDATE SET value = excluded.value").run(
    pools.fingerprint,
  )
}

function rebuild(db: DatabaseSync, name: PoolName, pool: NumberPool | undefined, used: readonly number[]): void {
  db.exec(`DELETE FROM free_${name}`)
  // Numbers mean other addresses in another network, so what rested there is forgotten.
  db.prepare('DELETE FROM resting WHERE pool = ?').run(name)
  const add = db.prepare(`INSERT INTO free_${name} (first, last) VALUES (?, ?)`)
  const sorted = [...new Set(used)].sort((a, b) => a - b)
  for (const range of pool?.ranges ?? []) {
    let first = range.first
    for (const number of sorted) {
      if (number < first || number > range.last) continue
      if (number > first) add.run(first, number - 1)
      first = number + 1
    }
    if (first <= range.last) add.run(first, range.last)
  }
}

function isInside(pool: NumberPool, number: number): boolean {
  return pool.ranges.some((range: NumberRange) => number >= range.first && number <= range.last)
}
