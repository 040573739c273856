import assert from 'node:assert/strict'
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createRpc, type Rpc } from '@blockhost/chain/rpc.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { type Anvil, startAnvil } from '@blockhost/testkit/anvil.ts'
import { type Machine, type MachineProcess, startMachine } from '@blockhost/testkit/machine.ts'
import { encodeData } from 'ox/AbiFunction'

const needsRoot = { skip: process.getuid?.() === 0 ? false : 'needs root for network namespaces' }
const limit = { timeout: 60_000 }
const program = fileURLToPath(new URL('../services/broker/bin/blockhost-broker', import.meta.url))
const config = '/etc/blockhost-broker/config.toml'

describe('blockhost-broker, as an operator runs it', needsRoot, () => {
  let world: World
  before(async () => {
    world = await makeWorld()
  }, limit)
  after(() => world[Symbol.asyncDispose]())

  it('sets itself up: keys, contracts, configuration; each command again changes nothing', limit, async () => {
    const keys = JSON.parse((await world.run('keygen', '--json')).out)
    const poor = await world.run(...world.deployArguments)
    assert.equal(poor.status, 1)
    assert.match(poor.err, new RegExp(`Send at least 0\\.\\d+ ETH to ${keys.operator}`))
    await world.rpc.call('anvil_setBalance', [keys.operator, '0x8ac7230489e80000'])
    const first = JSON.parse((await world.run(...world.deployArguments, '--write-config')).out)
    assert.equal(first.broker_id, 1)
    assert.equal(first.transactions.length, 4)
    const second = JSON.parse((await world.run(...world.deployArguments)).out)
    assert.deepEqual(second, { ...first, transactions: [] })
    await world.machine.exec('sh', ['-c', 'rm /etc/blockhost-broker/operator.key.deploy-*'])
    const contracts = ['--registry', first.registry_contract, '--requests', first.requests_contract]
    assert.deepEqual(JSON.parse((await world.run(...world.deployArguments, ...contracts)).out), second)
    assert.equal(JSON.parse((await world.run('keygen', '--json')).out).operator, keys.operator)
    world.requests = first.requests_contract
    await world.machine.exec('sed', ['-i', 's/^#poll_interval_ms = 5000/poll_interval_ms = 1000/', config])
    const checked = await world.run('--check-config')
    assert.deepEqual([checked.status, checked.out], [0, `${config} can be used.\n`])
  })

  it('goes on with a deployment that was killed half-way, and deploys nothing twice', limit, async () => {
    const args = world.deployArguments.map(word => word.replace('/etc/blockhost-broker', '/var/lib/second'))
    const keys = JSON.parse((await world.run('keygen', '--dir', '/var/lib/second', '--json')).out)
    await world.rpc.call('anvil_setBalance', [keys.operator, '0x8ac7230489e80000'])
    await world.rpc.call('evm_setAutomine', [false])
    const half = await world.machine.spawn([program, ...args])
    await until('both creations wait for a block', async () => (await pendingTransactions(world.rpc)) === 2)
    await half.kill('SIGKILL')
    await half.ended
    await world.rpc.call('evm_setAutomine', [true])
    await world.rpc.call('anvil_mine', ['0x1'])
    const done = JSON.parse((await world.run(...args)).out)
    assert.equal(done.transactions.length, 4)
    const nonce = await world.rpc.call('eth_getTransactionCount', [keys.operator, 'latest'])
    assert.equal(Number(nonce), 4)
  })

  it('serves, tells systemd when it is ready, and stops with 0 while its tunnels stay up', limit, async () => {
    const daemon = await world.start()
    assert.deepEqual(pick(await world.get('/health'), 'status'), { status: 'healthy' })
    assert.deepEqual(pick(await world.get('/api/status'), 'used_allocations', 'available_allocations'), {
      used_allocations: 0,
      available_allocations: 9_007_199_254_740_991,
    })
    assert.deepEqual(await world.get('/api/allocations'), [])
    await until('systemd heard of it', () => world.notified().includes('READY=1 STATUS=Serving 0 leases'))
    await daemon.kill('SIGTERM')
    assert.equal((await daemon.ended).status, 0)
    assert.equal(world.notified().at(-1), 'STOPPING=1 STATUS=Stopping')
    await world.machine.exec('wg', ['show', 'wg-broker'])
    assert.equal((await world.run('down')).status, 0)
    await assert.rejects(world.machine.exec('wg', ['show', 'wg-broker']))
    assert.equal((await world.machine.exec('nft', ['list', 'ruleset'])).stdout, '')
  })

  it(
    'is alone on its database: a second one gives up with 75, also while the first dies, and then takes over',
    limit,
    async () => {
      const daemon = await world.start()
      const second = await world.run('run')
      assert.equal(second.status, 75)
      assert.match(second.err, /Another blockhost-broker uses \/var\/lib\/blockhost-broker\/ipam\.db/)
      assert.deepEqual(pick(await world.get('/health'), 'status'), { status: 'healthy' })
      await daemon.kill('SIGKILL')
      await daemon.ended
      const heir = await world.start()
      await heir.kill('SIGINT')
      assert.equal((await heir.ended).status, 0)
    },
  )

  it(
    'sends what the operator asks for while the daemon holds the key, and by itself when it does not',
    limit,
    async () => {
      const daemon = await world.start()
      const asked = await world.run('set-fee', '1000', '--json')
      assert.match(asked.err, /The daemon is running and sends it\./)
      assert.equal(await world.requestFee(), 1000n)
      await daemon.kill('SIGTERM')
      await daemon.ended
      const alone = await world.run('set-fee', '0')
      assert.equal(alone.status, 0)
      assert.doesNotMatch(alone.err, /The daemon is running/)
      assert.equal(await world.requestFee(), 0n)
    },
  )

  it('deploy: not beside a daemon that sends with the same wallet', limit, async () => {
    const daemon = await world.start()
    const refused = await world.run(...world.deployArguments)
    assert.equal(refused.status, 75)
    assert.match(refused.err, /runs and sends with the same wallet 0x.*\n {2}what to do: Stop it .* `systemctl stop /)
    await daemon.kill('SIGTERM')
    assert.equal((await daemon.ended).status, 0)
    assert.equal((await world.run(...world.deployArguments)).status, 0)
  })

  it('withdraw-fees: sends what was collected, and no transaction when there is nothing', limit, async () => {
    const { operator } = JSON.parse((await world.run('keygen', '--json')).out)
    const sent = async () => Number(await world.rpc.call('eth_getTransactionCount', [operator, 'latest']))
    const before = await sent()
    const none = await world.run('withdraw-fees')
    assert.deepEqual([none.status, none.out], [0, 'Nothing to withdraw: no fees were collected.\n'])
    assert.deepEqual(JSON.parse((await world.run('withdraw-fees', '--json')).out), {
      done: null,
      hash: null,
      gas_used: 0,
    })
    assert.equal(await sent(), before)
    await world.rpc.call('anvil_setBalance', [world.requests, '0x64'])
    const to = `0x${'5e'.repeat(20)}`
    const some = await world.run('withdraw-fees', '--to', to)
    assert.match(some.out, /^Done: send the collected fees to 0x/)
    assert.equal(await sent(), before + 1)
    assert.equal(BigInt((await world.rpc.call('eth_getBalance', [to, 'latest'])) as string), 100n)
  })

  it(
    'SIGHUP: takes what it can, names what waits for a restart, and keeps the old when the new is wrong',
    limit,
    async () => {
      const daemon = await world.start()
      const original = readFileSync(world.machine.path(config), 'utf8')
      const reloaded = async (text: string, message: string) => {
        writeFileSync(world.machine.path(config), text)
        await daemon.kill('SIGHUP')
        return await until(message, () => world.lines.map(parseLine).findLast(line => line?.msg === message))
      }
      try {
        const changed = original
          .replace('#level = "info"', 'level = "debug"')
          .replace('#listen_port', 'listen_port = 51999 #')
        const applied = await reloaded(changed, 'configuration read again')
        assert.deepEqual(applied.applied, ['logging.level'])
        const waiting = await until('the warning', () => world.lines.map(parseLine).find(line => line?.waiting))
        assert.deepEqual(waiting.waiting, ['wireguard.listen_port'])
        const refused = await reloaded('[broker]\n', 'the configuration was not read again; the old one stays in force')
        assert.match(refused.error.message, /broker\.upstream_prefix: is missing/)
        assert.deepEqual(pick(await world.get('/health'), 'status'), { status: 'healthy' })
        assert.ok(world.notified().includes('RELOADING=1 STATUS=Reading the configuration again'))
      } finally {
        writeFileSync(world.machine.path(config), original)
        await daemon.kill('SIGTERM')
        assert.equal((await daemon.ended).status, 0)
      }
    },
  )

  it('says by its exit code whether starting it again can help', limit, async () => {
    const original = readFileSync(world.machine.path(config), 'utf8')
    const withConfig = async (change: (text: string) => string, ...args: string[]) => {
      writeFileSync(world.machine.path('/etc/wrong.toml'), change(original))
      return await world.run(...args, '--config', '/etc/wrong.toml')
    }
    const wrongKey = await withConfig(text => text.replace('upstream_prefix', 'upstream_prefx'), '--check-config')
    assert.equal(wrongKey.status, 78)
    assert.match(wrongKey.err, /did you mean broker\.upstream_prefix\?/)
    const wrongChain = await withConfig(text => text.replace('chain_id = 31337', 'chain_id = 1'), 'run')
    assert.equal(wrongChain.status, 78)
    assert.match(wrongChain.err, /is on chain 31337; the configuration says 1/)
    const foreign = await withConfig(
      text => text.replaceAll('/etc/blockhost-broker/operator.key', '/var/lib/second/operator.key'),
      'run',
    )
    assert.equal(foreign.status, 78)
    assert.match(foreign.err, /belongs to 0x[0-9a-fA-F]{40}; the operator key is 0x/)
    assert.equal((await world.run('--nonsense')).status, 2)
    assert.equal((await world.run('--version')).status, 0)
  })
})

type Ran = { status: number; out: string; err: string }

type World = AsyncDisposable & {
  machine: Machine
  rpc: Rpc
  /** The requests contract, once it is deployed. */
  requests: string
  deployArguments: string[]
  /** Lines of the daemon that was started last. */
  lines: string[]
  run(...args: string[]): Promise<Ran>
  /** Starts the daemon and waits until it says that it is healthy. */
  start(): Promise<MachineProcess>
  get(path: string): Promise<Record<string, unknown>>
  /** What systemd was told so far. */
  notified(): string[]
  requestFee(): Promise<bigint>
}

/** A machine with a chain inside, and a `systemd-notify` that writes down what it is told. */
async function makeWorld(): Promise<World> {
  const machine = await startMachine({ name: 'broker' })
  const anvil: Anvil = await startAnvil({ prefix: machine.prefix })
  const chain = await machine.forward(anvil.port)
  const rpc = createRpc({ urls: [`http://127.0.0.1:${chain.port}`] }, { clock: systemClock, log: silentLog })
  mkdirSync(machine.path('/run/bin'))
  const told = '/run/notified'
  writeFileSync(machine.path('/run/bin/systemd-notify'), `#!/bin/sh\nshift\necho "$*" >>${told}\n`, { mode: 0o755 })
  appendFileSync(machine.path(told), '')
  const env = { PATH: `/run/bin:${process.env.PATH}`, NOTIFY_SOCKET: '/run/systemd/notify' }
  const keys = [
    '--operator-key',
    '/etc/blockhost-broker/operator.key',
    '--ecies-key',
    '/etc/blockhost-broker/ecies.key',
  ]
  const world: World = {
    machine,
    rpc,
    requests: '',
    deployArguments: ['deploy', '--rpc-url', anvil.url, '--chain-id', '31337', '--capacity', '100', '--json', ...keys],
    lines: [],
    run: async (...args) => {
      const ran = await machine.spawn(['sh', '-c', '"$@" >/run/out 2>/run/err', 'sh', program, ...args])
      const { status } = await ran.ended
      const read = (name: string) => readFileSync(machine.path(`/run/${name}`), 'utf8')
      return { status: status ?? -1, out: read('out'), err: read('err') }
    },
    start: async () => {
      world.lines = []
      const daemon = await machine.spawn([program], { env, onLine: line => world.lines.push(line) })
      await until('the daemon is healthy', () => world.get('/health').catch(() => undefined))
      await until('its first turn is over', () => world.lines.some(line => line.includes('"started"')))
      return daemon
    },
    get: async path => {
      await using api = await machine.forward(8080)
      return (await (await fetch(`http://127.0.0.1:${api.port}${path}`)).json()) as Record<string, unknown>
    },
    notified: () => readFileSync(machine.path(told), 'utf8').trim().split('\n'),
    requestFee: async () => {
      const data = encodeData(brokerRequestsAbi, 'requestFee')
      return BigInt((await rpc.call('eth_call', [{ to: world.requests, data }, 'latest'])) as string)
    },
    [Symbol.asyncDispose]: async () => {
      await chain[Symbol.asyncDispose]()
      await anvil[Symbol.asyncDispose]()
      await machine[Symbol.asyncDispose]()
    },
  }
  return world
}

async function pendingTransactions(rpc: Rpc): Promise<number> {
  const status = (await rpc.call('txpool_status', [])) as { pending: string }
  return Number(status.pending)
}

function parseLine(line: string) {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

function pick(object: Record<string, unknown>, ...keys: string[]): Record<string, unknown> {
  return Object.fromEntries(keys.map(key => [key, object[key]]))
}

/** Waits for a condition; returns what it found. */
async function until<T>(what: string, look: () => T | undefined | false | Promise<T | undefined | false>): Promise<T> {
  const giveUp = performance.now() + 30_000
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    if (performance.now() > giveUp) throw new Error(`Waited 30 s in vain: ${what}`)
    await systemClock.sleep(30)
  }
}
