/** Exit codes every command and service uses (sysexits.h for 75 and 78). */
export const exitCodes = { ok: 0, failed: 1, usage: 2, tryAgain: 75, badConfig: 78 } as const

/** One of the exit codes of {@link exitCodes}. */
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes]

/** What a {@link BlockHostError} is made of. */
export type BlockHostErrorOptions = {
  /** Stable handle, e.g. `BH_PREFIX_POOL_EXHAUSTED`. Tests and tools match on this, never on the message. */
  code: `BH_${string}`
  /** One sentence: what was tried, on what. No secret, no repetition of the cause. */
  message: string
  /** One sentence: what the reader can do about it. */
  hint?: string
  /** Facts for logs and `--json`; values must be safe to print. */
  fields?: Readonly<Record<string, unknown>>
  /** Whether the same call may succeed later without anybody changing anything. Default `false`. */
  retryable?: boolean
  /** Exit code when the error ends a program. Default 75 if retryable, else 1. */
  exitCode?: ExitCode
  cause?: unknown
}

/** The one error type of the house: a stable code, a sentence for people, fields for machines and a cause. */
export class BlockHostError extends Error {
  override readonly name = 'BlockHostError'
  readonly code: `BH_${string}`
  readonly hint: string | undefined
  readonly fields: Readonly<Record<string, unknown>>
  readonly retryable: boolean
  readonly exitCode: ExitCode

  constructor(options: BlockHostErrorOptions) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = options.code
    this.hint = options.hint
    this.fields = options.fields ?? {}
    this.retryable = options.retryable ?? false
    this.exitCode = options.exitCode ?? (this.retryable ? exitCodes.tryAgain : exitCodes.failed)
  }
}

/** Returns whether `error` may go away by itself. Foreign errors count as not retryable. */
export function isRetryable(error: unknown): boolean {
  return error instanceof BlockHostError && error.retryable
}

/** Returns the process exit code that `error` asks for; foreign errors give 1. */
export function toExitCode(error: unknown): ExitCode {
  return error instanceof BlockHostError ? error.exitCode : exitCodes.failed
}

/**
 * Renders an error and its causes for a terminal: one line each, then what to do.
 *
 * @returns Lines joined by `\n`, without a trailing one; at most eight causes deep.
 */
export function describeError(error: unknown): string {
  const lines: string[] = []
  for (let at: unknown = error, depth = 0; at !== undefined && depth < 8; depth++) {
    lines.push(depth === 0 ? messageOf(at) : `  because: ${messageOf(at)}`)
    at = at instanceof Error ? at.cause : undefined
  }
  if (error instanceof BlockHostError && error.hint !== undefined) lines.push(`  what to do: ${error.hint}`)
  return lines.join('\n')
}

/** Renders an error for `--json` output and logs: `{code, message, hint?, retryable, fields, cause?}`. */
export function errorToJson(error: unknown): Record<string, unknown> {
  if (!(error instanceof BlockHostError)) return { code: 'BH_UNEXPECTED', message: messageOf(error), retryable: false }
  return {
    code: error.code,
    message: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    retryable: error.retryable,
    ...(Object.keys(error.fields).length === 0 ? {} : { fields: error.fields }),
    ...(error.cause === undefined ? {} : { cause: messageOf(error.cause) }),
  }
}

/** Returns the message of anything thrown, folded to one line. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.replace(/\s*\n\s*/g, '; ').slice(0, 500)
}
