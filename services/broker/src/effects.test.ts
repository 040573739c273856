import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import { grant, undo } from './effects.ts'
import type { RequestState } from './requests.ts'
import { openStore, type RequestRef, type Store } from './store.ts'

const pool = { upstreamPrefix: '2001:db8::/64', allocationSize: 120 }
const rest = { keepDays: 30, quarantineDays: 7 }
const nftContract = '0xbb'

function open(): Store {
  return openStore(':memory:', pool, systemClock)
}

/** Leases to request `id` with a key of its own, as the follower does. */
function lease(store: Store, id: bigint): RequestRef {
  const request = { contract: '0xc0', id, digest: `0x${id}` }
  const granted = grant(store, { nftContract, publicKey: `key-${id}`, wallet: '0xaa', request })!
  store.requests.record({
    ...request,
    requester: '0xaa',
    nftContract,
    state: 'leased',
    reason: undefined,
    publicKey: `key-${id}`,
    serverPublicKey: '04',
    previous: granted.previous,
    changedBlock: id,
  })
  return request
}

/** Ends a request and undoes it, as the follower does. */
function end(store: Store, request: RequestRef, state: RequestState) {
  store.requests.setState(request, state)
  return undo(store, store.requests.find(request)!, 'reorg', rest)
}

test('undo: a new lease goes, and its prefix waits for the request to come back', () => {
  using store = open()
  const changes = end(store, lease(store, 1n), 'dropped')
  assert.deepEqual(changes, [{ kind: 'remove', lease: { prefix: '2001:db8::100/120', publicKey: 'key-1' } }])
  assert.equal(store.leaseCount(), 0)
  assert.equal(store.isKept(nftContract), true)
})

test('undo: the prefix waits even where freed prefixes do not rest, as its answer may still be mined', () => {
  using store = open()
  const request = lease(store, 1n)
  store.requests.setState(request, 'dropped')
  undo(store, store.requests.find(request)!, 'reorg', { keepDays: 0, quarantineDays: 0 })
  assert.equal(store.isKept(nftContract), true)
})

test('undo: a new key gives way to the one before', () => {
  using store = open()
  lease(store, 1n)
  const changes = end(store, lease(store, 2n), 'dropped')
  const restored = { prefix: '2001:db8::100/120', publicKey: 'key-1' }
  assert.deepEqual(changes, [{ kind: 'set', lease: restored, previousPublicKey: 'key-2' }])
  assert.equal(store.findLease({ nftContract })?.request?.id, 1n)
})

test('undo: a request before that is over too does not come back', () => {
  for (const over of ['dropped', 'released', 'refused', 'superseded'] as const) {
    using store = open()
    const first = lease(store, 1n)
    const second = lease(store, 2n)
    assert.deepEqual(end(store, first, over), [], 'its effect is covered by the second')
    end(store, second, 'dropped')
    assert.equal(store.leaseCount(), 0, over)
  }
})

test('undo: two requests that came and went in turn, and name each other, both go', () => {
  using store = open()
  const first = lease(store, 1n)
  const second = lease(store, 2n)
  store.requests.setState(first, 'dropped')
  lease(store, 1n)
  store.requests.setState(second, 'dropped')
  end(store, first, 'dropped')
  assert.equal(store.leaseCount(), 0)
})

test('undo: the key before, if another host has it by now, is not taken from it', () => {
  using store = open()
  lease(store, 1n)
  const second = lease(store, 2n)
  const thief = { contract: '0xc0', id: 3n, digest: '0x3' }
  store.allocate({ nftContract: '0xcc', publicKey: 'key-1', wallet: '0xaa', request: thief })
  end(store, second, 'dropped')
  assert.equal(store.findLease({ publicKey: 'key-1' })?.nftContract, '0xcc')
  assert.equal(store.findLease({ nftContract }), undefined)
})

test('undo: a lease that stands on another request is left alone', () => {
  using store = open()
  const first = lease(store, 1n)
  lease(store, 2n)
  assert.deepEqual(end(store, first, 'dropped'), [])
  assert.equal(store.findLease({ nftContract })?.publicKey, 'key-2')
})
