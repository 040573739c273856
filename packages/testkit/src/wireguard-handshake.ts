/**
 * The initiating half of WireGuard (https://www.wireguard.com/papers/wireguard.pdf, section 5.4), without a preshared key:
 * Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s. Bytes in, bytes out; nothing is sent here.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto'
import { keyedBlake2s } from './blake2s.ts'

/** Both ends of a tunnel as the initiator knows them; base64, as wg(8) writes keys. */
export type TunnelKeys = { readonly privateKey: string; readonly peerPublicKey: string }

/** A first message and what can be done with the reply to it. */
export type Initiation = {
  /** 148 bytes. */
  readonly message: Buffer
  /** Reads the response (type 2). @returns `undefined` for anything that is not the right one. */
  complete(response: Uint8Array): TunnelSession | undefined
  /** Reads a cookie reply (type 3), which a busy peer sends instead. @returns The cookie for the next {@link initiate}. */
  openCookie(reply: Uint8Array): Buffer | undefined
}

/** Keys of one handshake, for a few minutes of packets. */
export type TunnelSession = {
  /** Returns the datagram that carries an IP packet; an empty one is a keepalive. */
  seal(packet: Uint8Array): Buffer
  /** Returns the IP packet (zero padding included) in a datagram; `undefined` for anything else. */
  open(datagram: Uint8Array): Buffer | undefined
}

/**
 * Makes a first message.
 *
 * @param options.nowMs - Unix milliseconds; the peer takes only later ones than it has seen of this key.
 * @param options.cookie - From {@link Initiation.openCookie}, at most two minutes old.
 */
export function initiate(keys: TunnelKeys, options: { nowMs: number; cookie?: Uint8Array | undefined }): Initiation {
  const own = parsePrivateKey(keys.privateKey)
  const ownPublic = rawPublicKey(createPublicKey(own))
  const peerPublic = Buffer.from(keys.peerPublicKey, 'base64')
  const peer = parsePublicKey(peerPublic)
  const ephemeral = generateKeyPairSync('x25519')
  const sender = randomBytes(4)

  const noise = createNoise(peerPublic)
  const ephemeralPublic = rawPublicKey(ephemeral.publicKey)
  noise.mixPublic(ephemeralPublic)
  const sealedStatic = noise.seal(
    noise.mixSecret(diffieHellman({ privateKey: ephemeral.privateKey, publicKey: peer })),
    ownPublic,
  )
  const sealedTime = noise.seal(
    noise.mixSecret(diffieHellman({ privateKey: own, publicKey: peer })),
    tai64n(options.nowMs),
  )
  const body = Buffer.concat([Buffer.of(1, 0, 0, 0), sender, ephemeralPublic, sealedStatic, sealedTime])
  const mac1 = keyedBlake2s(hash(labelMac1, peerPublic), body, macBytes)
  const authenticated = Buffer.concat([body, mac1])
  const mac2 =
    options.cookie === undefined ? Buffer.alloc(macBytes) : keyedBlake2s(options.cookie, authenticated, macBytes)

  return {
    message: Buffer.concat([authenticated, mac2]),
    complete(response) {
      const bytes = Buffer.from(response)
      if (bytes.length !== 92 || bytes.readUInt32LE(0) !== 2 || !bytes.subarray(8, 12).equals(sender)) return undefined
      const expected = keyedBlake2s(hash(labelMac1, ownPublic), bytes.subarray(0, 60), macBytes)
      if (!timingSafeEqual(expected, bytes.subarray(60, 76))) return undefined
      return finish(noise.fork(), bytes, { own, ephemeral: ephemeral.privateKey })
    },
    openCookie(reply) {
      const bytes = Buffer.from(reply)
      if (bytes.length !== 64 || bytes.readUInt32LE(0) !== 3 || !bytes.subarray(4, 8).equals(sender)) return undefined
      return xopen(hash(labelCookie, peerPublic), bytes.subarray(8, 32), bytes.subarray(32), mac1)
    },
  }
}

const construction = 'Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s'
const identifier = 'WireGuard v1 zx2c4 Jason@zx2c4.com'
const labelMac1 = 'mac1----'
const labelCookie = 'cookie--'
const macBytes = 16
const tagBytes = 16

/** Chaining key and hash of a handshake so far. */
type Noise = {
  mixPublic(key: Uint8Array): void
  /** Mixes a secret in and returns the key for the next {@link Noise.seal} or {@link Noise.open}. */
  mixSecret(secret: Uint8Array): Buffer
  mixPresharedKey(key: Uint8Array): Buffer
  seal(key: Uint8Array, plaintext: Uint8Array): Buffer
  open(key: Uint8Array, sealed: Uint8Array): Buffer | undefined
  /** The transport keys: to the peer, from the peer. */
  split(): readonly [Buffer, Buffer]
  fork(): Noise
}

function createNoise(peerPublic: Uint8Array): Noise {
  const chain = hash(construction)
  return noiseAt(chain, hash(hash(chain, identifier), peerPublic))
}

function noiseAt(chainAt: Buffer, digestAt: Buffer): Noise {
  let chain = chainAt
  let digest = digestAt
  const mixHash = (data: Uint8Array) => {
    digest = hash(digest, data)
  }
  return {
    mixPublic(key) {
      chain = derive(chain, key, 1)[0]!
      mixHash(key)
    },
    mixSecret(secret) {
      const [next, key] = derive(chain, secret, 2) as [Buffer, Buffer]
      chain = next
      return key
    },
    mixPresharedKey(psk) {
      const [next, mixed, key] = derive(chain, psk, 3) as [Buffer, Buffer, Buffer]
      chain = next
      mixHash(mixed)
      return key
    },
    seal(key, plaintext) {
      const sealed = aeadSeal(key, 0n, plaintext, digest)
      mixHash(sealed)
      return sealed
    },
    open(key, sealed) {
      const plaintext = aeadOpen(key, 0n, sealed, digest)
      mixHash(sealed)
      return plaintext
    },
    split: () => derive(chain, Buffer.alloc(0), 2) as [Buffer, Buffer],
    fork: () => noiseAt(chain, digest),
  }
}

function finish(
  noise: Noise,
  response: Buffer,
  keys: { own: KeyObject; ephemeral: KeyObject },
): TunnelSession | undefined {
  const theirEphemeral = response.subarray(12, 44)
  noise.mixPublic(theirEphemeral)
  const publicKey = parsePublicKey(theirEphemeral)
  noise.mixSecret(diffieHellman({ privateKey: keys.ephemeral, publicKey }))
  noise.mixSecret(diffieHellman({ privateKey: keys.own, publicKey }))
  const key = noise.mixPresharedKey(Buffer.alloc(32))
  if (noise.open(key, response.subarray(44, 60)) === undefined) return undefined
  const [sendKey, receiveKey] = noise.split()
  return createSession(Buffer.from(response.subarray(4, 8)), sendKey, receiveKey)
}

function createSession(receiver: Buffer, sendKey: Buffer, receiveKey: Buffer): TunnelSession {
  let counter = 0n
  return {
    seal(packet) {
      const padded = Buffer.alloc(Math.ceil(packet.length / 16) * 16)
      padded.set(packet)
      const header = Buffer.alloc(16)
      header[0] = 4
      header.set(receiver, 4)
      header.writeBigUInt64LE(counter, 8)
      return Buffer.concat([header, aeadSeal(sendKey, counter++, padded, Buffer.alloc(0))])
    },
    open(datagram) {
      const bytes = Buffer.from(datagram)
      if (bytes.length < 16 + tagBytes || bytes.readUInt32LE(0) !== 4) return undefined
      return aeadOpen(receiveKey, bytes.readBigUInt64LE(8), bytes.subarray(16), Buffer.alloc(0))
    },
  }
}

function hash(...parts: readonly (string | Uint8Array)[]): Buffer {
  const hasher = createHash('blake2s256')
  for (const part of parts) hasher.update(part)
  return hasher.digest()
}

/** HKDF as Noise defines it (section 4.3), with HMAC-BLAKE2s. */
function derive(chain: Uint8Array, input: Uint8Array, count: number): Buffer[] {
  const secret = createHmac('blake2s256', chain).update(input).digest()
  const outputs: Buffer[] = []
  for (let at = 1; at <= count; at++)
    outputs.push(
      createHmac('blake2s256', secret)
        .update(outputs.at(-1) ?? '')
        .update(Buffer.of(at))
        .digest(),
    )
  return outputs
}

function aeadSeal(key: Uint8Array, counter: bigint, plaintext: Uint8Array, aad: Uint8Array): Buffer {
  const cipher = createCipheriv('chacha20-poly1305', key, nonceOf(counter), { authTagLength: tagBytes })
  cipher.setAAD(aad, { plaintextLength: plaintext.length })
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
}

function aeadOpen(key: Uint8Array, counter: bigint, sealed: Uint8Array, aad: Uint8Array): Buffer | undefined {
  return openWith(key, nonceOf(counter), sealed, aad)
}

function openWith(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Buffer | undefined {
  const end = sealed.length - tagBytes
  const decipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: tagBytes })
  decipher.setAAD(aad, { plaintextLength: end })
  decipher.setAuthTag(sealed.subarray(end))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(0, end)), decipher.final()])
  } catch {
    return undefined // not made with this key
  }
}

function nonceOf(counter: bigint): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeBigUInt64LE(counter, 4)
  return nonce
}

/** XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): a 24-byte nonce, its first 16 bytes mixed into the key. */
function xopen(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Buffer | undefined {
  const rest = Buffer.concat([Buffer.alloc(4), nonce.subarray(16)])
  return openWith(hchacha20(key, nonce.subarray(0, 16)), rest, sealed, aad)
}

/**
 * Section 2.2 of the same. The ChaCha20 block that node:crypto gives is the state after the rounds plus the state before; taking the
 * latter away leaves what is wanted.
 *
 * @param input - 16 bytes.
 */
export function hchacha20(key: Uint8Array, input: Uint8Array): Buffer {
  const block = createCipheriv('chacha20', key, input).update(Buffer.alloc(64))
  const before = Buffer.concat([Buffer.from('expand 32-byte k'), key, input])
  const subkey = Buffer.alloc(32)
  for (const [to, from] of [0, 4, 8, 12, 48, 52, 56, 60].entries())
    subkey.writeUInt32LE((block.readUInt32LE(from) - before.readUInt32LE(from)) >>> 0, 4 * to)
  return subkey
}

/** TAI64N: seconds since 1970 in TAI, big-endian, above 2^62; then nanoseconds. */
function tai64n(nowMs: number): Buffer {
  const stamp = Buffer.alloc(12)
  stamp.writeBigUInt64BE(0x4000_0000_0000_000an + BigInt(Math.floor(nowMs / 1000)))
  stamp.writeUInt32BE(Math.floor(nowMs % 1000) * 1_000_000, 8)
  return stamp
}

const privateHeader = Buffer.from('302e020100300506032b656e04220420', 'hex')
const publicHeader = Buffer.from('302a300506032b656e032100', 'hex')

function parsePrivateKey(base64: string): KeyObject {
  const key = Buffer.concat([privateHeader, Buffer.from(base64, 'base64')])
  return createPrivateKey({ key, format: 'der', type: 'pkcs8' })
}

function parsePublicKey(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([publicHeader, raw]), format: 'der', type: 'spki' })
}

function rawPublicKey(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' }).subarray(-32)
}
