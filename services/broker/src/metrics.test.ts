import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import type { BrokerStatus } from './broker.ts'
import { createMetrics } from './metrics.ts'
import type { PeerFacts } from './peer-view.ts'

test('metrics: shows what the broker, the kernel and the process say at the time of the scrape', async () => {
  const { metrics, world } = setUp()
  world.peers = new Map([
    ['a', { latestHandshake: 1_700_000_000, rxBytes: 10n, txBytes: 1n }],
    ['b', { latestHandshake: undefined, rxBytes: 5n, txBytes: 0n }],
  ])
  const { text, contentType } = await metrics()
  assert.match(contentType, /^text\/plain/)
  assert.deepEqual(valuesOf(text), {
    'blockhost_broker_info{version="1.2.3"}': 1,
    blockhost_broker_start_time_seconds: 1_763_621_100,
    process_resident_memory_bytes: 1024,
    process_cpu_seconds_total: 1.5,
    blockhost_broker_leases: 2,
    blockhost_broker_pool_capacity: 255,
    blockhost_broker_pool_resting: 1,
    'blockhost_broker_requests{state="answered"}': 2,
    blockhost_broker_outbox_pending: 0,
    blockhost_broker_head_block: 100,
    blockhost_broker_last_chain_read_seconds: 1_763_621_000,
    blockhost_broker_chain_up: 1,
    blockhost_broker_dataplane_up: 1,
    blockhost_broker_operator_balance_ether: 0.5,
    'blockhost_broker_peers{handshake="seen"}': 1,
    'blockhost_broker_peers{handshake="never"}': 1,
    'blockhost_broker_peer_bytes{direction="received"}': 15,
    'blockhost_broker_peer_bytes{direction="sent"}': 1,
    blockhost_broker_leased_total: 2,
    blockhost_broker_rekeyed_total: 0,
    blockhost_broker_refused_total: 7,
    blockhost_broker_superseded_total: 0,
    blockhost_broker_dropped_total: 0,
    blockhost_broker_released_total: 0,
    blockhost_broker_stale_total: 0,
    blockhost_broker_unused_total: 0,
    blockhost_broker_repairs_total: 0,
  })
})

test('metrics: what is not known is absent, and what broke is 0', async () => {
  const { metrics, world } = setUp()
  await metrics()
  world.status = {
    ...world.status,
    headBlock: undefined,
    lastPollAt: undefined,
    operatorBalanceWei: undefined,
    chainError: 'down',
    requests: {},
  }
  world.peerFailure = new Error('no wg')
  const values = valuesOf((await metrics()).text)
  assert.equal(values.blockhost_broker_chain_up, 0)
  assert.equal(values.blockhost_broker_dataplane_up, 0)
  const names = Object.keys(values).join('\n')
  assert.doesNotMatch(names, /head_block|last_chain_read|balance|peers|peer_bytes|requests\{/)
})

test('metrics: counters follow the broker, also from one scrape to the next', async () => {
  const { metrics, world } = setUp()
  await metrics()
  world.status = { ...world.status, counters: { ...world.status.counters, refused: 9 } }
  assert.equal(valuesOf((await metrics()).text).blockhost_broker_refused_total, 9)
})

function valuesOf(text: string): Record<string, number> {
  const lines = text.split('\n').filter(line => line !== '' && !line.startsWith('#'))
  return Object.fromEntries(lines.map(line => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]))
}

function setUp() {
  const status: BrokerStatus = {
    headBlock: 100n,
    lastPollAt: 1_763_621_000_000,
    chainError: undefined,
    dataplaneError: undefined,
    operatorBalanceWei: 500_000_000_000_000_000n,
    requests: { answered: 2 },
    outboxPending: 0,
    leases: 2,
    poolCapacity: 255n,
    resting: 1,
    counters: {
      leased: 2,
      rekeyed: 0,
      refused: 7,
      superseded: 0,
      dropped: 0,
      released: 0,
      stale: 0,
      unused: 0,
      repairs: 0,
    },
  }
  const world = { status, peers: new Map<string, PeerFacts>(), peerFailure: undefined as Error | undefined }
  const read = async () => {
    if (world.peerFailure !== undefined) throw world.peerFailure
    return { peers: world.peers }
  }
  const metrics = createMetrics({
    status: () => world.status,
    leaseCount: () => world.status.leases,
    peers: { read },
    usage: () => ({ cpuSeconds: 1.5, rssBytes: 1024 }),
    clock: { ...systemClock, now: () => 1_763_621_100_000 },
    version: '1.2.3',
  })
  return { metrics, world }
}
