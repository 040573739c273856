import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'
import { messageOf } from '@blockhost/kit/errors.ts'

/** Outcome of {@link readTrustedFile}. */
export type TrustedFile =
  | { readonly kind: 'read'; readonly text: string }
  | { readonly kind: 'absent' }
  /** It is there and must not be believed. */
  | { readonly kind: 'refused'; readonly reason: string }

const maxBytes = 1024 * 1024

/**
 * Reads a file that decides who gets in: believed only when it is a regular file that `owner` owns and nobody else may write.
 *
 * @param owner - Unix user id, usually 0.
 */
export function readTrustedFile(path: string, owner: number): TrustedFile {
  let handle: number
  try {
    handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT'
    return absent ? { kind: 'absent' } : { kind: 'refused', reason: messageOf(error) }
  }
  try {
    const { mode, uid, size } = fstatSync(handle)
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) return { kind: 'refused', reason: `${path} is not a file` }
    if (uid !== owner) return { kind: 'refused', reason: `${path} belongs to user id ${uid}, not ${owner}` }
    if ((mode & 0o022) !== 0) return { kind: 'refused', reason: `${path} can be written by others (chmod go-w)` }
    if (size > maxBytes) return { kind: 'refused', reason: `${path} is larger than ${maxBytes} bytes` }
    return { kind: 'read', text: readFileSync(handle, 'utf8') }
  } catch (error) {
    return { kind: 'refused', reason: messageOf(error) }
  } finally {
    closeSync(handle)
  }
}
