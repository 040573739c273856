import type { DatabaseSync } from 'node:sqlite'
import type { Clock } from '@blockhost/kit/clock.ts'
import type { RequestRef } from './store.ts'

/** Where a request stands; see `schema.sql`. */
export type RequestState =
  | 'leased'
  | 'answering'
  | 'answered'
  | 'releasing'
  | 'refused'
  | 'superseded'
  | 'dropped'
  | 'released'

/** A request the broker has decided on. */
export type RequestRow = RequestRef & {
  readonly requester: string
  readonly nftContract: string
  readonly state: RequestState
  readonly reason: string | undefined
  readonly publicKey: string | undefined
  /** Whom the answer is encrypted to: uncompressed secp256k1 key, hex. */
  readonly serverPublicKey: string | undefined
  /** The lease as it was before this request changed its key; `undefined` when the request made the lease. */
  readonly previous: { readonly publicKey: string; readonly request: RequestRef | undefined } | undefined
  readonly txKey: string | undefined
  readonly attempts: number
  /** Head when it was last decided on. */
  readonly changedBlock: bigint
}

/** Fields of a new row. */
export type NewRequest = Omit<RequestRow, 'txKey' | 'attempts'>

/** The table of decided requests. Cost of every call is independent of how many there have been. */
export type RequestLedger = {
  /** Inserts the row, or replaces one that a reorg dropped and brought back. */
  record(row: NewRequest): void
  find(ref: RequestRef): RequestRow | undefined
  /** Rows in `leased` of one contract, oldest first. */
  unanswered(contract: string, limit: number): RequestRow[]
  /**
   * Rows after `afterId` that the next chain reads must look at again: open ones, and all decided on after `sinceBlock`.
   * By id; cost O(rows that qualify), which is what came in lately.
   */
  watched(contract: string, sinceBlock: bigint, afterId: bigint, limit: number): RequestRow[]
  /** The highest block at which a request of this contract was decided on; 0 if none. */
  lastBlock(contract: string): bigint
  /** Whether anything is `leased`, `answering` or `releasing`. */
  hasOpen(contract: string): boolean
  setState(ref: RequestRef, state: RequestState, reason?: string): void
  /** Notes the head at which something about it changed. */
  touch(ref: RequestRef, block: bigint): void
  /** `leased` -> `answering`. */
  setAnswering(ref: RequestRef, txKey: string): void
  /** Any state -> `releasing`; `attempts` grows. */
  setReleasing(ref: RequestRef, txKey: string, reason: string): void
  /** `answering` -> `leased` after an answer that can't count; `attempts` grows if it was ever sent. */
  retry(ref: RequestRef, wasSent: boolean): void
  /** Counts the wallet's requests decided on after `since` (Unix ms), but those that a reorg dropped and the one of `digest`. */
  countOfWalletSince(wallet: string, since: number, digest: string): number
  countByState(): Record<string, number>
}

/** Makes the {@link RequestLedger} of the database. */
export function createRequestLedger(db: DatabaseSync, clock: Clock): RequestLedger {
  const sql = prepare(db)
  const rows = (found: unknown[]): RequestRow[] => found.map(row => toRequest(row as Row))
  const key = (ref: RequestRef): [string, bigint, string] => [ref.contract, ref.id, ref.digest]
  return {
    record: row =>
      void sql.record.run(
        ...key(row),
        row.requester,
        row.nftContract,
        row.state,
        row.reason ?? null,
        row.publicKey ?? null,
        row.serverPublicKey ?? null,
        row.previous?.publicKey ?? null,
        row.previous?.request?.contract ?? null,
        row.previous?.request?.id ?? null,
        row.previous?.request?.digest ?? null,
        row.changedBlock,
        clock.now(),
      ),
    find(ref) {
      const row = sql.find.get(...key(ref))
      return row === undefined ? undefined : toRequest(row as Row)
    },
    unanswered: (contract, limit) => rows(sql.unanswered.all(contract, limit)),
    watched: (contract, sinceBlock, afterId, limit) =>
      rows(sql.watched.all(contract, afterId, contract, sinceBlock, afterId, limit)),
    lastBlock: contract => BigInt((sql.lastBlock.get(contract) as { block: number | null }).block ?? 0),
    hasOpen: contract => sql.hasOpen.get(contract) !== undefined,
    setState: (ref, state, reason) => void sql.setState.run(state, reason ?? null, ...key(ref)),
    touch: (ref, block) => void sql.touch.run(block, ...key(ref)),
    setAnswering: (ref, txKey) => void sql.setAnswering.run(txKey, ...key(ref)),
    setReleasing: (ref, txKey, reason) => void sql.setReleasing.run(txKey, reason, ...key(ref)),
    retry: (ref, wasSent) => void sql.retry.run(Number(wasSent), ...key(ref)),
    countOfWalletSince: (wallet, since, digest) => (sql.countWallet.get(wallet, since, digest) as { n: number }).n,
    countByState: () =>
      Object.fromEntries((sql.byState.all() as { state: string; n: number }[]).map(row => [row.state, row.n])),
  }
}

type Row = {
  contract: string
  id: number
  digest: string
  requester: string
  nft_contract: string
  state: RequestState
  reason: string | null
  pubkey: string | null
  server_pubkey: string | null
  previous_pubkey: string | null
  previous_contract: string | null
  previous_id: number | null
  previous_digest: string | null
  tx_key: string | null
  attempts: number
  changed_block: number
}

function toRequest(row: Row): RequestRow {
  return {
    contract: row.contract,
    id: BigInt(row.id),
    digest: row.digest,
    requester: row.requester,
    nftContract: row.nft_contract,
    state: row.state,
    reason: row.reason ?? undefined,
    publicKey: row.pubkey ?? undefined,
    serverPublicKey: row.server_pubkey ?? undefined,
    previous:
      row.previous_pubkey === null ? undefined : { publicKey: row.previous_pubkey, request: previousRequest(row) },
    txKey: row.tx_key ?? undefined,
    attempts: row.attempts,
    changedBlock: BigInt(row.changed_block),
  }
}

function previousRequest(row: Row): RequestRef | undefined {
  if (row.previous_contract === null || row.previous_id === null || row.previous_digest === null) return undefined
  return { contract: row.previous_contract, id: BigInt(row.previous_id), digest: row.previous_digest }
}

function prepare(db: DatabaseSync) {
  const one = 'WHERE contract = ? AND id = ? AND digest = ?'
  return {
    record: db.prepare(
      `INSERT OR REPLACE INTO requests (contract, id, digest, requester, nft_contract, state, reason, pubkey, server_pubkey,
         previous_pubkey, previous_contract, previous_id, previous_digest, changed_block, decided_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    find: db.prepare(`SELECT * FROM requests ${one}`),
    unanswered: db.prepare("SELECT * FROM requests WHERE contract = ? AND state = 'leased' ORDER BY id LIMIT ?"),
    watched: db.prepare(
      `SELECT * FROM requests WHERE contract = ? AND state IN ('leased', 'answering', 'releasing') AND id > ?
       UNION
       SELECT * FROM requests WHERE contract = ? AND changed_block > ? AND id > ? AND state <> 'dropped'
       ORDER BY id LIMIT ?`,
    ),
    lastBlock: db.prepare('SELECT MAX(changed_block) AS block FROM requests WHERE contract = ?'),
    hasOpen: db.prepare(
      "SELECT 1 FROM requests WHERE contract = ? AND state IN ('leased', 'answering', 'releasing') LIMIT 1",
    ),
    touch: db.prepare(`UPDATE requests SET changed_block = ? ${one}`),
    setState: db.prepare(`UPDATE requests SET state = ?, reason = ? ${one}`),
    setAnswering: db.prepare(`UPDATE requests SET state = 'answering', tx_key = ? ${one}`),
    setReleasing: db.prepare(
      `UPDATE requests SET state = 'releasing', tx_key = ?, reason = ?, attempts = attempts + 1 ${one}`,
    ),
    retry: db.prepare(`UPDATE requests SET state = 'leased', tx_key = NULL, attempts = attempts + ? ${one}`),
    countWallet: db.prepare(
      "SELECT COUNT(*) AS n FROM requests WHERE requester = ? AND decided_at > ? AND state <> 'dropped' AND digest <> ?",
    ),
    byState: db.prepare('SELECT state, COUNT(*) AS n FROM requests GROUP BY state'),
  }
}
