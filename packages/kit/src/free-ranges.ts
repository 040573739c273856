import type { DatabaseSync } from 'node:sqlite'

/**
 * The numbers of a pool that nobody holds, kept in a SQLite table as ranges, so that an untouched pool of any size is one row.
 * Every call runs inside the caller's transaction and costs O(log ranges).
 */
export type FreeRanges = {
  /** Takes the lowest free number that is at least `from` (default: the lowest of all); `undefined` when there is none. */
  take(from?: number): number | undefined
  /** Takes exactly this number. @returns Whether it was free. */
  takeExact(number: number): boolean
  /** Gives a number back; neighbouring ranges become one. It must not be free already. */
  giveBack(number: number): void
}

/**
 * Makes the {@link FreeRanges} of a table. Statements are prepared once.
 *
 * @param table - Has `first INTEGER PRIMARY KEY, last INTEGER NOT NULL`, and the pool's ranges as rows; a constant of the caller's
 *   code, as it becomes part of the SQL.
 */
export function createFreeRanges(db: DatabaseSync, table: string): FreeRanges {
  const lowestFrom = db.prepare(`SELECT first, last FROM ${table} WHERE first >= ? ORDER BY first LIMIT 1`)
  const around = db.prepare(`SELECT first, last FROM ${table} WHERE first <= ? ORDER BY first DESC LIMIT 1`)
  const drop = db.prepare(`DELETE FROM ${table} WHERE first = ?`)
  const add = db.prepare(`INSERT INTO ${table} (first, last) VALUES (?, ?)`)
  const resize = db.prepare(`UPDATE ${table} SET last = ? WHERE first = ?`)
  const exact = db.prepare(`SELECT last FROM ${table} WHERE first = ?`)
  const advance = db.prepare(`UPDATE ${table} SET first = first + 1 WHERE first = ?`)

  const cut = (range: Range, number: number): void => {
    if (range.first === range.last) drop.run(range.first)
    else if (number === range.first) advance.run(range.first)
    else {
      resize.run(number - 1, range.first)
      if (number < range.last) add.run(number + 1, range.last)
    }
  }
  const findHolding = (number: number): Range | undefined => {
    const range = around.get(number) as Range | undefined
    return range !== undefined && range.last >= number ? range : undefined
  }
  return {
    take(from) {
      const holding = from === undefined ? undefined : findHolding(from)
      if (from !== undefined && holding !== undefined) {
        cut(holding, from)
        return from
      }
      const range = lowestFrom.get(from ?? Number.MIN_SAFE_INTEGER) as Range | undefined
      if (range === undefined) return undefined
      cut(range, range.first)
      return range.first
    },
    takeExact(number) {
      const range = findHolding(number)
      if (range !== undefined) cut(range, number)
      return range !== undefined
    },
    giveBack(number) {
      const before = around.get(number - 1) as Range | undefined
      const after = exact.get(number + 1) as { last: number } | undefined
      const last = after?.last ?? number
      if (after !== undefined) drop.run(number + 1)
      if (before?.last === number - 1) resize.run(last, before.first)
      else add.run(number, last)
    },
  }
}

type Range = { readonly first: number; readonly last: number }
