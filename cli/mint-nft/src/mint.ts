/** Mints one access token through the durable outbox of the minter's key, and reads its id from the receipt. */
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import type { Outbox, OutboxRow } from '@blockhost/chain/outbox.ts'
import type { MintedToken } from '@blockhost/chain/subscription-view.ts'
import { type MintRequest, mintCall } from '@blockhost/engine/mint-call.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'

/** What {@link mintToken} needs. */
export type MintDeps = {
  readonly nft: Address
  readonly outbox: Outbox
  /** Newest block of the endpoint. */
  head(): Promise<bigint>
  mintedTokens(nft: Address, hashes: readonly Hex[]): Promise<readonly (MintedToken | undefined)[]>
  readonly clock: Clock
  /** How long to wait for the transaction. Default 180 s. */
  readonly timeoutMs?: number
}

/** A minted token. */
export type Minted = { readonly tokenId: bigint; readonly hash: Hex }

/**
 * Mints, or takes up what an earlier run began: for one machine and owner there is one mint, however often this is called. The token id
 * is that of the receipt's Transfer log; nothing is guessed from counters.
 *
 * @throws {BlockHostError} `BH_MINT_PENDING` (retryable: it may still come about; call again), `BH_MINT_FAILED` (the contract refused it).
 */
export async function mintToken(deps: MintDeps, request: MintRequest): Promise<Minted> {
  const { outbox, clock, nft } = deps
  const key = mintKey(nft, request)
  outbox.enqueue({ key, to: nft, data: mintCall(request), note: `access token of ${request.machineId}` })
  for (const deadline = clock.monotonic() + (deps.timeoutMs ?? 180_000); ; await clock.sleep(500)) {
    await outbox.tick({ blockNumber: await deps.head() })
    const row = outbox.find(key)
    const minted = row === undefined ? undefined : await outcomeOf(deps, row, request)
    if (minted !== undefined) return minted
    if (clock.monotonic() >= deadline) throw pending(request, row)
  }
}

/** Takes back a mint that nobody has seen yet; returns whether there will be no token. */
export function cancelMint({ outbox, nft }: Pick<MintDeps, 'outbox' | 'nft'>, request: MintRequest): boolean {
  const key = mintKey(nft, request)
  return outbox.find(key) === undefined || outbox.cancelQueued(key)
}

function mintKey(nft: Address, { machineId, owner }: MintRequest): string {
  return `mint:${nft}:${machineId}:${owner.toLowerCase()}`
}

async function outcomeOf(deps: MintDeps, row: OutboxRow, request: MintRequest): Promise<Minted | undefined> {
  if (row.state === 'reverted' || row.state === 'cancelled') throw failed(request, row)
  if (row.state !== 'final' || row.hash === undefined) return undefined
  const [token] = await deps.mintedTokens(deps.nft, [row.hash])
  return token === undefined ? undefined : { tokenId: token.tokenId, hash: row.hash }
}

function pending({ owner, machineId }: MintRequest, row: OutboxRow | undefined): BlockHostError {
  const problem =
    row?.problem === undefined ? '' : ` (${row.problem}${row.detail === undefined ? '' : `: ${row.detail}`})`
  return new BlockHostError({
    code: 'BH_MINT_PENDING',
    message: `The token of ${machineId} for ${owner} is not minted yet${problem}`,
    hint: 'Run the same command again; it goes on with the same transaction.',
    fields: { machineId, owner, state: row?.state, hash: row?.hash },
    retryable: true,
  })
}

function failed({ owner, machineId }: MintRequest, row: OutboxRow): BlockHostError {
  return new BlockHostError({
    code: 'BH_MINT_FAILED',
    message: `The token of ${machineId} could not be minted to ${owner}${row.detail === undefined ? '' : `: ${row.detail}`}`,
    hint: 'Check that the key is the contract’s minter and that the owner can receive tokens.',
    fields: { machineId, owner, hash: row.hash },
  })
}
