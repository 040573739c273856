/** Simulated time: what happens, when, and the record of it. */

/** Time, the things that will happen, and the trace of what did. */
export type World = {
  /** True time since the world began, ms. Only {@link World.advance} moves it. */
  readonly now: () => number
  /** Lets `work` happen `delayMs` from now. It must not advance time. */
  after(delayMs: number, work: () => void): void
  /** Moves time on; everything due happens in order, at its time. */
  advance(ms: number): void
  /** Notes an event. */
  note(who: string, text: string): void
  readonly trace: readonly TraceEvent[]
}

/** One line of the trace. */
export type TraceEvent = { readonly at: number; readonly who: string; readonly text: string }

/** Makes an empty world at time 0. */
export function createWorld(): World {
  const trace: TraceEvent[] = []
  const due: { at: number; work: () => void }[] = []
  let now = 0
  return {
    now: () => now,
    trace,
    note: (who, text) => void trace.push({ at: now, who, text }),
    after(delayMs, work) {
      const at = now + Math.max(0, delayMs)
      let place = due.length
      while (place > 0 && due[place - 1]!.at <= at) place--
      due.splice(place, 0, { at, work })
    },
    advance(ms) {
      const until = now + ms
      for (let next = due.at(-1); next !== undefined && next.at <= until; next = due.at(-1)) {
        due.pop()
        now = next.at
        next.work()
      }
      now = until
    },
  }
}

/** Returns a trace line as people read it: `   12.345s  chain    block 7 ...`. */
export function renderEvent({ at, who, text }: TraceEvent): string {
  return `${(at / 1000).toFixed(3).padStart(10)}s  ${who.padEnd(8)} ${text}`
}
