import type { DatabaseSync } from 'node:sqlite'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { createFreeRanges } from '@blockhost/kit/free-ranges.ts'
import { capacity, formatPrefix, type Prefix, parsePrefix, subPrefix } from '@blockhost/net/prefix.ts'

/** The space that a broker leases from: equal sub-prefixes of one upstream prefix, numbered; 0 is the broker's own. */
export type Pool = {
  readonly upstream: Prefix
  /** Length of every lease in bits, e.g. 120. */
  readonly length: number
  /** The highest index; also the number of leases that fit. At most 2^53 - 1, so indices are exact numbers. */
  readonly last: number
}

/**
 * Makes the pool of an upstream prefix.
 *
 * @param upstreamPrefix - RFC 4291 text, e.g. `2001:db8::/64`.
 * @param length - Bits of each lease; longer than the upstream's.
 * @throws {BlockHostError} `BH_POOL_INVALID` (exit 78) when not a single lease fits.
 */
export function createPool(upstreamPrefix: string, length: number): Pool {
  const upstream = parsePrefix(upstreamPrefix)
  const size = upstream === undefined || length <= upstream.length || length > 128 ? 0n : capacity(upstream, length)
  if (upstream === undefined || size < 1n)
    throw new BlockHostError({
      code: 'BH_POOL_INVALID',
      message: `No lease of /${length} fits into ${upstreamPrefix} (the first one is the broker's own)`,
      hint: 'Set broker.allocation_size to more bits than broker.upstream_prefix has, e.g. 120 for a /64.',
      exitCode: exitCodes.badConfig,
    })
  const most = BigInt(Number.MAX_SAFE_INTEGER)
  return { upstream, length, last: Number(size < most ? size : most) }
}

/** Returns lease prefix number `index` of the pool as RFC 5952 text. */
export function prefixAt(pool: Pool, index: number): string {
  return formatPrefix(subPrefix(pool.upstream, BigInt(index), pool.length))
}

/** The free space of a pool, kept in SQLite. Every call runs inside the caller's transaction; cost O(log n). */
export type FreeSpace = {
  /**
   * Takes an index: the one that rests for this NFT contract if there is one, else the lowest free one.
   *
   * @returns `undefined` when the pool is full (resting prefixes are not free).
   */
  take(nftContract: string): number | undefined
  /** Returns until when (Unix ms) the index that {@link take} would give to this NFT contract rests; `undefined`: it does not. */
  restsUntil(nftContract: string): number | undefined
  /** Keeps a freed index for its NFT contract; from `availableAt` (Unix ms) on anybody may get it. */
  rest(index: number, nftContract: string, times: { freedAt: number; availableAt: number }): void
  /** Gives an index back at once (nobody ever used it). */
  giveBack(index: number): void
  /** Moves prefixes that have rested enough into the free space; at most `limit` of them. Returns how many. */
  collect(now: number, limit?: number): number
}

/** Makes the {@link FreeSpace} of the database. Statements are prepared once. */
export function createFreeSpace(db: DatabaseSync): FreeSpace {
  const ofNft = db.prepare(
    'SELECT prefix_index, available_at FROM resting WHERE nft_contract = ? ORDER BY freed_at DESC LIMIT 1',
  )
  const wake = db.prepare('DELETE FROM resting WHERE prefix_index = ?')
  const ranges = createFreeRanges(db, 'free_ranges')
  const insertResting = db.prepare(
    'INSERT INTO resting (prefix_index, nft_contract, freed_at, available_at) VALUES (?, ?, ?, ?)',
  )
  const ripe = db.prepare('SELECT prefix_index FROM resting WHERE available_at <= ? ORDER BY available_at LIMIT ?')

  return {
    take(nftContract) {
      const kept = ofNft.get(nftContract) as { prefix_index: number } | undefined
      if (kept !== undefined) {
        wake.run(kept.prefix_index)
        return kept.prefix_index
      }
      return ranges.take()
    },
    restsUntil: nftContract => (ofNft.get(nftContract) as { available_at: number } | undefined)?.available_at,
    rest: (index, nftContract, times) => void insertResting.run(index, nftContract, times.freedAt, times.availableAt),
    giveBack: ranges.giveBack,
    collect(now, limit = 1000) {
      const rows = ripe.all(now, limit) as { prefix_index: number }[]
      for (const row of rows) {
        wake.run(row.prefix_index)
        ranges.giveBack(row.prefix_index)
      }
      return rows.length
    },
  }
}
