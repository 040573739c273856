import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import { openStore, type Store } from './store.ts'

const pool = { upstreamPrefix: '2001:db8::/64', allocationSize: 120 }
const rest = { keepDays: 30, quarantineDays: 7 }
const request = (id: bigint) => ({ contract: '0xc0', id, digest: `0x${id}` })
const ask = (store: Store, name: string, id = 1n) =>
  store.allocate({ nftContract: name, publicKey: `key-${name}`, wallet: '0xaa', request: request(id) })

test("allocate: index 0 stays the broker's; leases follow in order and are audited", () => {
  using store = openStore(':memory:', pool, systemClock)
  assert.equal(ask(store, 'a')?.prefix, '2001:db8::100/120')
  assert.equal(ask(store, 'b')?.prefix, '2001:db8::200/120')
  const actions = store.db.prepare('SELECT action, nft_contract, prefix FROM audit_log ORDER BY id').all()
  assert.deepEqual(
    actions.map(row => ({ ...row })),
    [
      { action: 'allocate', nft_contract: 'a', prefix: '2001:db8::100/120' },
      { action: 'allocate', nft_contract: 'b', prefix: '2001:db8::200/120' },
    ],
  )
})

test('allocate: one lease per NFT contract and one per key, enforced by the database', () => {
  using store = openStore(':memory:', pool, systemClock)
  ask(store, 'a')
  assert.throws(() => ask(store, 'a'), /UNIQUE/)
  assert.throws(
    () => store.allocate({ nftContract: 'b', publicKey: 'key-a', wallet: '0xaa', request: request(2n) }),
    /UNIQUE/,
  )
})

test('release: with rest the prefix waits for its NFT contract; without, it is free at once', () => {
  let now = Date.parse('2026-01-01T00:00:00Z')
  using store = openStore(':memory:', pool, { ...systemClock, now: () => now })
  store.release(ask(store, 'a')!, 'test', rest)
  assert.equal(ask(store, 'b')?.prefixIndex, 2)
  now += 36 * 86_400_000
  store.collectRested()
  assert.equal(ask(store, 'c')?.prefixIndex, 3)
  now += 86_400_000
  store.collectRested()
  assert.equal(ask(store, 'd')?.prefixIndex, 1)
  store.release(store.findLease({ nftContract: 'b' })!, 'unused', undefined)
  assert.equal(ask(store, 'e')?.prefixIndex, 2)
})

test('a lease that comes back while its prefix rests gets the same one', () => {
  using store = openStore(':memory:', pool, systemClock)
  ask(store, 'a')
  const second = ask(store, 'b')!
  store.release(second, 'test', rest)
  assert.equal(ask(store, 'b')?.prefix, second.prefix)
  assert.equal(store.restingCount(), 0)
})

test('noteEndpoint: where a host was heard from survives a restart, and goes with its key', () => {
  using store = openStore(':memory:', pool, systemClock)
  const lease = ask(store, 'a')!
  store.noteEndpoint(lease, '192.0.2.1:40000')
  const noted = store.findLease({ nftContract: 'a' })!
  assert.equal(noted.endpoint, '192.0.2.1:40000')
  store.rekey(noted, 'key-new', request(2n))
  assert.equal(store.findLease({ nftContract: 'a' })?.endpoint, undefined)
})

test('transaction: everything or nothing', () => {
  using store = openStore(':memory:', pool, systemClock)
  assert.throws(() =>
    store.transaction(() => {
      ask(store, 'a')
      throw new Error('killed')
    }),
  )
  assert.equal(store.leaseCount(), 0)
  assert.equal(ask(store, 'b')?.prefixIndex, 1)
})

test('another pool is refused while leases belong to the old one, and taken when none do', () => {
  const folder = mkdtempSync(join(tmpdir(), 'store-'))
  const path = join(folder, 'ipam.db')
  try {
    const store = openStore(path, pool, systemClock)
    const lease = ask(store, 'a')!
    store.close()
    const other = { upstreamPrefix: '2001:db8:1::/64', allocationSize: 120 }
    assert.throws(() => openStore(path, other, systemClock), { code: 'BH_POOL_CHANGED', exitCode: 78 })
    const again = openStore(path, pool, systemClock)
    again.release(lease, 'test', undefined)
    again.close()
    using moved = openStore(path, other, systemClock)
    assert.equal(ask(moved, 'b')?.prefix, '2001:db8:1::100/120')
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a database of a later version is refused', () => {
  const folder = mkdtempSync(join(tmpdir(), 'store-'))
  const path = join(folder, 'ipam.db')
  try {
    openStore(path, pool, systemClock).close()
    const raw = new DatabaseSync(path)
    raw.exec('PRAGMA user_version = 99')
    raw.close()
    assert.throws(() => openStore(path, pool, systemClock), { code: 'BH_DATABASE_TOO_NEW', exitCode: 78 })
  } finally {
    rmSync(folder, { recursive: true })
  }
})
