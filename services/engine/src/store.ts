import { readFileSync } from 'node:fs'
import type { DatabaseSync, SQLInputValue } from 'node:sqlite'
import type { Address } from '@blockhost/chain/hex.ts'
import { outboxSchema } from '@blockhost/chain/outbox-store.ts'
import type { SubscriptionView } from '@blockhost/chain/subscription-view.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { openDatabase, transaction } from '@blockhost/kit/sqlite.ts'
import type { State, Subscription, SubscriptionChange } from './subscription.ts'

/**
 * The engine's database. Nothing but {@link Store.transaction} begins or ends a transaction; each read costs the same however many
 * subscriptions there are.
 */
export type Store = Disposable & {
  readonly db: DatabaseSync
  transaction<T>(work: () => T): T
  find(id: bigint): Subscription | undefined
  findByToken(tokenId: bigint): Subscription | undefined
  /** Adds a subscription that the chain shows; does nothing when it is known. */
  add(view: SubscriptionView, blockNumber: bigint): void
  /** A change of state puts the row at the end of the queue, unless the change names a time itself. */
  change(id: bigint, change: SubscriptionChange): void
  forget(id: bigint): void
  /** Whose next step is a job, in the order of the queue, leaving out those that are not due. */
  jobs(states: readonly State[], limit: number): Subscription[]
  /** Created ones whose data is known and whose mint is due. */
  toMint(limit: number): Subscription[]
  /** Those whose mint came to an end in the outbox, with how. */
  mintsOver(
    limit: number,
  ): { id: bigint; state: 'final' | 'reverted' | 'cancelled'; hash: string; detail: string | undefined }[]
  /** Those whose purchase data is not known and due to be looked for. */
  withoutData(limit: number): Subscription[]
  /** Those that something happens to at this chain time: expired ones that run, paid ones that are suspended, and so on. */
  due(chainNow: number, graceSeconds: number, limit: number): Subscription[]
  /** Seen and dropped ones, and those bought since a block, by id from `afterId` on. */
  unsettled(sinceBlock: bigint, afterId: bigint, limit: number): Subscription[]
  /** All, by id, from `afterId` on. */
  after(afterId: bigint, limit: number): Subscription[]
  /** Ids above `id`. */
  above(id: bigint, limit: number): Subscription[]
  /** Those with a token, by id, from `afterId` on. */
  withToken(afterId: bigint, limit: number): Subscription[]
  /** Those of which the VM database does not know expiry or owner yet. */
  unsynced(limit: number): Subscription[]
  /** Makes due now what waits for a time after `latestMs` (Unix ms). Cost O(all): for when the wall clock was set back. */
  wake(latestMs: number): void
  /** Makes due now what failed and waits for its next try. @returns How many there were. Cost O(all): for when a person asks. */
  wakeFailed(): number
  countByState(): Readonly<Partial<Record<State, number>>>
  countProblems(): { failing: number; needsKey: number; withoutData: number }
  getState(key: string): string | undefined
  setState(key: string, value: string): void
  close(): void
}

const schema = readFileSync(new URL('./schema.sql', import.meta.url), 'utf8')

/** Opens (or makes) the engine's database. Throws as `openDatabase` does. */
export function openStore(path: string, clock: Clock): Store {
  const db = openDatabase(path, [fresh => fresh.exec(schema + outboxSchema)])
  const one = (sql: string) => {
    const statement = db.prepare(sql)
    statement.setReadBigInts(true)
    return statement
  }
  const all = 'SELECT * FROM subscriptions'
  const statements = {
    find: one(`${all} WHERE id = ?`),
    byToken: one(`${all} WHERE token_id = ?`),
    add: db.prepare(
      `INSERT INTO subscriptions (id, subscriber, plan_id, purchase_block, expires_at, state, changed_block, retry_at, updated_at)
       VALUES (?, ?, ?, ?, ?, 'seen', ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
    ),
    forget: db.prepare('DELETE FROM subscriptions WHERE id = ?'),
    toMint: one(`${all} WHERE state = 'created' AND retry_at <= ? AND data IS NOT NULL ORDER BY retry_at, id LIMIT ?`),
    mintsOver: one(
      `SELECT s.id AS id, o.state AS state, o.hash AS hash, o.detail AS detail FROM subscriptions s
       JOIN outbox o ON o.intent_key = s.tx_key
       WHERE s.state = 'minting' AND o.state IN ('final', 'reverted', 'cancelled') LIMIT ?`,
    ),
    withoutData: one(
      `${all} INDEXED BY subscriptions_no_data
       WHERE data IS NULL AND state IN ('paid', 'creating', 'created') AND data_retry_at <= ?
       ORDER BY data_retry_at LIMIT ?`,
    ),
    due: one(
      `SELECT * FROM (
         ${all} WHERE state IN ('created', 'minting', 'minted', 'live') AND expires_at <= ?1
         UNION ALL ${all} WHERE state = 'suspended' AND expires_at > ?1
         UNION ALL ${all} WHERE state = 'suspended' AND expires_at <= ?2 AND coalesce(suspended_at, 0) <= ?2
       ) LIMIT ?3`,
    ),
    recent: one(`${all} INDEXED BY subscriptions_recent WHERE purchase_block >= ? AND id > ? ORDER BY id LIMIT ?`),
    loose: one(
      `${all} INDEXED BY subscriptions_queue WHERE state IN ('seen', 'dropped') AND id > ? ORDER BY id LIMIT ?`,
    ),
    after: one(`${all} WHERE id > ? ORDER BY id LIMIT ?`),
    withToken: one(
      `${all} INDEXED BY subscriptions_with_token WHERE id > ? AND token_id IS NOT NULL AND state <> 'ended'
       ORDER BY id LIMIT ?`,
    ),
    unsynced: one(
      `${all} INDEXED BY subscriptions_unsynced WHERE vm_expires_at IS NOT NULL AND state NOT IN ('creating', 'ending', 'ended')
         AND (vm_expires_at <> expires_at OR (token_owner IS NOT NULL AND vm_owner IS NOT token_owner)) LIMIT ?`,
    ),
    wake: db.prepare(
      `UPDATE subscriptions SET retry_at = min(retry_at, ?1), data_retry_at = min(data_retry_at, ?1)
       WHERE retry_at > ?2 OR data_retry_at > ?2`,
    ),
    wakeFailed: db.prepare(
      `UPDATE subscriptions SET retry_at = iif(error IS NULL, retry_at, min(retry_at, ?1)), data_retry_at = min(data_retry_at, ?1)
       WHERE (error IS NOT NULL AND retry_at > ?1) OR data_retry_at > ?1`,
    ),
    countByState: db.prepare('SELECT state, count(*) AS n FROM subscriptions GROUP BY state'),
    countProblems: db.prepare(
      `SELECT count(*) FILTER (WHERE error IS NOT NULL) AS failing,
         count(*) FILTER (WHERE access = 'needs-key' AND state <> 'ended') AS needsKey,
         count(*) FILTER (WHERE data IS NULL AND data_attempts > 0 AND state <> 'ended') AS withoutData FROM subscriptions`,
    ),
    getState: db.prepare('SELECT value FROM state WHERE key = ?'),
    setState: db.prepare(
      'INSERT INTO state (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    ),
  }
  const waiting = one(`${all} WHERE state = ? AND retry_at <= ? ORDER BY retry_at, id LIMIT ?`)
  const updateOf = remember((columns: string) => db.prepare(`UPDATE subscriptions SET ${columns} WHERE id = ?`))
  const rows = (found: unknown[]) => (found as Row[]).map(toSubscription)
  const row = (found: unknown) => (found === undefined ? undefined : toSubscription(found as Row))
  return {
    db,
    transaction: work => transaction(db, work),
    find: id => row(statements.find.get(id)),
    findByToken: tokenId => row(statements.byToken.get(tokenId)),
    add({ id, subscriber, planId, purchaseBlock, expiresAt }, blockNumber) {
      const now = clock.now()
      statements.add.run(id, subscriber, planId, purchaseBlock, expiresAt, blockNumber, now, now)
    },
    change(id, change) {
      const isQueued = change.state !== undefined && (change.retryAt ?? 0) === 0
      const whole = { ...change, ...(isQueued ? { retryAt: clock.now() } : {}), updatedAt: clock.now() }
      const entries = Object.entries(whole).map(([key, value]) => [columnOf(key), value ?? null] as const)
      const columns = entries.map(([column]) => `${column} = ?`).join(', ')
      updateOf(columns).run(...entries.map(([, value]) => value as SQLInputValue), id)
    },
    forget: id => void statements.forget.run(id),
    jobs: (states, limit) =>
      states
        .flatMap(state => rows(waiting.all(state, clock.now(), limit)))
        .toSorted((a, b) => a.retryAt - b.retryAt || Number(a.id - b.id))
        .slice(0, limit),
    toMint: limit => rows(statements.toMint.all(clock.now(), limit)),
    mintsOver: limit =>
      (statements.mintsOver.all(limit) as Row[]).map(found => ({
        id: found.id as bigint,
        state: found.state as 'final' | 'reverted' | 'cancelled',
        hash: found.hash as string,
        detail: (found.detail ?? undefined) as string | undefined,
      })),
    withoutData: limit => rows(statements.withoutData.all(clock.now(), limit)),
    due: (chainNow, graceSeconds, limit) => rows(statements.due.all(chainNow, chainNow - graceSeconds, limit)),
    unsettled: (sinceBlock, afterId, limit) => {
      const recent = rows(statements.recent.all(sinceBlock, afterId, limit))
      const loose = rows(statements.loose.all(afterId, limit))
      const each = new Map([...recent, ...loose].map(found => [found.id, found]))
      return [...each.values()].toSorted((a, b) => Number(a.id - b.id)).slice(0, limit)
    },
    after: (afterId, limit) => rows(statements.after.all(afterId, limit)),
    above: (id, limit) => rows(statements.after.all(id, limit)),
    withToken: (afterId, limit) => rows(statements.withToken.all(afterId, limit)),
    unsynced: limit => rows(statements.unsynced.all(limit)),
    wake: latestMs => void statements.wake.run(clock.now(), latestMs),
    wakeFailed: () => Number(statements.wakeFailed.run(clock.now()).changes),
    countByState: () =>
      Object.fromEntries(
        (statements.countByState.all() as { state: State; n: number }[]).map(({ state, n }) => [state, n]),
      ),
    countProblems: () => statements.countProblems.get() as { failing: number; needsKey: number; withoutData: number },
    getState: key => statements.getState.get(key)?.value as string | undefined,
    setState: (key, value) => void statements.setState.run(key, value),
    close: () => db.close(),
    [Symbol.dispose]: () => db.close(),
  }
}

/** Keeps what `make` returns, one for each argument; their number is small. */
function remember<K, V>(make: (key: K) => V): (key: K) => V {
  const known = new Map<K, V>()
  return key => {
    const value = known.get(key) ?? make(key)
    known.set(key, value)
    return value
  }
}

function columnOf(key: string): string {
  return key.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
}

type Row = Record<string, null | bigint | string | Uint8Array>

function toSubscription(row: Row): Subscription {
  const text = (column: string) => (row[column] ?? undefined) as string | undefined
  const big = (column: string) => (row[column] ?? undefined) as bigint | undefined
  const number = (column: string) => (row[column] === null ? undefined : Number(row[column]))
  return {
    id: row.id as bigint,
    subscriber: row.subscriber as Address,
    planId: Number(row.plan_id),
    purchaseBlock: row.purchase_block as bigint,
    expiresAt: Number(row.expires_at),
    state: row.state as State,
    reason: text('reason') as Subscription['reason'],
    changedBlock: row.changed_block as bigint,
    suspendedAt: number('suspended_at'),
    data: (row.data ?? undefined) as Uint8Array | undefined,
    dataAttempts: Number(row.data_attempts),
    dataRetryAt: Number(row.data_retry_at),
    access: text('access') as Subscription['access'],
    accessProblem: text('access_problem'),
    hostname: text('hostname'),
    txKey: text('tx_key'),
    mintAttempts: Number(row.mint_attempts),
    tokenId: big('token_id'),
    tokenOwner: text('token_owner') as Address | undefined,
    boundToken: big('bound_token'),
    vmExpiresAt: number('vm_expires_at'),
    vmOwner: text('vm_owner') as Address | undefined,
    attempts: Number(row.attempts),
    retryAt: Number(row.retry_at),
    error: text('error'),
    errorCode: text('error_code'),
  }
}
