import { createOutbox } from '@blockhost/chain/outbox.ts'
import { createRpc } from '@blockhost/chain/rpc.ts'
import { createSubscriptionsReader } from '@blockhost/chain/subscriptions-lens.ts'
import { createTransactionPort } from '@blockhost/chain/transaction-port.ts'
import { addressOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { errorToJson } from '@blockhost/kit/errors.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { takeLock } from '@blockhost/kit/lock.ts'
import { createLog, type Log } from '@blockhost/kit/log.ts'
import { createNotifier, type Notifier, notifyEnv } from '@blockhost/kit/notify.ts'
import { untilStopped } from '@blockhost/kit/stop.ts'
import type { Provisioner } from '@blockhost/provisioners/provisioner.ts'
import { openVmDatabase, type VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { createPurchaseOpener } from './access.ts'
import { findTroubles, serveApi } from './api.ts'
import { type EngineConfig, readEngineConfig } from './config.ts'
import { createEngine, type Engine, type EngineStatus } from './engine.ts'
import { openStore, type Store } from './store.ts'
import { createVmSpecs } from './vm-spec.ts'

/** The process around the daemon, as arguments. */
export type DaemonWorld = {
  readonly configFolder: string
  readonly version: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  /** Ends the daemon cleanly. */
  readonly signal: AbortSignal
  /** Gets what tries everything that failed at once; to be called whenever somebody wants that. */
  readonly onTryNow: (tryNow: () => void) => void
  /** Processor time and memory of the process. */
  readonly usage: () => { cpuSeconds: number; rssBytes: number }
}

/** How long steps under way may take to end; one that is cut off is taken up by the next start. */
const stopGraceMs = 15_000

/**
 * Runs the engine until its signal. VMs run on meanwhile and afterwards.
 *
 * @throws {BlockHostError} whatever makes starting or going on impossible; its exit code says whether a restart may help.
 */
export async function runDaemon(world: DaemonWorld): Promise<void> {
  const config = readEngineConfig(world.configFolder)
  const log = createLog({ name: 'blockhost-engine', level: config.logLevel })
  try {
    await runWith(config, world, log)
    log.info({}, 'stopped')
  } catch (error) {
    log.error({ error: errorToJson(error) }, 'the engine ends')
    throw error
  }
}

async function runWith(config: EngineConfig, world: DaemonWorld, log: Log): Promise<void> {
  const { clock, env, version, usage } = world
  using _lock = takeLock(config.databasePath, 'blockhost-engine')
  using store = openStore(config.databasePath, clock)
  using vms = openVmDatabase(config.vmDatabasePath, config.pools, clock)
  const provisioner = await connectProvisioner(config, vms)
  const engine = assemble(config, { store, vms, provisioner, clock, log })
  engine.tryNow() // whoever starts it may have mended something
  world.onTryNow(engine.tryNow)
  const notifier = createNotifier({ env, exec: createExec(notifyEnv(env)), clock, log })
  await using _api = await serveApi(config.socketPath, { status: engine.status, now: clock.now, version, usage })
  const { subscriptions, nft } = config.rules
  log.info({ version, chainId: config.chainId, subscriptions, nft, provisioner: config.provisioner }, 'started')
  await serve(engine, notifier, world, log)
}

/** Wires an engine to its chain; `deps` is everything else. Starts nothing. */
export function assemble(
  config: EngineConfig,
  deps: { store: Store; vms: VmDatabase; provisioner: Provisioner; clock: Clock; log: Log },
): Engine {
  const { chainId, rpcUrls, rules } = config
  const privateKey = readKeyFile(config.minterKeyFile)
  const serverKey = readKeyFile(config.serverKeyFile)
  const minter = addressOf(privateKey)
  const rpc = createRpc({ urls: rpcUrls, chainId }, deps)
  const port = createTransactionPort(rpc, { privateKey, address: minter, chainId })
  return createEngine(rules, {
    ...deps,
    chain: createSubscriptionsReader(rpc, { subscriptions: rules.subscriptions, chainId }),
    outbox: createOutbox(deps.store.db, port, config.outbox, deps),
    minter,
    openPurchase: createPurchaseOpener(serverKey, config.legacySecret),
    ...createVmSpecs(config, serverKey),
  })
}

async function connectProvisioner(config: EngineConfig, vms: VmDatabase): Promise<Provisioner> {
  if (config.provisioner === 'fake') {
    const { createFakeProvisioner } = await import('@blockhost/testkit/fake-provisioner.ts')
    return createFakeProvisioner({ file: `${config.databasePath}.fake-hypervisor.json` })
  }
  const { connectHostProvisioner } = await import('@blockhost/provisioners/host-provisioner.ts')
  return connectHostProvisioner(config, vms)
}

/** One turn before systemd hears that we are ready. What only a person can mend ends the start. */
async function serve(engine: Engine, notifier: Notifier, world: DaemonWorld, log: Log): Promise<void> {
  const keepAlive = new AbortController()
  try {
    void notifier.keepAlive(keepAlive.signal, () => describeService(engine.status(), world.clock.now()))
    await notifier.ready('Following the chain')
    const ended = await untilStopped(engine.run(world.signal), { ...world, graceMs: stopGraceMs })
    if (ended === 'stopped')
      log.warn({ graceMs: stopGraceMs }, 'a step did not end in time; the next start takes it up')
  } finally {
    keepAlive.abort()
    await notifier.stopping()
  }
}

/** Returns what `systemctl status` shows. */
function describeService(status: EngineStatus, nowMs: number): string {
  return [`${status.subscriptions.live ?? 0} VMs running`, ...findTroubles(status, nowMs)].join('; ')
}
