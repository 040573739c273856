import { systemClock } from '@blockhost/kit/clock.ts'
import { messageOf } from '@blockhost/kit/errors.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { createFrameServer, inheritedSocket } from '@blockhost/kit/frame.ts'
import { groupId } from '@blockhost/kit/group.ts'
import { createLog } from '@blockhost/kit/log.ts'
import { createNotifier, notifyEnv } from '@blockhost/kit/notify.ts'
import { aborted } from '@blockhost/kit/stop.ts'
import { actions } from './actions.ts'
import { createAgent } from './agent.ts'
import { readRootAgentConfig } from './config.ts'
import { describeHost, prepareFolders } from './host.ts'

/** Longest request, bytes: what the documented protocol allows. */
const maxRequestBytes = 10 * 1024 * 1024
/** Of all clients that have not finished their request, bytes; so many at their largest must not be more than the unit may use. */
const maxHeldBytes = 64 * 1024 * 1024
/** The largest request that means something, an address book of 1,000 entries, has a third of it. */
const maxRequestValues = 20_000

/** What {@link runDaemon} needs from its process. */
export type DaemonOptions = {
  configPath: string
  env: Readonly<Record<string, string | undefined>>
  pid: number
  /** Ends the daemon; running actions end first. */
  signal: AbortSignal
}

/**
 * Runs the agent until it is told to stop: brings the host's network back, then answers on the socket.
 *
 * @throws {BlockHostError} with exit 78 when configuration or folders can't be used.
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const config = readRootAgentConfig(options.configPath)
  const log = createLog({ name: 'root-agent', level: config.log_level })
  const gid = groupId(config.socket.group)
  prepareFolders(config, gid)
  const host = describeHost(config, { gid, clock: systemClock, log })
  const agent = createAgent(actions, { host, exec: createExec() })
  const restored = await agent.handle({ action: 'network-ensure' })
  if (!restored.ok)
    log.warn({ error: restored.error }, 'the network could not be brought back; see the next bridge-ensure')
  const fd = inheritedSocket(options.env, options.pid)
  await using server = await createFrameServer({
    path: config.socket.path,
    mode: 0o660,
    group: gid,
    ...(fd === undefined ? {} : { fd }),
    maxBytes: maxRequestBytes,
    maxHeldBytes,
    maxValues: maxRequestValues,
    receiveTimeoutMs: config.socket.receive_timeout_ms,
    maxConnections: config.socket.max_connections,
    once: true,
    handle: request => agent.handle(request),
    answerInvalid: () => ({
      ok: false,
      error: `invalid request: it is not JSON, or has more than ${maxRequestValues} values`,
      code: 'BH_ACTION_REFUSED',
      retryable: false,
    }),
    onError: error => log.error({ error: messageOf(error) }, 'a request ended unanswered'),
  })
  const notifier = createNotifier({
    env: options.env,
    exec: createExec(notifyEnv(options.env)),
    clock: systemClock,
    log,
  })
  log.info({ socket: server.path, accelerator: host.accelerator, actions: actions.size }, 'listening')
  await notifier.ready(`Listening on ${server.path}`)
  await aborted(options.signal)
  void notifier.stopping()
  log.info({ running: agent.busy() }, 'stopping')
}
