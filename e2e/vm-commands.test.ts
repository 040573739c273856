import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { decryptAccessData, parseConnectionDetails } from '@blockhost/crypto/access-data.ts'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { createFrameServer } from '@blockhost/kit/frame.ts'
import { takeLock } from '@blockhost/kit/lock.ts'
import { createFakeRootAgent, type FakeRootAgent } from '@blockhost/provisioners/libvirt/fake-root-agent.ts'
import { testWallet } from '@blockhost/testkit/wallet.ts'
import { type EngineField, startEngineField } from './engine/field.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const buyer = testWallet(100)
const name = 'blockhost-001'
const day = 86_400

test('the commands on a real chain: a VM with its token, its end, and nothing twice', { timeout: 120_000 }, async t => {
  const host = await startHost(t)
  const { field, agent } = host
  const signatureFile = join(host.work, 'signature')
  const publicSecret = `libpam-web3:${buyer.address}:1`
  const signature = signMessage(publicSecret, buyer.privateKey)
  writeFileSync(signatureFile, signature, { mode: 0o600 })
  await field.equip([buyer])
  await field.buy(buyer, { days: 1 })
  const expiresAt = String(await field.expiryOf(1n))
  const paid = ['--expires-at', expiresAt, '--user-signature-file', signatureFile, '--public-secret', publicSecret]
  const generate = [name, '--owner-wallet', buyer.address, ...paid]

  await t.test('vm-generator without --apply changes nothing', async () => {
    const { status, result } = await host.run('vm-generator', generate)
    assert.equal(status, 0)
    assert.equal(result.status, 'dry-run')
    assert.equal(agent.snapshot(), '')
    assert.equal(await field.totalTokens(), 0n)
  })

  await t.test('while the engine runs, its key is left alone', async () => {
    using _engine = takeLock(join(field.folder, 'engine.db'), 'blockhost-engine')
    const { status, result } = await host.run('vm-generator', [...generate, '--apply'])
    assert.equal(status, 75)
    assert.equal(result.error?.code, 'BH_MINTER_BUSY')
    assert.equal(agent.snapshot(), '')
  })

  await t.test('vm-generator --apply makes the VM, mints, and binds the token of the receipt', async () => {
    const { status, result } = await host.run('vm-generator', [...generate, '--apply'])
    assert.equal(status, 0, JSON.stringify(result))
    const { status: state, vm_name, ip, ipv6, nft_token_id, username } = result
    assert.deepEqual(
      { state, vm_name, ip, ipv6, nft_token_id, username },
      {
        ...{ state: 'active', vm_name: name, ip: '10.90.0.2', ipv6: '2001:db8:1::101' },
        ...{ nft_token_id: 0, username: 'admin' },
      },
    )
    assert.equal(await field.tokenOwner(0n), buyer.address.toLowerCase())
    assert.equal(agent.bindingOf(name, 'admin'), '0')
    const access = await field.accessData(0n)
    const bytes = (hex: string) => Uint8Array.fromHex(hex.slice(2))
    const details = parseConnectionDetails(
      new TextDecoder().decode(decryptAccessData(bytes(signature), bytes(access.userEncrypted))),
    )
    assert.deepEqual(details, { hostname: '2001:db8:1::101', port: 22, username: 'admin' })
  })

  await t.test('again: refused, one VM, one token', async () => {
    const { status, result } = await host.run('vm-generator', [...generate, '--apply'])
    assert.equal(status, 1)
    assert.equal(result.error?.code, 'BH_VM_EXISTS')
    assert.deepEqual(agent.leftovers(name), ['disk', 'seed', 'domain', 'network'])
    assert.equal(await field.totalTokens(), 1n)
  })

  await t.test('mint-nft twice for one machine and owner mints once', async () => {
    const args = ['--owner-wallet', buyer.address, '--machine-id', 'other.1a2b3c4d']
    for (let time = 0; time < 2; time++) {
      const { status, result } = await host.run('mint-nft', args)
      assert.equal(status, 0, JSON.stringify(result))
      assert.equal(result.nft_token_id, 1)
    }
    assert.equal(await field.totalTokens(), 2n)
  })

  await t.test('a VM that can not be made leaves nothing behind', async () => {
    const error = new BlockHostError({ code: 'BH_LIBVIRT_FAILED', message: 'no memory' })
    agent.failOn('vm-start', { error, when: 'after' })
    const { status } = await host.run('vm-generator', ['other', '--owner-wallet', buyer.address, '--apply'])
    agent.failOn('vm-start', undefined)
    assert.equal(status, 1)
    assert.deepEqual(agent.leftovers('other'), [])
    assert.equal(await field.totalTokens(), 2n)
  })

  await t.test('vm-gc: not while the chain says it is paid, then suspended once', async () => {
    const early = await host.run('vm-gc', ['--execute'])
    assert.deepEqual(early.result.suspended, [], JSON.stringify(early))
    await field.passTo(Number(expiresAt) + 60)
    assert.deepEqual((await host.run('vm-gc', [])).result.suspended, [name])
    assert.deepEqual(agent.leftovers(name).includes('network'), true, 'only looked')
    assert.deepEqual((await host.run('vm-gc', ['--execute'])).result.suspended, [name])
    assert.deepEqual(agent.leftovers(name), ['disk', 'seed', 'domain'])
    assert.deepEqual((await host.run('vm-gc', ['--execute'])).result.suspended, [])
  })

  await t.test('vm-gc: a paid extension saves the VM from its end', async () => {
    // The command goes by this machine's clock for when the suspension was: days have to pass there, so none are waited for.
    await field.extend(1n, 60)
    const { result } = await host.run('vm-gc', ['--execute', '--grace-days', '0'])
    assert.deepEqual(result.extended, [name])
    assert.deepEqual(result.destroyed, [])
    assert.deepEqual(agent.leftovers(name), ['disk', 'seed', 'domain'])
  })
})

test('the commands say in usage errors what was wrong, and take no key on the command line', async () => {
  const run = async (command: string, args: readonly string[]) => (await runCommand(command, args, root, {})).status
  assert.equal(await run('vm-generator', []), 2)
  assert.equal(await run('vm-generator', ['x', '--owner-wallet', buyer.address, '--user-signature', '0x1']), 2)
  assert.equal(await run('vm-gc', ['--grace-days', 'x']), 2)
  assert.equal(await run('mint-nft', ['--machine-id', 'x']), 2)
  assert.equal(await run('vm-gc', ['--help']), 0)
})

/** A chain that began 40 days ago, a host on it, and a root agent that is a fake behind a real socket. */
async function startHost(t: TestContext) {
  const work = mkdtempSync(join(tmpdir(), `bh-commands-${process.pid}-`))
  const socket = join(work, 'agent.sock')
  const timestamp = Math.floor(Date.now() / 1000) - 40 * day
  const engine = [`root_agent_socket: ${socket}`, 'vm_template: "0123456789abcdef"']
  const field: EngineField = await startEngineField({ anvil: { timestamp }, engine })
  const agent = createFakeRootAgent()
  const server = await serveAgent(agent, socket)
  // The commands look for ./config when they are told that this is no installed host.
  symlinkSync(field.folder, join(work, 'config'))
  t.after(async () => {
    await server.close()
    await field[Symbol.asyncDispose]()
    rmSync(work, { recursive: true })
  })
  return {
    field,
    agent,
    work,
    run: (command: string, args: readonly string[]) => runCommand(command, args, work, { BLOCKHOST_DEV: '1' }),
  }
}

function serveAgent(agent: FakeRootAgent, path: string) {
  mkdirSync(join(path, '..'), { recursive: true })
  return createFrameServer({
    ...{ path, mode: 0o600, maxBytes: 2 ** 20, receiveTimeoutMs: 5000, maxConnections: 8, once: true },
    handle: async request => {
      const { action, params } = request as { action: string; params: Record<string, unknown> }
      return agent.call(action, params).catch((error: BlockHostError) => {
        const { message, code, retryable } = error
        return { ok: false, error: message, code, retryable }
      })
    },
  })
}

type CommandResult = Record<string, unknown> & {
  readonly error?: { readonly code: string }
  readonly suspended?: readonly string[]
  readonly destroyed?: readonly string[]
  readonly extended?: readonly string[]
}

async function runCommand(
  command: string,
  args: readonly string[],
  folder: string,
  env: Readonly<Record<string, string>>,
): Promise<{ status: number; result: CommandResult }> {
  const main = join(root, 'cli', command, 'src/main.ts')
  const options = { cwd: folder, env: { ...process.env, ...env }, timeout: 60_000 }
  const { status, text } = await new Promise<{ status: number; text: string }>(resolve =>
    execFile(process.execPath, [main, ...args], options, (error, stdout) =>
      resolve({ status: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, text: stdout }),
    ),
  )
  const line = text.split('\n').findLast(line => line.startsWith('BLOCKHOST_RESULT: '))
  return { status, result: JSON.parse(line?.slice('BLOCKHOST_RESULT: '.length) ?? '{}') as CommandResult }
}
