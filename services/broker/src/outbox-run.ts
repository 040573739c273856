import { parseQuantity } from '@blockhost/chain/hex.ts'
import type { Outbox, OutboxIntent, OutboxRow } from '@blockhost/chain/outbox.ts'
import type { Rpc } from '@blockhost/chain/rpc.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, isRetryable } from '@blockhost/kit/errors.ts'

/** What {@link runIntents} works with. */
export type RunDeps = {
  readonly outbox: Outbox
  readonly rpc: Rpc
  readonly clock: Clock
  /** Tells a person how it goes, one line at a time. */
  readonly say: (line: string) => void
  /** Whether this process sends; otherwise the daemon does, and this one only watches. */
  readonly sends: boolean
  readonly signal: AbortSignal
}

const pauseMs = { local: 200, usual: 2_000 } as const
/** anvil, hardhat, geth --dev: blocks come at once. */
const localChains: readonly number[] = [31_337, 1_337]

/**
 * Puts intents into the outbox and waits until the chain has carried them all out. An intent of an earlier, interrupted run is taken
 * up where it stands; one that came to its end earlier is done again under a new key.
 *
 * @returns The rows, in order, all `final`.
 * @throws {BlockHostError} `BH_TRANSACTION_FAILED` when one was refused; `BH_TRANSACTION_PENDING` (exit 75) when `timeoutMs` or the
 *   signal ended the wait: nothing is lost.
 */
export async function runIntents(
  intents: readonly OutboxIntent[],
  { chainId, timeoutMs }: { chainId: number; timeoutMs: number },
  deps: RunDeps,
): Promise<OutboxRow[]> {
  const { outbox, clock, say, signal } = deps
  const keys = intents.map(intent => enqueue(outbox, intent))
  const shown = new Map<string, string>()
  const deadline = clock.monotonic() + timeoutMs
  for (;;) {
    if (deps.sends) await sendOnce(deps)
    const rows = keys.map(key => outbox.find(key)!)
    for (const row of rows) {
      const state = describe(row)
      if (shown.get(row.key) !== state) say(`  ${row.note}: ${state}`)
      shown.set(row.key, state)
    }
    const failed = rows.find(row => row.state === 'reverted' || row.state === 'cancelled')
    if (failed !== undefined) throw failure(failed)
    if (rows.every(row => row.state === 'final')) return rows
    if (signal.aborted || clock.monotonic() > deadline) throw pending(rows)
    await clock.sleep(localChains.includes(chainId) ? pauseMs.local : pauseMs.usual, signal)
  }
}

function enqueue(outbox: Outbox, intent: OutboxIntent): string {
  for (let turn = 1; ; turn++) {
    const key = turn === 1 ? intent.key : `${intent.key}#${turn}`
    const known = outbox.find(key)
    if (known !== undefined && ['final', 'reverted', 'cancelled'].includes(known.state)) continue
    outbox.enqueue({ ...intent, key })
    return key
  }
}

/** The chain may be out of sight for a while; what is queued stays queued. */
async function sendOnce({ rpc, outbox, say }: RunDeps): Promise<void> {
  try {
    const head = parseQuantity(await rpc.call('eth_blockNumber', []), 'eth_blockNumber')
    await outbox.tick({ blockNumber: head })
  } catch (error) {
    if (!isRetryable(error)) throw error
    say(`  the chain can't be reached at the moment: ${(error as Error).message}`)
  }
}

function describe(row: OutboxRow): string {
  const trouble =
    row.problem === undefined ? '' : ` (${row.problem}${row.detail === undefined ? '' : `: ${row.detail}`})`
  if (row.state === 'final') return `done in ${row.hash}, ${row.gasUsed} gas`
  if (row.state === 'mined') return `in block ${row.blockNumber}, waiting for confirmations`
  return `${row.state}${row.state === 'sent' ? ` as ${row.hash}` : ''}${trouble}`
}

function failure(row: OutboxRow): BlockHostError {
  return new BlockHostError({
    code: 'BH_TRANSACTION_FAILED',
    message: `The transaction to ${row.note} was not carried out${row.detail === undefined ? '' : `: ${row.detail}`}`,
    fields: { state: row.state, problem: row.problem, hash: row.hash },
  })
}

function pending(rows: readonly OutboxRow[]): BlockHostError {
  const open = rows.filter(row => row.state !== 'final')
  return new BlockHostError({
    code: 'BH_TRANSACTION_PENDING',
    message: `Not finished yet: ${open.map(row => `${row.note} (${row.state})`).join(', ')}`,
    hint: 'Run the same command again; it goes on where it stopped.',
    retryable: true,
  })
}
