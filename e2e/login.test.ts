import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { after, before, describe, it } from 'node:test'
import { hashMessage, signMessage } from '@blockhost/crypto/signed-message.ts'
import { deployContract, type TestWallet, testWallet } from '@blockhost/testkit/wallet.ts'
import { connectSsh } from './login/ssh.ts'
import { type LoginWorld, machineId, makeLoginWorld, missingForLogin } from './login/world.ts'

const limit = { timeout: 60_000 }
const stranger = testWallet(13)

describe('signing in over SSH with a wallet', { skip: missingForLogin() }, () => {
  let world: LoginWorld
  before(
    async () => {
      world = await makeLoginWorld()
      await world.startService()
    },
    { timeout: 120_000 },
  )
  after(() => world?.[Symbol.asyncDispose]())

  it('the holder of the user’s token gets in, with one round trip to the chain', limit, async () => {
    await signIn('admin', world.owners[0]) // the first one starts the service
    world.proxy.reset()
    const ended = await signIn('admin', world.owners[0])
    assert.ok(ended.in, ended.screen)
    assert.match(ended.screen, /in as admin/)
    assert.equal(world.proxy.roundTrips(), 1)
    assert.deepEqual(audit().at(-1), {
      msg: 'signed in',
      user: 'admin',
      service: 'sshd',
      rhost: '127.0.0.1',
      wallet: world.owners[0].address,
      by: 'token',
    })
  })

  it('shows what has to be signed, the documented way, and asks in the documented words', limit, async () => {
    const connection = await world.connect('admin')
    const { code, message, url, text } = connection.shown
    assert.match(code, /^[A-HJ-NP-Z2-9]{6}$/)
    assert.equal(message, `Authenticate to ${machineId} with code: ${code}`)
    assert.match(url ?? '', /^https:\/\/127\.0\.0\.1:8443\/\?session=[0-9a-f]{32}$/)
    assert.match(text, /=== Web3 Authentication ===\nCode: /)
    assert.ok(text.endsWith('Press Enter after signing in the browser, or paste the signature: '), text)
    assert.equal((await connection.answer('')).in, false, 'Enter without a signature from the page')
  })

  it('a stranger’s signature is refused', limit, async () => {
    const ended = await signIn('admin', stranger)
    assert.equal(ended.in, false)
    assert.match(ended.screen, /That is not a signature of a wallet that may sign in as this user\./)
    assert.match(ended.screen, /Permission denied/)
    assert.equal(audit().at(-1)?.wallet, stranger.address)
  })

  it(
    'nobody gets in under another name: not another token’s user, root, one without token, or one that is none',
    limit,
    async () => {
      for (const user of ['second', 'root', 'plain', 'nobody-there']) {
        const ended = await signIn(user, world.owners[0])
        assert.equal(ended.in, false, user)
        assert.match(ended.screen, /That is not a signature of a wallet that may sign in as this user\./, user)
        assert.match(ended.screen, /Permission denied/)
      }
      assert.ok((await signIn('second', world.owners[1])).in)
    },
  )

  it('a signature for one code is worth nothing for the next', limit, async () => {
    const first = await world.connect('admin')
    const signature = signMessage(first.shown.message, world.owners[0].privateKey)
    assert.ok((await first.answer(signature)).in)
    const second = await world.connect('admin')
    assert.notEqual(second.shown.code, first.shown.code)
    assert.equal((await second.answer(signature)).in, false)
  })

  it('garbage is refused, and the next one gets in as if nothing had been', limit, async () => {
    const { message } = (await world.connect('admin')).shown
    const signature = signMessage(message, stranger.privateKey)
    for (const garbage of [
      'no signature',
      `${signature}00`,
      signature.slice(0, -2),
      '0x',
      'ü\u{1f600}é'.repeat(20),
      '"}}{"success":true',
      '%s%n%s%n',
      `0x${'f'.repeat(130)}`,
      'a'.repeat(500),
      '\u0001\u0002\u007f',
    ]) {
      const connection = await world.connect('admin')
      const ended = await connection.answer(garbage)
      assert.equal(ended.in, false, garbage)
    }
    assert.ok((await signIn('admin', world.owners[0])).in)
  })

  it('with the page: the browser signs, Enter finishes', limit, async () => {
    await using page = await world.machine.forward(8443)
    const connection = await world.connect('admin')
    const session = connection.shown.url!.slice(-32)
    const pending = JSON.parse((await ask(page.port, 'GET', `/auth/pending/${session}`)).body)
    assert.deepEqual(
      [pending.otp, pending.machine_id, pending.user, pending.message],
      [connection.shown.code, machineId, 'admin', connection.shown.message],
    )
    const signature = signMessage(pending.message, world.owners[0].privateKey)
    assert.deepEqual(await ask(page.port, 'POST', `/auth/callback/${session}`, signature), { status: 200, body: 'OK' })
    assert.ok((await connection.answer('')).in)
    assert.equal((await ask(page.port, 'GET', `/auth/pending/${session}`)).status, 404)
  })

  it('the token moves: the new holder gets in, the old one no longer', limit, async () => {
    const [old] = world.owners
    await world.send(old, 'transferFrom', [old.address, stranger.address, 0n])
    assert.equal((await signIn('admin', old)).in, false)
    assert.ok((await signIn('admin', stranger)).in)
    const { address: back } = old
    await world.anvil.setBalance(stranger.address, 10n ** 18n)
    await world.send(stranger, 'transferFrom', [stranger.address, back, 0n])
    assert.ok((await signIn('admin', old)).in)
  })

  it('a token that is over lets nobody in, until it is renewed', limit, async () => {
    await world.send(world.operator, 'updateExpiration', [0n, 1000n])
    const ended = await signIn('admin', world.owners[0])
    assert.equal(ended.in, false)
    assert.match(ended.screen, /Your access to this server is over/)
    await world.send(world.operator, 'updateExpiration', [0n, 0n])
    assert.ok((await signIn('admin', world.owners[0])).in)
  })

  it('a contract wallet signs for itself (EIP-1271)', limit, async () => {
    const wallet = await deployContract(world.anvil.rpc, world.operator, { abi: [], bytecode: echoWallet })
    await world.send(world.owners[1], 'transferFrom', [world.owners[1].address, wallet, 1n])
    const good = await world.connect('second')
    const signature = `0x${hashMessage(good.shown.message).toHex().padEnd(200, '0')}`
    assert.ok((await good.answer(signature)).in)
    assert.equal(audit().at(-1)?.by, 'contract-wallet')
    const bad = await world.connect('second')
    assert.equal((await bad.answer(signature)).in, false)
  })

  it('while no endpoint answers, the last known holder gets in, and nobody else', limit, async () => {
    world.proxy.setFault(() => ({ kind: 'drop' }))
    try {
      const ended = await signIn('admin', world.owners[0])
      assert.ok(ended.in, ended.screen)
      assert.equal(audit().at(-1)?.by, 'last-known')
      assert.equal((await signIn('admin', stranger)).in, false)
    } finally {
      world.proxy.setFault()
    }
  })

  it('the operator’s rescue wallet gets in without any chain, only as the user it is listed for', limit, async () => {
    const path = world.machine.path('/etc/web3-auth/rescue-wallets')
    writeFileSync(path, `${stranger.address}:plain\n`, { mode: 0o644 })
    world.proxy.setFault(() => ({ kind: 'drop' }))
    try {
      assert.ok((await signIn('plain', stranger)).in)
      assert.equal(audit().at(-1)?.by, 'rescue-file')
      assert.equal((await signIn('admin', stranger)).in, false)
      await world.machine.exec('chmod', ['o+w', '/etc/web3-auth/rescue-wallets'])
      assert.equal((await signIn('plain', stranger)).in, false, 'a file that anybody may write is not believed')
    } finally {
      world.proxy.setFault()
    }
  })

  it('no secret is on disk but under the service’s own folder, and no signature or code in the log', () => {
    const text = JSON.stringify(world.serviceLog())
    assert.doesNotMatch(text, /[0-9a-f]{128}/i)
    assert.doesNotMatch(text, /with code:/)
    const known = JSON.parse(readFileSync(world.machine.path('/var/lib/web3-auth/ownership.json'), 'utf8'))
    assert.equal(known.v, 1)
  })

  async function signIn(user: string, wallet: TestWallet) {
    const connection = await world.connect(user)
    return connection.answer(signMessage(connection.shown.message, wallet.privateKey))
  }

  function audit() {
    return world
      .serviceLog()
      .filter(({ msg }) => msg === 'signed in' || msg === 'refused')
      .map(({ level: _level, time: _time, name: _name, ...rest }) => rest)
  }
})

describe('signing in while the service is not there', { skip: missingForLogin() }, () => {
  it('is refused at once, without a question; the console is not touched', limit, async () => {
    await using world = await makeLoginWorld()
    const ended = await connectSsh(world.machine, 'admin')
    assert.ok(!('answer' in ended), 'nothing was asked')
    assert.match(ended.screen, /Permission denied/)
    const changed = ['login', 'su', 'sudo', 'common-auth'].filter(name => {
      try {
        return readFileSync(world.machine.path(`/etc/pam.d/${name}`), 'utf8').includes('web3')
      } catch {
        return false
      }
    })
    assert.deepEqual(changed, [])
  })
})

/**
 * Code of a wallet that takes a signature whose first word is the hash: creation code that returns
 * `if (calldata[4..36] == calldata[100..132]) return 0x1626ba7e else return 0`.
 */
const echoWallet = `0x${creation(`6004356064351463${'1626ba7e'}60e01b0260005260206000f3`)}` as const

function creation(code: string): string {
  const length = (code.length / 2).toString(16).padStart(2, '0')
  return `60${length}600c60003960${length}6000f3${code}`
}

function ask(port: number, method: string, path: string, body = ''): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ port, method, path, host: '127.0.0.1', rejectUnauthorized: false }, response => {
      let text = ''
      response.on('data', chunk => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}
