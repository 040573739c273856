/** Who plays: the broker's keys, and hosts with wallets, NFT contracts and keys of their own; the same in every seed. */
import { createHash } from 'node:crypto'
import { encodeRequest, type OpenedResponse, openResponse } from '@blockhost/crypto/broker-messages.ts'
import { createDecryptor, type Decryptor, encrypt } from '@blockhost/crypto/ecies.ts'
import { publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { publicKeyOf as wireGuardPublicKeyOf } from '@blockhost/net/wireguard.ts'
import { type Address, type Hex, hexToBytes } from 'viem'

/** The broker's keys. */
export const brokerKeys = {
  operator: addressOf('operator'),
  ecies: bytesOf('broker ecies'),
  wireguardPrivate: Buffer.from(bytesOf('broker wireguard')).toString('base64'),
  get wireguardPublic(): string {
    return wireGuardPublicKeyOf(this.wireguardPrivate)
  },
}

/** One host. */
export type Identity = {
  readonly name: string
  /** The first owns the NFT contract at the start; it may be given to the second and back. */
  readonly wallets: readonly [Address, Address]
  readonly nftContract: Address
  readonly serverPublicKey: string
  readonly decrypt: Decryptor
  /** WireGuard public keys it makes, in this order. */
  readonly wireguardKeys: readonly string[]
}

/** What is in a payload, and so what the broker should make of it. */
export type PayloadTruth =
  /** A proper request with this key, of this host, naming this NFT contract. */
  | { readonly kind: 'good'; readonly host: Identity; readonly publicKey: string; readonly nftContract: Address }
  /** Nothing that may ever be granted. */
  | { readonly kind: 'bad'; readonly flaw: Flaw }

/** Ways to be refused by content alone. */
export type Flaw = (typeof flaws)[number]

/** All of {@link Flaw}. */
export const flaws = [
  'noise',
  'short',
  'other-recipient',
  'no-json',
  'no-key',
  'brokers-key',
  'other-nft',
  'changed',
] as const

/** Returns the hosts `h0`, `h1`, ...; the same objects each time. */
export function castOf(count: number): readonly Identity[] {
  while (identities.length < count) identities.push(makeIdentity(identities.length))
  return identities.slice(0, count)
}

/** Returns a proper payload. The same arguments give the same bytes. Cost 0.3 ms the first time. */
export function goodPayload(host: Identity, publicKey: string): Uint8Array {
  return remember(`good ${host.name} ${publicKey}`, label => {
    const { nftContract, serverPublicKey } = host
    const payload = seal(label, encodeRequest({ wgPubkey: publicKey, nftContract, serverPubkey: serverPublicKey }))
    truths.set(payload, { kind: 'good', host, publicKey, nftContract })
    return payload
  })
}

/** Returns a payload that must be refused. */
export function flawedPayload(host: Identity, flaw: Flaw, publicKey: string): Uint8Array {
  return remember(`${flaw} ${host.name} ${publicKey}`, label => {
    const payload = makeFlawed(label, host, flaw, publicKey)
    truths.set(payload, { kind: 'bad', flaw })
    return payload
  })
}

/** Returns what is in a payload made here. */
export function truthOf(payload: Uint8Array): PayloadTruth {
  return truths.get(payload)!
}

/** Opens an answer with the key of the host that made the payload. */
export function openAnswer(host: Identity, requestId: bigint, response: Hex): OpenedResponse {
  return openResponse(host.decrypt, hexToBytes(response), requestId)
}

const identities: Identity[] = []
const payloads = new Map<string, Uint8Array>()
const truths = new WeakMap<Uint8Array, PayloadTruth>()
const brokerPublicKey = publicKeyOf(brokerKeys.ecies)

function makeIdentity(at: number): Identity {
  const name = `h${at}`
  const serverKey = bytesOf(`${name} server`)
  return {
    name,
    wallets: [addressOf(`${name} wallet 0`), addressOf(`${name} wallet 1`)],
    nftContract: addressOf(`${name} nft`),
    serverPublicKey: publicKeyOf(serverKey).toHex(),
    decrypt: createDecryptor(serverKey),
    wireguardKeys: Array.from({ length: 12 }, (_, i) => Buffer.from(bytesOf(`${name} key ${i}`)).toString('base64')),
  }
}

function makeFlawed(label: string, host: Identity, flaw: Flaw, publicKey: string): Uint8Array {
  const { nftContract, serverPublicKey } = host
  const message = { wgPubkey: publicKey, nftContract, serverPubkey: serverPublicKey }
  switch (flaw) {
    case 'noise':
      return Buffer.concat(Array.from({ length: 8 }, (_, i) => bytesOf(`${label} ${i}`)))
    case 'short':
      return bytesOf(label).subarray(0, 7)
    case 'other-recipient':
      return seal(label, encodeRequest(message), publicKeyOf(bytesOf('another broker')))
    case 'no-json':
      return seal(label, Buffer.from('{"wgPubkey": '))
    case 'no-key':
      return seal(label, encodeRequest({ ...message, wgPubkey: 'not a key' }))
    case 'brokers-key':
      return seal(label, encodeRequest({ ...message, wgPubkey: brokerKeys.wireguardPublic }))
    case 'other-nft':
      return seal(label, encodeRequest({ ...message, nftContract: addressOf(label) }))
    case 'changed': {
      const payload = seal(label, encodeRequest(message))
      payload[payload.length - 1]! ^= 1
      return payload
    }
  }
}

function remember(label: string, make: (label: string) => Uint8Array): Uint8Array {
  const payload = payloads.get(label) ?? make(label)
  payloads.set(label, payload)
  return payload
}

/** Sealed with keys that follow from the label: the same bytes in every run. */
function seal(label: string, plaintext: Uint8Array, recipient = brokerPublicKey): Uint8Array {
  const vector = {
    ephemeralPrivateKey: bytesOf(`${label} ephemeral`),
    nonce: bytesOf(`${label} nonce`).subarray(0, 16),
  }
  return encrypt(recipient, plaintext, vector)
}

function bytesOf(label: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update(label).digest())
}

function addressOf(label: string): Address {
  return `0x${Buffer.from(bytesOf(label)).toString('hex').slice(0, 40)}`
}
