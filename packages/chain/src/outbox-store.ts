/** The outbox's tables: every intent ever, and every transaction signed for one. */
import type { DatabaseSync } from 'node:sqlite'
import { type Address, bytesToHex, type Hex, hexToBytes } from './hex.ts'
import type { Fees, SignedTransaction } from './transaction.ts'
import type { Receipt } from './transaction-port.ts'

/**
 * Tables of the outbox, for a migration of the caller's database. `account` is `<chain id>:<address>`; wei stand as decimal text;
 * times are Unix milliseconds.
 */
export const outboxSchema = `
CREATE TABLE outbox (
  id               INTEGER PRIMARY KEY AUTOINCREMENT,
  intent_key       TEXT NOT NULL UNIQUE,
  note             TEXT NOT NULL,
  to_address       TEXT,
  data             BLOB NOT NULL,
  value_wei        TEXT NOT NULL,
  gas_limit        INTEGER,
  state            TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'mined', 'final', 'reverted', 'cancelled')),
  account          TEXT,
  nonce            INTEGER,
  hash             TEXT,
  block_number     INTEGER,
  block_hash       TEXT,
  gas_used         INTEGER,
  contract_address TEXT,
  problem          TEXT,
  detail           TEXT,
  times_taken      INTEGER NOT NULL DEFAULT 0,
  refused_since    INTEGER,
  void_wanted      INTEGER NOT NULL DEFAULT 0,
  created_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_open ON outbox (id) WHERE state IN ('queued', 'sent', 'mined');
CREATE UNIQUE INDEX outbox_nonce ON outbox (account, nonce) WHERE nonce IS NOT NULL;

CREATE TABLE outbox_attempts (
  hash          TEXT PRIMARY KEY,
  outbox_id     INTEGER NOT NULL REFERENCES outbox (id),
  account       TEXT NOT NULL,
  nonce         INTEGER NOT NULL,
  is_void       INTEGER NOT NULL,
  raw           BLOB NOT NULL,
  max_fee_wei   TEXT NOT NULL,
  tip_wei       TEXT,
  signed_at     INTEGER NOT NULL,
  signed_block  INTEGER NOT NULL,
  tried_at      INTEGER,
  accepted      INTEGER NOT NULL DEFAULT 0,
  underpriced   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX outbox_attempts_intent ON outbox_attempts (outbox_id);
CREATE INDEX outbox_attempts_nonce ON outbox_attempts (account, nonce);
`

/** Where an intent stands; the last three are final. */
export type OutboxState = 'queued' | 'sent' | 'mined' | 'final' | 'reverted' | 'cancelled'

/** Why an intent is not done: what a person, or the caller, has to look at. */
export type OutboxProblem =
  /** The account can't pay; it is sent as soon as it can. */
  | 'insufficient-funds'
  /** The chain asks more than the cap; it waits until that is over. */
  | 'fee-cap'
  /** The contract refuses it: in a block (the gas is gone), or already when asked beforehand (nothing was sent). */
  | 'reverted'
  /** The node refuses it as malformed; its nonce is used up by a transaction that does nothing. */
  | 'refused'
  /** Its nonce was used by a transaction of somebody else who holds the key. */
  | 'nonce-taken'

/** One signed transaction of an intent. */
export type Attempt = {
  readonly hash: Hex
  readonly nonce: number
  /** Does nothing but use up the nonce. */
  readonly isVoid: boolean
  readonly fees: Fees
  readonly signedAt: number
  readonly signedBlock: bigint
  /** When it was last handed to an endpoint that answered; absent: not yet. */
  readonly triedAt: number | undefined
  /** Whether an endpoint ever took it. */
  readonly accepted: boolean
  /** Whether an endpoint last said that it pays too little. */
  readonly underpriced: boolean
}

/** One intent with what was signed for it, oldest attempt first. */
export type Entry = {
  readonly id: number
  readonly key: string
  readonly note: string
  readonly to: Address | undefined
  readonly valueWei: bigint
  readonly gasLimit: bigint | undefined
  readonly state: OutboxState
  readonly account: string | undefined
  readonly nonce: number | undefined
  readonly hash: Hex | undefined
  readonly blockNumber: bigint | undefined
  readonly blockHash: Hex | undefined
  readonly gasUsed: bigint | undefined
  readonly contractAddress: Address | undefined
  readonly problem: OutboxProblem | undefined
  readonly detail: string | undefined
  /** Block and Unix milliseconds at which its nonce was first seen used while none of its transactions was seen. */
  readonly timesTaken: number
  readonly refusedSince: bigint | undefined
  readonly voidWanted: boolean
  readonly createdAt: number
  readonly attempts: readonly Attempt[]
}

/** Columns of an entry that change while it is open; `null` empties one. */
export type EntryChange = {
  state?: OutboxState
  account?: string | null
  nonce?: number | null
  hash?: Hex | null
  gas_limit?: bigint | null
  block_number?: bigint | null
  block_hash?: Hex | null
  gas_used?: bigint | null
  contract_address?: Address | null
  problem?: OutboxProblem | null
  detail?: string | null
  times_taken?: number
  refused_since?: bigint | null
  void_wanted?: number
}

/** What a new row holds. */
export type NewEntry = {
  readonly key: string
  readonly note: string
  readonly to: Address | undefined
  readonly data: Hex
  readonly valueWei: bigint
  readonly gasLimit: bigint | undefined
  readonly account?: string
  readonly nonce?: number
  readonly createdAt: number
}

/** Reads and writes of the outbox's tables. Nothing here begins or ends a transaction. */
export type OutboxStore = ReturnType<typeof createOutboxStore>

/** Prepares the statements of the outbox on a database that holds {@link outboxSchema}. Each costs the same however many rows there are. */
export function createOutboxStore(db: DatabaseSync) {
  const one = (sql: string) => db.prepare(sql)
  const insertEntry = one(
    `INSERT INTO outbox (intent_key, note, to_address, data, value_wei, gas_limit, state, account, nonce, created_at)
     VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?) RETURNING id`,
  )
  const byKey = one('SELECT * FROM outbox WHERE intent_key = ?')
  const byId = one('SELECT * FROM outbox WHERE id = ?')
  const byNonce = one('SELECT * FROM outbox WHERE account = ? AND nonce = ?')
  const open = `state IN ('queued', 'sent', 'mined')`
  const numbered = one(`SELECT * FROM outbox WHERE ${open} AND (nonce IS NOT NULL OR hash IS NOT NULL) ORDER BY id`)
  const waiting = one(
    `SELECT * FROM outbox WHERE ${open} AND state = 'queued' AND nonce IS NULL
     ORDER BY problem IS NOT NULL, id LIMIT ?`,
  )
  const countOpen = one(`SELECT count(*) AS n FROM outbox WHERE ${open}`)
  const foreign = one(`SELECT account FROM outbox WHERE ${open} AND account IS NOT NULL AND account <> ? LIMIT 1`)
  const attemptsOf = one('SELECT * FROM outbox_attempts WHERE outbox_id = ? ORDER BY rowid')
  const insertAttempt = one(
    `INSERT INTO outbox_attempts (hash, outbox_id, account, nonce, is_void, raw, max_fee_wei, tip_wei, signed_at, signed_block)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING`,
  )
  const setAttempt = one('UPDATE outbox_attempts SET tried_at = ?, accepted = ?, underpriced = ? WHERE hash = ?')
  const highestEntry = one('SELECT max(nonce) AS n FROM outbox WHERE account = ?')
  const highestAttempt = one('SELECT max(nonce) AS n FROM outbox_attempts WHERE account = ?')
  const dataOf = one('SELECT data FROM outbox WHERE id = ?')
  const rawOf = one('SELECT raw FROM outbox_attempts WHERE hash = ?')
  const closed = `(SELECT id FROM outbox WHERE id = outbox_id AND state IN ('final', 'reverted', 'cancelled'))`
  const old = `FROM outbox_attempts WHERE account = ? AND nonce < ? AND outbox_id IN ${closed}`
  const emptyOld = one(`UPDATE outbox SET data = x'' WHERE id IN (SELECT outbox_id ${old})`)
  const deleteOld = one(`DELETE ${old}`)
  const deleteEntry = one('DELETE FROM outbox WHERE id = ?')
  for (const statement of [byKey, byId, byNonce, numbered, waiting, attemptsOf]) statement.setReadBigInts(true)

  const entryOf = (row: Row | undefined): Entry | undefined =>
    row === undefined ? undefined : toEntry(row, attemptsOf.all(row.id as bigint) as Row[])

  return {
    insert(entry: NewEntry): number {
      const { key, note, to, data, valueWei, gasLimit, account, nonce, createdAt } = entry
      const limit = gasLimit ?? null
      const values = [key, note, to ?? null, hexToBytes(data), String(valueWei), limit] as const
      return Number(insertEntry.get(...values, account ?? null, nonce ?? null, createdAt)!.id)
    },
    find: (key: string) => entryOf(byKey.get(key) as Row | undefined),
    get: (id: number) => entryOf(byId.get(id) as Row | undefined),
    findByNonce: (account: string, nonce: number) => entryOf(byNonce.get(account, nonce) as Row | undefined),
    /** Open entries that have, or had, a nonce. */
    numbered: () => (numbered.all() as Row[]).map(row => entryOf(row)!),
    /** Queued entries without a nonce, oldest first, those with a problem last. */
    waiting: (limit: number) => (waiting.all(limit) as Row[]).map(row => entryOf(row)!),
    countOpen: () => Number(countOpen.get()!.n),
    findForeignAccount: (account: string) => foreign.get(account)?.account as string | undefined,
    /** Highest nonce that was ever given out; -1 if none was. */
    highestNonce: (account: string) =>
      Math.max(Number(highestEntry.get(account)!.n ?? -1), Number(highestAttempt.get(account)!.n ?? -1)),
    dataOf: (id: number): Hex => bytesToHex(dataOf.get(id)!.data as Uint8Array),
    rawOf: (hash: Hex): Hex => bytesToHex(rawOf.get(hash)!.raw as Uint8Array),
    update(id: number, change: EntryChange): void {
      const columns = Object.keys(change)
      const values = Object.values(change)
      one(`UPDATE outbox SET ${columns.map(column => `${column} = ?`).join(', ')} WHERE id = ?`).run(...values, id)
    },
    delete: (id: number) => void deleteEntry.run(id),
    insertAttempt(
      id: number,
      account: string,
      signed: SignedTransaction,
      attempt: Pick<Attempt, 'nonce' | 'isVoid' | 'fees' | 'signedAt' | 'signedBlock'>,
    ): void {
      const { nonce, isVoid, fees, signedAt, signedBlock } = attempt
      const [maxFee, tip] =
        fees.type === 'legacy' ? [fees.gasPriceWei, null] : [fees.maxFeePerGasWei, fees.maxPriorityFeePerGasWei]
      const price = [String(maxFee), tip === null ? null : String(tip)] as const
      const raw = hexToBytes(signed.raw)
      insertAttempt.run(signed.hash, id, account, nonce, Number(isVoid), raw, ...price, signedAt, signedBlock)
    },
    /** Records what an endpoint said to an attempt; `triedAt` undefined asks for it to be handed over again. */
    setAttempt(hash: Hex, said: Pick<Attempt, 'triedAt' | 'accepted' | 'underpriced'>): void {
      setAttempt.run(said.triedAt ?? null, Number(said.accepted), Number(said.underpriced), hash)
    },
    /** Forgets the bytes of closed entries with a lower nonce; their rows stay, so that an intent is known for ever. */
    forgetBytes(account: string, belowNonce: number): void {
      emptyOld.run(account, belowNonce)
      deleteOld.run(account, belowNonce)
    },
  }
}

/** Returns the change that writes a receipt into an entry. */
export function receiptChange(receipt: Receipt): EntryChange {
  return {
    hash: receipt.hash,
    block_number: receipt.blockNumber,
    block_hash: receipt.blockHash,
    gas_used: receipt.gasUsed,
    contract_address: receipt.contractAddress ?? null,
  }
}

type Row = Record<string, null | number | bigint | string | Uint8Array>

function toEntry(row: Row, attempts: readonly Row[]): Entry {
  return {
    id: Number(row.id),
    key: row.intent_key as string,
    note: row.note as string,
    to: (row.to_address ?? undefined) as Address | undefined,
    valueWei: BigInt(row.value_wei as string),
    gasLimit: (row.gas_limit ?? undefined) as bigint | undefined,
    state: row.state as OutboxState,
    account: (row.account ?? undefined) as string | undefined,
    nonce: row.nonce === null ? undefined : Number(row.nonce),
    hash: (row.hash ?? undefined) as Hex | undefined,
    blockNumber: (row.block_number ?? undefined) as bigint | undefined,
    blockHash: (row.block_hash ?? undefined) as Hex | undefined,
    gasUsed: (row.gas_used ?? undefined) as bigint | undefined,
    contractAddress: (row.contract_address ?? undefined) as Address | undefined,
    problem: (row.problem ?? undefined) as OutboxProblem | undefined,
    detail: (row.detail ?? undefined) as string | undefined,
    timesTaken: Number(row.times_taken),
    refusedSince: (row.refused_since ?? undefined) as bigint | undefined,
    voidWanted: row.void_wanted === 1n,
    createdAt: Number(row.created_at),
    attempts: attempts.map(toAttempt),
  }
}

function toAttempt(row: Row): Attempt {
  const maxFee = BigInt(row.max_fee_wei as string)
  return {
    hash: row.hash as Hex,
    nonce: Number(row.nonce),
    isVoid: row.is_void === 1n,
    fees:
      row.tip_wei === null
        ? { type: 'legacy', gasPriceWei: maxFee }
        : { type: 'eip1559', maxFeePerGasWei: maxFee, maxPriorityFeePerGasWei: BigInt(row.tip_wei as string) },
    signedAt: Number(row.signed_at),
    signedBlock: row.signed_block as bigint,
    triedAt: row.tried_at === null ? undefined : Number(row.tried_at),
    accepted: row.accepted === 1n,
    underpriced: row.underpriced === 1n,
  }
}
