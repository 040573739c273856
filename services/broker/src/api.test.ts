import assert from 'node:assert/strict'
import { get as httpGet } from 'node:http'
import { connect } from 'node:net'
import { describe, test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { createApi, serveApi } from './api.ts'
import type { BrokerStatus } from './broker.ts'
import { parseConfig } from './config.ts'
import { createPeerView, type PeerFacts } from './peer-view.ts'
import type { Lease } from './store.ts'

const start = Date.parse('2026-11-20T06:45:00.000Z')

describe('/health', () => {
  test('is healthy while the chain is read and the network is as it should be', async () => {
    const { api, world } = setUp()
    world.elapsedMs = 86_400_500
    world.status = { ...world.status, lastPollAt: world.now() - 10_000 }
    const response = await api.request('/health', {}, local)
    assert.equal(response.status, 200)
    assert.deepEqual(await response.json(), { status: 'healthy', version: '1.2.3', uptime_seconds: 86_400 })
  })

  test('is unhealthy, with the reason, when the chain was not read for five minutes', async () => {
    const { api, world } = setUp()
    world.elapsedMs = 1_000_000
    world.status = { ...world.status, lastPollAt: world.now() - 301_000, chainError: 'every endpoint timed out' }
    const response = await api.request('/health', {}, local)
    assert.equal(response.status, 503)
    assert.deepEqual(await response.json(), {
      status: 'unhealthy',
      version: '1.2.3',
      uptime_seconds: 1000,
      reasons: ['The chain was not read for 301 s: every endpoint timed out'],
    })
  })

  test('gives a fresh start five minutes before it calls the chain unreachable', async () => {
    const { api, world } = setUp()
    world.status = { ...world.status, lastPollAt: undefined }
    world.elapsedMs = 299_000
    assert.equal((await api.request('/health', {}, local)).status, 200)
    world.elapsedMs = 301_000
    assert.equal((await api.request('/health', {}, local)).status, 503)
  })

  test('is unhealthy when tunnels and routes are not up to date', async () => {
    const { api, world } = setUp()
    world.status = { ...world.status, dataplaneError: 'wg set failed' }
    const response = await api.request('/health', {}, local)
    assert.equal(response.status, 503)
    assert.deepEqual(((await response.json()) as { reasons: string[] }).reasons, [
      'Tunnels and routes are not up to date: wg set failed',
    ])
  })

  test('does not mind the chain when requests are not served', async () => {
    const { api, world } = setUp({ onchain: false })
    world.elapsedMs = 1_000_000
    world.status = { ...world.status, lastPollAt: undefined }
    assert.equal((await api.request('/health', {}, local)).status, 200)
  })
})

describe('/api/status', () => {
  test('counts leases and tunnels as the design document names them, and says where the chain is', async () => {
    const { api, world } = setUp()
    world.leases = [lease(1), lease(2), lease(3), lease(4, { lastSeenAt: '2026-11-01T00:00:00.000Z' }), lease(5)]
    world.peers = new Map([
      ['key1', peer(world.now() / 1000 - 299)],
      ['key2', peer(world.now() / 1000 - 300)],
      ['key3', peer(undefined)],
      ['key4', peer(undefined)],
    ])
    world.status = { ...world.status, resting: 2 }
    const response = await api.request('/api/status', {}, local)
    assert.deepEqual(await response.json(), {
      upstream_prefix: '2001:db8::/64',
      allocation_size: 72,
      total_allocations: 255,
      used_allocations: 5,
      available_allocations: 248,
      resting_allocations: 2,
      active_peers: 1,
      idle_peers: 2,
      never_connected_peers: 2,
      chain: {
        chain_id: 11155111,
        requests_contract: '0xCD75c00dBB3F05cF27f16699591f4256a798e694',
        head_block: '9007199254740993',
        last_read_at: '2026-11-20T06:45:00.000Z',
        error: null,
        operator_balance_wei: '1000000000000000001',
        requests: { answered: 5, refused: 1 },
        transactions_pending: 3,
      },
    })
  })

  test('asks the kernel once for requests that come together', async () => {
    const { api, world } = setUp()
    await Promise.all(['/api/status', '/api/status', '/api/allocations'].map(path => api.request(path, {}, local)))
    assert.equal(world.peerReadings, 1)
  })

  test('answers 503 with the reason when the peers cannot be read: never "no handshake"', async () => {
    const { api, world } = setUp()
    world.peerFailure = new BlockHostError({ code: 'BH_EXEC_FAILED', message: 'wg did not answer', retryable: true })
    for (const path of ['/api/status', '/api/allocations']) {
      const response = await api.request(path, {}, local)
      assert.equal(response.status, 503)
      assert.deepEqual(await response.json(), { error: 'wg did not answer' })
    }
  })
})

describe('/api/allocations', () => {
  test('shows each lease in the documented shape', async () => {
    const { api, world } = setUp()
    world.leases = [
      lease(1),
      lease(2, { endpoint: '203.0.113.45:51820', lastSeenAt: '2026-11-01T00:00:00.000Z' }),
      lease(3),
    ]
    world.peers = new Map([['key1', peer(Date.parse('2026-11-20T06:44:00.000Z') / 1000)]])
    const response = await api.request('/api/allocations', {}, local)
    const common = {
      nft_contract: '0x00000000000000000000000000000000000000aa',
      allocated_at: '2026-10-01T00:00:00.000Z',
    }
    assert.deepEqual(await response.json(), [
      {
        prefix: '2001:db8:0:0:100::/72',
        pubkey: 'key1',
        endpoint: null,
        ...common,
        last_seen_at: '2026-11-20T06:44:00.000Z',
        status: 'active',
      },
      {
        prefix: '2001:db8:0:0:200::/72',
        pubkey: 'key2',
        endpoint: '203.0.113.45:51820',
        ...common,
        last_seen_at: '2026-11-01T00:00:00.000Z',
        status: 'idle',
      },
      {
        prefix: '2001:db8:0:0:300::/72',
        pubkey: 'key3',
        endpoint: null,
        ...common,
        last_seen_at: null,
        status: 'never_connected',
      },
    ])
  })

  test('hands long lists out in pages that link to the next', async () => {
    const { api, world } = setUp()
    world.leases = [1, 2, 3, 4, 5].map(id => lease(id))
    const seen: string[] = []
    let path: string | undefined = '/api/allocations?limit=2'
    while (path !== undefined) {
      const response: Response = await api.request(path, {}, local)
      assert.equal(response.headers.get('x-total-count'), '5')
      seen.push(...((await response.json()) as { pubkey: string }[]).map(row => row.pubkey))
      path = /^<(.+)>; rel="next"$/.exec(response.headers.get('link') ?? '')?.[1]
    }
    assert.deepEqual(seen, ['key1', 'key2', 'key3', 'key4', 'key5'])
  })

  test('refuses a page that is no page', async () => {
    const { api } = setUp()
    for (const query of ['limit=0', 'limit=10001', 'limit=ten', 'after=-1', 'after=1.5']) {
      const response = await api.request(`/api/allocations?${query}`, {}, local)
      assert.equal(response.status, 400, query)
    }
  })
})

describe('who may ask for what', () => {
  test('other machines read /health and nothing else', async () => {
    const { api } = setUp()
    for (const address of ['203.0.113.9', '::ffff:203.0.113.9', '2001:db8::9', undefined]) {
      assert.equal((await api.request('/health', {}, from(address))).status, 200)
      for (const path of ['/api/status', '/api/allocations', '/metrics']) {
        const response = await api.request(path, {}, from(address))
        assert.equal(response.status, 403, `${path} from ${address}`)
        assert.deepEqual(await response.json(), { error: 'Other machines may read only /health; see api.allow_remote' })
      }
    }
  })

  test('this machine reads everything, whichever way it comes', async () => {
    const { api } = setUp()
    for (const address of ['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1'])
      for (const path of ['/health', '/api/status', '/api/allocations', '/metrics'])
        assert.equal((await api.request(path, {}, from(address))).status, 200, `${path} from ${address}`)
  })

  test('everybody reads everything with api.allow_remote', async () => {
    const { api } = setUp({ api: 'listen = "0.0.0.0:8080"\nallow_remote = true' })
    assert.equal((await api.request('/api/allocations', {}, from('203.0.113.9'))).status, 200)
  })

  test('unknown paths are 404 and writing is 405, in JSON, with the security headers', async () => {
    const { api } = setUp()
    const nothing = await api.request('/api/tokens', {}, local)
    assert.equal(nothing.status, 404)
    assert.deepEqual(await nothing.json(), { error: 'There is nothing at /api/tokens' })
    const writing = await api.request('/api/allocations', { method: 'DELETE' }, local)
    assert.equal(writing.status, 405)
    assert.equal(writing.headers.get('allow'), 'GET, HEAD')
    for (const response of [nothing, writing, await api.request('/health', {}, local)]) {
      assert.equal(response.headers.get('x-content-type-options'), 'nosniff')
      assert.equal(response.headers.get('cache-control'), 'no-store')
      assert.match(response.headers.get('content-security-policy')!, /default-src 'none'/)
    }
  })

  test('a failure inside says where to look and shows nothing of itself', async () => {
    const { api, world } = setUp()
    world.peerFailure = new Error('secret detail')
    const response = await api.request('/api/status', {}, local)
    assert.equal(response.status, 500)
    assert.deepEqual(await response.json(), { error: 'Something went wrong; the log of the broker says what' })
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff')
  })
})

describe('serveApi', () => {
  const anyPort = { host: '127.0.0.1', port: 0, tls: undefined, allowRemote: false }

  test('serves requests from a socket', async () => {
    const server = await serveApi(setUp().api, anyPort)
    try {
      const response = await fetch(`http://127.0.0.1:${server.address.port}/api/allocations`)
      assert.deepEqual(await response.json(), [])
    } finally {
      await server.close()
    }
  })

  test('says that a port is taken, and that trying again may help', async () => {
    const server = await serveApi(setUp().api, anyPort)
    try {
      const taken = { ...anyPort, port: server.address.port }
      await assert.rejects(serveApi(setUp().api, taken), { code: 'BH_API_LISTEN_FAILED', exitCode: 75 })
    } finally {
      await server.close()
    }
  })

  test('says that an address is not of this machine, which only a person can mend', async () => {
    await assert.rejects(serveApi(setUp().api, { ...anyPort, host: '192.0.2.1' }), {
      code: 'BH_API_LISTEN_FAILED',
      exitCode: 78,
    })
  })

  test('cuts off a client that never finishes its request', async () => {
    const server = await serveApi(setUp().api, anyPort, { headersTimeout: 50, connectionsCheckingInterval: 20 })
    try {
      const answer = await new Promise<string>((resolve, reject) => {
        const socket = connect(server.address.port, '127.0.0.1', () =>
          socket.write('GET /health HTTP/1.1\r\nhost: a\r\n'),
        )
        let text = ''
        socket.on('data', chunk => {
          text += chunk
        })
        socket.on('close', () => resolve(text))
        socket.on('error', reject)
      })
      assert.match(answer, /^HTTP\/1\.1 408 /)
    } finally {
      await server.close()
    }
  })

  test('close ends connections that clients keep open', async () => {
    const server = await serveApi(setUp().api, anyPort)
    await new Promise<void>((resolve, reject) => {
      httpGet(
        { port: server.address.port, host: '127.0.0.1', path: '/health', headers: { connection: 'keep-alive' } },
        response => {
          response.resume()
          response.on('end', resolve)
        },
      ).on('error', reject)
    })
    await server.close()
  })
})

type World = {
  elapsedMs: number
  now(): number
  status: BrokerStatus
  leases: Lease[]
  peers: Map<string, PeerFacts>
  peerFailure: Error | undefined
  peerReadings: number
}

function setUp(options: { onchain?: boolean; api?: string } = {}) {
  const world: World = {
    elapsedMs: 0,
    now: () => start + world.elapsedMs,
    status: {
      headBlock: 9_007_199_254_740_993n,
      lastPollAt: start,
      chainError: undefined,
      dataplaneError: undefined,
      operatorBalanceWei: 1_000_000_000_000_000_001n,
      requests: { answered: 5, refused: 1 },
      outboxPending: 3,
      leases: 0,
      poolCapacity: 255n,
      resting: 0,
      counters: {
        leased: 0,
        rekeyed: 0,
        refused: 0,
        superseded: 0,
        dropped: 0,
        released: 0,
        stale: 0,
        unused: 0,
        repairs: 0,
      },
    },
    leases: [],
    peers: new Map(),
    peerFailure: undefined,
    peerReadings: 0,
  }
  const config = parseConfig(
    `[broker]\nupstream_prefix = "2001:db8::/64"\nallocation_size = 72\n[wireguard]\npublic_endpoint = "198.51.100.1:51820"
     [api]\n${options.api ?? ''}
     [onchain]\nenabled = ${options.onchain ?? true}\nrpc_url = "https://rpc.example.net"\nchain_id = 11155111
     requests_contract = "0xCD75c00dBB3F05cF27f16699591f4256a798e694"`,
    'test',
  )
  const clock = { ...systemClock, now: () => world.now(), monotonic: () => world.elapsedMs }
  const readPeers = async () => {
    world.peerReadings++
    if (world.peerFailure !== undefined) throw world.peerFailure
    return world.peers
  }
  const api = createApi({
    config: () => config,
    status: () => world.status,
    leases: {
      count: () => world.leases.length,
      after: (id, limit) => world.leases.filter(lease => lease.id > id).slice(0, limit),
    },
    peers: createPeerView(readPeers, clock),
    metrics: async () => ({ text: 'blockhost_broker_leases 0\n', contentType: 'text/plain' }),
    clock,
    log: silentLog,
    version: '1.2.3',
  })
  return { api, world }
}

const local = from('127.0.0.1')

function from(remoteAddress: string | undefined) {
  return { incoming: { socket: { remoteAddress } } } as never
}

function peer(latestHandshake: number | undefined): PeerFacts {
  return { latestHandshake, rxBytes: 1n, txBytes: 2n }
}

function lease(id: number, more: Partial<Lease> = {}): Lease {
  return {
    id,
    prefix: `2001:db8:0:0:${id}00::/72`,
    prefixIndex: id,
    publicKey: `key${id}`,
    endpoint: undefined,
    nftContract: '0x00000000000000000000000000000000000000aa',
    wallet: undefined,
    allocatedAt: '2026-10-01T00:00:00.000Z',
    lastSeenAt: undefined,
    tunnelSeen: false,
    request: undefined,
    ...more,
  }
}
