import { writeSync } from 'node:fs'
import { type Clock, isoTime } from '@blockhost/kit/clock.ts'
import type { Log, LogLevel } from '@blockhost/kit/log.ts'

const order: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 }

/** What {@link createJournal} needs. */
export type JournalOptions = {
  readonly name: string
  /** Lines below it are dropped. */
  readonly level: LogLevel
  readonly clock: Pick<Clock, 'now'>
  /** Takes a whole line. Default: standard output, at once. */
  readonly write?: (line: string) => void
}

/**
 * Makes the service's log: the lines of kit's `createLog` on standard output, without pino, which takes as long to load as all of the
 * service. A line that can't be written is lost: nobody is kept out for that.
 */
export function createJournal(options: JournalOptions): Log {
  const { name, level: least, clock, write = writeLine } = options
  const at = (level: LogLevel): Log[LogLevel] => {
    if (order[level] < order[least]) return () => undefined
    return (fields, msg) => write(`${render({ level, time: isoTime(clock.now()), name, ...fields, msg })}\n`)
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

function render(line: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(line, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value))
}

function writeLine(line: string): void {
  try {
    const bytes = Buffer.from(line)
    for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at)
  } catch {
    // Nobody reads it.
  }
}
