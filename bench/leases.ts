import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, openSync } from 'node:fs'
import { prefixAt } from '@blockhost/broker/pool.ts'
import type { LeaseInput, Store } from '@blockhost/broker/store.ts'
import { isoTime, systemClock } from '@blockhost/kit/clock.ts'

/** The pool of every benchmark: the documents' own, with documentation addresses. */
export const benchPool = { upstreamPrefix: '2001:db8:1:2::/64', allocationSize: 120 } as const

/** Requests contract that the leases of {@link fillStore} and {@link newLease} come from. */
export const benchContract = `0x${'b0'.repeat(20)}`

/** What a fresh lease of request `id` is made of; keys and contracts are random. */
export function newLease(id: bigint): LeaseInput {
  const random = randomBytes(104)
  const hex = (from: number, to: number) => `0x${random.toString('hex', from, to)}`
  return {
    nftContract: hex(0, 20),
    publicKey: random.toString('base64', 20, 52),
    wallet: hex(52, 72),
    request: { contract: benchContract, id, digest: hex(72, 104) },
  }
}

/**
 * Puts `count` leases into an empty store in a file, each with its answered request and its line in the audit log, as if the broker
 * had given them out one after the other: the lowest prefixes, so that the next allocation gets number `count + 1`. Ten times as fast
 * as the broker, because nothing is durable before the end.
 */
export function fillStore(store: Store, count: number): void {
  const { db } = store
  const { cache_size: cacheSize } = db.prepare('PRAGMA cache_size').get() as { cache_size: number }
  db.exec('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -2000000')
  store.transaction(() => {
    const indexes = db
      .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
      .all() as { name: string; sql: string }[]
    for (const { name } of indexes) db.exec(`DROP INDEX ${name}`)
    insertLeases(store, count)
    for (const { sql } of indexes) db.exec(sql)
    db.prepare('UPDATE free_ranges SET first = ?').run(count + 1)
  })
  db.exec(`PRAGMA cache_size = ${cacheSize}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL`)
  flushToDisk(db.location()!)
}

/** So that the disk does not work on it while something is measured. */
function flushToDisk(path: string): void {
  const file = openSync(path, 'r+')
  fsyncSync(file)
  closeSync(file)
}

function insertLeases({ db, pool }: Store, count: number): void {
  const lease = db.prepare(
    `INSERT INTO allocations (prefix, prefix_index, pubkey, nft_contract, allocated_at, wallet, tunnel_seen,
       request_contract, request_id, request_digest) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?)`,
  )
  const request = db.prepare(
    `INSERT INTO requests (contract, id, digest, requester, nft_contract, state, pubkey, changed_block, decided_at)
     VALUES (?, ?, ?, ?, ?, 'answered', ?, ?, ?)`,
  )
  const audit = db.prepare(
    "INSERT INTO audit_log (timestamp, action, nft_contract, prefix, details) VALUES (?, 'allocate', ?, ?, ?)",
  )
  const now = systemClock.now()
  const at = isoTime(now)
  for (let index = 1; index <= count; index++) {
    const { nftContract, publicKey, wallet, request: ref } = newLease(BigInt(index))
    const prefix = prefixAt(pool, index)
    lease.run(prefix, index, publicKey, nftContract, at, wallet, ref.contract, index, ref.digest)
    request.run(ref.contract, index, ref.digest, wallet, nftContract, publicKey, index, now)
    audit.run(at, nftContract, prefix, JSON.stringify({ pubkey: publicKey, request: index }))
  }
}
