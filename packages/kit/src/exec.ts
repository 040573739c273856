import { spawn } from 'node:child_process'
import { BlockHostError } from './errors.ts'

/** Options of one command run. */
export type ExecOptions = {
  /** Bytes for standard input; the place for secrets and batches. Default: empty. */
  input?: string | Uint8Array
  /** The command is killed (SIGKILL) after this many milliseconds. Default 30,000. */
  timeoutMs?: number
}

/** What a command that exited 0 printed. */
export type ExecResult = { readonly stdout: string; readonly stderr: string }

/**
 * Runs one program with an argv array, without a shell, in the C locale.
 *
 * @throws {ExecError} when it can't be started, exits non-zero, is killed by a signal or runs out of time.
 */
export type Exec = (command: string, args: readonly string[], options?: ExecOptions) => Promise<ExecResult>

/** A command that did not do its work; keeps argv, status and the end of what it said. Input is never kept. */
export class ExecError extends BlockHostError {
  readonly argv: readonly string[]
  /** Exit status; `undefined` when it was killed or never started. */
  readonly status: number | undefined
  readonly stderr: string
  /** Some programs complain there. */
  readonly stdout: string

  constructor(
    argv: readonly string[],
    status: number | undefined,
    stderr: string,
    why: string,
    cause?: unknown,
    stdout = '',
  ) {
    const said = stderr.trim().slice(-400)
    super({
      code: 'BH_EXEC_FAILED',
      message: `\`${argv.join(' ')}\` ${why}${said === '' ? '' : `: ${said}`}`,
      fields: { argv, status },
      retryable: true,
      cause,
    })
    this.argv = argv
    this.status = status
    this.stderr = stderr
    this.stdout = stdout
  }
}

/** Options of {@link createExec}. */
export type CreateExecOptions = {
  /** Put before every argv, e.g. `['ip', 'netns', 'exec', 'lab-1']`. Default: nothing. */
  prefix?: readonly string[]
  /** Called once for each process started; benchmarks count with it. */
  onSpawn?: (argv: readonly string[]) => void
  /** Environment beside `LC_ALL=C`. Default: PATH of this process with the sbin folders. */
  env?: Readonly<Record<string, string>>
}

/** Makes an {@link Exec} for this machine. Output is limited to 64 MiB a stream. */
export function createExec(options: CreateExecOptions = {}): Exec {
  const prefix = options.prefix ?? []
  const env = {
    PATH: `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`,
    ...options.env,
    LC_ALL: 'C',
  }
  return (command, args, { input, timeoutMs = 30_000 } = {}) => {
    const argv = [...prefix, command, ...args]
    options.onSpawn?.(argv)
    return run(argv, env, input, timeoutMs)
  }
}

const maxOutputBytes = 64 * 1024 * 1024

function run(
  argv: readonly string[],
  env: Record<string, string>,
  input: string | Uint8Array | undefined,
  timeoutMs: number,
): Promise<ExecResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), { env, stdio: ['pipe', 'pipe', 'pipe'] })
    const out: Buffer[] = []
    const err: Buffer[] = []
    let size = 0
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      child.kill('SIGKILL')
    }, timeoutMs)
    const keep = (into: Buffer[]) => (chunk: Buffer) => {
      size += chunk.length
      if (size > maxOutputBytes) child.kill('SIGKILL')
      else into.push(chunk)
    }
    child.stdout.on('data', keep(out))
    child.stderr.on('data', keep(err))
    // A child that ends without reading its input closes the pipe; its exit status tells the story.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input ?? '')
    child.on('error', cause => {
      clearTimeout(timer)
      reject(new ExecError(argv, undefined, '', 'could not be started', cause))
    })
    child.on('close', (status, signal) => {
      clearTimeout(timer)
      const stdout = Buffer.concat(out).toString('utf8')
      const stderr = Buffer.concat(err).toString('utf8')
      if (status === 0) return resolve({ stdout, stderr })
      const why = timedOut
        ? `did not finish within ${timeoutMs} ms`
        : status === null
          ? `was ended by ${signal}`
          : `exited with ${status}`
      reject(new ExecError(argv, status ?? undefined, stderr, why, undefined, stdout))
    })
  })
}
