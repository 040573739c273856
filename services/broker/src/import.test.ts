import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import { openStore } from './store.ts'

const pool = { upstreamPrefix: '2a11:6c7:f04:276::/64', allocationSize: 120 }

// The layout that the design document names and the earlier generation made.
const firstGeneration = `
  CREATE TABLE allocations (id INTEGER PRIMARY KEY AUTOINCREMENT, prefix TEXT UNIQUE NOT NULL, prefix_index INTEGER UNIQUE NOT NULL,
    pubkey TEXT NOT NULL, endpoint TEXT, nft_contract TEXT NOT NULL, allocated_at TEXT NOT NULL, last_seen_at TEXT);
  CREATE INDEX idx_allocations_nft_contract ON allocations(nft_contract);
  CREATE INDEX idx_allocations_pubkey ON allocations(pubkey);
  CREATE TABLE tokens (id INTEGER PRIMARY KEY AUTOINCREMENT, token_hash TEXT UNIQUE NOT NULL, name TEXT, max_allocations INTEGER DEFAULT 1,
    is_admin BOOLEAN DEFAULT FALSE, created_at TEXT NOT NULL, expires_at TEXT, revoked BOOLEAN DEFAULT FALSE);
  CREATE TABLE audit_log (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT NOT NULL, action TEXT NOT NULL, nft_contract TEXT, prefix TEXT, details TEXT);
  CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at TEXT NOT NULL);
  INSERT INTO tokens (token_hash, name, created_at) VALUES ('ab', 'host-alpha', '2026-02-08T18:54:00Z');
  INSERT INTO audit_log (timestamp, action, nft_contract) VALUES ('2026-02-08 18:54:00', 'allocate', '0xaa');
  INSERT INTO state VALUES ('last_processed_id', '7', '2026-02-08 18:54:00')`

function withOldDatabase(rows: string, use: (path: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'import-'))
  const path = join(folder, 'ipam.db')
  const db = new DatabaseSync(path)
  db.exec(firstGeneration)
  db.exec(rows)
  db.close()
  try {
    use(path)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const insert = (index: number, key: string, nft: string) =>
  `INSERT INTO allocations (prefix, prefix_index, pubkey, nft_contract, allocated_at)
   VALUES ('2a11:6c7:f04:276::${index.toString(16)}00/120', ${index}, '${key}', '${nft}', '2026-02-08T19:00:00.123456789+00:00');`

test('an ipam.db of the earlier generation opens: leases keep prefix, index, key and date; new ones fill the gaps', () => {
  withOldDatabase(insert(1, 'k1', '0xAA') + insert(3, 'k3', '0xbb'), path => {
    using store = openStore(path, pool, systemClock)
    const [first, second] = store.leases()
    assert.equal(first?.prefix, '2a11:6c7:f04:276::100/120')
    assert.equal(first?.nftContract, '0xaa')
    assert.equal(first?.tunnelSeen, true)
    assert.equal(first?.allocatedAt, '2026-02-08T19:00:00.123456789+00:00')
    assert.equal(second?.prefixIndex, 3)
    const take = (nft: string) =>
      store.allocate({
        nftContract: nft,
        publicKey: nft,
        wallet: '0x1',
        request: { contract: '0xc', id: 1n, digest: '0x' },
      })
    assert.deepEqual([take('0xcc')?.prefixIndex, take('0xdd')?.prefixIndex], [2, 4])
    assert.equal(store.getState('last_processed_id'), '7')
    assert.equal((store.db.prepare('SELECT name FROM tokens').get() as { name: string }).name, 'host-alpha')
    assert.equal(store.db.prepare("SELECT COUNT(*) AS n FROM audit_log WHERE action = 'allocate'").get()?.n, 3)
  })
})

test('several leases of one NFT contract or of one key: the newest counts, the others rest', () => {
  withOldDatabase(insert(1, 'k1', '0xaa') + insert(2, 'k2', '0xAA') + insert(3, 'k2', '0xcc'), path => {
    using store = openStore(path, pool, systemClock)
    assert.deepEqual(
      store.leases().map(lease => lease.prefixIndex),
      [1, 3],
    )
    assert.equal(store.restingCount(), 1)
  })
})

test('a pool that the leases do not belong to is refused and nothing is changed', () => {
  withOldDatabase(insert(1, 'k1', '0xaa'), path => {
    assert.throws(() => openStore(path, { ...pool, allocationSize: 112 }, systemClock), {
      code: 'BH_IMPORT_POOL_MISMATCH',
      exitCode: 78,
    })
    using store = openStore(path, pool, systemClock)
    assert.equal(store.leaseCount(), 1)
  })
})

test('opening it again changes nothing', () => {
  withOldDatabase(insert(1, 'k1', '0xaa'), path => {
    openStore(path, pool, systemClock).close()
    using store = openStore(path, pool, systemClock)
    assert.equal(store.leaseCount(), 1)
    assert.equal(store.db.prepare("SELECT COUNT(*) AS n FROM audit_log WHERE action = 'import'").get()?.n, 1)
  })
})
