import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, watch, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { generatePrivateKey, publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { publicKeyOf as wgPublicKeyOf } from '@blockhost/net/wireguard.ts'
import { type Anvil, startAnvil } from '@blockhost/testkit/anvil.ts'
import { type RpcFault, startRpcProxy } from '@blockhost/testkit/rpc-proxy.ts'
import { encodeData, fromAbi } from 'ox/AbiFunction'
import { checksum } from 'ox/Address'
import { answerAll, type ClientRun, createField, type Field, type Generation } from './broker-client/field.ts'

const limit = { timeout: 120_000 }
const generations: readonly Generation[] = [1, 2, 3]
let anvil: Anvil

before(async () => {
  anvil = await startAnvil()
})
after(() => anvil[Symbol.asyncDispose]())

function succeeded(run: ClientRun): void {
  assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`)
}

function failed(run: ClientRun, status: number, code: string): Record<string, unknown> {
  assert.equal(run.status, status, `${run.stdout}\n${run.stderr}`)
  const { error } = JSON.parse(run.stdout)
  assert.equal(error.code, code, run.stdout)
  return error
}

/** The saved WireGuard key is the one that the live request on chain asks for. */
async function assertKeyIsKnown(field: Field): Promise<void> {
  const saved = field.json('broker-allocation.json')
  const id = await field.liveId()
  assert.equal(saved.request_id, Number(id))
  assert.equal(saved.wg_public_key, (await field.askedKey(id)).wgPubkey)
  assert.equal(saved.wg_public_key, wgPublicKeyOf(String(saved.wg_private_key)))
}

describe('request', limit, () => {
  for (const generation of generations)
    it(`gets a lease from a generation-${generation} broker and finds it again`, async () => {
      using field = await createField(anvil, generation)
      await using _broker = answerAll(field)
      const first = await field.request()
      succeeded(first)
      assert.match(first.stdout, /^prefix: 2001:db8:1:2::100\/120$/im)
      await assertKeyIsKnown(field)
      assert.deepEqual(Object.keys(field.json('broker-allocation.json')), [
        'prefix',
        'gateway',
        'broker_pubkey',
        'broker_endpoint',
        'nft_contract',
        'request_id',
        'wg_private_key',
        'wg_public_key',
        'allocated_at',
        'broker_wallet',
        'dns_zone',
      ])
      assert.equal(field.json('broker-allocation.json').broker_wallet, field.operator.address)
      assert.deepEqual(field.json('broker-contract.json'), {
        requests_contract: field.requests.toLowerCase(),
        broker_pubkey: field.eciesPublicKey,
        broker_id: 1,
      })
      assert.deepEqual(readdirSync(field.configDir).sort(), [
        'broker-allocation.json',
        'broker-client.lock',
        'broker-contract.json',
        'server.key',
      ])
      assert.equal(field.mode('server.key'), 0o600)
      assert.equal(field.mode('broker-allocation.json') & 0o137, 0, 'nobody but root and the group reads it')

      const second = await field.request('--json')
      succeeded(second)
      assert.equal(JSON.parse(second.stdout).new, false)
      assert.equal(await field.requestCount(), 1n)
    })

  it('asks with the documented payload', async () => {
    using field = await createField(anvil, 3)
    await using _broker = answerAll(field)
    succeeded(await field.request())
    const asked = await field.askedKey(1n)
    const serverKey = Uint8Array.fromHex(readFileSync(field.file('server.key'), 'utf8').trim())
    assert.deepEqual(asked, {
      wgPubkey: field.json('broker-allocation.json').wg_public_key,
      nftContract: checksum(field.nft),
      serverPubkey: publicKeyOf(serverKey).toHex(),
    } as never)
    assert.equal((await field.readRequest(1n)).payload.length, 2 + 2 * 368)
  })

  it('names the broker directly, without a registry', async () => {
    using field = await createField(anvil, 2)
    await using _broker = answerAll(field)
    const globals = ['--rpc-url', anvil.url, '--chain-id', '31337', '--config-dir', field.configDir]
    const run = await field.start([
      ...globals,
      'request',
      ...field.askArgs('--requests-contract', field.requests, '--broker-pubkey', `0x${field.eciesPublicKey}`, '--json'),
    ]).done
    succeeded(run)
    assert.equal(JSON.parse(run.stdout).broker_id, 0)
    assert.match(run.stderr, /not checked against a registry/)
  })

  it('re-installed, with every file lost, goes back to its broker and gets its prefix, whichever else there is', async () => {
    using field = await createField(anvil, 2)
    await using _broker = answerAll(field)
    succeeded(await field.request())
    const idle = await field.registerAnother(3)
    rmSync(field.configDir, { recursive: true })
    const run = await field.request()
    succeeded(run)
    assert.match(run.stderr, /WireGuard key is not on this machine; asking anew/)
    assert.equal(field.json('broker-contract.json').requests_contract, field.requests.toLowerCase())
    await assertKeyIsKnown(field)

    failed(await field.request('--broker-id', '2', '--timeout', '1', '--json'), 75, 'BH_TIMEOUT')
    assert.equal(field.json('broker-request.json').requests_contract, idle.toLowerCase())
    failed(await field.request('--broker-id', '1', '--json'), 1, 'BH_REQUEST_UNFINISHED')
  })

  it('does not forget an unfinished request over one for another NFT contract', async () => {
    using field = await createField(anvil, 3)
    failed(await field.request('--timeout', '1', '--json'), 75, 'BH_TIMEOUT')
    const other = ['--nft-contract', field.registry, '--wallet-key', field.walletKey]
    failed(await field.run('request', ...other, '--json'), 1, 'BH_REQUEST_UNFINISHED')
    succeeded(await field.run('release', '--force'))
    assert.ok(!field.has('broker-request.json'))
  })

  it('says nothing secret', async () => {
    using field = await createField(anvil, 3)
    await using _broker = answerAll(field)
    const runs = [await field.request('--json'), await field.run('status', '--json'), await field.run('status')]
    const said = runs.map(run => run.stdout + run.stderr).join('\n')
    const secrets = [
      field.json('broker-allocation.json').wg_private_key,
      readFileSync(field.file('server.key'), 'utf8').trim(),
      field.host.privateKeyHex.slice(2),
    ]
    for (const secret of secrets) assert.ok(!said.includes(String(secret)))
  })

  it('takes an answer without id from a second-generation broker', async () => {
    using field = await createField(anvil, 2)
    await using _broker = answerAll(field, { bare: true })
    succeeded(await field.request())
    await assertKeyIsKnown(field)
  })
})

describe('request, killed with -9 and run again', limit, () => {
  /** Kills the client at its first HTTP request that the rule picks: before it is passed on, or after it had its effect. */
  async function killedAt(
    field: Field,
    pick: (methods: readonly string[], sent: boolean) => boolean,
    fault: RpcFault,
  ): Promise<ClientRun> {
    await using proxy = await startRpcProxy(anvil.url)
    const client = field.start([...field.globals(proxy.url), 'request', ...field.askArgs()])
    let sent = false
    proxy.setFault(methods => {
      const hit = pick(methods, sent)
      sent ||= methods.includes('eth_sendRawTransaction')
      if (!hit) return undefined
      client.kill('SIGKILL')
      return fault
    })
    return await client.done
  }

  const points: readonly [
    name: string,
    pick: (methods: readonly string[], sent: boolean) => boolean,
    fault: RpcFault,
  ][] = [
    ['while it estimates', methods => methods.includes('eth_estimateGas'), { kind: 'drop' }],
    [
      'with the journal written, before sending',
      methods => methods.includes('eth_sendRawTransaction'),
      { kind: 'drop' },
    ],
    [
      'after sending, before hearing of it',
      methods => methods.includes('eth_sendRawTransaction'),
      { kind: 'drop-after' },
    ],
    ['while it looks for its request', (_methods, sent) => sent, { kind: 'drop-after' }],
  ]

  for (const [name, pick, fault] of points)
    it(name, async () => {
      using field = await createField(anvil, 3)
      const killed = await killedAt(field, pick, fault)
      assert.equal(killed.status, null, killed.stderr)
      const key = field.has('broker-request.json') ? field.json('broker-request.json').wg_public_key : undefined
      await using _broker = answerAll(field)
      succeeded(await field.request())
      await assertKeyIsKnown(field)
      assert.equal(await field.requestCount(), 1n)
      if (key !== undefined) assert.equal(field.json('broker-allocation.json').wg_public_key, key)
      assert.ok(!field.has('broker-request.json'))
    })

  for (const file of ['server.key', 'broker-request.json', 'broker-allocation.json', 'broker-contract.json'])
    it(`as soon as ${file} is written`, async () => {
      using field = await createField(anvil, 3)
      await using _broker = answerAll(field)
      mkdirSync(field.configDir)
      const client = field.start([...field.globals(), 'request', ...field.askArgs()])
      const watcher = watch(field.configDir, (_event, name) => {
        if (name === file) client.kill('SIGKILL')
      })
      const { status } = await client.done
      watcher.close()
      assert.equal(status, null)
      succeeded(await field.request())
      await assertKeyIsKnown(field)
      assert.equal(await field.requestCount(), 1n)
    })

  it('after the answer came, before it was seen', async () => {
    using field = await createField(anvil, 1)
    const sleeping = await field.request('--timeout', '2', '--json')
    failed(sleeping, 75, 'BH_TIMEOUT')
    const key = field.json('broker-request.json').wg_public_key
    await field.answer(1n)
    succeeded(await field.request())
    assert.equal(field.json('broker-allocation.json').wg_public_key, key)
    await assertKeyIsKnown(field)
  })

  it('on Ctrl-C it says that the next run goes on', async () => {
    using field = await createField(anvil, 3)
    const client = field.start([...field.globals(), '--json', 'request', ...field.askArgs()])
    await until(() => client.stderr().includes('to answer request 1'))
    client.kill('SIGINT')
    failed(await client.done, 75, 'BH_INTERRUPTED')
    await field.answer(1n)
    succeeded(await field.request())
    await assertKeyIsKnown(field)
  })
})

describe('request, chain in trouble', limit, () => {
  it('sends the same request again when a reorg drops it', async () => {
    await using own = await startAnvil()
    using field = await createField(own, 3)
    const client = field.start([...field.globals(own.url), 'request', ...field.askArgs()])
    await until(() => client.stderr().includes('to answer request 1'))
    await own.reorg(1)
    assert.equal(await field.requestCount(), 0n)
    await using _broker = answerAll(field)
    succeeded(await client.done)
    await assertKeyIsKnown(field)
    assert.equal(await field.requestCount(), 1n)
  })

  it('is not misled by an endpoint that stays behind', async () => {
    using field = await createField(anvil, 3)
    await using proxy = await startRpcProxy(anvil.url)
    proxy.pinBlock(await anvil.height())
    await using _broker = answerAll(field)
    const behind = await field.start([
      ...field.globals(proxy.url),
      'request',
      ...field.askArgs('--timeout', '3', '--json'),
    ]).done
    failed(behind, 75, 'BH_TIMEOUT')
    proxy.pinBlock()
    succeeded(await field.start([...field.globals(proxy.url), 'request', ...field.askArgs()]).done)
    assert.equal(await field.requestCount(), 1n)
    await assertKeyIsKnown(field)
  })

  it('survives lost answers, errors and an endpoint without batches', async () => {
    using field = await createField(anvil, 3)
    await using proxy = await startRpcProxy(anvil.url)
    await using _broker = answerAll(field)
    const faults: RpcFault[] = [
      { kind: 'no-batch' },
      { kind: 'status', status: 503 },
      { kind: 'drop' },
      { kind: 'error', code: -32005, message: 'rate limit' },
    ]
    let count = 0
    proxy.setFault(methods => {
      if (methods.includes('eth_sendRawTransaction')) return { kind: 'drop-after' }
      return ++count % 5 === 0 ? faults.shift() : undefined
    })
    succeeded(await field.start([...field.globals(proxy.url), 'request', ...field.askArgs()]).done)
    assert.equal(await field.requestCount(), 1n)
    assert.deepEqual(faults, [], 'all of it happened')
    await assertKeyIsKnown(field)
  })

  it('refuses the wrong chain', async () => {
    using field = await createField(anvil, 3)
    const run = await field.start([...field.globals(), '--chain-id', '5', '--json', 'request', ...field.askArgs()]).done
    failed(run, 78, 'BH_WRONG_CHAIN')
  })

  it('lets only one run work in a folder', async () => {
    using field = await createField(anvil, 3)
    const client = field.start([...field.globals(), 'request', ...field.askArgs()])
    await until(() => client.stderr().includes('to answer request 1'))
    failed(await field.request('--json'), 75, 'BH_ALREADY_RUNNING')
    await field.answer(1n)
    succeeded(await client.done)
  })
})

describe('request, hostile and stale answers', limit, () => {
  const hostile: readonly [name: string, options: Parameters<Field['answer']>[1]][] = [
    ['a line break in the endpoint', { over: { brokerEndpoint: '198.51.100.1:51820\nPostUp = touch /tmp/owned' } }],
    ['a prefix outside of the upstream', { over: { prefix: '2001:db8:9::100/120' } }],
    ['the whole internet', { over: { prefix: '::/0' } }],
    ['a key of 31 bytes', { over: { brokerPubkey: Buffer.alloc(31, 7).toString('base64') } }],
    ['a gateway that is no address', { over: { gateway: 'gateway' } }],
  ]
  for (const [name, options] of hostile)
    it(`refuses ${name} and writes nothing of it`, async () => {
      using field = await createField(anvil, 3)
      {
        await using _broker = answerAll(field, options)
        const error = failed(
          await field.request('--expect-upstream', '2001:db8:1:2::/64', '--json'),
          1,
          'BH_ANSWER_INVALID',
        )
        assert.ok(!/[\u0000-\u001f]/.test(String(error.message)))
      }
      assert.deepEqual(readdirSync(field.configDir).sort(), ['broker-client.lock', 'broker-request.json', 'server.key'])
      assert.ok(!readFileSync(field.file('broker-request.json'), 'utf8').includes('owned'))
      assert.equal(await field.requestCount(), 1n)
      // The operator corrects it: the next run asks anew.
      await using _broker = answerAll(field)
      succeeded(await field.request('--expect-upstream', '2001:db8:1:2::/64'))
      assert.equal(field.json('broker-contract.json').expect_upstream, '2001:db8:1:2::/64')
      await assertKeyIsKnown(field)
    })

  const stale: readonly [name: string, options: Parameters<Field['answer']>[1]][] = [
    ['for another request', { namedId: 77n }],
    ['encrypted to another server.key', { recipient: publicKeyOf(generatePrivateKey()) }],
    ['of garbage', { whole: '0x00112233445566778899aabbccddeeff' }],
  ]
  for (const [name, options] of stale)
    it(`asks once more after an answer ${name}`, async () => {
      using field = await createField(anvil, 3)
      const client = field.start([...field.globals(), 'request', ...field.askArgs()])
      await until(async () => (await field.liveId()) === 1n)
      await field.answer(1n, options)
      await until(async () => (await field.liveId()) === 2n)
      await field.answer(2n)
      const run = await client.done
      succeeded(run)
      assert.match(run.stderr, /asking again/)
      await assertKeyIsKnown(field)
    })

  it('asks once more when another machine takes the NFT contract, then gives up', async () => {
    using field = await createField(anvil, 2)
    const client = field.start([...field.globals(), '--json', 'request', ...field.askArgs()])
    await until(async () => (await field.liveId()) === 1n && client.stderr().includes('to answer request 1'))
    await field.askFromElsewhere()
    await until(() => client.stderr().includes('to answer request 3'))
    await field.askFromElsewhere()
    const run = await client.done
    failed(run, 1, 'BH_REQUEST_KEPT_DYING')
    assert.match(run.stderr, /another machine/)
  })

  it('trusts no broker whose requests contract another wallet owns', async () => {
    using field = await createField(anvil, 2)
    await field.call(field.operator, encodeData(fromAbi(brokerRequestsAbi, 'transferOwnership'), [field.host.address]))
    failed(await field.request('--broker-id', '1', '--json'), 1, 'BH_BROKER_UNTRUSTED')
    const error = failed(await field.request('--json'), 1, 'BH_NO_BROKER')
    assert.match(String(error.message), /not by its operator/)
    const [broker] = JSON.parse((await field.run('list-brokers', '--json')).stdout)
    assert.equal(broker.usable, false)
  })
})

describe('request, money', limit, () => {
  it('shows the fee and pays it only when told', async () => {
    using field = await createField(anvil, 3)
    await field.call(field.operator, encodeData(fromAbi(brokerRequestsAbi, 'setRequestFee'), [12_345n]))
    const error = failed(await field.request('--json'), 1, 'BH_FEE_TOO_HIGH')
    assert.match(String(error.hint), /--max-fee-wei 12345/)
    await using _broker = answerAll(field)
    succeeded(await field.request('--max-fee-wei', '12345'))
    assert.equal(BigInt((await anvil.rpc.call('eth_getBalance', [field.requests, 'latest'])) as string), 12_345n)
  })

  it('names the wallet that can not pay', async () => {
    using field = await createField(anvil, 3)
    await anvil.setBalance(field.host.address, 1000n)
    const error = failed(await field.request('--json'), 1, 'BH_BALANCE_TOO_LOW')
    assert.ok(String(error.hint).includes(field.host.address.toLowerCase()))
    assert.ok(!field.has('broker-request.json'))
  })

  it('says in the contract’s words why it is refused', async () => {
    using field = await createField(anvil, 3)
    writeFileSync(field.walletKey, `${field.operator.privateKeyHex}\n`)
    const error = failed(await field.request('--json'), 1, 'BH_CALL_REFUSED')
    assert.match(String(error.message), /NotNftOwner/)
  })
})

describe('request, first generation with the NFT contract occupied', limit, () => {
  it('says what to do, and clears it after its expiry', async () => {
    await using own = await startAnvil()
    using field = await createField(own, 1)
    const id = await field.askFromElsewhere()
    const error = failed(
      await field.start([...field.globals(own.url), '--json', 'request', ...field.askArgs('--timeout', '2')]).done,
      75,
      'BH_NFT_CONTRACT_OCCUPIED',
    )
    assert.match(String(error.hint), /operator/)
    await own.setNextBlockTimestamp(Number((await field.readRequest(id)).submittedAt) + 86_500)
    await own.mine()
    await using _broker = answerAll(field)
    succeeded(await field.start([...field.globals(own.url), 'request', ...field.askArgs()]).done)
    assert.equal((await field.readRequest(id)).status, 3)
    await assertKeyIsKnown(field)
  })

  it('waits for the broker to release it', async () => {
    using field = await createField(anvil, 1)
    await field.askFromElsewhere()
    const client = field.start([...field.globals(), 'request', ...field.askArgs()])
    await until(() => client.stderr().includes('release request 1'))
    await field.call(field.operator, encodeData(fromAbi(brokerRequestsAbi, 'releaseAllocation'), [field.nft]))
    await using _broker = answerAll(field)
    succeeded(await client.done)
    await assertKeyIsKnown(field)
  })
})

describe('renew', limit, () => {
  it('gets a new key from the same broker and rewrites the file of the tunnel it belongs to', async () => {
    using field = await createField(anvil, 3)
    await using _broker = answerAll(field)
    succeeded(await field.request())
    const before = field.json('broker-allocation.json')
    const confDir = join(field.folder, 'wireguard')
    const conf = join(confDir, 'wg-broker.conf')
    mkdirSync(confDir)
    writeFileSync(conf, `[Interface]\nPrivateKey = ${before.wg_private_key}\nPostUp = ip -6 route add default dev %i\n`)
    succeeded(await field.run('renew', ...field.askArgs('--wg-conf-dir', confDir)))
    const after = field.json('broker-allocation.json')
    assert.equal(after.prefix, before.prefix)
    assert.notEqual(after.wg_public_key, before.wg_public_key)
    await assertKeyIsKnown(field)
    const text = readFileSync(conf, 'utf8')
    assert.ok(text.includes(`PrivateKey = ${after.wg_private_key}`) && !text.includes('route add default'))
    assert.equal(statSync(conf).mode & 0o777, 0o600)
  })

  it('leaves a tunnel of something else alone', async () => {
    using field = await createField(anvil, 3)
    await using _broker = answerAll(field)
    succeeded(await field.request())
    const conf = join(field.folder, 'wg-broker.conf')
    writeFileSync(conf, `[Interface]\nPrivateKey = ${field.wgKeys.privateKey}\n`)
    succeeded(await field.run('renew', ...field.askArgs('--wg-conf-dir', field.folder)))
    assert.ok(readFileSync(conf, 'utf8').includes(field.wgKeys.privateKey))
  })

  it('needs to know the broker', async () => {
    using field = await createField(anvil, 3)
    failed(await field.run('renew', ...field.askArgs('--json')), 1, 'BH_NOTHING_TO_RENEW')
  })
})

describe('release', limit, () => {
  it('gives the lease back on chain and forgets it, twice', async () => {
    using field = await createField(anvil, 3)
    await using _broker = answerAll(field)
    succeeded(await field.request())
    const args = ['release', '--nft-contract', field.nft, '--wallet-key', field.walletKey, '--json']
    const first = await field.run(...args)
    succeeded(first)
    assert.equal(JSON.parse(first.stdout).chain, 'released')
    assert.equal(await field.liveId(), 0n)
    assert.ok(!field.has('broker-allocation.json') && field.has('broker-contract.json'))
    assert.equal(JSON.parse((await field.run(...args)).stdout).chain, 'already-free')
    succeeded(await field.request())
    await assertKeyIsKnown(field)
  })

  it('explains that only the broker can, on older contracts; --force cleans up here', async () => {
    using field = await createField(anvil, 1)
    await using _broker = answerAll(field)
    succeeded(await field.request())
    failed(await field.run('release', '--wallet-key', field.walletKey, '--json'), 1, 'BH_RELEASE_BY_BROKER_ONLY')
    assert.ok(field.has('broker-allocation.json'))
    succeeded(await field.run('release', '--wallet-key', field.walletKey, '--force'))
    assert.ok(!field.has('broker-allocation.json'))
  })

  it('works without a wallet as the later generation’s did: here only', async () => {
    using field = await createField(anvil, 3)
    await using _broker = answerAll(field)
    succeeded(await field.request())
    const run = await field.run('release')
    succeeded(run)
    assert.match(run.stderr, /broker is not told/)
    assert.equal(await field.liveId(), 1n)
  })
})

describe('status and list-brokers', limit, () => {
  it('shows lease, chain and what is unfinished, and always exits 0', async () => {
    using field = await createField(anvil, 3)
    const nothing = await field.run('status', '--json')
    succeeded(nothing)
    assert.deepEqual(JSON.parse(nothing.stdout), { lease: null, unfinished: null, chain: null, tunnel: null })
    assert.ok(!existsSync(field.configDir), 'looking makes nothing')
    failed(await field.request('--timeout', '1', '--json'), 75, 'BH_TIMEOUT')
    assert.equal(JSON.parse((await field.run('status', '--json')).stdout).unfinished.request_id, 1)
    await field.answer(1n)
    succeeded(await field.request())
    const status = JSON.parse((await field.run('status', '--json')).stdout)
    assert.equal(status.lease.prefix, '2001:db8:1:2::100/120')
    assert.deepEqual(
      [status.chain.generation, status.chain.request_id, status.chain.status, status.chain.is_saved_lease],
      [3, 1, 'approved', true],
    )
    const down = await field.start(['--rpc-url', 'http://127.0.0.1:9', ...field.globals().slice(2), 'status', '--json'])
      .done
    succeeded(down)
    assert.ok(JSON.parse(down.stdout).chain.problem)
  })

  it('lists the brokers with what can be asked', async () => {
    using field = await createField(anvil, 3)
    const run = await field.run('list-brokers', '--json')
    succeeded(run)
    const [broker] = JSON.parse(run.stdout)
    assert.deepEqual(
      [broker.id, broker.region, broker.generation, broker.live_requests, broker.available, broker.usable],
      [1, 'eu', 3, 0, null, true],
    )
    assert.match((await field.run('list-brokers')).stdout, /^ID .*\n1 +eu /)
  })
})

describe('exit codes and output', () => {
  it('2 for usage, 78 without a registry, 75 without a chain, 1 without a lease', async () => {
    using field = await createField(anvil, 3)
    failed(await field.run('request', '--json'), 2, 'BH_USAGE')
    const bare = ['--rpc-url', anvil.url, '--chain-id', '31337', '--config-dir', field.configDir, '--json']
    failed(await field.start([...bare, 'list-brokers']).done, 78, 'BH_REGISTRY_UNKNOWN')
    failed(
      await field.start([
        '--rpc-url',
        'http://127.0.0.1:9',
        '--registry-contract',
        field.registry,
        '--json',
        'list-brokers',
      ]).done,
      75,
      'BH_RPC_UNAVAILABLE',
    )
    failed(await field.request('--wallet-key', join(field.folder, 'none'), '--json'), 78, 'BH_FILE_READ_FAILED')
    if (process.getuid?.() === 0) failed(await field.run('install', '--json'), 1, 'BH_NO_LEASE')
  })

  it('reads the registry from registry.json', async () => {
    using field = await createField(anvil, 3)
    mkdirSync(field.configDir)
    writeFileSync(
      field.file('registry.json'),
      JSON.stringify({ registry_contract: field.registry, chain_id: anvil.chainId, network: 'test' }),
    )
    succeeded(await field.start(['--rpc-url', anvil.url, '--config-dir', field.configDir, 'list-brokers']).done)
  })
})

/** Looks every few milliseconds until it is so; the test's own limit ends it otherwise. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise(resolve => setTimeout(resolve, 20))
}
