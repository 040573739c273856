import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import * as eciesjs from 'eciesjs'
import fc from 'fast-check'
import { pointFromScalar, pointMultiply } from 'tiny-secp256k1'
import * as vectors from './broker-vectors.ts'
import { createDecryptor, decrypt, deriveKey, eciesOverheadBytes, encrypt, isPublicKey } from './ecies.ts'

const text = (value: string) => new TextEncoder().encode(value)
const hex = (value: string) => Uint8Array.fromHex(value)
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const curveOrder = hex('fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141')

const privateKeys = fc.uint8Array({ minLength: 32, maxLength: 32 }).filter(key => pointOrNull(key) !== null)
const plaintexts = fc.uint8Array({ maxLength: 600 })

describe('published vectors', () => {
  it('derives the public keys', () => {
    assert.equal(publicKey(vectors.brokerPrivateKey).toHex(), vectors.brokerPublicKeyHex)
    assert.equal(publicKey(vectors.serverPrivateKey).toHex(), vectors.serverPublicKeyHex)
    assert.equal(publicKey(vectors.pinned.ephemeralPrivateKey).toHex(), vectors.ephemeralPublicKeyHex)
  })

  it('derives the AES keys', () => {
    const key = (recipient: string) =>
      deriveKey(
        hex(vectors.ephemeralPublicKeyHex),
        pointMultiply(hex(recipient), vectors.pinned.ephemeralPrivateKey, false)!,
      )
    assert.equal(key(vectors.brokerPublicKeyHex).toHex(), vectors.requestKeyHex)
    assert.equal(key(vectors.serverPublicKeyHex).toHex(), vectors.responseKeyHex)
  })

  it('ecies/rs v0.2.9 test_known_shared_secret: key 2 against point 3', () => {
    const scalar = (value: number) => Uint8Array.from({ length: 32 }, (_, i) => (i === 31 ? value : 0))
    const key = deriveKey(publicKey(scalar(2)), pointMultiply(publicKey(scalar(3)), scalar(2), false)!).toHex()
    assert.match(key, /^6f982d63.*0f82$/)
  })

  it('encrypts the request byte for byte', () => {
    const blob = encrypt(hex(vectors.brokerPublicKeyHex), text(vectors.requestText), vectors.pinned)
    assert.equal(blob.length, 368)
    assert.equal(blob.toHex(), vectors.requestHex)
    assert.equal(sha256(blob), vectors.requestSha256Hex)
  })

  it('decrypts the request', () => {
    assert.deepEqual(decrypt(vectors.brokerPrivateKey, hex(vectors.requestHex)), text(vectors.requestText))
  })

  it('encrypts and decrypts the answer byte for byte', () => {
    const blob = encrypt(hex(vectors.serverPublicKeyHex), text(vectors.responseText), vectors.pinned)
    assert.equal(blob.toHex(), vectors.responseHex.slice(16))
    assert.deepEqual(decrypt(vectors.serverPrivateKey, blob), text(vectors.responseText))
  })
})

describe('encrypt', () => {
  it('reads what eciesjs writes, and eciesjs reads what it writes', () => {
    fc.assert(
      fc.property(privateKeys, plaintexts, (key, plaintext) => {
        const theirs = eciesjs.encrypt(publicKey(key), plaintext)
        assert.deepEqual(decrypt(key, theirs), plaintext)
        const ours = encrypt(publicKey(key), plaintext)
        assert.equal(ours.length, plaintext.length + eciesOverheadBytes)
        assert.deepEqual(new Uint8Array(eciesjs.decrypt(key, ours)), plaintext)
      }),
      { numRuns: 30 },
    )
  })

  it('takes recipient keys of 33, 64 and 65 bytes', () => {
    const key = vectors.serverPrivateKey
    for (const recipient of [pointFromScalar(key, true)!, publicKey(key).slice(1), publicKey(key)]) {
      assert.ok(isPublicKey(recipient))
      assert.deepEqual(decrypt(key, encrypt(recipient, text('hello'))), text('hello'))
    }
  })

  it('refuses keys that are not points of the curve, permanently', () => {
    const offCurve = publicKey(vectors.serverPrivateKey)
    offCurve[64]! ^= 1
    const hybrid = publicKey(vectors.serverPrivateKey)
    hybrid[0] = 6 + (hybrid[64]! & 1)
    for (const key of [
      new Uint8Array(0),
      new Uint8Array(33),
      new Uint8Array(64),
      new Uint8Array(65),
      offCurve,
      hybrid,
    ]) {
      assert.equal(isPublicKey(key), false)
      assert.throws(() => encrypt(key, text('x')), permanent('BH_ECIES_KEY_INVALID'))
    }
  })

  it('never uses an ephemeral key or nonce twice', () => {
    const recipient = publicKey(vectors.serverPrivateKey)
    const starts = new Set(Array.from({ length: 50 }, () => encrypt(recipient, text('x')).slice(0, 81).toHex()))
    const nonces = new Set(Array.from({ length: 50 }, () => encrypt(recipient, text('x')).slice(65, 81).toHex()))
    assert.equal(starts.size, 50)
    assert.equal(nonces.size, 50)
  })

  it('refuses pinned values out of range', () => {
    const recipient = publicKey(vectors.serverPrivateKey)
    for (const pinned of [{ ephemeralPrivateKey: new Uint8Array(32) }, { nonce: new Uint8Array(12) }])
      assert.throws(() => encrypt(recipient, text('x'), pinned), permanent('BH_ECIES_KEY_INVALID'))
  })
})

describe('decrypt', () => {
  const blob = hex(vectors.requestHex)

  it('refuses every truncation and every extension', () => {
    const open = createDecryptor(vectors.brokerPrivateKey)
    for (const length of [0, 1, 64, 65, 80, 96, 97, 98, blob.length - 1])
      assert.throws(() => open(blob.slice(0, length)), permanent('BH_ECIES_MESSAGE_INVALID'))
    assert.throws(() => open(Uint8Array.of(...blob, 0)), permanent('BH_ECIES_MESSAGE_INVALID'))
  })

  it('refuses a message with any bit flipped', () => {
    const open = createDecryptor(vectors.brokerPrivateKey)
    for (let at = 0; at < blob.length; at += 3) {
      const changed = blob.slice()
      changed[at]! ^= 1 << (at % 8)
      assert.throws(() => open(changed), permanent('BH_ECIES_MESSAGE_INVALID'), `byte ${at}`)
    }
  })

  it('refuses garbage of every length', () => {
    const open = createDecryptor(vectors.brokerPrivateKey)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4096 }), fc.boolean(), (garbage, tagged) => {
        if (tagged && garbage.length > 0) garbage[0] = 4
        assert.throws(() => open(garbage), permanent('BH_ECIES_MESSAGE_INVALID'))
      }),
      { numRuns: 200 },
    )
  })

  it('refuses a message for somebody else', () => {
    assert.throws(() => decrypt(vectors.serverPrivateKey, blob), permanent('BH_ECIES_MESSAGE_INVALID'))
  })

  it('refuses private keys outside 1..n-1', () => {
    for (const key of [new Uint8Array(32), curveOrder, new Uint8Array(32).fill(255), randomBytes(31), randomBytes(33)])
      assert.throws(() => decrypt(key, blob), permanent('BH_ECIES_KEY_INVALID'))
  })

  it('finds the shared point for both parities of Y', () => {
    const parities = new Set<number>()
    const open = createDecryptor(vectors.brokerPrivateKey)
    for (let i = 1; i <= 16; i++) {
      const ephemeralPrivateKey = new Uint8Array(32).fill(i)
      parities.add(pointMultiply(hex(vectors.brokerPublicKeyHex), ephemeralPrivateKey, true)![0]!)
      const sent = encrypt(hex(vectors.brokerPublicKeyHex), text(`message ${i}`), { ephemeralPrivateKey })
      assert.deepEqual(open(sent), text(`message ${i}`))
    }
    assert.deepEqual([...parities].sort(), [2, 3])
  })
})

function publicKey(privateKey: Uint8Array): Uint8Array {
  return pointFromScalar(privateKey, false)!
}

function pointOrNull(privateKey: Uint8Array): Uint8Array | null {
  try {
    return pointFromScalar(privateKey, false)
  } catch {
    return null
  }
}

function permanent(code: string): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === code && !error.retryable
}
