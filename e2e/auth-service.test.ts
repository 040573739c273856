import assert from 'node:assert/strict'
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import { testWallet } from '@blockhost/testkit/wallet.ts'
import { type LoginWorld, makeLoginWorld, missingForLogin } from './login/world.ts'

const limit = { timeout: 60_000 }
const alice = { user: 'admin', service: 'sshd', rhost: '' }

describe('web3-auth-svc behind its sockets', { skip: missingForLogin() }, () => {
  let world: LoginWorld
  let socket: string
  before(
    async () => {
      world = await makeLoginWorld()
      socket = world.machine.path('/run/web3-auth/web3-auth.sock')
    },
    { timeout: 120_000 },
  )
  after(() => world?.[Symbol.asyncDispose]())

  it('starts with the first connection, answers it, and ends by itself when nobody signs in', limit, async () => {
    await configure('idle_exit_seconds = 5\n')
    const service = await world.startService()
    assert.deepEqual(await ask('health'), { success: true, token_id: 'ok' })
    assert.deepEqual(await service.ended, { status: 0, signal: null })
    assert.ok(existsSync(world.machine.path('/var/lib/web3-auth/otp.key')))
  })

  it('stays while a code is open, and ends soon after it was used', limit, async () => {
    const service = await world.startService()
    const { session, prompt_text } = (await ask('challenge', alice)) as Record<string, string>
    const message = /^Or sign this text with your wallet: (.*)$/m.exec(prompt_text!)![1]!
    // Longer than the idle time: only the open code keeps it.
    const early = await Promise.race([service.ended, new Promise(resolve => setTimeout(resolve, 6000, 'running'))])
    assert.equal(early, 'running')
    const answer = signMessage(message, world.owners[0].privateKey)
    assert.deepEqual(await ask('verify', { session, answer }), { success: true })
    await service.kill('SIGTERM')
    assert.deepEqual(await service.ended, { status: 0, signal: null })
  })

  it('older clients: get_nfts over one connection, several requests, ids as 32-byte words', limit, async () => {
    const service = await world.startService()
    const word = (id: number) => `0x${id.toString(16).padStart(64, '0')}`
    const params = { wallet_address: world.owners[0].address, contract_address: world.contract, chain_id: 31337 }
    const held = { success: true, token_id: word(0), token_ids: [word(0)] }
    const none = { success: false, error: 'no NFT found for wallet' }
    const requests = [
      { method: 'get_nfts', params },
      'this is not JSON',
      { method: 'verify_access', params: { wallet_address: testWallet(14).address } },
      { method: 'nonsense', params },
    ]
    const replies = await converse(requests)
    assert.deepEqual(replies[0], held)
    assert.match(String((replies[1] as { error: string }).error), /^invalid request: /)
    assert.deepEqual(replies[2], none)
    assert.deepEqual(replies[3], { success: false, error: 'unknown method: nonsense' })
    await world.send(world.operator, 'updateExpiration', [0n, 1000n])
    assert.deepEqual(await ask('get_nfts', params), none, 'a token that is over is none to them')
    await world.send(world.operator, 'updateExpiration', [0n, 0n])
    world.proxy.setFault(() => ({ kind: 'status', status: 503 }))
    assert.match(String(((await ask('get_nfts', params)) as { error: string }).error), /^failed to get NFTs: /)
    world.proxy.setFault()
    await service.kill('SIGTERM')
    await service.ended
  })

  it('a request above 1 MiB ends the connection without an answer, and hurts nobody', limit, async () => {
    const service = await world.startService()
    const head = Buffer.alloc(4)
    head.writeUInt32BE(1024 * 1024 + 1)
    assert.equal((await raw(head)).length, 0)
    assert.deepEqual(await ask('health'), { success: true, token_id: 'ok' })
    await service.kill('SIGTERM')
    await service.ended
  })

  it('runs as nobody, and Node lets it read and start nothing beyond its own', limit, async () => {
    const service = await world.startService()
    await ask('health')
    const status = readFileSync(world.machine.path(`/proc/${service.pid}/status`), 'utf8')
    assert.match(status, /^Uid:\s+2100\s+2100\s+2100\s+2100$/m)
    const argv = readFileSync(world.machine.path(`/proc/${service.pid}/cmdline`), 'utf8').split('\0')
    assert.ok(argv.includes('--permission'))
    for (const allowed of [
      '--allow-child-process',
      '--allow-worker',
      '--allow-addons',
      '--allow-ffi',
      '--allow-fs-read=*',
    ])
      assert.ok(!argv.includes(allowed), allowed)
    await service.kill('SIGTERM')
    await service.ended
  })

  it('a wrong configuration ends it with 78, saying what is wrong', limit, async () => {
    appendFileSync(world.machine.path('/etc/web3-auth/config.toml'), '[nonsense]\n')
    const service = await world.startService()
    await assert.rejects(ask('health'))
    assert.equal((await service.ended).status, 78)
    assert.match(service.lastLines().join('\n'), /config\.toml can't be used: .*nonsense/)
  })

  async function configure(line: string): Promise<void> {
    const path = world.machine.path('/etc/web3-auth/config.toml')
    writeFileSync(path, line + readFileSync(path, 'utf8'))
  }

  function ask(method: string, params: object = {}): Promise<unknown> {
    return callFrame(socket, { method, params }, { timeoutMs: 20_000, maxBytes: 65_536 })
  }

  /** Sends requests one after the other over one connection. */
  async function converse(requests: readonly unknown[]): Promise<unknown[]> {
    const frames = requests.map(request => {
      const body = Buffer.from(typeof request === 'string' ? request : JSON.stringify(request))
      const head = Buffer.alloc(4)
      head.writeUInt32BE(body.length)
      return Buffer.concat([head, body])
    })
    const bytes = await raw(Buffer.concat(frames), requests.length)
    const replies: unknown[] = []
    for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt32BE(at))
      replies.push(JSON.parse(bytes.subarray(at + 4, at + 4 + bytes.readUInt32BE(at)).toString()))
    return replies
  }

  /** Writes bytes and reads until so many frames came, or the other side ends. */
  function raw(bytes: Buffer, frames = 1): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const client = connect(socket)
      let got = Buffer.alloc(0)
      client.on('data', (chunk: Buffer) => {
        got = Buffer.concat([got, chunk])
        let count = 0
        for (let at = 0; at + 4 <= got.length && at + 4 + got.readUInt32BE(at) <= got.length; count++)
          at += 4 + got.readUInt32BE(at)
        if (count >= frames) client.destroy()
      })
      client.on('close', () => resolve(got)).on('error', reject)
      client.write(bytes)
    })
  }
})
