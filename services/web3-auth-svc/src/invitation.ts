/** What SSH shows to whoever wants to sign in. Pure. */
import type { Challenge } from './challenges.ts'
import { ipVersion } from './ip-version.ts'

/** Where people sign. */
export type SigningPlace =
  /** Our own page takes the signature over. */
  | { readonly kind: 'page'; readonly url: string; readonly fingerprint: string }
  /** A page of the operator's; the signature is pasted. */
  | { readonly kind: 'elsewhere'; readonly url: string }
  | { readonly kind: 'none' }

/**
 * Renders the text and the question after it. The lines `Code:`, `Machine:`, `Sign at:` and `Or sign this text with your wallet:` are
 * read by tools; the indented ones are for people. ASCII only, lines of ours at most 79 characters.
 */
export function renderInvitation(
  challenge: Challenge,
  machineId: string,
  place: SigningPlace,
): { readonly text: string; readonly prompt: string } {
  const lines = [
    '',
    '=== Web3 Authentication ===',
    `Code: ${challenge.code}`,
    `Machine: ${machineId}`,
    ...renderPlace(place, challenge),
    `Or sign this text with your wallet: ${challenge.text}`,
    '  and paste the signature below. It stays invisible while you paste.',
    '',
  ]
  const prompt =
    place.kind === 'page'
      ? 'Press Enter after signing in the browser, or paste the signature: '
      : 'Paste the signature: '
  return { text: lines.join('\n'), prompt }
}

function renderPlace(place: SigningPlace, { session }: Challenge): readonly string[] {
  switch (place.kind) {
    case 'none':
      return []
    case 'elsewhere':
      return [`Sign at: ${place.url}`]
    case 'page': {
      const half = 48 // 16 of the 32 pairs and their colons
      return [
        `Sign at: ${place.url}/?session=${session}`,
        '  The page and your wallet must show the code above: sign nothing else.',
        "  Your browser will warn that it does not know the page's certificate. Go on",
        '  if the SHA-256 fingerprint in the details of the warning is this one:',
        `    ${place.fingerprint.slice(0, half)}`,
        `    ${place.fingerprint.slice(half)}`,
      ]
    }
  }
}

/** A network interface's address, as `os.networkInterfaces` gives it. */
export type LocalAddress = { readonly address: string; readonly internal: boolean }

/** Returns the addresses other machines may know this one by: IPv6 first, without loopback and link-local ones. */
export function publicAddresses(addresses: readonly LocalAddress[]): readonly string[] {
  const usable = addresses.filter(({ address, internal }) => !internal && !/^(fe80|169\.254\.)/i.test(address))
  const ordered = [
    ...usable.filter(({ address }) => ipVersion(address) === 6),
    ...usable.filter(({ address }) => ipVersion(address) !== 6),
  ]
  return [...new Set(ordered.map(({ address }) => address))]
}

/** Returns the page's address: the configured one, else that of the machine's first public address. */
export function pageUrl(configured: string | undefined, addresses: readonly string[], port: number): string {
  if (configured !== undefined) return configured
  const host = addresses[0] ?? 'localhost'
  return `https://${ipVersion(host) === 6 ? `[${host}]` : host}:${port}`
}
