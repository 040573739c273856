import type { DatabaseSync } from 'node:sqlite'
import { BlockHostError } from '@blockhost/kit/errors.ts'

/** What is known about an access NFT. Times are Unix seconds. */
export type NftToken = {
  readonly tokenId: bigint
  readonly vmName: string
  readonly status: 'reserved' | 'minted' | 'failed'
  readonly reservedAt: number
  readonly ownerWallet: string | undefined
  readonly mintedAt: number | undefined
  readonly failedAt: number | undefined
}

/** The table `nft_tokens`. Changes run inside the caller's transaction. */
export type NftTokens = {
  reserve(vmName: string, at: number, tokenId?: bigint | number): bigint
  mint(vmName: string, tokenId: bigint | number, wallet: string, at: number): bigint
  fail(tokenId: bigint | number, at: number): void
  find(tokenId: bigint | number): NftToken | undefined
  /** All, by id. */
  list(): NftToken[]
  /** Stores a token as an import found it, over what is there. */
  put(token: NftToken): void
}

/** Makes the {@link NftTokens} of the database. */
export function createNftTokens(db: DatabaseSync): NftTokens {
  const byId = db.prepare('SELECT * FROM nft_tokens WHERE token_id = ?')
  const highest = db.prepare('SELECT max(token_id) AS id FROM nft_tokens')
  const reservedFor = db.prepare("SELECT * FROM nft_tokens WHERE vm_name = ? AND status = 'reserved'")
  const drop = db.prepare('DELETE FROM nft_tokens WHERE token_id = ?')
  const upsert = db.prepare(
    `INSERT INTO nft_tokens (token_id, vm_name, status, reserved_at, owner_wallet, minted_at, failed_at)
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET vm_name = excluded.vm_name, status = excluded.status,
     reserved_at = excluded.reserved_at, owner_wallet = excluded.owner_wallet, minted_at = excluded.minted_at,
     failed_at = excluded.failed_at`,
  )
  const livingOwner = db.prepare("SELECT name FROM vms WHERE nft_token_id = ? AND state <> 'destroyed' AND name <> ?")
  const find = (id: number): NftToken | undefined => {
    const row = byId.get(id) as TokenRow | undefined
    return row === undefined ? undefined : toToken(row)
  }
  const put = (token: NftToken) =>
    void upsert.run(
      toStored(token.tokenId),
      token.vmName,
      token.status,
      token.reservedAt,
      token.ownerWallet ?? null,
      token.mintedAt ?? null,
      token.failedAt ?? null,
    )
  const none = { ownerWallet: undefined, mintedAt: undefined, failedAt: undefined }
  return {
    reserve(vmName, at, tokenId) {
      const before = reservedFor.get(vmName) as TokenRow | undefined
      if (before !== undefined && (tokenId === undefined || before.token_id === Number(tokenId)))
        return BigInt(before.token_id)
      const next = ((highest.get() as { id: number | null }).id ?? -1) + 1
      const id = tokenId === undefined ? next : toStored(tokenId)
      if (find(id) !== undefined) throw taken(id, find(id)!.vmName)
      if (before !== undefined) drop.run(before.token_id)
      put({ tokenId: BigInt(id), vmName, status: 'reserved', reservedAt: at, ...none })
      return BigInt(id)
    },
    mint(vmName, tokenId, wallet, at) {
      const id = toStored(tokenId)
      const other = livingOwner.get(id, vmName) as { name: string } | undefined
      if (other !== undefined) throw taken(id, other.name)
      const expected = reservedFor.all(vmName) as TokenRow[]
      for (const row of expected) if (row.token_id !== id) drop.run(row.token_id)
      const known = find(id)
      const mintedAt = known?.status === 'minted' && known.vmName === vmName ? known.mintedAt : at
      const reservedAt = known?.reservedAt ?? at
      put({ ...none, tokenId: BigInt(id), vmName, status: 'minted', reservedAt, ownerWallet: wallet, mintedAt })
      return BigInt(id)
    },
    fail(tokenId, at) {
      const token = find(toStored(tokenId))
      if (token === undefined)
        throw new BlockHostError({ code: 'BH_NFT_TOKEN_NOT_FOUND', message: `Token ${tokenId} was never reserved` })
      if (token.status === 'minted')
        throw new BlockHostError({ code: 'BH_NFT_TOKEN_MINTED', message: `Token ${tokenId} was minted; it can't fail` })
      put({ ...token, status: 'failed', failedAt: token.failedAt ?? at })
    },
    find: tokenId => find(toStored(tokenId)),
    list: () => (db.prepare('SELECT * FROM nft_tokens ORDER BY token_id').all() as TokenRow[]).map(toToken),
    put,
  }
}

type TokenRow = {
  token_id: number
  vm_name: string
  status: NftToken['status']
  reserved_at: number
  owner_wallet: string | null
  minted_at: number | null
  failed_at: number | null
}

function toToken(row: TokenRow): NftToken {
  return {
    tokenId: BigInt(row.token_id),
    vmName: row.vm_name,
    status: row.status,
    reservedAt: row.reserved_at,
    ownerWallet: row.owner_wallet ?? undefined,
    mintedAt: row.minted_at ?? undefined,
    failedAt: row.failed_at ?? undefined,
  }
}

/** Ids of ours count from 0, so they fit; what does not is another contract's. */
function toStored(tokenId: bigint | number): number {
  const id = Number(tokenId)
  if (Number.isSafeInteger(id) && id >= 0) return id
  throw new BlockHostError({ code: 'BH_NFT_TOKEN_INVALID', message: `${tokenId} is no token id that can be stored` })
}

function taken(tokenId: number, vmName: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_NFT_TOKEN_TAKEN',
    message: `Token ${tokenId} belongs to ${vmName}`,
    fields: { tokenId, vmName },
  })
}
