/** Tells the person on standard error what is being done, and for how long. */

/** Where progress goes: a terminal gets one line that is rewritten, anything else plain lines. */
export type ProgressStream = { write(text: string): unknown; readonly isTTY?: boolean }

/** Steps of one invocation. */
export type Progress = {
  /** Ends the current step as done and begins the next; the same text again goes on with the same step. */
  step(text: string): void
  /** A line that stays. */
  note(text: string): void
  /** Ends the current step, as done or as failed. */
  end(outcome: 'done' | 'failed'): void
}

/**
 * Makes the progress of one invocation.
 *
 * @param now - Monotonic milliseconds.
 * @param tick - Calls back about every second until the function it returns is called; redraws the elapsed time.
 */
export function createProgress(stream: ProgressStream, now: () => number, tick = everySecond): Progress {
  let current: { text: string; startedAt: number; stop: () => void } | undefined
  const draw = () => {
    if (current !== undefined) stream.write(`\r\x1b[K… ${current.text}  ${elapsed(now() - current.startedAt)}`)
  }
  const end = (mark: string) => {
    if (current === undefined) return
    current.stop()
    if (stream.isTTY) stream.write(`\r\x1b[K${mark} ${current.text}  ${elapsed(now() - current.startedAt)}\n`)
    current = undefined
  }
  return {
    step: text => {
      if (current?.text === text) return
      end('✓')
      current = { text, startedAt: now(), stop: stream.isTTY ? tick(draw) : () => undefined }
      if (stream.isTTY) draw()
      else stream.write(`broker-client: ${text}\n`)
    },
    note: text => {
      if (!stream.isTTY) return void stream.write(`broker-client: ${text}\n`)
      stream.write(`\r\x1b[K  ${text}\n`)
      draw()
    },
    end: outcome => end(outcome === 'done' ? '✓' : '✗'),
  }
}

function elapsed(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}

function everySecond(work: () => void): () => void {
  const timer = setInterval(work, 1000)
  timer.unref()
  return () => clearInterval(timer)
}
