import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { BlockHostError, messageOf } from './errors.ts'

/**
 * Takes the right to be the one daemon of a database; it ends when the result is disposed of or the process is gone, however it went.
 * Held as SQLite's exclusive lock on `<database>.lock`, because Node has no flock(2); the file stays and holds nothing.
 *
 * @param program - Name of the service, for the messages.
 * @throws {BlockHostError} `BH_ALREADY_RUNNING` (exit 75) when another process has it, `BH_LOCK_FAILED` when it can't be had at all.
 */
export function takeLock(databasePath: string, program: string): Disposable {
  const path = `${databasePath}.lock`
  let db: DatabaseSync | undefined
  try {
    mkdirSync(dirname(path), { recursive: true })
    db = new DatabaseSync(path, { timeout: 0 })
    db.exec('BEGIN EXCLUSIVE')
    return { [Symbol.dispose]: () => db?.close() }
  } catch (cause) {
    db?.close()
    throw isBusy(cause) ? alreadyRunning(databasePath, program) : lockFailed(path, cause)
  }
}

function isBusy(error: unknown): boolean {
  return /database is locked/.test(messageOf(error))
}

function alreadyRunning(databasePath: string, program: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_ALREADY_RUNNING',
    message: `Another ${program} uses ${databasePath}`,
    hint: `Stop it first (\`systemctl stop ${program}\`), or give this one a database of its own.`,
    fields: { databasePath },
    retryable: true,
  })
}

function lockFailed(path: string, cause: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_LOCK_FAILED',
    message: `Could not lock ${path}`,
    hint: 'The folder of the database must exist or be creatable, and be writable.',
    cause,
  })
}
