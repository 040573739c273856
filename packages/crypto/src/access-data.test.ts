import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import fc from 'fast-check'
import {
  accessDataOverheadBytes,
  accessKey,
  decryptAccessData,
  encryptAccessData,
  parseConnectionDetails,
  renderConnectionDetails,
} from './access-data.ts'

const hex = (text: string) => Uint8Array.fromHex(text)
const bytes = (text: string) => new TextEncoder().encode(text)

const signature = new Uint8Array(65).fill(0x42)
const details = { hostname: '2001:db8::2', port: 22, username: 'admin' }
const published = hex(
  '000102030405060708090a0b7c36127b0c3cec9d6642732c6f279e995a45991b35088387ba40f2bfe1374c16c8822e43e1b297b61c929696' +
    'e44babe255d0097cc96278f6d285b7665c4c530083c0e4c4c062d125fa057b76',
)

describe('published vector', () => {
  it('derives the key', () => {
    assert.equal(accessKey(signature).toHex(), '4072f91338c0ffa5495d2ffba9a1a68095808e46e7f81d1fd016c7d213cfd058')
  })

  it('encrypts and decrypts byte for byte', () => {
    const text = renderConnectionDetails(details)
    const blob = encryptAccessData(signature, bytes(text), hex('000102030405060708090a0b'))
    assert.equal(blob.toHex(), published.toHex())
    assert.equal(new TextDecoder().decode(decryptAccessData(signature, published)), text)
    assert.deepEqual(parseConnectionDetails(text), details)
  })
})

describe('decryptAccessData', () => {
  it('returns what was encrypted, whatever it was', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 64, maxLength: 65 }),
        fc.uint8Array({ maxLength: 400 }),
        (key, plaintext) => {
          const blob = encryptAccessData(key, plaintext)
          assert.equal(blob.length, plaintext.length + accessDataOverheadBytes)
          assert.deepEqual(decryptAccessData(key, blob), plaintext)
        },
      ),
      { numRuns: 50 },
    )
  })

  it('reads v written as 0/1 and as 27/28 alike', () => {
    for (const [made, given] of [
      [0, 27],
      [28, 1],
    ] as const) {
      const blob = encryptAccessData(withV(made), bytes('x'))
      assert.deepEqual(decryptAccessData(withV(given), blob), bytes('x'))
    }
    assert.throws(() => decryptAccessData(withV(28), encryptAccessData(withV(27), bytes('x'))), refused)
  })

  it('refuses every changed bit and every truncation', () => {
    for (let at = 0; at < published.length; at++) {
      const changed = published.slice()
      changed[at]! ^= 1 << (at % 8)
      assert.throws(() => decryptAccessData(signature, changed), refused, `byte ${at}`)
      assert.throws(() => decryptAccessData(signature, published.slice(0, at)), refused, `${at} bytes`)
    }
  })

  it('refuses another signature and one that is too short', () => {
    assert.throws(() => decryptAccessData(new Uint8Array(65).fill(0x43), published), refused)
    assert.throws(() => decryptAccessData(signature.slice(0, 63), published), refused)
  })
})

describe('parseConnectionDetails', () => {
  it('takes nothing but the documented shape', () => {
    for (const text of ['', '[]', 'null', '{"hostname":"a","port":"22","username":"b"}', '{"hostname":"a","port":22}'])
      assert.equal(parseConnectionDetails(text), undefined, text)
    for (const port of [0, 65_536, 22.5])
      assert.equal(parseConnectionDetails(`{"hostname":"a","port":${port},"username":"b"}`), undefined)
  })
})

function withV(v: number): Uint8Array {
  return Uint8Array.of(...signature.slice(0, 64), v)
}

function refused(error: unknown): boolean {
  return error instanceof BlockHostError && error.code === 'BH_ACCESS_DATA_INVALID' && !error.retryable
}
