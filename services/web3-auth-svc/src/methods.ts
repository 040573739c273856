/** What the socket understands: two methods for signing in, and those of earlier generations. See README.md for every message. */
import { type Address, isAddress } from '@blockhost/chain/hex.ts'
import { messageOf } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { ChainBackend } from './chain-backend.ts'
import type { Challenge, Challenges } from './challenges.ts'
import type { Refusal, Verdict } from './judge.ts'
import { type RateLimit, sourceOf } from './rate-limit.ts'

/** An answer: `success` always, the rest where it applies. */
export type Reply = {
  readonly success: boolean
  readonly error?: string
  /** Why a sign-in was refused, for PAM. */
  readonly reason?: Refusal
  readonly session?: string
  readonly prompt_text?: string
  readonly prompt?: string
  readonly token_id?: string
  readonly token_ids?: readonly string[]
}

/** What {@link createMethods} needs. */
export type MethodDeps = {
  readonly challenges: Challenges
  readonly sources: RateLimit
  readonly users: RateLimit
  /** Judges an answer; never rejects. */
  readonly judge: (challenge: Challenge, answer: string) => Promise<Verdict>
  /** Loads what {@link MethodDeps.judge} needs. */
  readonly prepare: () => Promise<unknown>
  /** Text for the terminal. */
  readonly invite: (challenge: Challenge) => { readonly text: string; readonly prompt: string }
  readonly chain: ChainBackend | undefined
  /** For clients that name no contract. */
  readonly contract: Address | undefined
  /** How long an answer of the page is waited for, milliseconds. */
  readonly graceMs: number
  readonly log: Log
}

/** Handles one request; never rejects. */
export type Methods = (request: unknown) => Promise<Reply>

/** Longest answer taken from a terminal, characters. */
const maxAnswerLength = 16_384

/** Makes the table of methods. */
export function createMethods(deps: MethodDeps): Methods {
  const methods: Readonly<Record<string, (params: unknown) => Promise<Reply> | Reply>> = {
    challenge: params => challenge(params, deps),
    verify: params => verify(params, deps),
    get_nfts: params => getNfts(params, deps),
    verify_access: params => getNfts(params, deps),
    health: () => health(deps),
  }
  return async request => {
    const { method, params } = (request ?? {}) as { method?: unknown; params?: unknown }
    if (typeof method !== 'string') return fail('invalid request: missing field `method`')
    if (!Object.hasOwn(methods, method)) return fail(`unknown method: ${method.slice(0, 64)}`)
    return methods[method]!(params)
  }
}

/** The answer to bytes that are not JSON; the connection stays open. */
export function invalidRequest(problem: string): Reply {
  return fail(`invalid request: ${problem}`)
}

function challenge(params: unknown, { challenges, sources, users, invite, log }: MethodDeps): Reply {
  const { user, service, rhost } = (params ?? {}) as Record<string, unknown>
  if (!isName(user, 255) || user === '') return fail('invalid params: user')
  if (!isName(service ?? '', 255) || !isName(rhost ?? '', 255)) return fail('invalid params: service, rhost')
  const request = { user, service: String(service ?? ''), rhost: String(rhost ?? '') }
  const source = sourceOf(request.rhost)
  // The source first: a flood from one must not use up what the user's own attempts need.
  if (!sources.take(source) || !users.take(user)) {
    log.warn({ ...request }, 'too many attempts')
    return { ...fail('Too many attempts. Wait a minute and connect again.'), reason: 'too-many' }
  }
  const opened = challenges.open(request, source)
  const { text, prompt } = invite(opened)
  log.info({ ...request }, 'a code was shown')
  return { success: true, session: opened.session, prompt_text: text, prompt }
}

async function verify(params: unknown, deps: MethodDeps): Promise<Reply> {
  const { session, answer } = (params ?? {}) as Record<string, unknown>
  if (typeof session !== 'string' || !/^[0-9a-f]{32}$/.test(session)) return fail('invalid params: session')
  if (typeof answer !== 'string' || answer.length > maxAnswerLength) return fail('invalid params: answer')
  const taken = deps.challenges.take(session)
  if (taken === undefined)
    return { ...fail('This code was used already, or has expired. Connect again.'), reason: 'denied' }
  try {
    const given = answer.trim() === '' ? await deps.challenges.pageAnswer(session, deps.graceMs) : answer
    if (given === undefined) return refusal(taken, { ok: false, why: 'denied', error: noSignature }, deps.log)
    const verdict = await deps.judge(taken, given)
    if (!verdict.ok) return refusal(taken, verdict, deps.log)
    const fields = { ...auditOf(taken), wallet: verdict.wallet, by: verdict.by }
    const isUnusual = verdict.by === 'rescue-file' || verdict.by === 'last-known'
    deps.log[isUnusual ? 'warn' : 'info'](fields, 'signed in')
    return { success: true }
  } finally {
    deps.challenges.close(session)
  }
}

const noSignature = 'No signature came from the browser. Connect again, sign there first, and then press Enter.'

function refusal(taken: Challenge, verdict: Verdict & { ok: false }, log: Log): Reply {
  const { why, error, wallet, detail } = verdict
  log.info({ ...auditOf(taken), wallet, why, error, detail }, 'refused')
  return { success: false, reason: why, error }
}

/** What is written about an attempt: never the code, the session or the signature. */
function auditOf({ user, service, rhost }: Challenge) {
  return { user, service, rhost }
}

/** Well is what can judge; whoever waits for this answer finds everything loaded. */
async function health({ prepare, log }: MethodDeps): Promise<Reply> {
  try {
    await prepare()
    return { success: true, token_id: 'ok' }
  } catch (error) {
    log.error({ problem: messageOf(error) }, 'nobody can be signed in')
    return fail('answers can not be judged')
  }
}

async function getNfts(params: unknown, { chain, contract, log }: MethodDeps): Promise<Reply> {
  if (typeof params !== 'object' || params === null) return fail('invalid params: missing field `wallet_address`')
  const { wallet_address: wallet, contract_address: named } = params as Record<string, unknown>
  if (!isAddress(wallet)) return fail('invalid params: wallet_address')
  if (named !== undefined && named !== null && !isAddress(named)) return fail('invalid params: contract_address')
  const asked = (named ?? contract) as Address | undefined
  if (asked === undefined) return fail('no contract address specified')
  if (chain === undefined) return fail('failed to get NFTs: no backend is configured')
  try {
    const ids = await chain.heldTokens(asked, wallet)
    return ids.length === 0 ? fail('no NFT found for wallet') : { success: true, token_id: ids[0]!, token_ids: ids }
  } catch (error) {
    log.error({ problem: messageOf(error) }, 'the tokens of a wallet could not be read')
    return fail(`failed to get NFTs: ${messageOf(error)}`)
  }
}

function fail(error: string): Reply & { readonly error: string } {
  return { success: false, error }
}

/** Names end up in log lines and as keys: one line, bounded. */
function isName(value: unknown, max: number): value is string {
  return typeof value === 'string' && value.length <= max && !/[\u0000-\u001f\u007f]/.test(value)
}
