import assert from 'node:assert/strict'
import { isIPv6 } from 'node:net'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  addressAt,
  addressCount,
  capacity,
  complementOfFirst,
  contains,
  formatAddress,
  formatPrefix,
  indexOf,
  maskOf,
  overlaps,
  type Prefix,
  parseAddress,
  parsePrefix,
  subPrefix,
} from './prefix.ts'

const addresses = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n })
/** Addresses with many zero groups, where the shortening rules bite. */
const sparseAddresses = fc
  .array(fc.oneof(fc.constant(0), fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map(groups => groups.reduce((sum, group) => (sum << 16n) | BigInt(group), 0n))
const prefixes = fc
  .tuple(addresses, fc.integer({ min: 0, max: 128 }))
  .map(([address, length]): Prefix => ({ network: address & maskOf(length), length }))

const parsed = (text: string): Prefix => parsePrefix(text) ?? assert.fail(`${text} should parse`)
const canonical = (text: string): string => formatAddress(parseAddress(text) ?? assert.fail(`${text} should parse`))

describe('parseAddress', () => {
  test('reads the examples of RFC 4291 section 2.2', () => {
    assert.equal(parseAddress('ABCD:EF01:2345:6789:ABCD:EF01:2345:6789'), 0xabcdef0123456789abcdef0123456789n)
    assert.equal(parseAddress('2001:DB8::8:800:200C:417A'), 0x20010db80000000000080800200c417an)
    assert.equal(parseAddress('FF01::101'), 0xff010000000000000000000000000101n)
    assert.equal(parseAddress('::1'), 1n)
    assert.equal(parseAddress('::'), 0n)
    assert.equal(parseAddress('::13.1.68.3'), 0x0d014403n)
    assert.equal(parseAddress('::FFFF:129.144.52.38'), 0xffff81903426n)
    assert.equal(parseAddress('0:0:0:0:0:0:13.1.68.3'), 0x0d014403n)
  })

  test('reads a `::` that stands for one group', () => {
    assert.equal(parseAddress('1:2:3:4:5:6:7::'), 0x00010002000300040005000600070000n)
    assert.equal(parseAddress('::2:3:4:5:6:7:8'), 0x00000002000300040005000600070008n)
  })

  for (const hostile of [
    '',
    ':',
    ':::',
    '1::2::3',
    '::1::',
    '1:2:3:4:5:6:7:8::',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    ':1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:',
    '12345::',
    'g::',
    '::1%eth0',
    '[::1]',
    ' ::1',
    '::1 ',
    '::1\n',
    '::1\0',
    '::1/64',
    '::1.2.3',
    '::1.2.3.4.5',
    '::256.1.1.1',
    '::01.2.3.4',
    '::1.2.3.4:5',
    '1.2.3.4::',
    '1.2.3.4',
    '::0x1',
    '::-1',
    '::+1',
    '1:2:3:4:5:6:7:1.2.3.4',
    '２001::1',
    '0'.repeat(1_000_000),
  ])
    test(`refuses ${JSON.stringify(hostile.slice(0, 40))}`, () => assert.equal(parseAddress(hostile), undefined))

  test('accepts exactly what Node accepts, but for zone ids', () => {
    const alphabet = fc.constantFrom('0', '1', 'f', 'F', ':', '::', ':', '.', '255', '12345', '%', 'g')
    fc.assert(
      fc.property(fc.array(alphabet, { maxLength: 18 }), parts => {
        const text = parts.join('')
        assert.equal(parseAddress(text) !== undefined, isIPv6(text) && !text.includes('%'))
      }),
      { numRuns: 2000 },
    )
  })
})

describe('formatAddress', () => {
  test('RFC 5952 section 4.1: leading zeros are removed', () => {
    assert.equal(canonical('2001:0db8::0001'), '2001:db8::1')
    assert.equal(canonical('2001:db8:0000:1:1:1:1:1'), '2001:db8:0:1:1:1:1:1')
  })
  test('RFC 5952 section 4.2.1: `::` shortens as much as possible', () => {
    assert.equal(canonical('2001:db8:0:0:0:0:2:1'), '2001:db8::2:1')
    assert.equal(canonical('0:0:0:0:0:0:0:0'), '::')
  })
  test('RFC 5952 section 4.2.2: `::` does not stand for one group', () => {
    assert.equal(canonical('2001:db8::1:1:1:1:1'), '2001:db8:0:1:1:1:1:1')
  })
  test('RFC 5952 section 4.2.3: the longest run is shortened, the first of equals', () => {
    assert.equal(canonical('2001:0:0:1:0:0:0:1'), '2001:0:0:1::1')
    assert.equal(canonical('2001:db8:0:0:1:0:0:1'), '2001:db8::1:0:0:1')
  })
  test('RFC 5952 section 4.3: lower case', () => {
    assert.equal(canonical('2001:DB8::ABCD'), '2001:db8::abcd')
  })
  test('RFC 5952 section 5: IPv4-mapped addresses end in dotted decimal, others do not', () => {
    assert.equal(canonical('::ffff:c000:0201'), '::ffff:192.0.2.1')
    assert.equal(canonical('::ffff:0:0'), '::ffff:0.0.0.0')
    assert.equal(canonical('::c000:201'), '::c000:201')
    assert.equal(canonical('64:ff9b::192.0.2.33'), '64:ff9b::c000:221')
  })
  test('agrees with the WHATWG URL serializer where no dotted decimal is involved', () => {
    fc.assert(
      fc.property(fc.oneof(addresses, sparseAddresses), address => {
        if (address >> 32n === 0xffffn) return
        const plain = address.toString(16).padStart(32, '0').match(/.{4}/g)!.join(':')
        assert.equal(formatAddress(address), new URL(`http://[${plain}]/`).hostname.slice(1, -1))
      }),
    )
  })
  test('comes back through parseAddress', () => {
    fc.assert(
      fc.property(fc.oneof(addresses, sparseAddresses), address =>
        assert.equal(parseAddress(formatAddress(address)), address),
      ),
    )
  })
  test('refuses what is not 128 bits', () => {
    for (const address of [-1n, 1n << 128n])
      assert.throws(() => formatAddress(address), { code: 'BH_PREFIX_OUT_OF_RANGE' })
  })
})

describe('parsePrefix', () => {
  test('comes back through formatPrefix', () => {
    fc.assert(fc.property(prefixes, prefix => assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix)))
  })
  test('refuses host bits, or clears them when told to', () => {
    assert.equal(parsePrefix('2001:db8::1/64'), undefined)
    assert.deepEqual(parsePrefix('2001:db8::1/64', { allowHostBits: true }), parsed('2001:db8::/64'))
  })
  for (const hostile of ['', '/', '::', '::/', '::/129', '::/1e1', '::/ 8', '::/08', '::/-1', '::/64/64', '::/9999999'])
    test(`refuses ${JSON.stringify(hostile)}`, () => assert.equal(parsePrefix(hostile), undefined))
})

describe('containment', () => {
  test('contains: a prefix and its first and last address, not the neighbours', () => {
    const prefix = parsed('2001:db8::100/120')
    for (const [text, expected] of [
      ['2001:db8::100', true],
      ['2001:db8::1ff', true],
      ['2001:db8::ff', false],
      ['2001:db8::200', false],
    ] as const)
      assert.equal(contains(prefix, parseAddress(text)!), expected)
    assert.ok(contains(prefix, prefix))
    assert.ok(!contains(prefix, parsed('2001:db8::/64')))
  })
  test('overlaps is symmetric, and is containment one way or the other', () => {
    fc.assert(
      fc.property(prefixes, prefixes, (a, b) => {
        assert.equal(overlaps(a, b), overlaps(b, a))
        assert.equal(overlaps(a, b), contains(a, b) || contains(b, a))
      }),
    )
  })
})

describe('sub-prefixes', () => {
  test('the table of the design document', () => {
    const upstream = parsed('2a11:6c7:f04:276::/64')
    assert.equal(formatPrefix(subPrefix(upstream, 0n, 120)), '2a11:6c7:f04:276::/120')
    assert.equal(formatPrefix(subPrefix(upstream, 1n, 120)), '2a11:6c7:f04:276::100/120')
    assert.equal(formatPrefix(subPrefix(upstream, 255n, 120)), '2a11:6c7:f04:276::ff00/120')
    assert.equal(formatPrefix(subPrefix(upstream, (1n << 56n) - 1n, 120)), '2a11:6c7:f04:276:ffff:ffff:ffff:ff00/120')
    assert.throws(() => subPrefix(upstream, 1n << 56n, 120), { code: 'BH_PREFIX_OUT_OF_RANGE' })
    assert.throws(() => subPrefix(upstream, -1n, 120), { code: 'BH_PREFIX_OUT_OF_RANGE' })
    assert.throws(() => subPrefix(upstream, 0n, 63), { code: 'BH_PREFIX_OUT_OF_RANGE' })
  })
  test('capacity leaves out index 0 and does not overflow', () => {
    assert.equal(capacity(parsed('2001:db8::/64'), 120), (1n << 56n) - 1n)
    assert.equal(capacity(parsed('2001:db8::/64'), 128), (1n << 64n) - 1n)
    assert.equal(capacity(parsed('2001:db8::/48'), 120), (1n << 72n) - 1n)
    assert.equal(capacity(parsed('::/0'), 128), (1n << 128n) - 1n)
    assert.equal(capacity(parsed('2001:db8::/64'), 64), 0n)
    assert.equal(capacity(parsed('2001:db8::/64'), 56), 0n)
  })
  test('indexOf turns subPrefix round', () => {
    fc.assert(
      fc.property(prefixes, addresses, fc.nat(128), (upstream, seed, extra) => {
        const length = Math.min(128, upstream.length + extra)
        const index = seed & ((1n << BigInt(length - upstream.length)) - 1n)
        const prefix = subPrefix(upstream, index, length)
        assert.equal(indexOf(upstream, prefix), index)
        assert.ok(contains(upstream, prefix))
      }),
    )
    assert.equal(indexOf(parsed('2001:db8::/64'), parsed('2001:db8:1::/120')), undefined)
    assert.equal(indexOf(parsed('2001:db8::/64'), parsed('2001:db8::/48')), undefined)
  })
  test('addressAt gives first and last address and nothing beyond', () => {
    const prefix = parsed('2001:db8::100/120')
    assert.equal(formatAddress(addressAt(prefix, 0n)), '2001:db8::100')
    assert.equal(formatAddress(addressAt(prefix, addressCount(prefix) - 1n)), '2001:db8::1ff')
    assert.throws(() => addressAt(prefix, 256n), { code: 'BH_PREFIX_OUT_OF_RANGE' })
    assert.equal(addressAt(parsed('2001:db8::7/128'), 0n), parseAddress('2001:db8::7'))
  })
})

describe('complementOfFirst', () => {
  test('covers a /62 without its first /64', () => {
    assert.deepEqual(complementOfFirst(parsed('2001:db8::/62'), 64).map(formatPrefix), [
      '2001:db8:0:1::/64',
      '2001:db8:0:2::/63',
    ])
    assert.equal(complementOfFirst(parsed('2001:db8::/64'), 120).length, 56)
    assert.equal(complementOfFirst(parsed('2001:db8::/48'), 128).length, 80)
    assert.deepEqual(complementOfFirst(parsed('2001:db8::/64'), 64), [])
  })
  test('holds every address of the upstream but those of sub-prefix 0, each once', () => {
    fc.assert(
      fc.property(prefixes, addresses, fc.nat(128), (upstream, seed, extra) => {
        const length = Math.min(128, upstream.length + extra)
        const address = upstream.network | (seed & ~maskOf(upstream.length) & ((1n << 128n) - 1n))
        const holders = complementOfFirst(upstream, length).filter(prefix => contains(prefix, address)).length
        const first = subPrefix(upstream, 0n, length)
        assert.equal(holders, contains(first, address) ? 0 : 1)
        for (const prefix of complementOfFirst(upstream, length)) assert.ok(!overlaps(prefix, first))
      }),
    )
  })
})
