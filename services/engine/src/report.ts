import { existsSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { isoTime } from '@blockhost/kit/clock.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { wasOff, wasRemoved } from './power.ts'
import { type State, vmNameOf } from './subscription.ts'

/** One subscription, for people. */
export type ReportItem = {
  readonly id: number
  readonly vm: string
  readonly plan: number
  readonly buyer: string
  readonly owner: string
  readonly state: State
  /** ISO 8601. */
  readonly expires: string
  readonly token: number | null
  /** What happens now, or why it does not, in a sentence. */
  readonly words: string
  /** Whether a person should look. */
  readonly trouble: boolean
  readonly code: string | null
  readonly attempts: number
  /** When a failed step is tried again, ISO 8601. */
  readonly retry: string | null
}

/** What the engine's database says. */
export type Report = {
  readonly counts: Readonly<Partial<Record<State, number>>>
  readonly items: readonly ReportItem[]
  /** How many more there would be. */
  readonly omitted: number
}

const mostItems = 200

/**
 * Reads the engine's database beside the running engine; changes nothing.
 *
 * @param options.all - Every subscription; else those with trouble and those under way, 200 at most; `omitted` counts the rest.
 * @throws {BlockHostError} `BH_ENGINE_DATABASE_MISSING` (exit 78) when no engine ever ran here; `BH_DATABASE_OPEN_FAILED`.
 */
export function readReport(path: string, options: { all: boolean; nowMs: number }): Report {
  if (!existsSync(path)) throw missing(path)
  let db: DatabaseSync | undefined
  try {
    db = new DatabaseSync(path, { readOnly: true, timeout: 5_000 })
    db.exec('BEGIN') // one state of affairs for all that is read
    const counts = db.prepare('SELECT state, count(*) AS n FROM subscriptions GROUP BY state').all()
    const which = options.all
      ? ''
      : `WHERE s.state NOT IN ('live', 'suspended', 'ended') OR error IS NOT NULL OR
      (access = 'needs-key' AND s.state <> 'ended')`
    const rows = db.prepare(
      `SELECT s.*, o.problem AS tx_problem, o.detail AS tx_detail, o.state AS tx_state FROM subscriptions s
       LEFT JOIN outbox o ON o.intent_key = s.tx_key AND s.state = 'minting' ${which}
       ORDER BY error IS NULL, s.id LIMIT ?`,
    )
    const items = (rows.all(options.all ? -1 : mostItems) as Row[]).map(row => toItem(row, options.nowMs))
    const isWhole = options.all || items.length < mostItems
    const total = isWhole ? undefined : db.prepare(`SELECT count(*) AS n FROM subscriptions s ${which}`).get()
    return {
      counts: Object.fromEntries(counts.map(({ state, n }) => [state, n])),
      items,
      omitted: total === undefined ? 0 : Number(total.n) - items.length,
    }
  } catch (cause) {
    throw new BlockHostError({
      code: 'BH_DATABASE_OPEN_FAILED',
      message: `Could not read the engine's database ${path}`,
      hint: 'Run the command as root or as the user blockhost.',
      cause,
    })
  } finally {
    db?.close()
  }
}

type Row = Record<string, null | number | string>

function toItem(row: Row, nowMs: number): ReportItem {
  const problem = problemOf(row)
  return {
    id: Number(row.id),
    vm: vmNameOf(BigInt(row.id!)),
    plan: Number(row.plan_id),
    buyer: String(row.subscriber),
    owner: String(row.token_owner ?? row.subscriber),
    state: row.state as State,
    expires: isoTime(Math.min(Number(row.expires_at) * 1000, 8.64e15)),
    token: row.token_id as number | null,
    words: problem === undefined ? statePhrase(row) : `${statePhrase(row)}; ${problem}`,
    trouble: problem !== undefined,
    code: row.error_code as string | null,
    attempts: Number(row.attempts),
    retry: row.error !== null && Number(row.retry_at) > nowMs ? isoTime(Number(row.retry_at)) : null,
  }
}

function problemOf(row: Row): string | undefined {
  if (row.error !== null) return `failed ${row.attempts} times: ${row.error}`
  if (row.tx_problem !== null)
    return `${outboxPhrases[row.tx_problem!] ?? row.tx_problem}${row.tx_detail === null ? '' : ` (${row.tx_detail})`}`
  if (row.state === 'created' && row.data === null && Number(row.data_attempts) > 0)
    return 'no RPC endpoint has the purchase data yet; it is looked for'
  if (row.access === 'needs-key') return `the token can not say where the VM is, as ${row.access_problem}`
  return undefined
}

const outboxPhrases: Readonly<Record<string, string>> = {
  'insufficient-funds': 'the minter has too little money',
  'fee-cap': 'gas costs more than max_fee_per_gas_gwei allows',
  reverted: 'the NFT contract refuses the mint: a contract wallet may not take tokens, or the minter has no right',
  refused: 'the node refuses the transaction',
  'nonce-taken': 'another program used the key of the minter',
}

const phrases: Readonly<Record<State, string>> = {
  seen: 'paid, waiting for confirmations',
  paid: 'paid, waiting for a VM',
  creating: 'its VM is being made',
  created: 'its VM runs, its access token is to be minted',
  minting: 'its VM runs, its access token is being minted',
  minted: 'its VM is being told its access token',
  live: 'running',
  suspending: 'expired, being suspended',
  suspended: 'expired and suspended',
  resuming: 'paid again, being resumed',
  ending: 'being destroyed',
  ended: 'over',
  dropped: 'a reorganization took the purchase; waiting whether it comes back',
}

function statePhrase(row: Row): string {
  const reason = row.reason === null ? '' : ` (${row.reason})`
  const phrase = row.state === 'resuming' ? resumingPhrase(row) : phrases[row.state as State]
  return `${phrase}${reason}`
}

/** A step that failed says why by its own error, so it is no longer known whether somebody paid or the VM was off. */
function resumingPhrase(row: Row): string {
  if (row.error !== null) return 'being started again'
  if (row.error_code === wasOff) return 'was off; being started again'
  return row.error_code === wasRemoved ? 'its VM was removed; being made anew' : phrases.resuming
}

function missing(path: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_ENGINE_DATABASE_MISSING',
    message: `There is no engine database ${path}`,
    hint: 'Start the engine once: `systemctl start blockhost-engine`.',
    fields: { path },
    exitCode: exitCodes.badConfig,
  })
}
