import type { Address, Hex } from '@blockhost/chain/hex.ts'
import { bytesToHex } from '@blockhost/chain/hex.ts'
import type { Outbox } from '@blockhost/chain/outbox.ts'
import type { SubscriptionsReader } from '@blockhost/chain/subscription-view.ts'
import { accessCredentialNftAbi } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { backoffMs, type Clock } from '@blockhost/kit/clock.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import { encodeData } from 'ox/AbiFunction'
import { type OpenPurchase, sealConnection } from './access.ts'
import { mintCall } from './mint-call.ts'
import type { Store } from './store.ts'
import { runningState, type Subscription, type SubscriptionChange } from './subscription.ts'

/** What minting needs. */
export type MintDeps = {
  readonly store: Store
  readonly outbox: Outbox
  readonly chain: SubscriptionsReader
  readonly nft: Address
  readonly openPurchase: OpenPurchase
  findVm(id: bigint): Vm | undefined
  readonly sshPort: number
  readonly clock: Clock
  readonly log: Log
  /** Chance for the pauses after failures, in [0, 1); default `Math.random`. */
  readonly random?: () => number
}

const retry = { baseMs: 30_000, maxMs: 3_600_000 }

/**
 * Puts the tokens that are due into the outbox, in the database transaction that marks the subscriptions. A subscription's
 * mint has the same key whatever happens, so it is minted once; only a mint that failed for good gets another.
 *
 * @param limit - At the most; each costs about a millisecond.
 * @returns How many there were.
 */
export function enqueueMints(deps: MintDeps, limit: number): number {
  const rows = deps.store.toMint(limit)
  if (rows.length > 0)
    deps.store.transaction(() => {
      for (const row of rows) enqueueMint(deps, row)
    })
  return rows.length
}

/**
 * Takes up what came of mints: the token id is read from the receipt's Transfer log. One round trip to the chain if there is any.
 *
 * @returns How many came to an end.
 */
export async function settleMints(deps: MintDeps, limit: number): Promise<number> {
  const { store, chain, nft } = deps
  const over = store.mintsOver(limit)
  if (over.length === 0) return 0
  const final = over.filter(({ state }) => state === 'final')
  const tokens =
    final.length === 0
      ? []
      : await chain.mintedTokens(
          nft,
          final.map(({ hash }) => hash as Hex),
        )
  const minted = new Map(final.map(({ id }, at) => [id, tokens[at]]))
  store.transaction(() => {
    for (const { id, state, detail } of over) {
      const row = store.find(id)!
      if (state !== 'final') store.change(id, mintFailed(deps, row, detail))
      else if (row.tokenId !== undefined) store.change(id, { ...settled, state: runningState(row) })
      else takeToken(deps, row, minted.get(id))
    }
  })
  return over.length
}

const settled: SubscriptionChange = { attempts: 0, error: undefined, errorCode: undefined }

function enqueueMint({ store, outbox, nft, openPurchase, findVm, sshPort, log }: MintDeps, row: Subscription): void {
  const vm = findVm(row.id)
  if (vm === undefined) {
    store.change(row.id, { state: 'paid', vmExpiresAt: undefined })
    return
  }
  const hostname = vm.ipv6 ?? vm.ipv4
  if (row.tokenId !== undefined && row.hostname === hostname) {
    store.change(row.id, { ...settled, state: runningState(row) })
    return
  }
  const opened = openPurchase(row.data!, row.subscriber)
  if (!opened.ok)
    log.warn(
      { subscription: row.id, problem: opened.problem },
      'the token can not say where the VM is: the buyer gave no key',
    )
  const sealed = opened.ok
    ? sealConnection(opened.key, { hostname, port: sshPort, username: vm.username })
    : new Uint8Array()
  const token = { owner: row.subscriber, machineId: vm.machineId, userEncrypted: sealed }
  const [key, data] =
    row.tokenId === undefined
      ? [
          `mint:${nft}:${row.id}:${row.subscriber}:${row.mintAttempts}`,
          mintCall({ ...token, publicSecret: opened.ok ? opened.key.publicSecret : '' }),
        ]
      : [`update:${nft}:${row.tokenId}:${hostname}:${row.mintAttempts}`, updateCall(row.tokenId, sealed)]
  outbox.enqueue({ key, to: nft, data, note: `access token of subscription ${row.id}` })
  store.change(row.id, {
    state: 'minting',
    txKey: key,
    hostname,
    access: opened.ok ? 'sealed' : 'needs-key',
    accessProblem: opened.ok ? undefined : opened.problem,
  })
}

function updateCall(tokenId: bigint, sealed: Uint8Array): Hex {
  return encodeData(accessCredentialNftAbi, 'updateUserEncrypted', [tokenId, bytesToHex(sealed)])
}

function takeToken(deps: MintDeps, row: Subscription, token: { tokenId: bigint; to: Address } | undefined): void {
  const { store, log } = deps
  // The endpoint that was asked may not have the receipt yet; the next turn asks again.
  if (token === undefined) return
  const holder = store.findByToken(token.tokenId)
  if (holder !== undefined && holder.id !== row.id) readTokenAgain(deps, holder)
  const change = { tokenId: token.tokenId, tokenOwner: token.to, boundToken: undefined }
  store.change(row.id, { ...settled, ...change, state: runningState({ ...change, boundToken: undefined }) })
  log.info({ subscription: row.id, token: token.tokenId }, 'access token minted')
}

/**
 * Forgets the token of a subscription whose own receipt has to be read again: another one's says that it is not its. A reorganization
 * deeper than the confirmations renumbers tokens when a mint among them failed before, or fails since. Its mint is not repeated: it has its key.
 */
function readTokenAgain({ store, log }: MintDeps, { id, state, tokenId }: Subscription): void {
  log.warn({ subscription: id, token: tokenId }, 'the access token has another number than before')
  const isRunning = state === 'minted' || state === 'live'
  const unknown = { tokenId: undefined, tokenOwner: undefined, boundToken: undefined }
  store.change(id, { ...unknown, ...(isRunning ? { state: 'created' } : {}) })
}

function mintFailed(
  { clock, log, random }: MintDeps,
  row: Subscription,
  detail: string | undefined,
): SubscriptionChange {
  const attempts = row.mintAttempts + 1
  const retryAt = clock.now() + backoffMs(row.mintAttempts, retry, random)
  const error = `The access token could not be minted to ${row.subscriber}${detail === undefined ? '' : `: ${detail}`}`
  log.warn({ subscription: row.id, attempts, detail }, 'the access token could not be minted')
  return { state: 'created', mintAttempts: attempts, retryAt, attempts, error, errorCode: 'BH_MINT_FAILED' }
}
