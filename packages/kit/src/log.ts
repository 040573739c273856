import { pino } from 'pino'

/** Facts of one log line. Keys and tokens never; customer addresses only at debug. */
export type LogFields = Readonly<Record<string, unknown>>

/**
 * A structured log: JSON lines. `warn` = a person should look soon; `error` = we stopped doing our job.
 */
export type Log = {
  debug(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
}

/** Levels of {@link createLog}, from quiet to talkative. */
export const logLevels = ['error', 'warn', 'info', 'debug'] as const
/** One of {@link logLevels}. */
export type LogLevel = (typeof logLevels)[number]

/** A {@link Log} whose level and file can be changed while it runs (SIGHUP: `reopen`). */
export type ServiceLog = Log & { setLevel(level: LogLevel): void; reopen(): void }

/**
 * Makes the log of a service: one JSON object a line with `level`, `time` (ISO 8601), `name`, the fields and `msg`.
 *
 * @param options.file - Appended to (mode 0640, folder made); standard output when absent. Written synchronously: a crash loses no line.
 */
export function createLog(options: { name: string; level: LogLevel; file?: string }): ServiceLog {
  const stream = pino.destination({ dest: options.file ?? 1, sync: true, mkdir: true, append: true, mode: 0o640 })
  const log = pino(
    {
      level: options.level,
      base: { name: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
    },
    stream,
  )
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: (fields, message) => log.info(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
    setLevel: level => {
      log.level = level
    },
    reopen: () => {
      if (options.file !== undefined) stream.reopen()
    },
  }
}

/** Drops everything; for tests that do not look at the log. */
export const silentLog: Log = { debug: noop, info: noop, warn: noop, error: noop }

function noop(): void {
  // Dropped on purpose.
}
