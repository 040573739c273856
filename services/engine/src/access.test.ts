import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decryptAccessData, parseConnectionDetails } from '@blockhost/crypto/access-data.ts'
import { encrypt } from '@blockhost/crypto/ecies.ts'
import { encryptNoble } from '@blockhost/crypto/ecies-noble.ts'
import { addressOf, publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import fc from 'fast-check'
import { createPurchaseOpener, sealConnection } from './access.ts'

const serverKey = new Uint8Array(32).fill(0x11)
const buyerKey = new Uint8Array(32).fill(0x22)
const buyer = addressOf(buyerKey).toLowerCase() as `0x${string}`
const open = createPurchaseOpener(serverKey, 'blockhost-access')
const publicSecret = `libpam-web3:${addressOf(buyerKey)}:42`
const signature = signMessage(publicSecret, buyerKey)
const bytes = (text: string) => new TextEncoder().encode(text)
const ours = (value: unknown) => encrypt(publicKeyOf(serverKey), bytes(JSON.stringify(value)))

describe('createPurchaseOpener', () => {
  it('reads what our page writes', () => {
    const opened = open(ours({ v: 1, signature, publicSecret }), buyer)
    assert.deepEqual(opened, { ok: true, key: { signature: Uint8Array.fromHex(signature.slice(2)), publicSecret } })
  })

  it("reads what pages of the earlier generation write, with the host's one public secret", () => {
    const opened = open(encryptNoble(publicKeyOf(serverKey), bytes(signature)), buyer)
    assert.equal(opened.ok && opened.key.publicSecret, 'blockhost-access')
  })

  it("published vector: the earlier generation's purchase data", () => {
    const blob =
      '04466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276728176c3c6431f8eeda4538dc37c865e2784f3a9e77d044f33e407797e1278a000102030405060708090a0bc4ee6f2e825c59b3f35270d971d8827395e0c04e7361aa8625d85b89068211a462f005a91a47ca72f0da999e337a630920ed63471bcd6c03fec5bd1fdc95b414132ca78f519a0213f76ccf08e3ab7603885eaa5253e1e54357d864efb46208143db2240739d24fcbc3ea344b5f7f7d19863a290804d94d727d5044e3b13e3b8f34c836d6fc3578eb22cbba28bf7c3e07da68dcba'
    const opened = open(Uint8Array.fromHex(blob), buyer)
    assert.equal(opened.ok && opened.key.signature.toHex(), `${'ab'.repeat(64)}1b`)
  })

  const useless: [string, Uint8Array, RegExp][] = [
    ['nothing', new Uint8Array(0), /carries no data/],
    ['a bare signature', Uint8Array.fromHex(signature.slice(2)), /publishes the signature itself/],
    ['data for another host', encrypt(publicKeyOf(buyerKey), bytes('{}')), /not encrypted to the key of this host/],
    ['another version', ours({ v: 2, signature, publicSecret }), /version/],
    ['no signature', ours({ v: 1, publicSecret }), /no signature/],
    ['a short signature', ours({ v: 1, signature: '0x00', publicSecret }), /no signature/],
    ['no public secret', ours({ v: 1, signature }), /names no public secret/],
    ['another form of secret', ours({ v: 1, signature, publicSecret: 'Hello' }), /is not libpam-web3/],
    [
      'the secret of another wallet',
      ours({ v: 1, signature, publicSecret: `libpam-web3:0x${'33'.repeat(20)}:1` }),
      /another wallet/,
    ],
    ['JSON of another shape', encrypt(publicKeyOf(serverKey), bytes('{"v":')), /not the expected JSON/],
    ['text that is no signature', encryptNoble(publicKeyOf(serverKey), bytes('hello')), /is no signature/],
  ]
  for (const [what, data, problem] of useless) {
    it(`says why ${what} gives no key`, () => {
      const opened = open(data, buyer)
      assert.match(opened.ok ? '' : opened.problem, problem)
    })
  }

  it('never throws, whatever a buyer writes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), data => {
        assert.equal(open(data, buyer).ok, false)
      }),
      { numRuns: 50 },
    )
  })
})

describe('sealConnection', () => {
  it("is readable with the buyer's signature", () => {
    const details = { hostname: '2001:db8::5', port: 22, username: 'admin' }
    const key = { signature: Uint8Array.fromHex(signature.slice(2)), publicSecret }
    const opened = decryptAccessData(key.signature, sealConnection(key, details))
    assert.deepEqual(parseConnectionDetails(new TextDecoder().decode(opened)), details)
  })
})
