import type { Clock } from './clock.ts'
import { messageOf } from './errors.ts'
import type { Exec } from './exec.ts'
import type { Log } from './log.ts'

/** Tells systemd how the service is doing (sd_notify(3)). Nothing here rejects or throws: a silent systemd stops no service. */
export type Notifier = {
  /** Start-up is over: what waits for the unit may go on. Also ends a reload. */
  ready(status: string): Promise<void>
  /** The configuration is being read again; `ready` must follow. */
  reloading(): Promise<void>
  /** The service is on its way down. */
  stopping(): Promise<void>
  /**
   * Sends a sign of life every half watchdog interval until `signal` aborts; resolves at once where none is asked for.
   *
   * @param describe - Returns what `systemctl status` shows from then on.
   */
  keepAlive(signal: AbortSignal, describe?: () => string): Promise<void>
}

/** What {@link createNotifier} needs. */
export type NotifierDeps = {
  /** Environment systemd made for the process: `NOTIFY_SOCKET`, `WATCHDOG_USEC`. */
  env: Readonly<Record<string, string | undefined>>
  /** Must pass `NOTIFY_SOCKET` on to the command. */
  exec: Exec
  clock: Clock
  log: Log
}

const commandTimeoutMs = 5_000

/**
 * Makes a {@link Notifier}. Messages go through systemd-notify(1), because Node has no Unix datagram sockets; the unit needs
 * `NotifyAccess=all` for that. Costs one short process a message; nothing at all outside systemd.
 */
export function createNotifier({ env, exec, clock, log }: NotifierDeps): Notifier {
  const listening = (env.NOTIFY_SOCKET ?? '') !== ''
  const intervalMs = watchdogIntervalMs(env.WATCHDOG_USEC)

  const send = async (...assignments: string[]): Promise<void> => {
    if (!listening) return
    try {
      await exec('systemd-notify', ['--', ...assignments], { timeoutMs: commandTimeoutMs })
    } catch (error) {
      log.warn({ err: messageOf(error), assignments }, 'systemd was not told how the service is doing')
    }
  }

  return {
    ready: status => send('READY=1', `STATUS=${oneLine(status)}`),
    reloading: () => send('RELOADING=1', 'STATUS=Reading the configuration again'),
    stopping: () => send('STOPPING=1', 'STATUS=Stopping'),
    keepAlive: async (signal, describe) => {
      if (!listening || intervalMs === undefined) return
      for (;;) {
        await clock.sleep(intervalMs, signal) // the watchdog counts from `ready`
        if (signal.aborted) return
        await send('WATCHDOG=1', ...(describe === undefined ? [] : [`STATUS=${oneLine(describe())}`]))
      }
    },
  }
}

/** Returns the options of an {@link Exec} that systemd-notify(1) finds its socket with; other commands do not need it. */
export function notifyEnv({ NOTIFY_SOCKET }: NotifierDeps['env']): { env?: { NOTIFY_SOCKET: string } } {
  return NOTIFY_SOCKET === undefined ? {} : { env: { NOTIFY_SOCKET } }
}

/**
 * Returns how often to send a sign of life: half of `WATCHDOG_USEC`, as sd_watchdog_enabled(3) advises.
 *
 * @returns Milliseconds, at least 100; `undefined` when the variable is absent or no positive number.
 */
export function watchdogIntervalMs(microseconds: string | undefined): number | undefined {
  const value = Number(microseconds)
  return Number.isFinite(value) && value > 0 ? Math.max(100, Math.floor(value / 2000)) : undefined
}

function oneLine(text: string): string {
  return text.replace(/[\r\n]+/g, ' ')
}
