import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Prefix, parsePrefix } from '@blockhost/net/prefix.ts'
import fc from 'fast-check'
import { hostAddress, type LeaseFields, leaseTexts, parseLease, routableGateway } from './lease.ts'

const key = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='
const fields = {
  prefix: '2001:db8:1:2::100/120',
  gateway: '2001:db8:1:2::2',
  brokerPubkey: key,
  brokerEndpoint: '198.51.100.1:51820',
}
const anywhere = { expectUpstream: undefined }

function problem(over: Partial<Record<keyof LeaseFields, unknown>>, expectUpstream?: Prefix): string {
  const parsed = parseLease({ ...fields, ...over }, { expectUpstream })
  return parsed.ok ? 'accepted' : parsed.problem
}

describe('parseLease', () => {
  it('reads the published answer and writes it back the same', () => {
    const parsed = parseLease(fields, anywhere)
    assert.ok(parsed.ok)
    assert.deepEqual(leaseTexts(parsed.value), { ...fields, dnsZone: '' })
  })

  it('keeps the DNS zone of later brokers', () => {
    const parsed = parseLease({ ...fields, dnsZone: 'Vm.Example.org' }, anywhere)
    assert.ok(parsed.ok && parsed.value.dnsZone === 'vm.example.org')
    for (const dnsZone of ['a b', 'a\nb', '.', 'a..b', '-a', 5, 'x'.repeat(300)])
      assert.match(problem({ dnsZone }), /dnsZone/)
  })

  it('accepts every size from /48 to /128 and no other', () => {
    for (let length = 0; length <= 128; length++) {
      const expected = length >= 48 ? 'accepted' : length < 3 ? /prefix/ : /not between/
      assert.match(problem({ prefix: `2000::/${length}`, gateway: '3000::1' }), new RegExp(expected))
    }
  })

  it('refuses prefixes that no broker may lease', () => {
    for (const prefix of ['::/0', '::1/128', 'fe80::/64', 'ff02::/64', '::ffff:0:0/96', '0:0:0:1::/64'])
      assert.match(problem({ prefix }), /^prefix/)
  })

  it('refuses a prefix outside of the expected upstream, and the upstream itself where it is larger', () => {
    const upstream = parsePrefix('2001:db8:1:2::/64')!
    assert.equal(problem({}, upstream), 'accepted')
    assert.match(problem({ prefix: '2001:db8:1:3::100/120' }, upstream), /outside of 2001:db8:1:2::\/64/)
    assert.match(problem({ prefix: '2001:db8:1::/48', gateway: '2001:db8:9::1' }, upstream), /outside/)
    assert.match(problem({ gateway: '2001:db8:1:3::1' }, upstream), /^gateway .* outside/)
  })

  it('refuses host bits, other families and text around', () => {
    for (const prefix of [
      '2001:db8::1/64',
      '2001:db8::',
      '10.0.0.0/8',
      ' 2001:db8::/64',
      '2001:db8::/64\n',
      '2001:db8::/64\nPostUp = id',
      '',
      null,
      5,
      {},
    ])
      assert.match(problem({ prefix }), /^prefix is not an IPv6 prefix/)
  })

  it('refuses gateways that are inside the prefix or no unicast address', () => {
    for (const gateway of [
      '2001:db8:1:2::100',
      '2001:db8:1:2::101',
      '::1',
      'ff02::1',
      'fe80::1',
      '2001:db8::1%eth0',
      '2001:db8::1\n',
      '',
      undefined,
    ])
      assert.match(problem({ gateway }), /^gateway/)
  })

  it('refuses keys that are not 32 bytes in canonical base64', () => {
    const bytes = (n: number) => Buffer.alloc(n, 7).toString('base64')
    for (const brokerPubkey of [
      bytes(31),
      bytes(33),
      bytes(0),
      key.slice(0, -1),
      `${key}\n`,
      `\n${key}`,
      key.replace('=', 'A'),
      key.replace('8=', '9='),
      `${'A'.repeat(43)}=`,
      null,
      [key],
    ])
      assert.match(problem({ brokerPubkey }), /^brokerPubkey/)
  })

  it('accepts the endpoints of wg(8) and refuses everything that could end a line', () => {
    for (const brokerEndpoint of ['198.51.100.1:51820', '[2001:db8::1]:1', 'broker.example:65535'])
      assert.equal(problem({ brokerEndpoint }), 'accepted')
    for (const brokerEndpoint of [
      '198.51.100.1',
      '198.51.100.1:0',
      '198.51.100.1:65536',
      'a:1\nPostUp = id',
      'a:1\r',
      'a b:1',
      '2001:db8::1:1',
      '0.0.0.0:1',
      '224.0.0.1:1',
      '255.255.255.255:1',
      '[::]:1',
      '[ff02::1]:1',
      'a:1#',
      null,
    ])
      assert.match(problem({ brokerEndpoint }), /^brokerEndpoint/)
  })

  it('never lets a control character through, whatever is thrown at it', () => {
    const anything = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom(...Object.values(fields)), fc.anything())
    fc.assert(
      fc.property(
        anything,
        anything,
        anything,
        anything,
        anything,
        (prefix, gateway, brokerPubkey, brokerEndpoint, dnsZone) => {
          const parsed = parseLease({ prefix, gateway, brokerPubkey, brokerEndpoint, dnsZone }, anywhere)
          const texts = parsed.ok ? Object.values(leaseTexts(parsed.value)) : [parsed.problem]
          for (const text of texts) assert.doesNotMatch(text, /[\u0000-\u001f\u007f]/)
        },
      ),
    )
  })

  it('never lets a mutated field through with a foreign character', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('prefix', 'gateway', 'brokerPubkey', 'brokerEndpoint'),
        fc.nat(60),
        fc.constantFrom('\n', '\r', '\0', ' ', ';', '$', '`', '#', '"', "'"),
        (field, at, character) => {
          const text = fields[field as keyof typeof fields]
          assert.notEqual(problem({ [field]: `${text.slice(0, at)}${character}${text.slice(at)}` }), 'accepted')
        },
      ),
    )
  })
})

describe('routableGateway', () => {
  it('is the gateway where it is near what is leased', () => {
    const gatewayOf = (gateway: string) => {
      const parsed = parseLease({ ...fields, gateway }, anywhere)
      assert.ok(parsed.ok)
      return routableGateway(parsed.value)
    }
    assert.equal(gatewayOf('2001:db8:1:2::2'), '2001:db8:1:2::2')
    assert.equal(gatewayOf('2001:db8:ffff::1'), '2001:db8:ffff::1')
    assert.equal(gatewayOf('2001:4860:4860::8888'), undefined)
  })
})

describe('hostAddress', () => {
  it('is the second address, and of a /128 the only one', () => {
    assert.equal(hostAddress(parsePrefix('2001:db8::100/120')!), '2001:db8::101')
    assert.equal(hostAddress(parsePrefix('2001:db8:0:5::/64')!), '2001:db8:0:5::1')
    assert.equal(hostAddress(parsePrefix('2001:db8::2/127')!), '2001:db8::3')
    assert.equal(hostAddress(parsePrefix('2001:db8::7/128')!), '2001:db8::7')
  })
})
