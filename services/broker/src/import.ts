import type { DatabaseSync } from 'node:sqlite'
import { type Clock, isoTime } from '@blockhost/kit/clock.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { parseEndpoint } from '@blockhost/net/endpoint.ts'
import { type Pool, prefixAt } from './pool.ts'

/** Returns whether the database was made by the earlier generation (which kept no schema version). */
export function isFirstGeneration(db: DatabaseSync): boolean {
  return db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'allocations'").get() !== undefined
}

/**
 * Upgrades an `ipam.db` of the earlier generation in place: leases keep prefix, index, key and date; tokens, audit log and
 * cursors are taken along. Runs inside the migration's transaction, so it happens wholly or not at all.
 *
 * Of several leases of one NFT contract, or of one WireGuard key, the newest counts and the others rest; a test lease rests too.
 *
 * @throws {BlockHostError} `BH_IMPORT_POOL_MISMATCH` (exit 78) when a lease's prefix is not number `prefix_index` of the pool.
 */
export function importFirstGeneration(db: DatabaseSync, schema: string, pool: Pool, clock: Clock): void {
  const rows = readRows(db, pool)
  for (const table of copied) db.exec(`ALTER TABLE ${table} RENAME TO old_${table}`)
  for (const { name } of db
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
    .all() as {
    name: string
  }[])
    db.exec(`DROP INDEX "${name.replaceAll('"', '""')}"`)
  db.exec('DROP TABLE allocations')
  db.exec(schema)
  db.exec(`
    INSERT INTO tokens (id, token_hash, name, max_allocations, is_admin, created_at, expires_at, revoked)
      SELECT id, token_hash, name, COALESCE(max_allocations, 1), COALESCE(is_admin, 0), created_at, expires_at, COALESCE(revoked, 0) FROM old_tokens;
    INSERT INTO audit_log (id, timestamp, action, nft_contract, prefix, details)
      SELECT id, timestamp, action, nft_contract, prefix, details FROM old_audit_log;
    INSERT INTO state (key, value, updated_at) SELECT key, value, updated_at FROM old_state;`)
  for (const table of copied) db.exec(`DROP TABLE old_${table}`)
  insertRows(db, rows, pool, clock)
}

const copied = ['tokens', 'audit_log', 'state'] as const

type OldRow = {
  id: number
  prefix: string
  prefix_index: number
  pubkey: string
  endpoint: string | null
  nft_contract: string
  allocated_at: string
  last_seen_at: string | null
  is_test?: number
}

function readRows(db: DatabaseSync, pool: Pool): OldRow[] {
  // An old database without the later tables is completed first, so that there is one way on from here.
  db.exec(`CREATE TABLE IF NOT EXISTS tokens (id INTEGER PRIMARY KEY, token_hash TEXT, name TEXT, max_allocations INTEGER,
      is_admin BOOLEAN, created_at TEXT, expires_at TEXT, revoked BOOLEAN);
    CREATE TABLE IF NOT EXISTS audit_log (id INTEGER PRIMARY KEY, timestamp TEXT, action TEXT, nft_contract TEXT, prefix TEXT, details TEXT);
    CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT, updated_at TEXT)`)
  const rows = db.prepare('SELECT * FROM allocations ORDER BY id DESC').all() as OldRow[]
  for (const row of rows) {
    const expected =
      row.prefix_index >= 1 && row.prefix_index <= pool.last ? prefixAt(pool, row.prefix_index) : 'nothing'
    if (expected === row.prefix) continue
    throw new BlockHostError({
      code: 'BH_IMPORT_POOL_MISMATCH',
      message: `The lease ${row.prefix} has number ${row.prefix_index}, which is ${expected} in the configured pool`,
      hint: 'Set broker.upstream_prefix and broker.allocation_size to what the earlier broker used.',
      fields: { prefix: row.prefix, index: row.prefix_index },
      exitCode: exitCodes.badConfig,
    })
  }
  return rows
}

function insertRows(db: DatabaseSync, rows: readonly OldRow[], pool: Pool, clock: Clock): void {
  const insert = db.prepare(
    `INSERT INTO allocations (id, prefix, prefix_index, pubkey, endpoint, nft_contract, allocated_at, last_seen_at, tunnel_seen)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)`,
  )
  const rest = db.prepare(
    'INSERT INTO resting (prefix_index, nft_contract, freed_at, available_at) VALUES (?, ?, ?, ?)',
  )
  const now = clock.now()
  const nfts = new Set<string>()
  const keys = new Set<string>()
  let resting = 0
  for (const row of rows) {
    const nft = row.nft_contract.toLowerCase()
    if (row.is_test || nfts.has(nft) || keys.has(row.pubkey)) {
      rest.run(row.prefix_index, nft, now, now + restMs)
      resting += 1
      continue
    }
    nfts.add(nft)
    keys.add(row.pubkey)
    insert.run(
      row.id,
      row.prefix,
      row.prefix_index,
      row.pubkey,
      endpointOf(row),
      nft,
      row.allocated_at,
      row.last_seen_at,
    )
  }
  const insertRange = db.prepare('INSERT INTO free_ranges (first, last) VALUES (?, ?)')
  for (const [first, last] of gaps(
    rows.map(row => row.prefix_index),
    pool.last,
  ))
    insertRange.run(first, last)
  db.prepare('INSERT INTO state (key, value, updated_at) VALUES (?, ?, ?)').run(
    'pool',
    `${prefixAt(pool, 0)} of ${pool.upstream.length}`,
    isoTime(now),
  )
  db.prepare('INSERT INTO audit_log (timestamp, action, details) VALUES (?, ?, ?)').run(
    isoTime(now),
    'import',
    JSON.stringify({ leases: rows.length - resting, resting }),
  )
}

/** An endpoint with a name, or none at all, is left out: the host is heard from again soon. */
function endpointOf({ endpoint }: OldRow): string | null {
  const kind = endpoint === null ? undefined : parseEndpoint(endpoint)?.kind
  return kind === undefined || kind === 'name' ? null : endpoint
}

// The earlier generation kept no record of who held a prefix before, so what it leaves unused rests the default time.
const restMs = 37 * 86_400_000

/** Returns the ranges of 1..`last` that are not in `used`. */
function gaps(used: readonly number[], last: number): [number, number][] {
  const sorted = [...used].sort((a, b) => a - b)
  const ranges: [number, number][] = []
  let next = 1
  for (const index of sorted) {
    if (index > next) ranges.push([next, index - 1])
    next = index + 1
  }
  if (next <= last) ranges.push([next, last])
  return ranges
}
