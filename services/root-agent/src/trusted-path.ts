import { lstatSync, type Stats } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'

/** What is expected at the end of a path. */
export type TrustedKind = 'file' | 'folder'

/**
 * Checks that nobody but root (or the user this process runs as) could have made what lies at `path`, or could replace it: every
 * part of the path belongs to that user, is no symbolic link, and is not writable by others, unless it is a folder with the sticky
 * bit, in which nobody moves what is not theirs. After this check, using the path is no race.
 *
 * @returns What `lstat` says.
 * @throws {BlockHostError} `BH_PATH_UNTRUSTED` (exit 78), `BH_PATH_MISSING`.
 */
export function checkTrusted(path: string, kind: TrustedKind): Stats {
  if (resolve(path) !== path) throw untrusted(path, 'it is not absolute and plain')
  const parent = dirname(path)
  if (parent !== path) checkTrusted(parent, 'folder')
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined)
    throw new BlockHostError({ code: 'BH_PATH_MISSING', message: `There is no ${kind} ${path}`, fields: { path } })
  if (stats.isSymbolicLink()) throw untrusted(path, 'it is a symbolic link')
  if (kind === 'folder' ? !stats.isDirectory() : !stats.isFile()) throw untrusted(path, `it is no ${kind}`)
  if (stats.uid !== 0 && stats.uid !== process.getuid?.()) throw untrusted(path, 'it does not belong to root')
  const sticky = stats.isDirectory() && (stats.mode & 0o1000) !== 0
  if ((stats.mode & 0o022) !== 0 && !sticky && !isPrivateGroup(stats))
    throw untrusted(path, 'others than its owner can write it')
  return stats
}

/** Group-writable for group root alone is as good as not. */
function isPrivateGroup(stats: Stats): boolean {
  return stats.gid === 0 && (stats.mode & 0o002) === 0
}

function untrusted(path: string, problem: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_PATH_UNTRUSTED',
    message: `${path} can't be trusted: ${problem}`,
    hint: 'It and the folders above it must belong to root and be writable by root alone.',
    fields: { path },
    exitCode: exitCodes.badConfig,
  })
}
