/**
 * What a host and a broker tell each other on chain, inside {@link encrypt}ed messages: JSON, unchanged since the first generation.
 * Parsers take whatever a stranger wrote and say what is wrong with it; they never throw. Reasons never repeat what was read.
 */
import { formatEndpoint, parseEndpoint } from '@blockhost/net/endpoint.ts'
import { formatAddress, formatPrefix, parseAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import { parseKey } from '@blockhost/net/wireguard.ts'
import { type Decryptor, isPublicKey } from './ecies.ts'

/** What a host asks for. */
export type RequestMessage = {
  /** The host's WireGuard public key, base64. */
  readonly wgPubkey: string
  /** The host's NFT contract as it wrote it, `0x` and 40 hex digits. The one that counts is the request's on chain. */
  readonly nftContract: string
  /** secp256k1 public key the answer is encrypted to: hex without `0x`, 65 bytes (33 and 64 are accepted too). */
  readonly serverPubkey: string
}

/** What a broker grants. */
export type ResponseMessage = {
  /** The host's IPv6 prefix, RFC 5952, e.g. `2001:db8::100/120`. */
  readonly prefix: string
  /** The broker's own IPv6 address. */
  readonly gateway: string
  /** The broker's WireGuard public key, base64. */
  readonly brokerPubkey: string
  /** Where the broker listens: `host:port`, IPv6 in brackets. */
  readonly brokerEndpoint: string
  /** Domain under which the broker names addresses; absent when it has none. */
  readonly dnsZone?: string
}

/** Outcome of {@link parseRequest}. */
export type ParsedRequest =
  | { readonly ok: true; readonly request: RequestMessage }
  | { readonly ok: false; readonly reason: string }

/** Outcome of {@link parseResponse}. */
export type ParsedResponse =
  | { readonly ok: true; readonly response: ResponseMessage }
  | { readonly ok: false; readonly reason: string }

/** Encodes a request as the first generation's client does, spaces included; 271 bytes for a usual one. */
export function encodeRequest({ wgPubkey, nftContract, serverPubkey }: RequestMessage): Uint8Array<ArrayBuffer> {
  const members = Object.entries({ wgPubkey, nftContract, serverPubkey })
  const text = members.map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`).join(', ')
  return new TextEncoder().encode(`{${text}}`)
}

/** Reads a decrypted request. Order, blanks and unknown members don't matter; every known member is checked. */
export function parseRequest(plaintext: Uint8Array): ParsedRequest {
  const members = parseMembers(plaintext)
  if (!members.ok) return members
  const { wgPubkey, nftContract, serverPubkey } = members.members
  if (typeof wgPubkey !== 'string' || parseKey(wgPubkey) === undefined)
    return bad('wgPubkey is not a WireGuard key (base64 of 32 bytes)')
  if (typeof nftContract !== 'string' || !/^0x[\da-f]{40}$/i.test(nftContract))
    return bad('nftContract is not an address')
  if (typeof serverPubkey !== 'string' || !isPublicKeyHex(serverPubkey))
    return bad('serverPubkey is not a secp256k1 public key in hex')
  return { ok: true, request: { wgPubkey, nftContract, serverPubkey: serverPubkey.toLowerCase() } }
}

/** Encodes an answer as the first generation's daemon does, without blanks; 162 bytes for a usual one. */
export function encodeResponse(response: ResponseMessage): Uint8Array<ArrayBuffer> {
  const { prefix, gateway, brokerPubkey, brokerEndpoint, dnsZone } = response
  // JSON.stringify leaves an undefined member out, which is how a broker without a zone writes it.
  return new TextEncoder().encode(JSON.stringify({ prefix, gateway, brokerPubkey, brokerEndpoint, dnsZone }))
}

/**
 * Reads a decrypted answer. Every member has the form it claims, in canonical spelling and without control characters, so that it
 * can go into a file; whether the prefix is one the host wants is for the caller to judge.
 */
export function parseResponse(plaintext: Uint8Array): ParsedResponse {
  const parsed = parseMembers(plaintext)
  if (!parsed.ok) return parsed
  const members = parsed.members
  const prefix = textOf(members.prefix, text => parsePrefix(text, { allowHostBits: true }))
  if (prefix === undefined) return bad('prefix is not an IPv6 prefix')
  const gateway = textOf(members.gateway, parseAddress)
  if (gateway === undefined) return bad('gateway is not an IPv6 address')
  const brokerPubkey = textOf(members.brokerPubkey, parseKey)
  if (brokerPubkey === undefined) return bad('brokerPubkey is not a WireGuard key (base64 of 32 bytes)')
  const endpoint = textOf(members.brokerEndpoint, parseEndpoint)
  if (endpoint === undefined) return bad('brokerEndpoint is not host:port')
  const zone = textOf(members.dnsZone ?? '', parseZone)
  if (zone === undefined) return bad('dnsZone is not a domain name')
  const response = {
    prefix: formatPrefix(prefix),
    gateway: formatAddress(gateway),
    brokerPubkey,
    brokerEndpoint: formatEndpoint(endpoint),
    ...(zone === '' ? {} : { dnsZone: zone }),
  }
  return { ok: true, response }
}

/**
 * Puts the request's id in front of an encrypted answer, 8 bytes big-endian, as it stands on chain.
 *
 * @throws {RangeError} when the id does not fit into 64 bits.
 */
export function wrapResponse(requestId: bigint, blob: Uint8Array): Uint8Array<ArrayBuffer> {
  if (requestId < 0n || requestId >> 64n !== 0n) throw new RangeError(`request id ${requestId} has no 64-bit form`)
  const whole = new Uint8Array(8 + blob.length)
  new DataView(whole.buffer).setBigUint64(0, requestId)
  whole.set(blob, 8)
  return whole
}

/** Takes apart what {@link wrapResponse} makes. Eight bytes or less have no room for an id: the whole is the message, the id 0. */
export function unwrapResponse(bytes: Uint8Array): { readonly requestId: bigint; readonly blob: Uint8Array } {
  if (bytes.length <= 8) return { requestId: 0n, blob: bytes }
  const requestId = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(0)
  return { requestId, blob: bytes.subarray(8) }
}

/** What the stored answer to a request turned out to be. */
export type OpenedResponse =
  | { readonly kind: 'good'; readonly response: ResponseMessage }
  /** Made for request `id`, which is not the one it is stored under: stale. */
  | { readonly kind: 'other-id'; readonly id: bigint }
  /** Not made for this key, or damaged: stale. */
  | { readonly kind: 'undecryptable' }
  /** Readable, but a member is not what it claims. */
  | { readonly kind: 'invalid'; readonly reason: string }

/**
 * Opens the answer stored for request `requestId`. Brokers of before the id prefix existed stored the bare message; one is recognised
 * by being decryptable as a whole.
 *
 * @param decrypt - Of the host's `server.key`.
 */
export function openResponse(decrypt: Decryptor, bytes: Uint8Array, requestId: bigint): OpenedResponse {
  const wrapped = unwrapResponse(bytes)
  const plaintext = wrapped.requestId === requestId ? tryDecrypt(decrypt, wrapped.blob) : tryDecryptBare(decrypt, bytes)
  if (plaintext === undefined)
    return wrapped.requestId === requestId ? { kind: 'undecryptable' } : { kind: 'other-id', id: wrapped.requestId }
  const parsed = parseResponse(plaintext)
  return parsed.ok ? { kind: 'good', response: parsed.response } : { kind: 'invalid', reason: parsed.reason }
}

/** A bare message begins with an uncompressed point, which as an id would be above 2^58. */
function tryDecryptBare(decrypt: Decryptor, bytes: Uint8Array): Uint8Array | undefined {
  return bytes[0] === 4 ? tryDecrypt(decrypt, bytes) : undefined
}

function tryDecrypt(decrypt: Decryptor, blob: Uint8Array): Uint8Array | undefined {
  try {
    return decrypt(blob)
  } catch {
    return undefined // whoever wrote it can make it fail in any way; there is one answer to all of them
  }
}

type Members = Readonly<Record<string, unknown>>

function parseMembers(plaintext: Uint8Array): { ok: true; members: Members } | { ok: false; reason: string } {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plaintext)
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return { ok: true, members: value as Members }
    return bad('it is not a JSON object')
  } catch {
    return bad('it is not JSON in UTF-8')
  }
}

function textOf<T>(value: unknown, parse: (text: string) => T | undefined): T | undefined {
  return typeof value === 'string' ? parse(value) : undefined
}

function isPublicKeyHex(text: string): boolean {
  return /^(?:[\da-f]{66}|[\da-f]{128}|[\da-f]{130})$/i.test(text) && isPublicKey(Uint8Array.fromHex(text))
}

/** RFC 1035 labels, underscore allowed; `''` stands for no zone. */
function parseZone(text: string): string | undefined {
  if (text === '') return ''
  const isName = text.length <= 253 && text.split('.').every(label => /^(?!-)[a-z\d_-]{1,63}(?<!-)$/i.test(label))
  return isName && !text.includes('\n') ? text.toLowerCase() : undefined
}

function bad(reason: string): { readonly ok: false; readonly reason: string } {
  return { ok: false, reason }
}
