import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import type { System } from './system.ts'
import { runTool } from './tool.ts'

/** One ndppd(1) that belongs to us. It runs in the background, outlives this process and is found again by its pid file. */
export type Ndppd = {
  /** Makes exactly this configuration be in force. @returns What was done, `undefined` when it ran already. */
  ensure(config: string): Promise<string | undefined>
  /** Ends it if it runs. @returns Whether it ran. */
  stop(): Promise<boolean>
}

/** What {@link createNdppd} works with. */
export type NdppdOptions = {
  readonly exec: Exec
  readonly system: System
  readonly clock: Clock
  /** Folder of the configuration and the pid file, e.g. `/run/blockhost-broker`; must survive a restart of the service. */
  readonly folder: string
  /** Tells several of them apart: the WireGuard interface. */
  readonly name: string
}

/** Makes the {@link Ndppd} of one WireGuard interface; starts nothing. */
export function createNdppd(options: NdppdOptions): Ndppd {
  const { exec, system, clock, folder, name } = options
  const configPath = `${folder}/ndppd-${name}.conf`
  const pidPath = `${folder}/ndppd-${name}.pid`

  async function ensure(config: string): Promise<string | undefined> {
    const [present, pid] = await Promise.all([system.read(configPath), runningPid()])
    if (pid !== undefined && present === config) return undefined
    if (pid !== undefined) await stop()
    if (present !== config) await system.write(configPath, config)
    await runTool(exec, 'ndppd', ['-d', '-c', configPath, '-p', pidPath], { doing: 'start ndppd' })
    // ndppd leaves the foreground before it opens the interface, so its exit status says little.
    if (!(await within(startMs, async () => (await runningPid()) !== undefined))) throw didNotStart(configPath)
    return pid === undefined ? 'started ndppd' : 'restarted ndppd'
  }

  async function stop(): Promise<boolean> {
    const pid = await runningPid()
    if (pid === undefined) return false
    system.signal(pid, 'SIGTERM')
    if (!(await within(stopMs, async () => (await runningPid()) === undefined))) system.signal(pid, 'SIGKILL')
    return true
  }

  /** The pid in the file, if that process is still an ndppd with our configuration (a pid may have been given to another). */
  async function runningPid(): Promise<number | undefined> {
    const text = (await system.read(pidPath))?.trim() ?? ''
    if (!/^[1-9]\d{0,9}$/.test(text)) return undefined
    const words = (await system.read(`/proc/${text}/cmdline`))?.split('\0') ?? []
    return words[0]?.endsWith('ndppd') && words.includes(configPath) ? Number(text) : undefined
  }

  async function within(timeoutMs: number, condition: () => Promise<boolean>): Promise<boolean> {
    const end = clock.monotonic() + timeoutMs
    while (!(await condition())) {
      if (clock.monotonic() >= end) return false
      await clock.sleep(10)
    }
    return true
  }

  return { ensure, stop }
}

const startMs = 3_000
const stopMs = 2_000

function didNotStart(configPath: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_NDPPD_FAILED',
    message: `ndppd did not keep running with ${configPath}`,
    hint: 'Its reason is in the system log (journalctl -t ndppd); it needs CAP_NET_RAW and CAP_NET_ADMIN.',
    retryable: true,
  })
}
