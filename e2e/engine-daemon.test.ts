import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { readReport } from '@blockhost/engine/report.ts'
import { openStore } from '@blockhost/engine/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createFakeProvisioner } from '@blockhost/testkit/fake-provisioner.ts'
import { testWallet } from '@blockhost/testkit/wallet.ts'
import { type EngineField, openEngine, startEngineField } from './engine/field.ts'

const limit = { timeout: 90_000 }
const program = fileURLToPath(new URL('../services/engine/bin/blockhost-engine', import.meta.url))
const command = fileURLToPath(new URL('../cli/blockhost/bin/blockhost', import.meta.url))
const child = fileURLToPath(new URL('engine/child.ts', import.meta.url))
const buyers = [100, 101, 102].map(testWallet)
const started = new Set<ChildProcess>()
// A test that fails must not leave an engine behind.
after(() => {
  for (const engine of started) engine.kill('SIGKILL')
})

describe('blockhost-engine, killed', () => {
  let base: EngineField
  before(async () => {
    base = await startEngineField()
    await base.equip(buyers)
    await base.keep()
  }, limit)
  after(() => base[Symbol.asyncDispose]())

  it('with -9 at any moment, again and again: one VM and one token for each purchase', limit, async () => {
    await using field = await base.again()
    await field.buy(buyers[0]!)
    for (let round = 0; round < 8; round++) {
      await field.buy(buyers[round % 3]!)
      await runAndKill(field.folder, round)
    }
    const file = `${field.config().databasePath}.fake-hypervisor.json`
    await using living = openEngine(field, createFakeProvisioner({ file }))
    await living.until('all are served', () => living.store.countByState().live === 9)
    assert.equal(living.provisioner.vms.size, 9)
    assert.deepEqual(
      [...living.provisioner.vms.values()].map(({ creates }) => creates),
      Array(9).fill(1),
    )
    assert.equal(await field.totalTokens(), 9n)
    const tokens = living.store.after(0n, 20).map(row => row.tokenId)
    assert.equal(new Set(tokens).size, 9)
    for (const vm of living.vms.listVms({ state: 'active' }))
      assert.equal(living.provisioner.vms.get(vm.name)?.bindings.admin, String(vm.nftTokenId))
    assert.equal(living.vms.listVms().length, 9)
  })

  it('in the middle of a create: the next start goes on with the same VM', limit, async () => {
    await using field = await base.again()
    await field.buy(buyers[0]!)
    const { process: engine, lines } = start(field.folder, 20_000)
    await until('the create', () => lines.includes('create blockhost-001'))
    engine.kill('SIGKILL')
    await once(engine, 'exit')
    await using living = openEngine(field)
    assert.equal(living.store.find(1n)?.state, 'creating')
    const reserved = living.vms.findVm('blockhost-001')!
    await living.until('it is served', () => living.store.find(1n)?.state === 'live')
    assert.deepEqual(
      living.vms.listVms().map(vm => [vm.name, vm.vmid, vm.ipv4]),
      [[reserved.name, reserved.vmid, reserved.ipv4]],
    )
    assert.equal(await field.totalTokens(), 1n)
  })
})

describe('blockhost-engine, as systemd runs it', () => {
  let field: EngineField
  before(async () => {
    field = await startEngineField()
    await field.equip(buyers)
  }, limit)
  after(() => field[Symbol.asyncDispose]())

  it('serves, tells its health and figures, is alone, and stops with 0', limit, async () => {
    const daemon = spawn(program, ['--config-dir', field.folder], { stdio: ['ignore', 'pipe', 'inherit'] })
    started.add(daemon)
    const log = collect(daemon)
    const ended = once(daemon, 'exit')
    const socket = field.config().socketPath
    await until('it is healthy', async () => (await get(socket, '/health')).status === 200)
    await field.buy(buyers[0]!)
    await until('the VM is live', async () => (await get(socket, '/status')).json().subscriptions.live === 1)
    assert.match((await get(socket, '/metrics')).text, /^blockhost_engine_subscriptions\{state="live"\} 1$/m)
    assert.equal((await get(socket, '/nothing')).status, 404)
    const second = await run(['--config-dir', field.folder])
    assert.equal(second.status, 75)
    assert.match(second.err, /Another blockhost-engine uses/)
    const status = JSON.parse((await run(['status', '--all', '--json', '--config-dir', field.folder], command)).out)
    assert.equal(status.engine.healthy, true)
    assert.deepEqual(
      [status.items[0].vm, status.items[0].words, status.items[0].token],
      ['blockhost-001', 'running', 0],
    )
    const doctor = await run(['doctor', '--json', '--config-dir', field.folder], command)
    const findings = (JSON.parse(doctor.out) as { findings: { what: string; verdict: string; text: string }[] })
      .findings
    assert.deepEqual(
      findings.filter(({ verdict }) => verdict === 'bad'),
      [],
    )
    assert.deepEqual(
      findings.filter(({ verdict }) => verdict === 'warning').map(({ what }) => what),
      ['VM template'],
    )
    assert.equal(doctor.status, 0)
    daemon.kill('SIGTERM')
    assert.deepEqual(await ended, [0, null])
    const messages = log.map(line => (JSON.parse(line) as { msg: string }).msg)
    assert.equal(messages[0], 'started')
    assert.equal(messages.at(-1), 'stopped')
  })

  it('tries at once what failed: at SIGHUP, and after a restart', limit, async () => {
    const first = await startDaemon()
    const id = await field.buy(buyers[1]!)
    await until('the VM is live', () => stateOf(id) === 'live')
    // As if the step had failed for long: its next try is an hour away.
    const fail = () => {
      using store = openStore(field.config().databasePath, systemClock)
      const hourAway = systemClock.now() + 3_600_000
      store.change(id, { state: 'resuming', error: 'The disk is full', attempts: 12, retryAt: hourAway })
    }
    fail()
    const waiting = JSON.parse((await run(['status', '--json', '--config-dir', field.folder], command)).out)
    assert.match(waiting.items[0].words, /being started again; failed 12 times: The disk is full/)
    const { out } = await run(['status', '--config-dir', field.folder], command)
    assert.match(out, /The disk is full; next try in 60 min/)
    first.kill('SIGHUP')
    await until('it was tried again', () => stateOf(id) === 'live')
    const ended = once(first, 'exit')
    first.kill('SIGTERM')
    assert.deepEqual(await ended, [0, null])
    fail()
    const second = await startDaemon()
    await until('it was tried again', () => stateOf(id) === 'live')
    const over = once(second, 'exit')
    second.kill('SIGTERM')
    assert.deepEqual(await over, [0, null])

    async function startDaemon(): Promise<ChildProcess> {
      const daemon = spawn(program, ['--config-dir', field.folder], { stdio: ['ignore', 'ignore', 'inherit'] })
      started.add(daemon)
      await until('it is healthy', async () => (await get(field.config().socketPath, '/health')).status === 200)
      return daemon
    }

    function stateOf(of: bigint): string | undefined {
      const { items } = readReport(field.config().databasePath, { all: true, nowMs: systemClock.now() })
      return items.find(item => item.id === Number(of))?.state
    }
  })

  it('blockhost doctor: says what is wrong and what to do', limit, async () => {
    chmodSync(join(field.folder, 'minter.key'), 0o644)
    field.proxy.setFault(() => ({ kind: 'status', status: 503 }))
    const { status, out } = await run(['doctor', '--config-dir', field.folder], command)
    field.proxy.setFault()
    chmodSync(join(field.folder, 'minter.key'), 0o600)
    assert.equal(status, 1)
    assert.match(
      out,
      /BAD {3}key of the minter: .* has mode 644: others may read or change it\n {6}what to do: Run: chmod 0600/,
    )
    assert.match(out, /BAD {3}RPC: No RPC endpoint answered/)
    assert.match(out, /BAD {3}engine: it does not run\n {6}what to do: Run `systemctl start blockhost-engine`/)
    assert.equal((await run(['nonsense'], command)).status, 2)
    const absent = await run(['doctor', '--config-dir', join(field.folder, 'absent')], command)
    assert.equal(absent.status, 78)
    assert.match(
      absent.out,
      /web3-defaults\.yaml: ENOENT: no such file or directory\n {6}what to do: Copy .*\/examples\//,
    )
  })

  it('says by its exit status whether starting it again can help', limit, async () => {
    assert.equal((await run(['--check-config', '--config-dir', field.folder])).status, 0)
    assert.equal((await run(['--nonsense'])).status, 2)
    assert.equal((await run(['--config-dir', join(field.folder, 'absent')])).status, 78)
    writeFileSync(join(field.folder, 'engine.yaml'), 'confirmations: many\n')
    const wrong = await run(['--config-dir', field.folder])
    assert.equal(wrong.status, 78)
    assert.match(wrong.err, /engine\.yaml can't be used: confirmations: expected a whole number/)
  })
})

function start(folder: string, delayMs: number): { process: ChildProcess; lines: string[] } {
  const process_ = spawn(process.execPath, [child, folder, String(delayMs)], { stdio: ['ignore', 'pipe', 'inherit'] })
  started.add(process_)
  return { process: process_, lines: collect(process_) }
}

/** Lets an engine work on what is new, a little longer each round, then ends it as a power cut would. */
async function runAndKill(folder: string, round: number): Promise<void> {
  const { process: engine, lines } = start(folder, 60)
  try {
    await until('a step', () => lines.some(line => line.startsWith('create') || line.startsWith('guestExec')))
    await systemClock.sleep(31 * round)
  } finally {
    engine.kill('SIGKILL')
    await once(engine, 'exit')
  }
}

function collect(process_: ChildProcess): string[] {
  const lines: string[] = []
  let rest = ''
  process_.stdout!.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n')
    rest = parts.pop()!
    lines.push(...parts)
  })
  return lines
}

async function run(args: readonly string[], what = program): Promise<{ status: number; out: string; err: string }> {
  const process_ = spawn(what, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  let err = ''
  process_.stdout!.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  process_.stderr!.setEncoding('utf8').on('data', (text: string) => {
    err += text
  })
  const [status] = (await once(process_, 'close')) as [number]
  return { status, out, err }
}

// biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the daemon says
type Got = { status: number; text: string; json(): any }

function get(socketPath: string, path: string): Promise<Got> {
  return new Promise(resolve => {
    const failed = () => resolve({ status: 0, text: '', json: () => ({ subscriptions: {} }) })
    const asked = request({ socketPath, path }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      response.on('end', () => resolve({ status: response.statusCode!, text, json: () => JSON.parse(text) }))
    })
    asked.on('error', failed).end()
  })
}

async function until(what: string, done: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + 30_000; !(await done()); await systemClock.sleep(20))
    if (performance.now() > end) throw new Error(`${what} did not come about`)
}
