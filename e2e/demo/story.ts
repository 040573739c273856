import { mkdirSync, writeFileSync } from 'node:fs'

/** One step as `build/demo.json` tells it. */
export type StepRecord = { name: string; ok: boolean; ms: number; detail: string }

/** Where the story goes: standard output, or what a test gives. */
export type StoryStream = { write(text: string): unknown; readonly isTTY?: boolean }

/** Tells the demo as it happens: one line for each thing somebody does, with its time since the start. */
export type Story = {
  /** A line of its own: what the reader is about to see. */
  title(text: string): void
  /** Someone does something, e.g. `host-a`, `asks for a prefix`. */
  tell(who: string, what: string): void
  /** Runs a step, tells how it ended, and returns whether it was good. `work` returns the figures worth keeping. */
  step(name: string, headline: string, work: () => Promise<string>): Promise<boolean>
  /** What went wrong outside of a step, or background for what went wrong inside one. */
  complain(lines: readonly string[]): void
  /** Every step so far. */
  readonly steps: readonly StepRecord[]
}

/**
 * Makes the story of one run. Colors only on a terminal, and not when NO_COLOR is set (no-color.org).
 *
 * @param interrupted - Once aborted, a step that ends badly was interrupted, whatever it saw.
 */
export function createStory(
  stream: StoryStream,
  env: Readonly<Record<string, string | undefined>>,
  interrupted: AbortSignal,
): Story {
  const startedAt = performance.now()
  const steps: StepRecord[] = []
  const colored = stream.isTTY === true && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb'
  const paint = (code: number, text: string) => (colored ? `\u001b[${code}m${text}\u001b[0m` : text)
  const line = (text = '') => stream.write(`${text}\n`)
  return {
    steps,
    title: text => line(paint(bold, text)),
    tell: (who, what) => {
      const time = `${seconds(performance.now() - startedAt)} s`
      line(`  ${paint(dim, time.padStart(7))}  ${paint(cyan, who.padEnd(9))} ${what}`)
    },
    step: async (name, headline, work) => {
      line()
      line(`${paint(bold, name)}: ${headline}`)
      const begin = performance.now()
      const record = await work().then(
        detail => ({ name, ok: true, detail }),
        error => ({ name, ok: false, detail: interrupted.aborted ? 'interrupted' : reason(error) }),
      )
      const ms = Math.round(performance.now() - begin)
      steps.push({ name, ok: record.ok, ms, detail: record.detail })
      const mark = record.ok ? paint(green, '✔') : paint(red, '✖')
      if (record.ok || !record.detail.includes('; saw ')) line(` ${mark} ${name} (${seconds(ms)} s): ${record.detail}`)
      else line(` ${mark} ${name} (${seconds(ms)} s)\n     ${record.detail.replace('; saw ', '\n     saw      ')}`)
      return record.ok
    },
    complain: lines => {
      for (const text of lines) line(`     ${paint(dim, text)}`)
    },
  }
}

/** Writes the steps for machines: `{"ok", "steps": [{"name", "ok", "ms", "detail"}]}`. */
export function writeRecord(path: string, ok: boolean, steps: readonly StepRecord[]): void {
  mkdirSync(new URL('.', `file://${path}`).pathname, { recursive: true })
  writeFileSync(path, `${JSON.stringify({ ok, steps }, null, 2)}\n`)
}

const [bold, dim, red, green, cyan] = [1, 2, 31, 32, 36]

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1)
}

function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  // How a command gets into its machine says nothing to the reader.
  return text.replace(/nsenter --target=\d+ .*? KILL -- /g, '')
}
