import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import fc from 'fast-check'
import { pointFromScalar } from 'tiny-secp256k1'
import { decrypt, encrypt } from './ecies.ts'
import { decryptNoble, eciesNobleOverheadBytes, encryptNoble } from './ecies-noble.ts'

const hex = (text: string) => Uint8Array.fromHex(text)
const bytes = (text: string) => new TextEncoder().encode(text)

const privateKey = new Uint8Array(32).fill(0x11)
const publicKey = pointFromScalar(privateKey, false)!
const plaintext = bytes('server-prod-01')
const pinned = { ephemeralPrivateKey: new Uint8Array(32).fill(0x22), iv: hex('000102030405060708090a0b') }
const published = hex(
  '04466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276728176c3c6431f8eeda4538dc37c865e2784f3a9e77d0' +
    '44f33e407797e1278a000102030405060708090a0b87f37c3a864c15a1e05f7596208bd531c935d0ed357b39cf839713c9c833',
)

describe('published vector', () => {
  it('encrypts and decrypts byte for byte', () => {
    assert.equal(encryptNoble(publicKey, plaintext, pinned).toHex(), published.toHex())
    assert.deepEqual(decryptNoble(privateKey, published), plaintext)
  })

  it('the other scheme has its own, and neither reads the other', () => {
    const nonce = hex('000102030405060708090a0b0c0d0e0f')
    const other = encrypt(publicKey, plaintext, { ephemeralPrivateKey: pinned.ephemeralPrivateKey, nonce })
    const rest = '000102030405060708090a0b0c0d0e0fa6e84fa30439e348296b880823ea497e8e6d7ca0514b8bcff782b71dcd6a'
    assert.equal(other.toHex(), published.toHex().slice(0, 130) + rest)
    assert.throws(() => decryptNoble(privateKey, other), permanent('BH_ECIES_MESSAGE_INVALID'))
    assert.throws(() => decrypt(privateKey, published), permanent('BH_ECIES_MESSAGE_INVALID'))
  })
})

describe('decryptNoble', () => {
  it('returns what was encrypted, to compressed and uncompressed keys', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (text, compressed) => {
        const blob = encryptNoble(pointFromScalar(privateKey, compressed)!, text)
        assert.equal(blob.length, text.length + eciesNobleOverheadBytes)
        assert.deepEqual(decryptNoble(privateKey, blob), text)
      }),
      { numRuns: 30 },
    )
  })

  it('refuses every changed byte, every truncation and garbage', () => {
    for (let at = 0; at < published.length; at++) {
      const changed = published.slice()
      changed[at]! ^= 1 << (at % 8)
      for (const blob of [changed, published.slice(0, at)])
        assert.throws(() => decryptNoble(privateKey, blob), permanent('BH_ECIES_MESSAGE_INVALID'), `byte ${at}`)
    }
    assert.throws(() => decryptNoble(privateKey, new Uint8Array(200)), permanent('BH_ECIES_MESSAGE_INVALID'))
  })

  it('refuses keys that are none', () => {
    for (const key of [new Uint8Array(32), new Uint8Array(32).fill(255), new Uint8Array(31).fill(1)])
      assert.throws(() => decryptNoble(key, published), permanent('BH_ECIES_KEY_INVALID'))
    for (const key of [new Uint8Array(65), publicKey.slice(1), publicKey.slice(0, 64)])
      assert.throws(() => encryptNoble(key, plaintext), permanent('BH_ECIES_KEY_INVALID'))
  })
})

function permanent(code: string): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === code && !error.retryable
}
