import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { hchacha20, initiate } from './wireguard-handshake.ts'

// That a real WireGuard understands it is tested in e2e/wireguard-peer.test.ts.
describe('WireGuard handshake', () => {
  it('draft-irtf-cfrg-xchacha-03 2.2.1: HChaCha20', () => {
    const key = Buffer.from('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f', 'hex')
    const input = Buffer.from('000000090000004a0000000031415927', 'hex')
    assert.equal(
      hchacha20(key, input).toString('hex'),
      '82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc',
    )
  })

  it('makes a first message of 148 bytes, mac2 empty without a cookie, and takes no reply that is not one', () => {
    const peer = generateKeyPair()
    const keys = { privateKey: generateKeyPair().privateKey, peerPublicKey: peer.publicKey }
    const plain = initiate(keys, { nowMs: 0 })
    assert.equal(plain.message.length, 148)
    assert.equal(plain.message.readUInt32LE(0), 1)
    assert.ok(plain.message.subarray(132).every(byte => byte === 0))
    assert.ok(
      initiate(keys, { nowMs: 0, cookie: Buffer.alloc(16, 7) })
        .message.subarray(132)
        .some(byte => byte !== 0),
    )
    for (const length of [0, 64, 92, 148]) {
      assert.equal(plain.complete(Buffer.alloc(length, 2)), undefined)
      assert.equal(plain.openCookie(Buffer.alloc(length, 3)), undefined)
    }
  })
})
