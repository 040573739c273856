/** Which token or wallets stand for a Unix user. Pure. */

/** What /etc/passwd says about a user. */
export type UserBinding =
  | { readonly kind: 'token'; readonly tokenId: bigint }
  /** The user exists and no token stands for it. */
  | { readonly kind: 'unbound' }
  | { readonly kind: 'unknown' }

const maxTokenId = (1n << 256n) - 1n

/**
 * Finds the token of a user: the first part `nft=<id>` of the fifth field (GECOS) of its line in passwd(5).
 *
 * @param passwd - Text of /etc/passwd.
 * @param user - Compared exactly; the first line of that name counts, as for the system.
 */
export function findBinding(passwd: string, user: string): UserBinding {
  const fields = passwd
    .split('\n')
    .map(line => line.split(':'))
    .find(([name]) => name === user)
  if (fields === undefined || fields.length < 7 || user === '') return { kind: 'unknown' }
  const part = fields[4]!
    .split(',')
    .map(text => text.trim())
    .find(text => text.startsWith('nft='))
  const tokenId = part === undefined ? undefined : parseTokenId(part.slice('nft='.length))
  return tokenId === undefined ? { kind: 'unbound' } : { kind: 'token', tokenId }
}

/** Reads a token id: decimal, `0x` and hex, or a bare word of 64 hex digits. `undefined` when it is none of a uint256. */
export function parseTokenId(text: string): bigint | undefined {
  const digits = text.trim()
  const hex = /^(?:0x([0-9a-f]{1,64})|([0-9a-f]{64}))$/i.exec(digits)
  if (hex !== null) return BigInt(`0x${hex[1] ?? hex[2]}`)
  if (!/^\d{1,78}$/.test(digits)) return undefined
  const id = BigInt(digits)
  return id <= maxTokenId ? id : undefined
}

/** Wallets that may sign in as a user. */
export type WalletList = {
  /** Whether `address` (any case) is listed for exactly `user`. */
  allows(address: string, user: string): boolean
  /** Numbers of the lines that mean nothing, counted from 1. */
  readonly badLines: readonly number[]
}

/** Reads lines `address:username`; blank ones and those that begin with `#` mean nothing. A wallet may stand for several users. */
export function parseWalletList(text: string): WalletList {
  const pairs = new Set<string>()
  const badLines: number[] = []
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const match = /^(?:0x)?([0-9a-f]{40})\s*:\s*([^\s:]{1,255})$/i.exec(line)
    if (match === null) badLines.push(index + 1)
    else pairs.add(pair(match[1]!, match[2]!))
  }
  return { allows: (address, user) => pairs.has(pair(address.replace(/^0x/i, ''), user)), badLines }
}

function pair(digits: string, user: string): string {
  return `${digits.toLowerCase()}:${user}`
}
