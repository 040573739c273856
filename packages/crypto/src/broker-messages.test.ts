import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  encodeRequest,
  encodeResponse,
  openResponse,
  parseRequest,
  parseResponse,
  type RequestMessage,
  type ResponseMessage,
  unwrapResponse,
  wrapResponse,
} from './broker-messages.ts'
import * as vectors from './broker-vectors.ts'
import { createDecryptor, decrypt, encrypt } from './ecies.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const hex = (text: string) => Uint8Array.fromHex(text)
const json = (value: unknown) => bytes(JSON.stringify(value))

const request: RequestMessage = {
  wgPubkey: vectors.wgPublicKey,
  nftContract: '0x0000000000000000000000000000000000000001',
  serverPubkey: vectors.serverPublicKeyHex,
}
const response: ResponseMessage = {
  prefix: '2001:db8:1:2::100/120',
  gateway: '2001:db8:1:2::2',
  brokerPubkey: vectors.wgPublicKey,
  brokerEndpoint: '198.51.100.1:51820',
}

describe('published vectors', () => {
  it('writes and reads the request', () => {
    assert.deepEqual(encodeRequest(request), bytes(vectors.requestText))
    const blob = encrypt(hex(vectors.brokerPublicKeyHex), encodeRequest(request), vectors.pinned)
    assert.equal(blob.toHex(), vectors.requestHex)
    assert.deepEqual(parseRequest(decrypt(vectors.brokerPrivateKey, blob)), { ok: true, request })
  })

  it('writes and reads the answer, id and all', () => {
    assert.deepEqual(encodeResponse(response), bytes(vectors.responseText))
    const blob = encrypt(hex(vectors.serverPublicKeyHex), encodeResponse(response), vectors.pinned)
    const stored = wrapResponse(vectors.responseRequestId, blob)
    assert.equal(stored.toHex(), vectors.responseHex)
    assert.equal(stored.length, 267)
    const opened = openResponse(createDecryptor(vectors.serverPrivateKey), stored, vectors.responseRequestId)
    assert.deepEqual(opened, { kind: 'good', response })
  })
})

describe('parseRequest', () => {
  it('does not mind order, blanks, case of hex, and members it does not know', () => {
    const { wgPubkey, nftContract, serverPubkey } = request
    const text = `\n{ "x": [1], "serverPubkey":"${serverPubkey.toUpperCase()}" ,"wgPubkey":\t"${wgPubkey}","nftContract":"${nftContract}"}`
    assert.deepEqual(parseRequest(bytes(text)), { ok: true, request })
  })

  it('takes server keys of 33, 64 and 65 bytes, as the first generation does', () => {
    const compressed = `02${vectors.serverPublicKeyHex.slice(2, 66)}`
    for (const serverPubkey of [compressed, vectors.serverPublicKeyHex.slice(2), vectors.serverPublicKeyHex])
      assert.equal(parseRequest(json({ ...request, serverPubkey })).ok, true)
  })

  const refused: [string, unknown][] = [
    ['no wgPubkey', { ...request, wgPubkey: undefined }],
    ['a number as wgPubkey', { ...request, wgPubkey: 7 }],
    ['a short wgPubkey', { ...request, wgPubkey: 'AAECAwQF' }],
    ['a wgPubkey in other spelling', { ...request, wgPubkey: `${vectors.wgPublicKey.slice(0, 42)}9=` }],
    ['an all-zero wgPubkey', { ...request, wgPubkey: `${'A'.repeat(43)}=` }],
    ['a line feed after wgPubkey', { ...request, wgPubkey: `${vectors.wgPublicKey}\n` }],
    ['no nftContract', { ...request, nftContract: undefined }],
    ['a short nftContract', { ...request, nftContract: '0x01' }],
    ['no serverPubkey', { ...request, serverPubkey: undefined }],
    ['0x before serverPubkey', { ...request, serverPubkey: `0x${vectors.serverPublicKeyHex}` }],
    ['a serverPubkey off the curve', { ...request, serverPubkey: `${vectors.serverPublicKeyHex.slice(0, -1)}b` }],
    ['a list', [request]],
    ['null', null],
    ['a text', 'hello'],
  ]
  for (const [what, value] of refused) {
    it(`refuses ${what}`, () => assert.equal(parseRequest(json(value)).ok, false))
  }

  it('refuses what is not UTF-8, has a byte order mark, or is cut short', () => {
    assert.equal(parseRequest(Uint8Array.of(0xff, 0xfe)).ok, false)
    assert.equal(parseRequest(Uint8Array.of(0xef, 0xbb, 0xbf, ...encodeRequest(request))).ok, false)
    assert.equal(parseRequest(encodeRequest(request).slice(0, -1)).ok, false)
    assert.equal(parseRequest(new Uint8Array(0)).ok, false)
  })

  it('never throws, and never repeats what it read', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.json().map(bytes)), garbage => {
        const parsed = parseRequest(garbage)
        assert.ok(parsed.ok || /^[ -~]{1,80}$/.test(parsed.reason))
      }),
    )
  })
})

describe('parseResponse', () => {
  it('returns canonical spellings', () => {
    const loose = {
      ...response,
      prefix: '2001:0DB8:1:2:0::1ff/120',
      gateway: '2001:DB8:1:2::0:2',
      dnsZone: 'Vm.Example',
    }
    assert.deepEqual(parseResponse(json(loose)), { ok: true, response: { ...response, dnsZone: 'vm.example' } })
  })

  it('takes IPv4, bracketed IPv6 and names as endpoint', () => {
    for (const brokerEndpoint of ['198.51.100.1:1', '[2001:db8::1]:65535', 'broker.example:51820'])
      assert.deepEqual(parseResponse(json({ ...response, brokerEndpoint })), {
        ok: true,
        response: { ...response, brokerEndpoint },
      })
  })

  it('leaves an empty zone out, and reads back every answer it writes', () => {
    assert.deepEqual(parseResponse(json({ ...response, dnsZone: '' })), { ok: true, response })
    const withZone = { ...response, dnsZone: 'vm.example' }
    assert.deepEqual(parseResponse(encodeResponse(withZone)), { ok: true, response: withZone })
  })

  const refused: [keyof ResponseMessage, unknown[]][] = [
    [
      'prefix',
      [undefined, '', 7, '2001:db8::', '2001:db8::/129', '10.0.0.0/8', '::g/64', '2001:db8::/64\n', 'fe80::%e/64'],
    ],
    ['gateway', [undefined, '', '198.51.100.1', '2001:db8::1/64', '2001:db8::1\n', '[2001:db8::1]']],
    ['brokerPubkey', [undefined, '', 'AAAA', `${vectors.wgPublicKey}\nPostUp = touch /tmp/x`, 'A'.repeat(44)]],
    [
      'brokerEndpoint',
      [
        undefined,
        '',
        'broker.example',
        'broker.example:0',
        'broker.example:65536',
        'broker.example:051820',
        '198.51.100.1:51820\nPostUp = touch /tmp/x',
        '198.51.100.1:51820\n',
        '2001:db8::1:51820',
        '[2001:db8::1%eth0]:51820',
        'a b:1',
        '-x.example:1',
        '300.1.1.1:1',
      ],
    ],
    ['dnsZone', [7, 'a..b', '-a.example', 'a\nb', 'a b', 'x'.repeat(64), `${'a.'.repeat(127)}aa`]],
  ]
  for (const [member, values] of refused) {
    it(`refuses a wrong ${member}, naming it`, () => {
      for (const value of values) {
        const parsed = parseResponse(json({ ...response, [member]: value }))
        assert.equal(parsed.ok, false, JSON.stringify(value))
        assert.ok(!parsed.ok && parsed.reason.startsWith(member))
      }
    })
  }

  it('never throws', () => {
    fc.assert(fc.property(fc.json().map(bytes), garbage => void parseResponse(garbage)))
  })
})

describe('wrapResponse', () => {
  it('writes 8 bytes big-endian for the ids of the first generation', () => {
    const blob = Uint8Array.of(4, 5, 6)
    const cases: [bigint, string][] = [
      [0n, '0000000000000000'],
      [1n, '0000000000000001'],
      [255n, '00000000000000ff'],
      [256n, '0000000000000100'],
      [0x12345678n, '0000000012345678'],
      [2n ** 32n - 1n, '00000000ffffffff'],
      [2n ** 32n, '0000000100000000'],
      [2n ** 64n - 2n, 'fffffffffffffffe'],
      [2n ** 64n - 1n, 'ffffffffffffffff'],
    ]
    for (const [id, prefix] of cases) {
      assert.equal(wrapResponse(id, blob).toHex(), `${prefix}040506`)
      assert.deepEqual(unwrapResponse(wrapResponse(id, blob)), { requestId: id, blob })
    }
  })

  it('refuses ids beyond 64 bits', () => {
    for (const id of [-1n, 2n ** 64n]) assert.throws(() => wrapResponse(id, new Uint8Array(1)), RangeError)
  })
})

describe('unwrapResponse', () => {
  it('takes eight bytes or less as a message without an id', () => {
    for (const length of [0, 1, 8]) {
      const whole = new Uint8Array(length).fill(7)
      assert.deepEqual(unwrapResponse(whole), { requestId: 0n, blob: whole })
    }
    assert.deepEqual(unwrapResponse(new Uint8Array(9)), { requestId: 0n, blob: new Uint8Array(1) })
  })

  it('reads from the middle of a larger buffer', () => {
    const whole = wrapResponse(9n, Uint8Array.of(1, 2))
    const shifted = new Uint8Array([99, ...whole]).subarray(1)
    assert.deepEqual(unwrapResponse(shifted), { requestId: 9n, blob: Uint8Array.of(1, 2) })
  })
})

describe('openResponse', () => {
  const open = createDecryptor(vectors.serverPrivateKey)
  const sealed = (text: Uint8Array) => encrypt(hex(vectors.serverPublicKeyHex), text)

  it('tells an answer made for another request', () => {
    assert.deepEqual(openResponse(open, hex(vectors.responseHex), 8n), { kind: 'other-id', id: 7n })
  })

  it('tells an answer made for another key', () => {
    const stored = wrapResponse(7n, encrypt(hex(vectors.brokerPublicKeyHex), encodeResponse(response)))
    assert.deepEqual(openResponse(open, stored, 7n), { kind: 'undecryptable' })
  })

  it('opens the bare message of a broker from before the id', () => {
    assert.deepEqual(openResponse(open, sealed(encodeResponse(response)), 7n), { kind: 'good', response })
  })

  it('tells a readable answer with a wrong member', () => {
    const stored = wrapResponse(7n, sealed(json({ ...response, gateway: 'nowhere' })))
    assert.deepEqual(openResponse(open, stored, 7n), { kind: 'invalid', reason: 'gateway is not an IPv6 address' })
  })

  it('takes anything', () => {
    for (const stored of [new Uint8Array(0), new Uint8Array(8), new Uint8Array(9), new Uint8Array(300).fill(4)])
      assert.notEqual(openResponse(open, stored, 7n).kind, 'good')
  })
})
