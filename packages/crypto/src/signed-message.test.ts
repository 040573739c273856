import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { addressOf } from './key-file.ts'
import { signInText } from './otp.ts'
import {
  hashMessage,
  machineIdOf,
  parseSignature,
  recoverAddress,
  renderSignature,
  signMessage,
} from './signed-message.ts'

const privateKey = new Uint8Array(32).fill(0x11)
const address = '0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a'
const text = 'Authenticate to blockhost-001 with code: 042137'
const signature =
  '0x42eb4f6a0abae33fca5acbfa88491206074fbe642d9c46755144908cb776148b71d4ffd9c91f1bbc7f758e83facb738bc6dbac41b9f5421a70a3928ca31569241b'

describe('published vector', () => {
  it('text, hash, signature and signer', () => {
    assert.equal(signInText('blockhost-001', '042137'), text)
    assert.equal(hashMessage(text).toHex(), '9ff60f8de5fe87cc0759ea6302bf0a4bda01892560b98c79b83f6c7e23828ca1')
    assert.equal(signMessage(text, privateKey), signature)
    assert.equal(signer(signature)?.toLowerCase(), address)
  })
})

describe('hashMessage', () => {
  it('EIP-191: counts bytes, not characters', () => {
    assert.equal(hashMessage('ü').toHex(), hashMessage(new TextDecoder().decode(Uint8Array.of(0xc3, 0xbc))).toHex())
    assert.notEqual(hashMessage('ü').toHex(), hashMessage('u').toHex())
  })
})

describe('parseSignature', () => {
  const rs = signature.slice(2, 130)

  it('takes every form that wallets and people make', () => {
    const forms = [signature, signature.slice(2), signature.toUpperCase().replace('0X', '0x'), `  ${signature}\r\n`]
    for (const v of ['00', '1b', '23', '25']) forms.push(rs + v)
    for (const form of forms) assert.equal(signer(form)?.toLowerCase(), address, form)
    for (const v of ['01', '1c', '24', '26']) {
      const other = parse(rs + v)
      assert.equal(other.yParity, 1)
      assert.notEqual(recoverAddress(hashMessage(text), other)?.toLowerCase(), address)
    }
  })

  it('EIP-2098: takes 64 bytes with the parity in the top bit of s', () => {
    assert.deepEqual(parse(rs), parse(signature))
    const packed = Uint8Array.fromHex(rs)
    packed[32]! |= 0x80
    assert.deepEqual(parse(packed.toHex()), parse(`${rs}01`))
  })

  it('refuses everything else with a reason that repeats nothing', () => {
    for (const [wrong, reason] of [
      ['', /has 0 hexadecimal digits/],
      ['0x', /has 0 hexadecimal digits/],
      [signature.slice(0, -1), /has 129 hexadecimal digits/],
      [`${signature}00`, /has 132 hexadecimal digits/],
      [`${rs}02`, /last byte is 2,/],
      [`${rs}22`, /last byte is 34,/],
      ['x'.repeat(130), /no hexadecimal digit/],
      ['0'.repeat(2000), /too long/],
      [`${rs}é`, /no hexadecimal digit/],
    ] as const) {
      const parsed = parseSignature(wrong)
      assert.equal(parsed.ok, false)
      assert.match(parsed.ok ? '' : parsed.reason, reason)
    }
  })

  it('never throws, whatever is pasted', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary', maxLength: 300 }), hexText()), pasted => {
        const parsed = parseSignature(pasted)
        if (parsed.ok) recoverAddress(hashMessage(text), parsed.signature)
      }),
      { numRuns: 500 },
    )
  })
})

describe('recoverAddress', () => {
  it('finds every signer, and the rendered form is read again', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.string(), (key, message) => {
        key[0] = 1
        const signed = parse(signMessage(message, key))
        assert.equal(recoverAddress(hashMessage(message), signed), addressOf(key))
        assert.deepEqual(parse(renderSignature(signed)), signed)
      }),
      { numRuns: 50 },
    )
  })

  it('returns undefined for numbers out of range', () => {
    for (const rs of [new Uint8Array(64), new Uint8Array(64).fill(255)])
      assert.equal(recoverAddress(hashMessage(text), { rs, yParity: 0 }), undefined)
  })
})

describe('machineIdOf', () => {
  const identity = {
    vmName: 'blockhost-005',
    chainId: 1,
    nftContract: '0xAbcdef0000000000000000000000000000000001',
    hostIpv6: '2001:db8::1',
  } as const

  it('differs when chain, contract or host do, and not with the case of the contract', () => {
    const id = machineIdOf(identity)
    assert.match(id, /^blockhost-005\.[0-9a-f]{8}$/)
    assert.equal(machineIdOf({ ...identity, nftContract: '0xabcdef0000000000000000000000000000000001' }), id)
    const others = [{ chainId: 2 }, { nftContract: address }, { hostIpv6: '2001:db8::2' }] as const
    for (const other of others) assert.notEqual(machineIdOf({ ...identity, ...other }), id)
  })
})

function parse(form: string) {
  const parsed = parseSignature(form)
  if (!parsed.ok) throw new Error(parsed.reason)
  return parsed.signature
}

function signer(form: string) {
  return recoverAddress(hashMessage(text), parse(form))
}

function hexText() {
  return fc.uint8Array({ minLength: 60, maxLength: 70 }).map(bytes => bytes.toHex())
}
