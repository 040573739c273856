/** One life of the daemon: from start to stop, or to the await at which it is killed. */
import type { DatabaseSync, SQLInputValue } from 'node:sqlite'
import type { Broker } from '@blockhost/broker/broker.ts'
import { createBroker } from '@blockhost/broker/broker.ts'
import { createDataplane } from '@blockhost/broker/dataplane.ts'
import { outboxOptions } from '@blockhost/broker/operate.ts'
import { openStore, type Store } from '@blockhost/broker/store.ts'
import { createOutbox } from '@blockhost/chain/outbox.ts'
import type { ChainReader } from '@blockhost/chain/snapshot.ts'
import type { TransactionPort } from '@blockhost/chain/transaction-port.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, messageOf } from '@blockhost/kit/errors.ts'
import { type Exec, ExecError } from '@blockhost/kit/exec.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { System } from '@blockhost/net/system.ts'
import type { FakeKernel } from '@blockhost/testkit/fake-kernel.ts'
import { brokerKeys } from './cast.ts'
import type { SimChain } from './chain.ts'
import { createSimPort, createSimReader, type Signatures } from './chain-ports.ts'
import type { Faults } from './faults.ts'
import type { Random } from './random.ts'
import { type Scenario, worldStart } from './scenario.ts'
import type { World } from './world.ts'

/** What the daemon lives in, and what outlives it. */
export type Surroundings = {
  readonly world: World
  readonly random: Random
  readonly scenario: Scenario
  readonly faults: Faults
  readonly chain: SimChain
  readonly kernel: FakeKernel
  readonly signatures: Signatures
  readonly databasePath: string
  /** How far the machine's wall clock is off, ms. */
  readonly wallOffset: () => number
  /** What is broken for a while. */
  readonly outages: { rpc: boolean; readonly commands: Set<string> }
  /** Wraps the real store; the tests of the simulator break it here. */
  readonly mutate: Mutation
}

/** Replaces a part of the daemon by a broken one. */
export type Mutation = { readonly store?: (store: Store) => Store }

/** Who looks on. */
export type Witness = {
  /** Before a transaction is committed; what it returns is called if the commit takes effect. */
  beforeCommit(life: Life): () => void
  /** When the loop pauses. */
  turnEnded(life: Life): void
  /** When `wg show` told the daemon something. */
  sawPeers(life: Life): void
  /** When `wg` may have changed the peers. */
  networkChanged(): void
}

/** How a life ended. */
export type Ending = { readonly kind: 'killed' | 'stopped' } | { readonly kind: 'crashed'; readonly error: unknown }

/** A running daemon. */
export type Life = {
  readonly number: number
  /** Reads the daemon's database over its own connection; inside a transaction that is what it will commit. */
  query<Row>(sql: string, ...values: SQLInputValue[]): Row[]
  readonly store: Store
  readonly broker: Broker
  readonly isAlive: () => boolean
  readonly ended: Promise<Ending>
  /** Milliseconds this process has run. */
  readonly age: () => number
  /** kill -9. */
  kill(why: string): void
  /** SIGTERM: the turn under way is finished. */
  stop(): void
}

/** A promise of a process that is no more. */
const never = new Promise<never>(() => undefined)

/**
 * Starts the daemon: the real store, outbox, data plane and loop. Every call that leaves the process takes time in which the world
 * goes on, may fail before or after it took effect, and may be the process's last.
 */
export function startLife(number: number, around: Surroundings, witness: Witness): Life {
  const { world, random, scenario, faults, chain, kernel } = around
  const { config } = scenario
  const startedAt = world.now()
  const monotonicStart = random.int(0, 10_000_000)
  const controller = new AbortController()
  let alive = true
  let resolveEnded: (ending: Ending) => void = () => undefined
  const ended = new Promise<Ending>(resolve => {
    resolveEnded = resolve
  })

  const clock: Clock = {
    now: () => worldStart + Math.floor(world.now()) + around.wallOffset(),
    monotonic: () => monotonicStart + world.now() - startedAt,
    async sleep(ms, signal) {
      if (!alive) return never
      if (signal !== undefined) {
        witness.turnEnded(life)
        if (faults.strikes('stop')) stop()
      }
      if (!signal?.aborted) world.advance(ms)
      return alive ? undefined : never
    },
  }

  /** One call that leaves the process. */
  async function call<T>(what: string, maxMs: number, work: () => Promise<T>): Promise<T> {
    if (!alive) return never
    world.advance(random.between(1, maxMs))
    if (!alive || diesNow(`before ${what}`)) return never
    let result: T
    try {
      result = await work()
    } catch (error) {
      // The key's path differs from run to run.
      const said = messageOf(error).replaceAll(config.wireguard.privateKeyFile, '<key>')
      world.note('fails', `${what}: ${said.slice(0, 120)}`)
      throw error
    }
    if (!alive || diesNow(`after ${what}`)) return never
    return result
  }

  function diesNow(when: string): boolean {
    if (!faults.strikes('kill')) return false
    kill(when)
    return true
  }

  function kill(why: string): void {
    if (!alive) return
    world.note('KILL', why)
    end({ kind: 'killed' })
  }

  function stop(): void {
    if (!controller.signal.aborted) world.note('STOP', 'SIGTERM')
    controller.abort()
  }

  function end(ending: Ending): void {
    if (!alive) return
    alive = false
    store.close()
    resolveEnded(ending)
  }

  const log = createSimLog(world, () => alive)
  const reader = createFaultyReader(around, call)
  const port = createFaultyPort(around, call)
  const exec = createFaultyExec(around, call, { seen: () => witness.sawPeers(life), changed: witness.networkChanged })
  const system = createSimSystem(kernel, call)

  const store = openStore(around.databasePath, config, clock)
  hookCommits(store.db, around, { isAlive: () => alive, kill, beforeCommit: () => witness.beforeCommit(life) })
  const onchain = config.onchain!
  const outbox = createOutbox(
    store.db,
    port,
    outboxOptions(() => onchain),
    { clock, log },
  )
  const dataplane = createDataplane(
    {
      upstreamPrefix: config.upstreamPrefix,
      allocationSize: config.allocationSize,
      brokerAddress: config.brokerAddress,
      interface: config.wireguard.interface,
      listenPort: config.wireguard.listenPort,
      privateKeyFile: config.wireguard.privateKeyFile,
      upstreamInterface: config.wireguard.upstreamInterface,
      ndpMode: config.wireguard.ndpMode,
    },
    { exec, log, clock, system },
  )
  const broker = createBroker(config, {
    store: around.mutate.store?.(store) ?? store,
    onchain: { chain: reader, outbox, operator: chain.rules.owner, eciesPrivateKey: brokerKeys.ecies },
    dataplane,
    clock,
    log,
    random: random.next,
  })
  const life: Life = {
    number,
    query: createQuery(store.db),
    store,
    broker,
    isAlive: () => alive,
    ended,
    age: () => world.now() - startedAt,
    kill,
    stop,
  }
  world.note('start', `the daemon starts (life ${number})`)
  life.broker.run(controller.signal).then(
    () => end({ kind: 'stopped' }),
    error => end({ kind: 'crashed', error }),
  )
  return life
}

type Call = <T>(what: string, maxMs: number, work: () => Promise<T>) => Promise<T>

function createSimLog(world: World, isAlive: () => boolean): Log {
  const at = (level: string) => (fields: Readonly<Record<string, unknown>>, message: string) => {
    if (isAlive()) world.note('broker', `${level} ${message} ${renderFields(fields)}`)
  }
  return { debug: () => undefined, info: at('info '), warn: at('warn '), error: at('ERROR') }
}

function renderFields(fields: Readonly<Record<string, unknown>>): string {
  const text = Object.entries(fields).map(([name, value]) => `${name}=${String(value).slice(0, 90)}`)
  return text.join(' ')
}

function createFaultyReader(around: Surroundings, call: Call): ChainReader {
  const { chain, random } = around
  const real = createSimReader(chain, () => pickEndpoint(chain, random))
  return {
    snapshot: query =>
      call('snapshot', 120, async () => {
        failRpc(around)
        return real.snapshot(query)
      }),
  }
}

function pickEndpoint(chain: SimChain, random: Random) {
  return random.chance(0.75) ? chain.endpoints[0]! : random.pick(chain.endpoints)
}

function createFaultyPort(around: Surroundings, call: Call): TransactionPort {
  const { chain, faults, random, signatures } = around
  const real = createSimPort(chain, signatures, () => pickEndpoint(chain, random), {
    hidesReceipt: () => faults.strikes('hidden-receipt'),
    underpriced: () => faults.strikes('underpriced'),
  })
  const guarded = <T>(what: string, work: () => Promise<T>) =>
    call(what, 150, async () => {
      failRpc(around)
      return work()
    })
  return {
    address: real.address,
    chainId: real.chainId,
    sign: transaction => real.sign(transaction),
    poll: query => guarded('poll', () => real.poll(query)),
    estimate: calls => guarded('estimate', () => real.estimate(calls)),
    send: raws =>
      guarded(`send ${raws.length}`, async () => {
        const outcomes = await real.send(raws)
        around.world.note(
          'send',
          outcomes.map((o, i) => `n${signatures.get(raws[i]!)!.nonce} ${o.ok ? 'taken' : o.kind}`).join(', '),
        )
        if (faults.strikes('lost-answer-to-send'))
          throw rpcError('the connection was closed after the request was sent')
        return outcomes
      }),
  }
}

function failRpc({ faults, outages, world }: Surroundings): void {
  if (outages.rpc) throw rpcError('no endpoint answered (outage)')
  if (faults.strikes('rpc-error')) throw rpcError('HTTP status 502')
  if (!faults.strikes('rpc-timeout')) return
  world.advance(8000)
  throw rpcError('it did not answer in time')
}

function rpcError(why: string): BlockHostError {
  return new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message: why, retryable: true })
}

function createFaultyExec(around: Surroundings, call: Call, peers: { seen: () => void; changed: () => void }): Exec {
  const { faults, kernel, outages } = around
  return (command, args, options) => {
    const argv = [command, ...args]
    return call(`${command} ${args.slice(0, 3).join(' ')}`, command === 'wg' ? 20 : 40, async () => {
      if (outages.commands.has(command)) throw new ExecError(argv, 1, 'simulated outage', 'exited with 1')
      if (faults.strikes('command-failed')) throw new ExecError(argv, undefined, '', 'was ended by SIGKILL')
      // Takes effect at once; the world may go on before its result is looked at.
      const running = kernel.exec(command, args, options)
      if (command === 'wg' && args[0] === 'set') peers.changed()
      const isLate = faults.strikes('command-failed-late')
      if (command === 'wg' && args[0] === 'show' && !isLate) peers.seen()
      const result = await running
      if (isLate) throw new ExecError(argv, undefined, '', 'did not finish within 30000 ms')
      return result
    })
  }
}

function createSimSystem(kernel: FakeKernel, call: Call): System {
  const { system } = kernel
  return {
    read: path => call(`read ${path}`, 2, () => system.read(path)),
    write: (path, text) => call(`write ${path}`, 2, () => system.write(path, text)),
    signal: (pid, name) => system.signal(pid, name),
    hasProgram: name => system.hasProgram(name),
  }
}

function createQuery(db: DatabaseSync): Life['query'] {
  const prepared = new Map<string, ReturnType<DatabaseSync['prepare']>>()
  return <Row>(sql: string, ...values: SQLInputValue[]) => {
    const statement = prepared.get(sql) ?? db.prepare(sql)
    prepared.set(sql, statement)
    return statement.all(...values) as Row[]
  }
}

/** Lets commits fail, and the process die just before or just after one. */
function hookCommits(
  db: DatabaseSync,
  around: Surroundings,
  life: { isAlive: () => boolean; kill: (why: string) => void; beforeCommit: () => () => void },
): void {
  const { faults, random, world } = around
  const exec = db.exec.bind(db)
  db.exec = sql => {
    if (sql !== 'COMMIT') return exec(sql)
    if (faults.strikes('disk-full')) {
      world.note('disk', 'full: the commit fails')
      throw Object.assign(new Error('database or disk is full'), { code: 'ERR_SQLITE_ERROR', errcode: 13 })
    }
    const dies = faults.strikes('kill-at-commit')
    if (dies && random.chance(0.5)) {
      exec('ROLLBACK')
      life.kill('before COMMIT')
      throw new Error('killed')
    }
    const committed = life.beforeCommit()
    exec('COMMIT')
    committed()
    if (!dies) return
    life.kill('after COMMIT')
    throw new Error('killed')
  }
}
