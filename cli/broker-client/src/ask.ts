/** Asks a broker and waits for its answer: looks at the chain, lets {@link decide} say what is next, does it, looks again. */
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import type { SendOutcome } from '@blockhost/chain/transaction-port.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, isRetryable, messageOf } from '@blockhost/kit/errors.ts'
import type { Allocation, AllocationStore, BrokerContract } from './allocation.ts'
import { askFailed, blockedBy, interrupted, submitNotes, timedOut, waitingFor } from './ask-messages.ts'
import { type Action, type Answer, decide, type MappedRequest, type Situation, type SubmitReason } from './decide.ts'
import type { Intent, IntentStore } from './intent.ts'
import { type Lease, leaseTexts } from './lease.ts'
import type { Progress } from './progress.ts'
import { type ChainView, type ContractFacts, markExpiredData, submitRequestData } from './requests-contract.ts'
import type { PreparedTransaction, Wallet } from './wallet.ts'

/** What is asked, of whom, for whom. */
export type AskPlan = {
  readonly purpose: 'request' | 'renew'
  readonly nftContract: Address
  readonly broker: BrokerContract
  /** Taken before; the fee is read again before each request. */
  readonly facts: ContractFacts
  /** EIP-55 spelling of the wallet that answers. */
  readonly brokerWallet: string
  readonly maxFeeWei: bigint
  readonly timeoutMs: number
  readonly pollIntervalMs: number
}

/** What {@link ask} needs from outside. */
export type AskDeps = {
  readonly wallet: Wallet
  /** Reads the plan's contract for the plan's NFT contract; see `readChainView`. */
  view(guess: bigint | undefined): Promise<ChainView>
  facts(): Promise<ContractFacts>
  /** Opens a stored answer with `server.key` and checks it. */
  openAnswer(response: Hex, id: bigint): Answer<Lease>
  newKeyPair(): { privateKey: string; publicKey: string }
  /** Encrypts a request for the broker; every call gives other bytes. */
  encryptRequest(wgPublicKey: string): Hex
  readonly intents: IntentStore
  readonly allocations: AllocationStore
  /** Called before the new lease is written, with the one it replaces; may run twice. */
  beforeSave(allocation: Allocation, previous: Allocation | undefined): void
  readonly clock: Clock
  readonly progress: Progress
  readonly signal: AbortSignal
}

/** How a lease was got. */
export type AskOutcome = {
  readonly allocation: Allocation
  /** `false`: the lease was there already, nothing was sent. */
  readonly isNew: boolean
  /** What `broker-allocation.json` held before, when it was of the same NFT contract. */
  readonly replaced: Allocation | undefined
}

/** An endpoint that is behind may not know a fresh NFT contract yet: refusals before one is believed. */
const maxRefusals = 3
/** A transaction in the mempool this long gets higher fees. */
const replaceAfterMs = 45_000
const maxReplacements = 5
/** Pause between two sendings of the same transaction. */
const resendAfterMs = 5000

type Run = AskDeps & {
  readonly plan: AskPlan
  readonly deadlineMs: number
  retriesLeft: number
  lastSentMs: number
  /** The latest situation in words, for the message when time is up. */
  waiting: () => BlockHostError
  expiry: PreparedTransaction | undefined
  lastNote: string
  /** How often the contract has refused to be asked. */
  refusals: number
}

/**
 * Gets a lease, going on where an earlier run was interrupted.
 *
 * @throws {BlockHostError} Retryable (exit 75) when time is up, the chain can't be seen or the signal came: the same call later goes on. Else
 *   `BH_ANSWER_INVALID`, `BH_REQUEST_REJECTED`, `BH_REQUEST_KEPT_DYING`, `BH_RENEW_IMPOSSIBLE`, `BH_FEE_TOO_HIGH`, and those of {@link Wallet.prepare}.
 */
export async function ask(plan: AskPlan, deps: AskDeps): Promise<AskOutcome> {
  const run: Run = {
    ...deps,
    plan,
    deadlineMs: deps.clock.monotonic() + plan.timeoutMs,
    retriesLeft: 1,
    lastSentMs: Number.NEGATIVE_INFINITY,
    waiting: () => timedOut('nothing was decided yet', plan.timeoutMs),
    expiry: undefined,
    lastNote: '',
    refusals: 0,
  }
  for (;;) {
    const outcome = await turn(run)
    if (outcome !== undefined) return outcome
    await pause(run)
  }
}

/** One look and one action; problems that may pass are told and survived. */
async function turn(run: Run): Promise<AskOutcome | undefined> {
  try {
    const intent = run.intents.find()
    const view = await run.view(intent?.request_id ?? savedAllocation(run)?.requestId)
    const situation = readSituation(run, intent, view)
    const action = decide(situation)
    return await act(run, intent, view, action)
  } catch (error) {
    if (!mayPass(run, error)) throw error
    run.waiting = () => error as BlockHostError
    noteOnce(run, `${messageOf(error)}; trying again`)
    return undefined
  }
}

function mayPass(run: Run, error: unknown): boolean {
  if (error instanceof BlockHostError && error.code === 'BH_CALL_REFUSED') return ++run.refusals < maxRefusals
  return isRetryable(error)
}

function noteOnce(run: Run, text: string): void {
  if (text !== run.lastNote) run.progress.note(text)
  run.lastNote = text
}

async function pause(run: Run): Promise<void> {
  const leftMs = run.deadlineMs - run.clock.monotonic()
  if (leftMs <= 0) throw run.waiting()
  await run.clock.sleep(Math.min(run.plan.pollIntervalMs, leftMs), run.signal)
  if (run.signal.aborted) throw interrupted()
}

function readSituation(run: Run, intent: Intent | undefined, view: ChainView): Situation<Lease> {
  const mapped = view.mapped === undefined ? undefined : readMapped(run, intent, view.mapped)
  return {
    purpose: run.plan.purpose,
    generation: run.plan.facts.generation,
    now: view.timestamp,
    minedNonce: view.minedNonce,
    mapped,
    intent: intent && { txNonce: intent.transaction.nonce, refusedId: intent.refused_id },
    savedKeyFits: mapped !== undefined && savedKeyFits(run, mapped),
    retriesLeft: run.retriesLeft,
  }
}

function readMapped(
  run: Run,
  intent: Intent | undefined,
  stored: NonNullable<ChainView['mapped']>,
): MappedRequest<Lease> {
  return {
    id: stored.id,
    isOurs: intent !== undefined && stored.payload === intent.payload,
    status: stored.status,
    expiresAt: stored.submittedAt + run.plan.facts.expirationSeconds,
    answer: stored.response === '0x' ? { kind: 'none' } : run.openAnswer(stored.response, stored.id),
  }
}

/** The saved key belongs to the live request when both the request and everything the broker granted are the same. */
function savedKeyFits(run: Run, mapped: MappedRequest<Lease>): boolean {
  const saved = savedAllocation(run)
  if (saved === undefined || saved.requestId !== mapped.id || mapped.answer.kind !== 'good') return false
  return JSON.stringify(leaseTexts(saved.lease)) === JSON.stringify(leaseTexts(mapped.answer.lease))
}

function savedAllocation(run: Run): Allocation | undefined {
  const saved = run.allocations.findAllocation()
  if (!saved?.ok || saved.value.nftContract.toLowerCase() !== run.plan.nftContract.toLowerCase()) return undefined
  return saved.value
}

async function act(
  run: Run,
  intent: Intent | undefined,
  view: ChainView,
  action: Action<Lease>,
): Promise<AskOutcome | undefined> {
  switch (action.do) {
    case 'submit':
      return void (await submit(run, intent, action.because))
    case 'resend':
      return void (await resend(run, intent!))
    case 'wait-answer':
      return waitForAnswer(run, intent!, action.id)
    case 'wait-release':
      run.progress.step(waitingFor.release(action.id))
      noteOnce(run, blockedBy(action).message)
      run.waiting = () => blockedBy(action)
      return undefined
    case 'mark-expired':
      return void (await markExpired(run, action.id))
    case 'finish':
      return finish(run, intent, action)
    case 'fail':
      if (intent !== undefined && (action.because === 'answer-invalid' || action.because === 'rejected'))
        run.intents.save({ ...intent, ...(action.id === undefined ? {} : { refused_id: action.id }) })
      throw askFailed(action, view.blockNumber)
  }
}

async function submit(run: Run, previous: Intent | undefined, because: SubmitReason): Promise<void> {
  const { plan } = run
  const note = submitNotes[because]
  if (note !== undefined) run.progress.note(note)
  run.progress.step(waitingFor.sending)
  const feeWei = await acceptFee(run)
  // A request that takes the place of a dead one keeps its WireGuard key: the broker may know it already.
  const keys =
    previous === undefined
      ? run.newKeyPair()
      : { privateKey: previous.wg_private_key, publicKey: previous.wg_public_key }
  const payload = run.encryptRequest(keys.publicKey)
  const call = {
    to: plan.broker.requestsContract,
    data: submitRequestData(plan.nftContract, payload),
    valueWei: feeWei,
  }
  const prepared = await run.wallet.prepare(call, 'ask for a lease')
  const intent: Intent = {
    version: 1,
    purpose: previous?.purpose ?? plan.purpose,
    created_at: new Date(run.clock.now()).toISOString(),
    chain_id: run.wallet.chainId,
    nft_contract: plan.nftContract,
    wallet: run.wallet.address,
    requests_contract: plan.broker.requestsContract,
    broker_pubkey: plan.broker.brokerPubkey,
    broker_id: `${plan.broker.brokerId}`,
    wg_private_key: keys.privateKey,
    wg_public_key: keys.publicKey,
    payload,
    transaction: toIntentTransaction(prepared, run.clock.now(), 0),
  }
  if (previous !== undefined) run.retriesLeft--
  run.intents.save(intent)
  await send(run, intent)
}

async function acceptFee(run: Run): Promise<bigint> {
  const { requestFeeWei } = await run.facts()
  if (requestFeeWei > 0n) noteOnce(run, `the broker's request fee is ${requestFeeWei} wei`)
  if (requestFeeWei <= run.plan.maxFeeWei) return requestFeeWei
  throw new BlockHostError({
    code: 'BH_FEE_TOO_HIGH',
    message: `The broker asks ${requestFeeWei} wei for a request; at most ${run.plan.maxFeeWei} may be paid`,
    hint: `To pay it, add --max-fee-wei ${requestFeeWei}.`,
    fields: { requestFeeWei: `${requestFeeWei}`, maxFeeWei: `${run.plan.maxFeeWei}` },
  })
}

/** Our transaction is signed and not mined: every few seconds it is sent again, and now and then with higher fees. */
async function resend(run: Run, intent: Intent): Promise<void> {
  run.progress.step(waitingFor.mining(intent.transaction.hash))
  run.waiting = () => timedOut(`the transaction ${intent.transaction.hash} was not mined`, run.plan.timeoutMs)
  const { signed_at: signedAt, replacements } = intent.transaction
  if (run.clock.monotonic() - run.lastSentMs < resendAfterMs) return
  // A run that goes on after an interruption first tries what was signed then.
  const isStuck = run.lastSentMs !== Number.NEGATIVE_INFINITY && run.clock.now() - signedAt > replaceAfterMs
  if (isStuck && replacements < maxReplacements) return raise(run, intent)
  const outcome = await send(run, intent)
  if (!outcome.ok && outcome.kind === 'underpriced' && replacements < maxReplacements) await raise(run, intent)
}

async function raise(run: Run, intent: Intent): Promise<void> {
  const { transaction } = intent
  const call = {
    to: intent.requests_contract as Address,
    data: submitRequestData(intent.nft_contract as Address, intent.payload as Hex),
    valueWei: transaction.value_wei,
  }
  const raised = await run.wallet.raise({
    call,
    nonce: transaction.nonce,
    gasLimit: transaction.gas_limit,
    fees: fromIntentFees(transaction.fees),
  })
  const replaced = {
    ...intent,
    transaction: toIntentTransaction(raised, run.clock.now(), transaction.replacements + 1),
  }
  run.progress.note('the transaction is slow; offering more for gas')
  run.intents.save(replaced)
  await send(run, replaced)
}

/** Whether it was mined is never concluded from what a node says here, only from the chain's state. */
async function send(run: Run, intent: Intent): Promise<SendOutcome> {
  run.progress.step(waitingFor.mining(intent.transaction.hash))
  run.lastSentMs = run.clock.monotonic()
  const outcome = await run.wallet.send(intent.transaction.raw as Hex)
  if (!outcome.ok) throwIfFinal(outcome, run.wallet.address)
  return outcome
}

function throwIfFinal(outcome: SendOutcome & { ok: false }, wallet: Address): void {
  if (outcome.kind === 'insufficient-funds')
    throw new BlockHostError({
      code: 'BH_BALANCE_TOO_LOW',
      message: `The wallet ${wallet} can't pay for the transaction: ${outcome.message}`,
      hint: `Send some of the chain's currency to ${wallet}, then run this again; it continues.`,
      fields: { wallet },
    })
  if (outcome.kind === 'permanent')
    throw new BlockHostError({
      code: 'BH_TRANSACTION_REFUSED',
      message: `The RPC endpoint refused the transaction: ${outcome.message}`,
      hint: 'Try another --rpc-url; to give this request up, run `broker-client release --force`.',
    })
}

function waitForAnswer(run: Run, intent: Intent, id: bigint): undefined {
  // Only a hint for the next look: the request is recognised by its payload.
  if (intent.request_id !== id) run.intents.save({ ...intent, request_id: id })
  run.progress.step(waitingFor.answer(id))
  run.waiting = () => timedOut(`the broker did not answer request ${id}`, run.plan.timeoutMs)
  return undefined
}

async function markExpired(run: Run, id: bigint): Promise<void> {
  run.progress.step(waitingFor.expiry(id))
  run.waiting = () => timedOut(`the expired request ${id} could not be cleared yet`, run.plan.timeoutMs)
  if (run.clock.monotonic() - run.lastSentMs < resendAfterMs) return
  run.expiry ??= await run.wallet.prepare(
    { to: run.plan.broker.requestsContract, data: markExpiredData(id), valueWei: 0n },
    'clear the expired request',
  )
  run.lastSentMs = run.clock.monotonic()
  const outcome = await run.wallet.send(run.expiry.raw)
  if (outcome.ok) return
  throwIfFinal(outcome, run.wallet.address)
  if (outcome.kind === 'underpriced') run.expiry = await run.wallet.raise(run.expiry)
  if (outcome.kind === 'nonce-too-low') run.expiry = undefined
}

function finish(run: Run, intent: Intent | undefined, action: Action<Lease> & { do: 'finish' }): AskOutcome {
  const saved = action.key === 'saved' ? savedAllocation(run)! : undefined
  const allocation: Allocation = saved ?? {
    lease: action.lease,
    nftContract: run.plan.nftContract,
    requestId: action.id,
    wgPrivateKey: intent!.wg_private_key,
    wgPublicKey: intent!.wg_public_key,
    allocatedAtMs: run.clock.now(),
    brokerWallet: run.plan.brokerWallet,
  }
  run.progress.step(waitingFor.saving)
  // The journal goes last: interrupted anywhere in here, the next run comes here again.
  const replaced = savedAllocation(run)
  run.beforeSave(allocation, replaced)
  run.allocations.saveAllocation(allocation)
  run.allocations.saveContract(run.plan.broker)
  run.intents.remove()
  return { allocation, isNew: saved === undefined, replaced }
}

function toIntentTransaction(
  prepared: PreparedTransaction,
  signedAt: number,
  replacements: number,
): Intent['transaction'] {
  const { fees } = prepared
  return {
    hash: prepared.hash,
    raw: prepared.raw,
    nonce: prepared.nonce,
    gas_limit: prepared.gasLimit,
    value_wei: prepared.call.valueWei,
    fees:
      fees.type === 'legacy'
        ? { type: 'legacy', gas_price_wei: fees.gasPriceWei }
        : {
            type: 'eip1559',
            max_fee_per_gas_wei: fees.maxFeePerGasWei,
            max_priority_fee_per_gas_wei: fees.maxPriorityFeePerGasWei,
          },
    signed_at: signedAt,
    replacements,
  }
}

function fromIntentFees(fees: Intent['transaction']['fees']): PreparedTransaction['fees'] {
  return fees.type === 'legacy'
    ? { type: 'legacy', gasPriceWei: fees.gas_price_wei }
    : {
        type: 'eip1559',
        maxFeePerGasWei: fees.max_fee_per_gas_wei,
        maxPriorityFeePerGasWei: fees.max_priority_fee_per_gas_wei,
      }
}
