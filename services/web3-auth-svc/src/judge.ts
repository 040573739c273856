/** Decides on an answer: who signed, and whether that wallet may be this user now. */
import type { Address } from '@blockhost/chain/hex.ts'
import { hashMessage, parseSignature, recoverAddress } from '@blockhost/crypto/signed-message.ts'
import { BlockHostError, isRetryable, messageOf } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { ChainBackend } from './chain-backend.ts'
import { maxSignatureBytes } from './challenges.ts'
import type { LastKnown, TokenName } from './last-known.ts'
import { decodeTokenView, isValidSignature, signatureCall, tokenViewCalls } from './token-calls.ts'
import type { TrustedFile } from './trusted-file.ts'
import { findBinding, parseWalletList } from './user-binding.ts'

/** Why somebody was not let in; the PAM module turns it into PAM's code. */
export type Refusal =
  /** PAM_AUTH_ERR */
  | 'denied'
  /** PAM_USER_UNKNOWN */
  | 'user-unknown'
  /** PAM_AUTHINFO_UNAVAIL: the chain can't be asked. */
  | 'unavailable'
  /** PAM_MAXTRIES */
  | 'too-many'

/** The outcome of one answer. */
export type Verdict =
  | {
      readonly ok: true
      /** What let them in. */
      readonly by: 'token' | 'contract-wallet' | 'last-known' | 'wallet-file' | 'rescue-file'
      readonly wallet: Address
    }
  | {
      readonly ok: false
      readonly why: Refusal
      /** One sentence for the person at the terminal: nothing that a stranger may not know. */
      readonly error: string
      /** Who signed, when that could be found. */
      readonly wallet?: Address | undefined
      /** For the log. */
      readonly detail?: string
    }

/** What {@link judge} is about. */
export type JudgeOptions = {
  readonly mode: 'nft' | 'wallet'
  readonly chainId: number | undefined
  /** Needed in the mode `nft`. */
  readonly contract: Address | undefined
  /** Reading the chain ends after this, milliseconds. */
  readonly deadlineMs: number
}

/** What {@link judge} reads. */
export type JudgeDeps = {
  readonly chain: ChainBackend | undefined
  readonly lastKnown: LastKnown
  readonly readPasswd: () => string
  readonly readWallets: () => TrustedFile
  readonly readRescueWallets: () => TrustedFile
  readonly log: Log
}

/**
 * Judges `answer`, which was given as a signature of `text` by somebody who wants to be the Unix user `user`.
 *
 * In this order: the operator's rescue wallets; then the wallet file, or the token's holder now, who may be an account or a contract
 * (EIP-1271). Never throws: what can't be decided is refused.
 *
 * @param answer - Hex as people paste it; anything else is refused.
 */
export async function judge(
  { user, text, answer }: { readonly user: string; readonly text: string; readonly answer: string },
  options: JudgeOptions,
  deps: JudgeDeps,
): Promise<Verdict> {
  const hash = hashMessage(text)
  const signed = readAnswer(answer, hash)
  if (signed.bytes === undefined) return { ok: false, why: 'denied', error: strangersError, detail: signed.reason }
  const { signer } = signed
  if (signer !== undefined && isListed(deps.readRescueWallets(), signer, user, deps.log))
    return { ok: true, by: 'rescue-file', wallet: signer }
  if (options.mode === 'wallet') {
    if (signer !== undefined && isListed(deps.readWallets(), signer, user, deps.log))
      return { ok: true, by: 'wallet-file', wallet: signer }
    return refuse('denied', strangersError, signer)
  }
  const binding = findBinding(deps.readPasswd(), user)
  if (binding.kind === 'unknown') return refuse('user-unknown', strangersError, signer)
  if (binding.kind === 'unbound') return refuse('denied', strangersError, signer)
  const token: TokenName = { chainId: options.chainId, contract: options.contract!, tokenId: binding.tokenId }
  return judgeHolder(token, { hash, signer, bytes: signed.bytes }, options, deps)
}

/**
 * The same for a stranger, another user's name, a name that nobody has, and for garbage: sshd replaces the answers of users that
 * are none by garbage, so any difference would tell who exists.
 */
const strangersError =
  'That is not a signature of a wallet that may sign in as this user. Connect again, and choose the right account in your wallet.'

type Signed = { readonly hash: Uint8Array; readonly signer: Address | undefined; readonly bytes: Uint8Array }

/** Reads an answer: its bytes, and who signed if it is an account's signature. */
function readAnswer(
  answer: string,
  hash: Uint8Array,
):
  | { bytes: Uint8Array; signer: Address | undefined; reason?: never }
  | { bytes?: never; signer?: never; reason: string } {
  const parsed = parseSignature(answer)
  const digits = answer.trim().replace(/^0x/i, '')
  const isLong = digits.length > 130 && digits.length <= 2 * maxSignatureBytes && digits.length % 2 === 0
  if (!parsed.ok && !(isLong && /^[0-9a-f]+$/i.test(digits))) return { reason: parsed.reason }
  return { bytes: Uint8Array.fromHex(digits), signer: parsed.ok ? recoverAddress(hash, parsed.signature) : undefined }
}

function isListed(file: TrustedFile, wallet: Address, user: string, log: Log): boolean {
  if (file.kind === 'refused') log.warn({ problem: file.reason }, 'a wallet file is not believed')
  if (file.kind !== 'read') return false
  const list = parseWalletList(file.text)
  if (list.badLines.length > 0) log.warn({ lines: list.badLines.slice(0, 10) }, 'lines of a wallet file mean nothing')
  return list.allows(wallet, user)
}

async function judgeHolder(token: TokenName, signed: Signed, options: JudgeOptions, deps: JudgeDeps): Promise<Verdict> {
  if (deps.chain === undefined) return refuse('unavailable', 'No way to read the chain is configured.', signed.signer)
  try {
    return await within(options.deadlineMs, askChain(token, signed, deps.chain, deps))
  } catch (error) {
    // Only an outage is bridged; an endpoint of another chain, say, is a mistake that has to be seen.
    const fields = { problem: messageOf(error), tokenId: String(token.tokenId) }
    const known = isRetryable(error) ? deps.lastKnown.find(token) : undefined
    if (known === undefined) {
      deps.log.error(fields, 'the chain could not be read')
      return refuse('unavailable', 'The chain can not be read at the moment. Try again in a minute.', signed.signer)
    }
    deps.log.warn(fields, 'the chain could not be read; the last known holder decides')
    const isHolder = signed.signer !== undefined && same(signed.signer, known.owner)
    return isHolder
      ? { ok: true, by: 'last-known', wallet: signed.signer }
      : refuse('denied', strangersError, signed.signer)
  }
}

async function askChain(
  token: TokenName,
  signed: Signed,
  chain: ChainBackend,
  { lastKnown }: JudgeDeps,
): Promise<Verdict> {
  const { signer, hash, bytes } = signed
  const view = decodeTokenView(await chain.call(tokenViewCalls(token.contract, token.tokenId)))
  if (view.kind === 'none' || view.expired) lastKnown.forget(token)
  else lastKnown.remember(token, view.owner, view.expiresAt)
  if (view.kind === 'none') return refuse('denied', strangersError, signer)
  const isAccount = signer !== undefined && same(signer, view.owner)
  // An account with code (EIP-7702) still signs by its key, so contracts are asked last; it costs a second round trip.
  if (!isAccount) {
    const [answer] = await chain.call([signatureCall(view.owner, hash, bytes)])
    if (!isValidSignature(answer!)) return refuse('denied', strangersError, signer)
  }
  if (view.expired) return refuse('denied', 'Your access to this server is over. Renew the plan to sign in.', signer)
  return isAccount ? { ok: true, by: 'token', wallet: signer } : { ok: true, by: 'contract-wallet', wallet: view.owner }
}

function refuse(why: Refusal, error: string, wallet?: Address): Verdict {
  return { ok: false, why, error, wallet }
}

function same(a: Address, b: Address): boolean {
  return a.toLowerCase() === b.toLowerCase()
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const tooLong = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(outOfTime(ms)), ms)
  })
  try {
    return await Promise.race([work, tooLong])
  } finally {
    clearTimeout(timer)
  }
}

function outOfTime(ms: number): BlockHostError {
  const message = `The chain was not read within ${ms} ms`
  return new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message, retryable: true })
}
