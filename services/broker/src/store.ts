import { readFileSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { outboxSchema } from '@blockhost/chain/outbox-store.ts'
import { type Clock, isoTime } from '@blockhost/kit/clock.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { openDatabase, transaction } from '@blockhost/kit/sqlite.ts'
import { importFirstGeneration, isFirstGeneration } from './import.ts'
import { createFreeSpace, createPool, type Pool, prefixAt } from './pool.ts'
import { createRequestLedger, type RequestLedger } from './requests.ts'

/** Which request a lease answers. */
export type RequestRef = { readonly contract: string; readonly id: bigint; readonly digest: string }

/** A prefix in somebody's hands. */
export type Lease = {
  readonly id: number
  /** RFC 5952, e.g. `2001:db8::100/120`. */
  readonly prefix: string
  readonly prefixIndex: number
  /** WireGuard public key, base64. */
  readonly publicKey: string
  /** `address:port` where the host was last heard from; `undefined` until then and after a change of key. */
  readonly endpoint: string | undefined
  /** Lower-case address. */
  readonly nftContract: string
  /** Lower-case address of who asked; `undefined` for leases of an earlier generation. */
  readonly wallet: string | undefined
  readonly allocatedAt: string
  readonly lastSeenAt: string | undefined
  /** Whether a handshake was ever seen. */
  readonly tunnelSeen: boolean
  /** `undefined` for leases of an earlier generation. */
  readonly request: RequestRef | undefined
  /** Unix ms until which the prefix would still rest had it not been taken again; absent: it did not rest. */
  readonly restsUntil?: number | undefined
}

/** What a new lease, or a new key of one, is made of. */
export type LeaseInput = {
  readonly nftContract: string
  readonly publicKey: string
  readonly wallet: string
  readonly request: RequestRef
}

/** How long a freed prefix is held back. */
export type RestTimes = { readonly keepDays: number; readonly quarantineDays: number }

/**
 * The broker's database: leases, free space, requests, audit log, state. One process writes it; every call is synchronous,
 * and calls that belong together go into one {@link Store.transaction}.
 */
export type Store = Disposable & {
  readonly db: DatabaseSync
  readonly pool: Pool
  readonly requests: RequestLedger
  /** Runs `work` in one durable transaction (synchronous FULL). Calls inside an open one join it. */
  transaction<T>(work: () => T): T
  /** All leases by id. Cost O(leases). */
  leases(): Lease[]
  leaseCount(): number
  restingCount(): number
  findLease(by: { nftContract: string } | { publicKey: string } | { prefix: string }): Lease | undefined
  /** Leases whose tunnel never came up, with their request; cost independent of the others. */
  unseenLeases(): Lease[]
  countLeasesOfWallet(wallet: string): number
  /** Leases after `afterId`, by id: the pages of a sweep. */
  leasesAfter(afterId: number, limit: number): Lease[]
  /** Whether a prefix rests for this NFT contract. */
  isKept(nftContract: string): boolean
  /** Gives out a prefix. @returns `undefined` when the pool is full. */
  allocate(input: LeaseInput): Lease | undefined
  /** Sets the key and the request of a lease; the prefix stays. */
  rekey(lease: Lease, publicKey: string, request: RequestRef | undefined): Lease
  /** Takes a lease back; `rest` holds the prefix back, otherwise it is free at once, or rests on if it was resting before. */
  release(lease: Lease, reason: string, rest: RestTimes | undefined): void
  markSeen(lease: Lease, at: number): void
  /** Remembers where a host was heard from (`address:port`), so that a broker that lost its interface can call first. */
  noteEndpoint(lease: Lease, endpoint: string): void
  /** Frees what has rested enough. Returns how many prefixes that were. */
  collectRested(): number
  audit(action: string, about: { nftContract?: string; prefix?: string; details?: Record<string, unknown> }): void
  getState(key: string): string | undefined
  setState(key: string, value: string): void
  close(): void
}

const schema = readFileSync(new URL('./schema.sql', import.meta.url), 'utf8')

/**
 * Opens (or makes) the broker's database; one of the earlier generation is upgraded in place, in one transaction.
 *
 * @param path - File or `:memory:`.
 * @throws {BlockHostError} `BH_POOL_CHANGED` (exit 78) when leases exist that do not belong to this pool.
 */
export function openStore(
  path: string,
  poolConfig: { upstreamPrefix: string; allocationSize: number },
  clock: Clock,
): Store {
  const pool = createPool(poolConfig.upstreamPrefix, poolConfig.allocationSize)
  const db = openDatabase(path, [
    fresh => (isFirstGeneration(fresh) ? importFirstGeneration(fresh, schema, pool, clock) : fresh.exec(schema)),
    old => old.exec(outboxSchema),
  ])
  // 16 MiB at most: the pages that a backlog of thousands changes stay in memory until its commit, which takes a third less time.
  db.exec('PRAGMA cache_size = -16000')
  const store = createStore(db, pool, clock)
  adoptPool(store, pool)
  return store
}

function createStore(db: DatabaseSync, pool: Pool, clock: Clock): Store {
  const free = createFreeSpace(db)
  const sql = prepare(db)
  const audit: Store['audit'] = (action, { nftContract, prefix, details }) =>
    void sql.audit.run(
      isoTime(clock.now()),
      action,
      nftContract ?? null,
      prefix ?? null,
      details === undefined ? null : JSON.stringify(details),
    )
  const one = (row: unknown): Lease | undefined => (row === undefined ? undefined : toLease(row as LeaseRow))
  const many = (rows: unknown[]): Lease[] => rows.map(row => toLease(row as LeaseRow))

  const store: Store = {
    db,
    pool,
    requests: createRequestLedger(db, clock),
    transaction: work => (db.isTransaction ? work() : transaction(db, work)),
    leases: () => many(sql.leases.all()),
    leaseCount: () => (sql.count.get() as { n: number }).n,
    restingCount: () => (sql.countResting.get() as { n: number }).n,
    findLease: by =>
      one(
        'nftContract' in by
          ? sql.byNft.get(by.nftContract)
          : 'publicKey' in by
            ? sql.byKey.get(by.publicKey)
            : sql.byPrefix.get(by.prefix),
      ),
    unseenLeases: () => many(sql.unseen.all()),
    countLeasesOfWallet: wallet => (sql.countWallet.get(wallet) as { n: number }).n,
    leasesAfter: (afterId, limit) => many(sql.after.all(afterId, limit)),
    isKept: nftContract => free.restsUntil(nftContract) !== undefined,
    allocate({ nftContract, publicKey, wallet, request }) {
      const restsUntil = free.restsUntil(nftContract)
      const index = free.take(nftContract)
      if (index === undefined) return undefined
      const prefix = prefixAt(pool, index)
      const allocatedAt = isoTime(clock.now())
      const { lastInsertRowid } = sql.insert.run(
        prefix,
        index,
        publicKey,
        nftContract,
        allocatedAt,
        wallet,
        request.contract,
        request.id,
        request.digest,
        restsUntil ?? null,
      )
      audit('allocate', { nftContract, prefix, details: { pubkey: publicKey, request: Number(request.id) } })
      return {
        id: Number(lastInsertRowid),
        prefix,
        prefixIndex: index,
        publicKey,
        endpoint: undefined,
        nftContract,
        wallet,
        allocatedAt,
        lastSeenAt: undefined,
        tunnelSeen: false,
        request,
        restsUntil,
      }
    },
    rekey(lease, publicKey, request) {
      sql.rekey.run(publicKey, request?.contract ?? null, request?.id ?? null, request?.digest ?? null, lease.id)
      if (publicKey !== lease.publicKey)
        audit('update_pubkey', {
          nftContract: lease.nftContract,
          prefix: lease.prefix,
          details: { old_pubkey: lease.publicKey, new_pubkey: publicKey },
        })
      return { ...lease, publicKey, request, endpoint: undefined }
    },
    release(lease, reason, rest) {
      sql.remove.run(lease.id)
      const freedAt = clock.now()
      const restMs = rest === undefined ? 0 : (rest.keepDays + rest.quarantineDays) * dayMs
      const availableAt = Math.max(freedAt + restMs, lease.restsUntil ?? 0)
      if (availableAt > freedAt) free.rest(lease.prefixIndex, lease.nftContract, { freedAt, availableAt })
      else free.giveBack(lease.prefixIndex)
      audit('release', { nftContract: lease.nftContract, prefix: lease.prefix, details: { reason } })
    },
    noteEndpoint: (lease, endpoint) => void sql.noteEndpoint.run(endpoint, lease.id),
    markSeen: (lease, at) => void sql.markSeen.run(isoTime(at), lease.id),
    collectRested: () => free.collect(clock.now()),
    audit,
    getState: key => (sql.getState.get(key) as { value: string } | undefined)?.value,
    setState: (key, value) => void sql.setState.run(key, value, isoTime(clock.now())),
    close: () => db.close(),
    [Symbol.dispose]: () => db.close(),
  }
  return store
}

const dayMs = 86_400_000

type LeaseRow = {
  id: number
  prefix: string
  prefix_index: number
  pubkey: string
  endpoint: string | null
  nft_contract: string
  wallet: string | null
  allocated_at: string
  last_seen_at: string | null
  tunnel_seen: number
  request_contract: string | null
  request_id: number | null
  request_digest: string | null
  rests_until: number | null
}

function toLease(row: LeaseRow): Lease {
  return {
    id: row.id,
    prefix: row.prefix,
    prefixIndex: row.prefix_index,
    publicKey: row.pubkey,
    endpoint: row.endpoint ?? undefined,
    nftContract: row.nft_contract,
    wallet: row.wallet ?? undefined,
    allocatedAt: row.allocated_at,
    lastSeenAt: row.last_seen_at ?? undefined,
    tunnelSeen: row.tunnel_seen === 1,
    request:
      row.request_contract === null || row.request_id === null || row.request_digest === null
        ? undefined
        : { contract: row.request_contract, id: BigInt(row.request_id), digest: row.request_digest },
    restsUntil: row.rests_until ?? undefined,
  }
}

function prepare(db: DatabaseSync) {
  return {
    leases: db.prepare('SELECT * FROM allocations ORDER BY id'),
    after: db.prepare('SELECT * FROM allocations WHERE id > ? ORDER BY id LIMIT ?'),
    byNft: db.prepare('SELECT * FROM allocations WHERE nft_contract = ?'),
    byKey: db.prepare('SELECT * FROM allocations WHERE pubkey = ?'),
    byPrefix: db.prepare('SELECT * FROM allocations WHERE prefix = ?'),
    unseen: db.prepare('SELECT * FROM allocations WHERE tunnel_seen = 0 ORDER BY id'),
    count: db.prepare('SELECT COUNT(*) AS n FROM allocations'),
    countResting: db.prepare('SELECT COUNT(*) AS n FROM resting'),
    countWallet: db.prepare('SELECT COUNT(*) AS n FROM allocations WHERE wallet = ?'),
    insert: db.prepare(
      `INSERT INTO allocations (prefix, prefix_index, pubkey, nft_contract, allocated_at, wallet,
         request_contract, request_id, request_digest, rests_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    rekey: db.prepare(
      `UPDATE allocations SET pubkey = ?, endpoint = NULL, request_contract = ?, request_id = ?, request_digest = ?
       WHERE id = ?`,
    ),
    remove: db.prepare('DELETE FROM allocations WHERE id = ?'),
    noteEndpoint: db.prepare('UPDATE allocations SET endpoint = ? WHERE id = ?'),
    markSeen: db.prepare('UPDATE allocations SET tunnel_seen = 1, last_seen_at = ? WHERE id = ?'),
    audit: db.prepare(
      'INSERT INTO audit_log (timestamp, action, nft_contract, prefix, details) VALUES (?, ?, ?, ?, ?)',
    ),
    getState: db.prepare('SELECT value FROM state WHERE key = ?'),
    setState: db.prepare(
      `INSERT INTO state (key, value, updated_at) VALUES (?, ?, ?)
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at`,
    ),
  }
}

/** Fills the free space of a new database, and refuses a pool that existing leases do not belong to. */
function adoptPool(store: Store, pool: Pool): void {
  const name = `${prefixAt(pool, 0)} of ${pool.upstream.length}`
  const known = store.getState('pool')
  if (known === name) return
  if (known !== undefined && store.leaseCount() > 0) {
    const example = store.leases()[0]!
    throw new BlockHostError({
      code: 'BH_POOL_CHANGED',
      message: `${store.leaseCount()} leases belong to another pool (for example ${example.prefix}; its first prefix was ${known})`,
      hint: 'Put broker.upstream_prefix and broker.allocation_size back, or release these leases first.',
      exitCode: exitCodes.badConfig,
    })
  }
  store.transaction(() => {
    store.db.exec('DELETE FROM free_ranges; DELETE FROM resting')
    store.db.prepare('INSERT INTO free_ranges (first, last) VALUES (1, ?)').run(pool.last)
    store.setState('pool', name)
  })
}
