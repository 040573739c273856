import { messageOf } from '@blockhost/kit/errors.ts'
import type { Machine, MachineProcess } from '@blockhost/testkit/machine.ts'

/** A daemon that is started again when it dies. */
export type Supervisor = {
  start(): Promise<void>
  /** How often it was started. */
  starts(): number
  /** The last lines it wrote, oldest first. */
  lines(): readonly string[]
  /** Ends the daemon at once (SIGKILL); it comes back after the pause. */
  kill(): Promise<void>
  /** Ends it for good, in good order. */
  stop(): Promise<void>
}

/**
 * Does for a daemon what systemd does (`Restart=on-failure`, `RestartPreventExitStatus=78`): starts it again whenever it ends badly.
 *
 * @param restartMs - The pause before that.
 */
export function supervise(machine: Machine, argv: readonly [string, ...string[]], restartMs: number): Supervisor {
  let running: MachineProcess | undefined
  let starts = 0
  let stopping = false
  const lines: string[] = []
  const start = async (): Promise<void> => {
    const daemon = await machine.spawn(argv, {
      onLine: line => {
        lines.push(line)
        if (lines.length > 400) lines.shift()
      },
    })
    running = daemon
    starts++
    void daemon.ended.then(async ({ status }) => {
      running = undefined
      if (stopping || status === 0 || status === 78) return
      await new Promise(resolve => setTimeout(resolve, restartMs))
      // Its machine may be gone by now.
      if (!stopping) await start().catch(error => lines.push(`it could not be started again: ${messageOf(error)}`))
    })
  }
  return {
    start,
    starts: () => starts,
    lines: () => lines,
    kill: async () => {
      if (running === undefined) throw new Error(`it does not run: ${lines.at(-1) ?? 'no line of it'}`)
      const daemon = running
      await daemon.kill('SIGKILL')
      await daemon.ended
    },
    stop: async () => {
      stopping = true
      const daemon = running
      if (daemon === undefined) return
      await daemon.kill('SIGTERM')
      const late = setTimeout(() => void daemon.kill('SIGKILL'), stopGraceMs)
      await daemon.ended
      clearTimeout(late)
    },
  }
}

/** systemd's is longer; a demo need not wait for a daemon that hangs. */
const stopGraceMs = 20_000
