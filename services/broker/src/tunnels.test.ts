import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import type { Dataplane, DataplanePeer } from './dataplane.ts'
import type { RequestState } from './requests.ts'
import { openStore } from './store.ts'
import { createTunnelWatch } from './tunnels.ts'

const timeoutMs = 120_000

/** A watch over one lease; its peer is there, without a handshake, and its request is answered. */
function watch() {
  let now = 5_000
  const clock = { ...systemClock, monotonic: () => now }
  const store = openStore(':memory:', { upstreamPrefix: '2001:db8::/64', allocationSize: 120 }, clock)
  const request = { contract: '0xc0', id: 1n, digest: '0x1' }
  store.allocate({ nftContract: '0xbb', publicKey: 'key', wallet: '0xaa', request })
  store.requests.record({
    ...request,
    requester: '0xaa',
    nftContract: '0xbb',
    state: 'answered',
    reason: undefined,
    publicKey: 'key',
    serverPublicKey: '04',
    previous: undefined,
    changedBlock: 1n,
  })
  const quiet: DataplanePeer = { latestHandshake: undefined, rxBytes: 0n, txBytes: 0n, endpoint: undefined } as never
  let peers: () => Map<string, DataplanePeer> = () => new Map([['key', quiet]])
  const dataplane = { peers: async () => peers() } as unknown as Dataplane
  const tunnels = createTunnelWatch({ store, dataplane, clock })
  return {
    store,
    tunnels,
    look: async () => (await tunnels.findUnused(timeoutMs)).map(lease => lease.nftContract),
    pass: (ms: number) => {
      now += ms
    },
    setState: (state: RequestState) => store.requests.setState(request, state),
    setPeers: (read: () => Map<string, DataplanePeer>) => {
      peers = read
    },
    there: () => new Map([['key', quiet]]),
    shaken: () => new Map([['key', { ...quiet, latestHandshake: 1_800_000_000 }]]),
  }
}

test('a lease without a handshake is unused when its time is over, counted from the first look', async () => {
  const { look, pass } = watch()
  assert.deepEqual(await look(), [])
  pass(timeoutMs - 1)
  assert.deepEqual(await look(), [])
  pass(1)
  assert.deepEqual(await look(), ['0xbb'])
})

test('a handshake is noted for good', async () => {
  const { look, pass, setPeers, shaken, there, store } = watch()
  setPeers(shaken)
  assert.deepEqual(await look(), [])
  assert.equal(store.findLease({ publicKey: 'key' })?.tunnelSeen, true)
  setPeers(there)
  pass(timeoutMs * 2)
  assert.deepEqual(await look(), [])
})

test('a failing wg is thrown on and never counts as no handshake', async () => {
  const { look, pass, setPeers } = watch()
  await look()
  setPeers(() => {
    throw new Error('wg failed')
  })
  pass(timeoutMs * 2)
  await assert.rejects(look(), /wg failed/)
})

test('a peer that was missing gets its whole time when it is back', async () => {
  const { look, pass, setPeers, there } = watch()
  await look()
  setPeers(() => new Map())
  pass(timeoutMs)
  assert.deepEqual(await look(), [])
  setPeers(there)
  assert.deepEqual(await look(), [])
  pass(timeoutMs - 1)
  assert.deepEqual(await look(), [])
  pass(1)
  assert.deepEqual(await look(), ['0xbb'])
})

test('a lease that stops waiting begins anew when it waits again, even if nobody could look in between', async () => {
  const { look, pass, setPeers, setState, there } = watch()
  await look()
  setState('answering')
  setPeers(() => {
    throw new Error('wg failed')
  })
  pass(timeoutMs)
  assert.deepEqual(await look(), [], 'nothing waits, so wg is not asked')
  setState('answered')
  setPeers(there)
  assert.deepEqual(await look(), [])
})

test('restart: all begin anew', async () => {
  const { look, pass, tunnels } = watch()
  await look()
  pass(timeoutMs)
  tunnels.restart()
  assert.deepEqual(await look(), [])
})
