/**
 * The durable queue of one key's transactions. Order of every step: write what will be done, do it, write what came of it. A nonce is
 * given out once, and the hash is on disk before the transaction leaves, so that a crash anywhere is repaired by the next turn:
 * whatever is signed for one intent shares a nonce, and a chain takes a nonce once.
 */
import type { DatabaseSync } from 'node:sqlite'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, exitCodes, isRetryable, messageOf } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import { transaction } from '@blockhost/kit/sqlite.ts'
import { firstFees } from './fees.ts'
import type { Address, Hex } from './hex.ts'
import { decideSend, findOnChain, type OutboxOptions } from './outbox-decide.ts'
import {
  type Attempt,
  createOutboxStore,
  type Entry,
  type EntryChange,
  type OutboxProblem,
  type OutboxState,
  receiptChange,
} from './outbox-store.ts'
import type { Fees, SignedTransaction, UnsignedTransaction } from './transaction.ts'
import type { EstimateOutcome, PortView, SendOutcome, TransactionPort } from './transaction-port.ts'

/** Something to be done on chain once. */
export type OutboxIntent = {
  /** Unique: the same intent twice is one row. */
  readonly key: string
  /** Absent: `data` creates a contract. */
  readonly to: Address | undefined
  readonly data: Hex
  /** Default 0. */
  readonly valueWei?: bigint
  /** Absent: estimated when its turn comes, and a quarter more. */
  readonly gasLimit?: bigint
  /** What it is for, for people. */
  readonly note: string
}

/** An intent and how far it got. */
export type OutboxRow = {
  readonly id: number
  readonly key: string
  readonly note: string
  /**
   * `queued`: no node has it yet. `sent`: a node took it. `mined`: in a block that may still be replaced. `final`: done.
   * `reverted`: the contract refused it for good. `cancelled`: it will never happen. The last three stay.
   */
  readonly state: OutboxState
  readonly problem: OutboxProblem | undefined
  /** What the node or the contract said about the problem. */
  readonly detail: string | undefined
  readonly nonce: number | undefined
  /** Of the transaction that was mined, else of the last one signed. */
  readonly hash: Hex | undefined
  readonly blockNumber: bigint | undefined
  readonly gasUsed: bigint | undefined
  readonly contractAddress: Address | undefined
  /** Transactions signed for it. */
  readonly attempts: number
  /** Unix milliseconds. */
  readonly createdAt: number
}

/** The durable queue of one key's transactions. */
export type Outbox = {
  /**
   * Adds an intent. Synchronous, for the caller's open transaction: it is queued if and only if that commits.
   *
   * @returns The row's id; the existing row's when the key is known. One that was cancelled before it was signed is queued again.
   */
  enqueue(intent: OutboxIntent): number
  /** Returns the row of a key. */
  find(key: string): OutboxRow | undefined
  /** Takes an intent back if nothing was signed for it; returns whether it did. Synchronous like `enqueue`. */
  cancelQueued(key: string): boolean
  /** Counts the rows that are not in a last state. */
  pending(): number
  /**
   * Takes one turn: records receipts, notices replaced blocks, sends what waits, replaces what is stuck. At most three HTTP round
   * trips however many transactions; none while nothing can have changed. Turns never overlap: a second call joins the first.
   *
   * @param head - Newest block the caller saw.
   * @returns The rows that changed.
   * @throws {BlockHostError} retryable, when the chain can't be seen; nothing is lost.
   */
  tick(head: { readonly blockNumber: bigint }): Promise<readonly OutboxRow[]>
}

/** What {@link createOutbox} needs from outside. */
export type OutboxDeps = { readonly clock: Clock; readonly log: Log }

/** A transaction that is about to be signed, and then sent. */
type Draft = {
  readonly entry: Entry
  readonly nonce: number | undefined
  readonly fees: Fees
  readonly isVoid: boolean
  readonly gasLimit?: bigint
}

type Outgoing = { readonly entry: Entry; readonly attempt: Pick<Attempt, 'hash' | 'nonce' | 'isVoid' | 'accepted'> }

/** So many of the newest nonces keep their bytes, to be sent again if a deep reorg takes their block away. */
const keptNonces = 256
/** After that many nonces taken by others an intent is given up: two programs fight over the key. */
const maxTimesTaken = 3
/** How far below its own lowest nonce the outbox looks for holes at a time. */
const maxGap = 16
/** A hole must have been there for so many blocks, or for `stuckAfterMs`, before it is filled. */
const gapDepth = 2n

/**
 * Makes the outbox of `port`'s account in `db`, which holds `outboxSchema`.
 *
 * @throws {BlockHostError} `BH_OUTBOX_OTHER_ACCOUNT` (exit 78) when transactions of another key or chain are still open in it.
 */
export function createOutbox(
  db: DatabaseSync,
  port: TransactionPort,
  options: OutboxOptions,
  { clock, log }: OutboxDeps,
): Outbox {
  const store = createOutboxStore(db)
  const account = `${port.chainId}:${port.address}`
  const holes = new Map<number, { block: bigint; atMs: number }>()
  let running: Promise<readonly OutboxRow[]> | undefined
  let polled: { head: bigint; atMs: number } | undefined
  /** Kept here alone: what was missing while nobody looked may have shown itself. */
  const missing = new Map<number, { block: bigint; atMs: number }>()
  /** Entry -> the chain's height when its bytes were last handed over. */
  const triedBlock = new Map<number, bigint>()
  refuseForeignAccount(store.findForeignAccount(account), account)

  async function turn(head: bigint): Promise<readonly OutboxRow[]> {
    if (store.countOpen() === 0) return []
    const before = store.numbered()
    if (!isWorthPolling(before, head)) return []
    const view = await port.poll({ receiptsOf: before.flatMap(entry => entry.attempts.map(attempt => attempt.hash)) })
    if (polled === undefined || clock.monotonic() - polled.atMs > options.stuckAfterMs) missing.clear()
    polled = { head, atMs: clock.monotonic() }
    const changed = new Set<number>()
    transaction(db, () => settle(before, view, changed))
    const { drafts, outgoing } = decide(view, changed)
    const ready = withNonces(await withGasLimits(drafts, view, changed), view)
    const signed = await Promise.all(ready.map(draft => port.sign(toUnsigned(draft))))
    outgoing.push(...transaction(db, () => recordSigned(ready, signed, view, changed)))
    await send(
      outgoing.toSorted((a, b) => a.attempt.nonce - b.attempt.nonce),
      changed,
    )
    for (const { entry } of outgoing) triedBlock.set(entry.id, view.blockNumber)
    const open = new Set(store.numbered().map(entry => entry.id))
    for (const id of triedBlock.keys()) if (!open.has(id)) triedBlock.delete(id)
    return [...changed].flatMap(id => store.get(id) ?? []).map(toRow)
  }

  /** Without a new block nothing can have been mined; a timer covers endpoints that were behind. */
  function isWorthPolling(numbered: readonly Entry[], head: bigint): boolean {
    if (polled === undefined || polled.head !== head) return true
    if (clock.monotonic() - polled.atMs >= options.stuckAfterMs / 3) return true
    if (numbered.some(entry => entry.attempts.some(attempt => attempt.triedAt === undefined))) return true
    return room(numbered) > 0 && store.waiting(1).some(entry => entry.problem === undefined)
  }

  function settle(entries: readonly Entry[], view: PortView, changed: Set<number>): void {
    const receipts = new Map(view.receipts.flatMap(receipt => (receipt === undefined ? [] : [[receipt.hash, receipt]])))
    for (const entry of entries) {
      const change = changeFor(entry, view, receipts)
      if (change === undefined) continue
      store.update(entry.id, change)
      if (change.state !== undefined) changed.add(entry.id)
      if (change.state === 'final' && entry.nonce !== undefined) store.forgetBytes(account, entry.nonce - keptNonces)
    }
  }

  function changeFor(
    entry: Entry,
    view: PortView,
    receipts: Parameters<typeof findOnChain>[2],
  ): EntryChange | undefined {
    const since = missing.get(entry.id)
    const known = since && { block: since.block, ms: clock.monotonic() - since.atMs }
    const finding = findOnChain(entry, view, receipts, known, options)
    if (finding.kind === 'nothing') return undefined
    if (finding.kind === 'missing') missing.set(entry.id, { block: view.blockNumber, atMs: clock.monotonic() })
    else missing.delete(entry.id)
    if (finding.kind === 'missing' || finding.kind === 'free') return undefined
    if (finding.kind === 'dropped') return onDropped(entry)
    if (finding.kind === 'taken') return onTaken(entry)
    const { attempt, receipt, final } = finding
    const ended: OutboxState = attempt.isVoid ? 'cancelled' : receipt.succeeded ? 'final' : 'reverted'
    const state = final ? ended : 'mined'
    if (entry.state === state && entry.blockHash === receipt.blockHash) return undefined
    const problem = attempt.isVoid ? entry.problem : receipt.succeeded ? undefined : 'reverted'
    if (entry.nonce !== undefined && entry.nonce !== attempt.nonce) reportTwice(entry, attempt)
    // An old nonce that turns out to be ours after all is the entry's nonce again.
    const isFree = store.findByNonce(account, attempt.nonce) === undefined
    const nonce = entry.nonce ?? (isFree ? attempt.nonce : null)
    return { ...receiptChange(receipt), state, nonce, account, problem: problem ?? null }
  }

  function onDropped(entry: Entry): EntryChange {
    const last = lastAttempt(entry)!
    log.info({ key: entry.key, hash: entry.hash, block: entry.blockNumber }, 'the block of a transaction is gone')
    store.setAttempt(last.hash, { ...last, triedAt: undefined })
    const gone = { block_number: null, block_hash: null, gas_used: null, contract_address: null }
    return { ...gone, state: 'sent', hash: last.hash, problem: null }
  }

  function onTaken(entry: Entry): EntryChange {
    const timesTaken = entry.timesTaken + 1
    const fields = { key: entry.key, nonce: entry.nonce, timesTaken }
    log.warn(fields, 'a transaction that is not ours used the nonce; is the key used by another program?')
    const over = entry.voidWanted || timesTaken >= maxTimesTaken
    const state = over ? 'cancelled' : 'queued'
    const problem = over ? (entry.problem ?? 'nonce-taken') : null
    return { nonce: null, account: null, state, problem, times_taken: timesTaken }
  }

  function reportTwice(entry: Entry, attempt: Attempt): void {
    const fields = { key: entry.key, mined: attempt.hash, alsoSigned: lastAttempt(entry)?.hash }
    log.error(fields, 'an endpoint hid a mined transaction, and the intent was signed for a second nonce')
  }

  /** What is to be sent as it is, and what is to be signed first. */
  function decide(view: PortView, changed: Set<number>): { drafts: Draft[]; outgoing: Outgoing[] } {
    reopenBelow(Math.min(...inFlight(store.numbered()).map(entry => entry.nonce!)), view, changed)
    const unmined = inFlight(store.numbered()).toSorted((a, b) => a.nonce! - b.nonce!)
    const outgoing: Outgoing[] = []
    const drafts: Draft[] = []
    for (const [index, entry] of unmined.entries()) {
      const decision = decideSend(entry, view, index === 0, clock.now(), options, triedBlock.get(entry.id))
      if (decision.kind === 'replace') drafts.push({ ...decision, entry, nonce: entry.nonce })
      if (decision.kind === 'again' || decision.kind === 'capped') outgoing.push({ entry, attempt: decision.attempt })
      if (decision.kind === 'capped') flag(entry, 'fee-cap', 'replacing it would cost more', changed)
    }
    drafts.push(...draftNew(unmined, view, changed))
    return { drafts, outgoing }
  }

  function draftNew(unmined: readonly Entry[], view: PortView, changed: Set<number>): Draft[] {
    const fees = firstFees(view, options.maxFeePerGasWei)
    const unsigned = unmined.filter(entry => lastAttempt(entry) === undefined)
    const waiting = store.waiting(Math.max(0, room(unmined)))
    if (fees !== undefined) return [...unsigned, ...waiting].map(entry => draftOf(entry, fees))
    for (const entry of waiting)
      flag(entry, 'fee-cap', `the base fee is ${view.baseFeeWei ?? view.tipWei} wei`, changed)
    return []
  }

  function draftOf(entry: Entry, fees: Fees): Draft {
    const limit = entry.gasLimit === undefined ? {} : { gasLimit: entry.gasLimit }
    return { entry, nonce: entry.nonce, fees, isVoid: entry.voidWanted, ...limit }
  }

  function room(numbered: readonly Entry[]): number {
    const unmined = inFlight(numbered)
    const broke = unmined.some(entry => entry.problem === 'insufficient-funds')
    return broke ? 0 : options.maxInFlight - unmined.length
  }

  /**
   * Looks after nonces below our lowest open one that the chain does not count as used: a deep reorg took our transaction away, or
   * the account's history is not what we remember. Without this everything above would wait for ever. What was taken away is open
   * again, so that it pays more if it must.
   *
   * @param lowest - `Infinity` when nothing is open.
   */
  function reopenBelow(lowest: number, view: PortView, changed: Set<number>): void {
    if (lowest === Number.POSITIVE_INFINITY) return
    const seen = new Set<number>()
    for (let nonce = view.latestNonce; nonce < Math.min(lowest, view.latestNonce + maxGap); nonce++) {
      const holder = store.findByNonce(account, nonce)
      if (holder === undefined || wasMinedElsewhere(holder)) {
        seen.add(nonce)
        const since = holes.get(nonce) ?? { block: view.blockNumber, atMs: clock.monotonic() }
        holes.set(nonce, since)
        const waitedMs = clock.monotonic() - since.atMs
        if (view.blockNumber >= since.block + gapDepth || waitedMs >= options.stuckAfterMs) fill(nonce, holder)
      } else if (holder.state !== 'mined' && (holder.blockNumber ?? 0n) <= view.blockNumber) {
        if (lastAttempt(holder) === undefined) continue
        transaction(db, () => store.update(holder.id, onDropped(holder)))
        changed.add(holder.id)
      }
    }
    for (const nonce of holes.keys()) if (!seen.has(nonce)) holes.delete(nonce)
  }

  /** @param holder - Gives the nonce up: it is done with another one. */
  function fill(nonce: number, holder: Entry | undefined): void {
    const createdAt = clock.now()
    const key = `fill-nonce:${account}:${nonce}:${createdAt}`
    if (store.find(key) !== undefined) return
    log.warn({ nonce }, 'a nonce below ours was never used; filling it with a transaction that does nothing')
    const what = { key, note: `uses up nonce ${nonce}`, to: port.address, data: '0x', valueWei: 0n } as const
    transaction(db, () => {
      if (holder !== undefined) store.update(holder.id, { nonce: null })
      const id = store.insert({ ...what, gasLimit: undefined, account, nonce, createdAt })
      store.update(id, { void_wanted: 1 })
    })
    holes.delete(nonce)
  }

  /** Adds gas limits where they are missing: one estimate for all of them. Those that the node refuses stay behind. */
  async function withGasLimits(drafts: readonly Draft[], view: PortView, changed: Set<number>): Promise<Draft[]> {
    const missing = drafts.filter(draft => draft.gasLimit === undefined && limitOf(draft) === undefined)
    const outcomes = missing.length === 0 ? [] : await port.estimate(missing.map(callOf))
    const estimates = new Map(missing.map((draft, index) => [draft, outcomes[index]!]))
    return drafts.flatMap(draft => {
      const outcome = estimates.get(draft)
      if (outcome === undefined) return [{ ...draft, gasLimit: draft.gasLimit ?? limitOf(draft)! }]
      if (outcome.ok) return [{ ...draft, gasLimit: (outcome.gas * 5n) / 4n }]
      onRefusedEstimate(draft.entry, outcome, view, changed)
      return []
    })
  }

  function limitOf({ entry, isVoid }: Draft): bigint | undefined {
    return isVoid ? undefined : entry.gasLimit
  }

  function callOf({ entry, isVoid }: Draft): Parameters<TransactionPort['estimate']>[0][number] {
    if (isVoid) return { to: port.address, data: '0x', valueWei: 0n }
    return { to: entry.to, data: store.dataOf(entry.id), valueWei: entry.valueWei }
  }

  function onRefusedEstimate(
    entry: Entry,
    outcome: EstimateOutcome & { ok: false },
    view: PortView,
    changed: Set<number>,
  ): void {
    if (outcome.kind === 'transient') return
    const isBroke = outcome.kind === 'insufficient-funds'
    flag(entry, isBroke ? 'insufficient-funds' : 'reverted', outcome.message, changed)
    // Something of ours that is on its way may be what it waits for; and the endpoint may be behind.
    if (isBroke || entry.nonce !== undefined || inFlight(store.numbered()).length > 0) return
    const since = entry.refusedSince ?? view.blockNumber
    store.update(entry.id, { refused_since: since })
    if (view.blockNumber < since + BigInt(options.confirmations)) return
    log.warn({ key: entry.key, why: outcome.message }, 'a transaction would revert and is given up')
    store.update(entry.id, { state: 'reverted' })
  }

  function flag(entry: Entry, problem: OutboxProblem, detail: string, changed: Set<number>): void {
    if (entry.problem === problem) return
    log.warn({ key: entry.key, problem, detail }, 'a transaction is held up')
    store.update(entry.id, { problem, detail })
    changed.add(entry.id)
  }

  /** The chain may be behind what we signed, and we may be behind what others signed: the higher one counts. */
  function withNonces(drafts: readonly Draft[], view: PortView): Draft[] {
    let next = Math.max(view.latestNonce, store.highestNonce(account) + 1)
    return drafts.map(draft => (draft.nonce === undefined ? { ...draft, nonce: next++ } : draft))
  }

  function toUnsigned(draft: Draft): UnsignedTransaction {
    const { fees, nonce, gasLimit } = draft
    return { ...callOf(draft), chainId: port.chainId, nonce: nonce!, fees, gasLimit: gasLimit! }
  }

  /** Stores what was signed, before any of it is sent. Whatever was cancelled meanwhile gives its nonce back, and so do those behind it. */
  function recordSigned(
    drafts: readonly Draft[],
    signed: readonly SignedTransaction[],
    view: PortView,
    changed: Set<number>,
  ): Outgoing[] {
    const outgoing: Outgoing[] = []
    for (const [index, { entry, nonce, fees, isVoid, gasLimit }] of drafts.entries()) {
      if (nonce !== entry.nonce && store.get(entry.id)?.state !== 'queued') break
      const { hash } = signed[index]!
      const attempt = { hash, nonce: nonce!, isVoid, fees, signedAt: clock.now(), signedBlock: view.blockNumber }
      store.insertAttempt(entry.id, account, signed[index]!, attempt)
      const limit = isVoid ? {} : { gas_limit: gasLimit! }
      const problem = entry.problem === 'fee-cap' ? { problem: null, detail: null } : {}
      store.update(entry.id, { ...limit, ...problem, hash, nonce: nonce!, account, refused_since: null })
      outgoing.push({ entry, attempt: { ...attempt, accepted: false } })
      changed.add(entry.id)
    }
    return outgoing
  }

  async function send(outgoing: readonly Outgoing[], changed: Set<number>): Promise<void> {
    if (outgoing.length === 0) return
    const raws = outgoing.map(({ attempt }) => store.rawOf(attempt.hash))
    let outcomes: readonly SendOutcome[]
    try {
      outcomes = await port.send(raws)
    } catch (error) {
      if (!isRetryable(error)) throw error
      // Any of them may have left; they are handed over again next turn, which is harmless.
      log.warn({ count: raws.length, why: messageOf(error) }, 'could not send transactions')
      return
    }
    transaction(db, () => {
      for (const [index, item] of outgoing.entries()) recordSent(item, outcomes[index]!, changed)
    })
  }

  function recordSent({ entry, attempt }: Outgoing, outcome: SendOutcome, changed: Set<number>): void {
    const kind = outcome.ok ? 'known' : outcome.kind
    const accepted = attempt.accepted || kind === 'known'
    const triedAt = kind === 'transient' ? undefined : clock.now()
    store.setAttempt(attempt.hash, { triedAt, accepted, underpriced: kind === 'underpriced' })
    const now = store.get(entry.id)!
    if (kind === 'known' && (now.state === 'queued' || now.problem === 'insufficient-funds')) {
      const kept = attempt.isVoid ? {} : { problem: null, detail: null }
      store.update(entry.id, { ...kept, ...(now.state === 'queued' ? { state: 'sent' } : {}) })
      changed.add(entry.id)
    }
    if (outcome.ok || kind === 'known' || kind === 'transient') return
    log.debug({ key: entry.key, hash: attempt.hash, kind, said: outcome.message }, 'a node refused a transaction')
    if (kind === 'insufficient-funds') flag(now, 'insufficient-funds', outcome.message, changed)
    if (kind === 'permanent' && !attempt.isVoid && !now.attempts.some(({ accepted }) => accepted)) {
      flag(now, 'refused', outcome.message, changed)
      store.update(entry.id, { void_wanted: 1 })
    }
  }

  return {
    enqueue(intent) {
      const known = store.find(intent.key)
      const { key, note, to, data, valueWei = 0n, gasLimit } = intent
      const isCancelled = known?.state === 'cancelled' && known.attempts.length === 0
      if (known !== undefined && !isCancelled) return known.id
      // A new id: a turn that is signing the cancelled one must not mistake this for it.
      if (known !== undefined) store.delete(known.id)
      return store.insert({ key, note, to, data, valueWei, gasLimit, createdAt: clock.now() })
    },
    find(key) {
      const entry = store.find(key)
      return entry === undefined ? undefined : toRow(entry)
    },
    cancelQueued(key) {
      const entry = store.find(key)
      if (entry?.state !== 'queued' || entry.nonce !== undefined || entry.attempts.length > 0) return false
      store.update(entry.id, { state: 'cancelled' })
      return true
    },
    pending: () => store.countOpen(),
    tick: head => {
      running ??= turn(head.blockNumber).finally(() => {
        running = undefined
      })
      return running
    },
  }
}

/** Whether what was mined for an entry has another nonce than the one it holds: it was signed twice, as an endpoint had hidden the first. */
function wasMinedElsewhere(entry: Entry): boolean {
  const mined = entry.blockNumber === undefined ? undefined : entry.attempts.find(({ hash }) => hash === entry.hash)
  return mined !== undefined && mined.nonce !== entry.nonce
}

function lastAttempt(entry: Entry): Attempt | undefined {
  return entry.attempts.findLast(attempt => attempt.nonce === entry.nonce)
}

function inFlight(numbered: readonly Entry[]): Entry[] {
  return numbered.filter(entry => entry.nonce !== undefined && entry.state !== 'mined')
}

function toRow(entry: Entry): OutboxRow {
  const { id, key, note, state, problem, detail, nonce, hash, blockNumber, gasUsed, contractAddress, createdAt } = entry
  const attempts = entry.attempts.length
  return {
    id,
    key,
    note,
    state,
    problem,
    detail,
    nonce,
    hash,
    blockNumber,
    gasUsed,
    contractAddress,
    attempts,
    createdAt,
  }
}

function refuseForeignAccount(foreign: string | undefined, account: string): void {
  if (foreign === undefined) return
  throw new BlockHostError({
    code: 'BH_OUTBOX_OTHER_ACCOUNT',
    message: `Transactions of ${foreign} are on their way; the configured key is ${account}`,
    hint: 'Put the former key and chain back until they are done, then change them.',
    fields: { foreign, account },
    exitCode: exitCodes.badConfig,
  })
}
