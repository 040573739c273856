import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { BlockHostError } from '@blockhost/kit/errors.ts'

/** Held while one broker-client works in a configuration folder; released by `using`, or by the kernel when the process dies. */
export type Lock = Disposable

/**
 * Takes the lock of a configuration folder, so that two invocations never write one journal or race for one nonce. SQLite's own file lock is used:
 * it needs no helper process and leaves nothing stale after `kill -9`. `broker-client.lock` stays behind, empty.
 *
 * @throws {BlockHostError} `BH_ALREADY_RUNNING` (retryable), `BH_CONFIG_DIR_UNUSABLE`.
 */
export function takeLock(configDir: string): Lock {
  const path = join(configDir, 'broker-client.lock')
  let db: DatabaseSync | undefined
  try {
    mkdirSync(configDir, { recursive: true, mode: 0o755 })
    db = new DatabaseSync(path, { timeout: 0 })
    db.exec('BEGIN EXCLUSIVE')
  } catch (cause) {
    db?.close()
    throw refusal(path, configDir, cause)
  }
  const held = db
  return { [Symbol.dispose]: () => held.close() }
}

function refusal(path: string, configDir: string, cause: unknown): BlockHostError {
  // SQLITE_BUSY, https://www.sqlite.org/rescode.html#busy
  if (cause instanceof Error && 'errcode' in cause && cause.errcode === 5)
    return new BlockHostError({
      code: 'BH_ALREADY_RUNNING',
      message: `Another broker-client is working in ${configDir}`,
      hint: 'Wait for it to end, then run this again.',
      fields: { path },
      retryable: true,
    })
  return new BlockHostError({
    code: 'BH_CONFIG_DIR_UNUSABLE',
    message: `The folder ${configDir} can't be written to`,
    hint: 'Run as root, or name another folder with --config-dir.',
    fields: { path },
    cause,
  })
}
