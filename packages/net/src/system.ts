import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { writeFileAtomic } from '@blockhost/kit/files.ts'

/** The parts of a Linux machine that are files and processes rather than commands. */
export type System = {
  /** Returns the text of a file, `undefined` when there is none. Used for `/proc/sys`, `/proc/<pid>/cmdline`, pid files. */
  read(path: string): Promise<string | undefined>
  /** Writes a file (mode 0644, whole or not at all); below `/proc` into the kernel. */
  write(path: string, text: string): Promise<void>
  /** Sends a signal to a process; a process that is gone already is fine. */
  signal(pid: number, name: 'SIGTERM' | 'SIGKILL'): void
  /** Returns whether a program of that name is installed. */
  hasProgram(name: string): boolean
}

/** This machine, in the network namespace of this process. */
export const localSystem: System = {
  async read(path) {
    try {
      return await readFile(path, 'utf8')
    } catch (cause) {
      if (['ENOENT', 'ESRCH', 'ENOTDIR'].includes((cause as NodeJS.ErrnoException).code ?? '')) return undefined
      throw new BlockHostError({ code: 'BH_FILE_READ_FAILED', message: `Could not read ${path}`, cause })
    }
  },

  async write(path, text) {
    if (!path.startsWith('/proc/')) return writeFileAtomic(path, text, { mode: 0o644 })
    try {
      await writeFile(path, text)
    } catch (cause) {
      throw new BlockHostError({
        code: 'BH_KERNEL_SETTING_FAILED',
        message: `Could not write ${text.trim()} to ${path}`,
        hint: 'The service needs CAP_NET_ADMIN and a writable /proc/sys (no ProtectKernelTunables in the unit).',
        retryable: true,
        cause,
      })
    }
  },

  signal(pid, name) {
    try {
      process.kill(pid, name)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') throw cause
    }
  },

  hasProgram(name) {
    const folders = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`.split(':')
    return folders.some(folder => folder !== '' && existsSync(join(folder, name)))
  },
}
