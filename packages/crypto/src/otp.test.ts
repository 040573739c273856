import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { makeOtp, otpAlphabet } from './otp.ts'

const input = {
  secret: new Uint8Array(32).fill(7),
  machineId: 'blockhost-001.1a2b3c4d',
  timeSeconds: 1_700_000_000,
  session: new Uint8Array(16).fill(9),
}

describe('makeOtp', () => {
  it('RFC 2104: is the head of an HMAC over SHA3-256, written out here a second way', () => {
    const sha3 = (...parts: Uint8Array[]) => createHash('sha3-256').update(Buffer.concat(parts)).digest()
    const blockBytes = 136 // FIPS 202: rate of SHA3-256
    const padded = Buffer.concat([input.secret, Buffer.alloc(blockBytes - input.secret.length)])
    const xored = (byte: number) => padded.map(value => value ^ byte)
    const time = Uint8Array.fromHex('00000000006553f100')
    assert.equal(time.length, 9)
    const message = Buffer.concat([Buffer.from(input.machineId), time, input.session])
    const mac = sha3(xored(0x5c), sha3(xored(0x36), message))
    const bits = [...mac].map(byte => byte.toString(2).padStart(8, '0')).join('')
    const expected = Array.from({ length: 6 }, (_, i) => otpAlphabet[Number.parseInt(bits.slice(5 * i, 5 * i + 5), 2)])
    assert.equal(makeOtp(input), expected.join(''))
  })

  it('is six unambiguous characters, or as many as asked for', () => {
    assert.match(makeOtp(input), /^[A-HJ-NP-Z2-9]{6}$/)
    assert.equal(new Set(otpAlphabet).size, 32)
    for (const length of [4, 19]) assert.equal(makeOtp({ ...input, length }).length, length)
    for (const length of [3, 20, Number.NaN]) assert.throws(() => makeOtp({ ...input, length }), RangeError)
  })

  it('differs when secret, machine, time or session do', () => {
    const others = [
      { secret: new Uint8Array(32).fill(8) },
      { machineId: 'blockhost-001.1a2b3c4e' },
      { timeSeconds: 1_700_000_001 },
      { session: new Uint8Array(16).fill(8) },
    ]
    const codes = others.map(other => makeOtp({ ...input, ...other, length: 19 }))
    assert.equal(new Set([...codes, makeOtp({ ...input, length: 19 })]).size, 5)
  })

  it('refuses a secret that is too short', () => {
    assert.throws(() => makeOtp({ ...input, secret: new Uint8Array(15) }), RangeError)
  })
})
