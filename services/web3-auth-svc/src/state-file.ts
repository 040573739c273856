import { randomBytes } from 'node:crypto'
import { closeSync, constants, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { BlockHostError } from '@blockhost/kit/errors.ts'

/**
 * Replaces a file of the state folder: mode 0600, the old content or the new one, never a part. Not kit's writeFileAtomic, as Node's
 * permission model forbids fchmod and fsync; O_SYNC brings the bytes to disk before the name changes.
 *
 * @throws {BlockHostError} `BH_FILE_WRITE_FAILED`.
 */
export function writeStateFile(path: string, text: string): void {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | constants.O_SYNC
    const handle = openSync(temporary, flags, 0o600)
    try {
      const bytes = Buffer.from(text, 'utf8')
      for (let at = 0; at < bytes.length; ) at += writeSync(handle, bytes, at)
    } finally {
      closeSync(handle)
    }
    renameSync(temporary, path)
  } catch (cause) {
    throw new BlockHostError({ code: 'BH_FILE_WRITE_FAILED', message: `Could not write ${path}`, cause })
  } finally {
    rmSync(temporary, { force: true })
  }
}
