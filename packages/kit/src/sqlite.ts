import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { BlockHostError, exitCodes } from './errors.ts'

/** One step of a schema's history; `PRAGMA user_version` counts the steps that ran. Never edit a released one. */
export type Migration = (db: DatabaseSync) => void

/**
 * Opens (or makes) a SQLite database for one writer: WAL, synchronous FULL (a commit survives a power cut), foreign keys on,
 * 5 s busy timeout; then runs the migrations it has not seen, each in a transaction of its own.
 *
 * @param path - File, or `:memory:`.
 * @throws {BlockHostError} `BH_DATABASE_OPEN_FAILED`; `BH_DATABASE_TOO_NEW` (exit 78) when a later version wrote it.
 */
export function openDatabase(path: string, migrations: readonly Migration[]): DatabaseSync {
  let db: DatabaseSync
  try {
    if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
    db = new DatabaseSync(path, { timeout: 5000, enableForeignKeyConstraints: true })
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY')
  } catch (cause) {
    throw new BlockHostError({ code: 'BH_DATABASE_OPEN_FAILED', message: `Could not open the database ${path}`, cause })
  }
  migrate(db, path, migrations)
  return db
}

/**
 * Runs `work` in one transaction and returns its result; anything thrown rolls back and is thrown on.
 * `work` must be synchronous: nothing else may run in between.
 */
export function transaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    db.exec('COMMIT')
    return result
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

function migrate(db: DatabaseSync, path: string, migrations: readonly Migration[]): void {
  const version = readVersion(db)
  if (version > migrations.length)
    throw new BlockHostError({
      code: 'BH_DATABASE_TOO_NEW',
      message: `The database ${path} has schema ${version}; this program knows ${migrations.length}`,
      hint: 'Install the version that wrote it, or a later one.',
      exitCode: exitCodes.badConfig,
    })
  for (const [index, migration] of migrations.entries()) {
    if (index < version) continue
    transaction(db, () => {
      if (readVersion(db) > index) return // another process that opened it just now was faster
      migration(db)
      db.exec(`PRAGMA user_version = ${index + 1}`)
    })
  }
}

function readVersion(db: DatabaseSync): number {
  return Number(db.prepare('PRAGMA user_version').get()?.user_version ?? 0)
}
