import { createChainReader } from '@blockhost/chain/chain-reader.ts'
import { createOutbox } from '@blockhost/chain/outbox.ts'
import { createRpc } from '@blockhost/chain/rpc.ts'
import { createTransactionPort } from '@blockhost/chain/transaction-port.ts'
import { addressOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, errorToJson, exitCodes } from '@blockhost/kit/errors.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { takeLock } from '@blockhost/kit/lock.ts'
import { createLog, type LogFields, type ServiceLog } from '@blockhost/kit/log.ts'
import { createNotifier, type Notifier, notifyEnv } from '@blockhost/kit/notify.ts'
import { untilStopped } from '@blockhost/kit/stop.ts'
import { type ApiServer, createApi, serveApi } from './api.ts'
import { type Broker, type BrokerDeps, createBroker } from './broker.ts'
import { type BrokerConfig, type OnchainConfig, readConfig } from './config.ts'
import { reloadConfig } from './config-reload.ts'
import { createDataplane, type Dataplane } from './dataplane.ts'
import { createMetrics } from './metrics.ts'
import { outboxOptions } from './operate.ts'
import { createPeerView } from './peer-view.ts'
import { openStore, type Store } from './store.ts'

/** The process around the daemon, as arguments. */
export type DaemonWorld = {
  readonly configPath: string
  readonly version: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  /** Ends the daemon cleanly. */
  readonly signal: AbortSignal
  /** Gets what reads the configuration again; to be called whenever somebody wants that. */
  readonly onReload: (reload: () => void) => void
  /** Called once, when the first turn is over and everything stands. */
  readonly onReady: () => void
  /** Processor time and memory of the process. */
  readonly usage: () => { cpuSeconds: number; rssBytes: number }
}

/** How long a turn under way may take to end; one that is cut off is healed by the next start. */
const stopGraceMs = 5_000

/**
 * Runs the daemon until its signal: configuration, lock, database, API, then turn after turn of the broker. The caller ends the
 * process afterwards, as a turn that outlived its grace may still be waiting for something.
 *
 * Tunnels, routes and firewall stay in force, so that a restart cuts nobody off.
 *
 * @throws {BlockHostError} whatever makes starting or going on impossible; its exit code says whether a restart may help.
 */
export async function runDaemon(world: DaemonWorld): Promise<void> {
  const config = readConfig(world.configPath)
  const { level, file } = config.logging
  const log = createLog({ name: 'blockhost-broker', level, ...(file === undefined ? {} : { file }) })
  for (const warning of config.warnings) log.warn({ file: world.configPath }, warning)
  try {
    await runWith(config, world, log)
    log.info({}, 'stopped')
  } catch (error) {
    log.error({ error: errorToJson(error) }, 'the daemon ends')
    throw error
  }
}

async function runWith(initial: BrokerConfig, world: DaemonWorld, log: ServiceLog): Promise<void> {
  const { clock } = world
  let config = initial
  const current = () => config
  const put = (next: BrokerConfig) => {
    config = next
  }
  using _lock = takeLock(config.databasePath, 'blockhost-broker')
  using store = openStore(config.databasePath, config, clock)
  const dataplane = createDataplane({ ...config, ...config.wireguard }, { exec: createExec(), log, clock })
  const onchain = connectChain(() => config.onchain, store, { clock, log })
  const broker = createBroker(config, { store, onchain, dataplane, clock, log })
  const notifier = createNotifier({ env: world.env, exec: createExec(notifyEnv(world.env)), clock, log })
  const server = await startApi(current, { world, log, store, broker, dataplane })
  world.onReload(createRepeater(createReloader(world, { log, server, broker, notifier, store, current, put })))
  log.info(describeStart(config, world, dataplane, store), 'started')
  try {
    await serve(broker, notifier, { world, log, store })
  } finally {
    await notifier.stopping()
    await server.close()
    await dataplane.close()
  }
}

type Parts = { world: DaemonWorld; log: ServiceLog; store: Store }

/** One turn before systemd hears that we are ready: the network stands. What only a person can mend ends the start. */
async function serve(broker: Broker, notifier: Notifier, { world, log, store }: Parts): Promise<void> {
  const keepAlive = new AbortController()
  const stopping = { signal: world.signal, clock: world.clock, graceMs: stopGraceMs }
  try {
    const first = await untilStopped(broker.turn(), stopping)
    if (first === 'stopped') return
    refuseHopeless([first.chainError, first.dataplaneError])
    const describe = () => describeService(store, broker)
    void notifier.keepAlive(keepAlive.signal, describe)
    await notifier.ready(describe())
    world.onReady()
    const last = await untilStopped(broker.run(world.signal), stopping)
    if (last === 'stopped') log.warn({ graceMs: stopGraceMs }, 'a turn did not end in time; the next start takes it up')
  } finally {
    keepAlive.abort()
  }
}

/** A wrong chain, another owner or an address conflict stay as they are until somebody changes something: exit 78, no restart. */
function refuseHopeless(errors: readonly unknown[]): void {
  for (const error of errors) if (error instanceof BlockHostError && error.exitCode === exitCodes.badConfig) throw error
}

function connectChain(
  current: () => OnchainConfig | undefined,
  store: Store,
  deps: { clock: Clock; log: ServiceLog },
): BrokerDeps['onchain'] {
  const onchain = current()
  if (onchain === undefined) return undefined
  const { chainId, rpcUrls } = onchain
  const privateKey = readKeyFile(onchain.operatorKeyFile)
  const operator = addressOf(privateKey)
  const rpc = createRpc({ urls: rpcUrls, chainId }, deps)
  const port = createTransactionPort(rpc, { privateKey, address: operator, chainId })
  return {
    chain: createChainReader(rpc, { chainId }),
    outbox: createOutbox(
      store.db,
      port,
      outboxOptions(() => current() ?? onchain),
      deps,
    ),
    operator,
    eciesPrivateKey: readKeyFile(onchain.eciesKeyFile),
  }
}

type Served = Parts & { broker: Broker; dataplane: Dataplane }

function startApi(config: () => BrokerConfig, { world, log, store, broker, dataplane }: Served): Promise<ApiServer> {
  const { clock, version, usage } = world
  const peers = createPeerView(() => dataplane.peers(), clock)
  const { status } = broker
  const metrics = createMetrics({ status, leaseCount: store.leaseCount, peers, usage, clock, version })
  const leases = { count: store.leaseCount, after: store.leasesAfter }
  return serveApi(createApi({ config, status, leases, peers, metrics, clock, log, version }), config().api)
}

type Reloaded = {
  readonly log: ServiceLog
  readonly server: ApiServer
  readonly broker: Broker
  readonly notifier: Notifier
  readonly store: Store
  readonly current: () => BrokerConfig
  readonly put: (config: BrokerConfig) => void
}

/** A configuration that can't be used changes nothing: the old one stays in force, and the log says why. */
function createReloader({ configPath }: DaemonWorld, parts: Reloaded): () => Promise<void> {
  const { log, server, broker, notifier, store, current, put } = parts
  return async () => {
    await notifier.reloading()
    log.reopen()
    try {
      const { config, applied, waiting } = reloadConfig(current(), readConfig(configPath))
      server.reloadCertificate()
      log.setLevel(config.logging.level)
      broker.reconfigure(config)
      put(config)
      for (const warning of config.warnings) log.warn({ file: configPath }, warning)
      log.info({ applied }, 'configuration read again')
      if (waiting.length > 0) log.warn({ waiting }, 'these keys changed and take effect at the next restart')
    } catch (error) {
      log.warn({ error: errorToJson(error) }, 'the configuration was not read again; the old one stays in force')
    }
    await notifier.ready(describeService(store, broker))
  }
}

/** Runs one task at a time; calls that come meanwhile cause one more run at the end. */
function createRepeater(task: () => Promise<void>): () => void {
  let running = false
  let again = false
  const run = async (): Promise<void> => {
    running = true
    do {
      again = false
      await task()
    } while (again)
    running = false
  }
  return () => {
    if (running) again = true
    else void run()
  }
}

/** Returns what `systemctl status` shows. */
function describeService(store: Store, broker: Broker): string {
  const { dataplaneError, chainError } = broker.status()
  const trouble = dataplaneError ?? chainError
  return `Serving ${store.leaseCount()} leases${trouble === undefined ? '' : `; trouble: ${trouble}`}`
}

function describeStart(config: BrokerConfig, { version }: DaemonWorld, dataplane: Dataplane, store: Store): LogFields {
  const { upstreamPrefix, allocationSize, wireguard, api, onchain } = config
  return {
    version,
    upstreamPrefix,
    allocationSize,
    leases: store.leaseCount(),
    interface: wireguard.interface,
    publicKey: dataplane.publicKey,
    ndp: dataplane.ndp,
    api: `${api.host} port ${api.port}`,
    ...(onchain === undefined ? {} : { chainId: onchain.chainId, requestsContracts: onchain.requestsContracts }),
  }
}
