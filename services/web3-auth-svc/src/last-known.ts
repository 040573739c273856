/** The last holder the chain named for each token, kept over restarts: who gets in while no endpoint answers. */
import { join } from 'node:path'
import type { Address } from '@blockhost/chain/hex.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { messageOf } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import type { Log } from '@blockhost/kit/log.ts'
import { writeStateFile } from './state-file.ts'

/** A token of a contract on a chain. */
export type TokenName = {
  readonly chainId: number | undefined
  readonly contract: Address
  readonly tokenId: bigint
}

/** What was read, and when. */
export type KnownOwner = {
  /** Lower case. */
  readonly owner: Address
  /** Unix seconds, 0 = never. */
  readonly expiresAt: number
  /** Unix milliseconds. */
  readonly seenAtMs: number
}

/** The file `ownership.json` of the state folder. Losing it loses nothing but the bridge over an outage. */
export type LastKnown = {
  /** Returns the holder read at most `lastKnownMs` ago whose access is not over; `undefined` otherwise. */
  find(token: TokenName): KnownOwner | undefined
  /** Keeps what the chain said. */
  remember(token: TokenName, owner: Address, expiresAt: number): void
  /** Forgets a token: the chain says that nobody holds it, or that its access is over. */
  forget(token: TokenName): void
}

const maxTokens = 64

/** Opens the file in `stateFolder`. A file that can't be read counts as empty; one that can't be written is a warning. */
export function openLastKnown(
  stateFolder: string,
  lastKnownMs: number,
  deps: { readonly clock: Clock; readonly log: Log },
): LastKnown {
  const path = join(stateFolder, 'ownership.json')
  const known = read(path)
  const save = () => {
    const newest = [...known].sort(([, a], [, b]) => b.seenAtMs - a.seenAtMs).slice(0, maxTokens)
    const text = JSON.stringify({ v: 1, tokens: Object.fromEntries(newest) }, null, 1)
    try {
      writeStateFile(path, `${text}\n`)
    } catch (error) {
      deps.log.warn({ path, problem: messageOf(error) }, 'the last known owner could not be kept')
    }
  }
  return {
    find(token) {
      const entry = known.get(nameOf(token))
      if (entry === undefined) return undefined
      const ageMs = deps.clock.now() - entry.seenAtMs
      // A negative age means that the clock was set back: nobody knows how old it is.
      if (ageMs < 0 || ageMs > lastKnownMs) return undefined
      return entry.expiresAt !== 0 && deps.clock.now() / 1000 > entry.expiresAt ? undefined : entry
    },
    remember(token, owner, expiresAt) {
      known.set(nameOf(token), { owner, expiresAt, seenAtMs: deps.clock.now() })
      save()
    },
    forget(token) {
      if (known.delete(nameOf(token))) save()
    },
  }
}

function nameOf({ chainId, contract, tokenId }: TokenName): string {
  return `${chainId ?? 'any'}:${contract.toLowerCase()}:${tokenId}`
}

function read(path: string): Map<string, KnownOwner> {
  try {
    const { v, tokens } = JSON.parse(readTextFile(path)) as { v?: unknown; tokens?: Record<string, unknown> }
    if (v !== 1) return new Map()
    return new Map(Object.entries(tokens ?? {}).filter((entry): entry is [string, KnownOwner] => isKnown(entry[1])))
  } catch {
    return new Map()
  }
}

function isKnown(value: unknown): value is KnownOwner {
  const { owner, expiresAt, seenAtMs } = (value ?? {}) as Partial<Record<keyof KnownOwner, unknown>>
  return (
    typeof owner === 'string' &&
    /^0x[0-9a-f]{40}$/.test(owner) &&
    Number.isSafeInteger(expiresAt) &&
    typeof seenAtMs === 'number'
  )
}
