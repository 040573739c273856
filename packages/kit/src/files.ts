import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { BlockHostError, exitCodes } from './errors.ts'

/** Options of {@link writeFileAtomic}. */
export type WriteOptions = {
  /** Final permission bits, in force before the first byte is written, e.g. `0o600`. */
  mode: number
  /** Group id of the file, in force before the first byte is written. Default: the process's. */
  gid?: number
  /** Refuse to replace an existing file (`BH_FILE_EXISTS`). Default `false`. */
  exclusive?: boolean
}

/**
 * Writes a whole file so that a reader, or a crash at any moment, sees the old content or the new one, never a part.
 * The temporary file lies beside it (O_EXCL, unpredictable name, final mode); file and folder are synced to disk.
 *
 * @throws {BlockHostError} `BH_FILE_EXISTS`, `BH_FILE_WRITE_FAILED`.
 */
export function writeFileAtomic(path: string, data: string | Uint8Array, options: WriteOptions): void {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}`)
  try {
    mkdirSync(dirname(path), { recursive: true })
    writeSynced(temporary, data, options)
    if (options.exclusive) linkSync(temporary, path)
    else renameSync(temporary, path)
    syncFolder(dirname(path))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST')
      throw new BlockHostError({
        code: 'BH_FILE_EXISTS',
        message: `${path} exists already`,
        hint: 'Move it away first, or choose another path.',
        cause,
      })
    throw new BlockHostError({ code: 'BH_FILE_WRITE_FAILED', message: `Could not write ${path}`, cause })
  } finally {
    rmSync(temporary, { force: true })
  }
}

/** Options of {@link readTextFile}. */
export type ReadOptions = {
  readonly maxBytes?: number
  /** What the file is, for the message. Default `file`. */
  readonly what?: string
  readonly hints?: Readonly<Record<string, string>>
}

/**
 * Reads a small text file.
 *
 * @param options.maxBytes - Longer files are refused. Default 1 MiB.
 * @param options.hints - What to do, by the code of the system's error, e.g. `ENOENT`, where the caller knows better.
 * @throws {BlockHostError} `BH_FILE_READ_FAILED` (exit 78), `BH_FILE_TOO_LARGE` (exit 78).
 */
export function readTextFile(path: string, options: ReadOptions = {}): string {
  const { maxBytes = 1024 * 1024, what = 'file', hints = {} } = options
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? ''
    const usual = code === 'ENOENT' ? `Create ${path}, or name another path.` : `Check the permissions of ${path}.`
    const hint = hints[code] ?? usual
    throw new BlockHostError({
      code: 'BH_FILE_READ_FAILED',
      message: `Could not read the ${what} ${path}`,
      hint,
      exitCode: exitCodes.badConfig,
      cause,
    })
  }
  if (Buffer.byteLength(text) > maxBytes)
    throw new BlockHostError({
      code: 'BH_FILE_TOO_LARGE',
      message: `The ${what} ${path} is larger than ${maxBytes} bytes`,
      exitCode: exitCodes.badConfig,
    })
  return text
}

function writeSynced(path: string, data: string | Uint8Array, { mode, gid }: WriteOptions): void {
  const handle = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, mode)
  try {
    if (gid !== undefined) fchownSync(handle, process.getuid?.() ?? -1, gid)
    fchmodSync(handle, mode) // the umask may have taken bits away
    const bytes = typeof data === 'string' ? Buffer.from(data, 'utf8') : data
    for (let at = 0; at < bytes.length; ) at += writeSync(handle, bytes, at)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

function syncFolder(path: string): void {
  const handle = openSync(path, constants.O_RDONLY)
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}
