import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { bytesToHex, type Hex } from '@blockhost/chain/hex.ts'
import { encodeResponse, wrapResponse } from '@blockhost/crypto/broker-messages.ts'
import * as vectors from '@blockhost/crypto/broker-vectors.ts'
import { createDecryptor, encrypt } from '@blockhost/crypto/ecies.ts'
import { parsePrefix } from '@blockhost/net/prefix.ts'
import { type AnswerOpener, openAnswer } from './answer.ts'
import { leaseTexts } from './lease.ts'

const opener: AnswerOpener = {
  decrypt: createDecryptor(vectors.serverPrivateKey),
  generation: 3,
  ownKeys: () => [],
  rules: { expectUpstream: undefined },
}
const published: Hex = `0x${vectors.responseHex}`
const bare: Hex = `0x${vectors.responseHex.slice(16)}`

function seal(fields: Record<string, unknown>, id = 7n, recipient = vectors.serverPublicKeyHex): Hex {
  const plain = JSON.parse(vectors.responseText)
  return bytesToHex(wrapResponse(id, encrypt(Uint8Array.fromHex(recipient), encodeResponse({ ...plain, ...fields }))))
}

describe('openAnswer', () => {
  it('opens the published answer', () => {
    const answer = openAnswer(opener, published, 7n)
    assert.ok(answer.kind === 'good')
    assert.equal(leaseTexts(answer.lease).prefix, '2001:db8:1:2::100/120')
  })

  it('tells stale answers apart', () => {
    assert.deepEqual(openAnswer(opener, published, 8n), { kind: 'other-id', id: 7n })
    assert.equal(openAnswer(opener, seal({}, 7n, vectors.brokerPublicKeyHex), 7n).kind, 'undecryptable')
    assert.equal(openAnswer(opener, `${published}00`, 7n).kind, 'undecryptable')
    for (const garbage of ['0x', '0x00', '0x0000000000000007', `0x${'ff'.repeat(300)}`] as const)
      assert.notEqual(openAnswer(opener, garbage, 7n).kind, 'good')
  })

  it('takes an answer without id from second-generation brokers only', () => {
    assert.equal(openAnswer({ ...opener, generation: 2 }, bare, 7n).kind, 'good')
    for (const generation of [1, 3] as const)
      assert.equal(openAnswer({ ...opener, generation }, bare, 7n).kind, 'other-id')
  })

  it('refuses fields that must reach no file', () => {
    const hostile = {
      brokerEndpoint: '198.51.100.1:51820\nPostUp = id',
      brokerPubkey: Buffer.alloc(31, 1).toString('base64'),
      prefix: '::/0',
      gateway: 'fe80::1',
    }
    for (const [field, value] of Object.entries(hostile))
      assert.equal(openAnswer(opener, seal({ [field]: value }), 7n).kind, 'invalid', field)
  })

  it('refuses a prefix outside of the expected upstream, and our own key as the broker’s', () => {
    const upstream = { expectUpstream: parsePrefix('2001:db8:2::/64')! }
    assert.equal(openAnswer({ ...opener, rules: upstream }, published, 7n).kind, 'invalid')
    assert.equal(openAnswer({ ...opener, ownKeys: () => [vectors.wgPublicKey] }, published, 7n).kind, 'invalid')
  })
})
