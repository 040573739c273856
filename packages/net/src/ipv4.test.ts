import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  containsIpv4,
  formatIpv4Address,
  formatIpv4Prefix,
  lastIpv4Address,
  parseIpv4Address,
  parseIpv4Prefix,
} from './ipv4.ts'

test('parseIpv4Address: what formatIpv4Address prints, and nothing else', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), n => assert.equal(parseIpv4Address(formatIpv4Address(n)), n)),
  )
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '256.1.1.1',
    '1.2.3.4\n',
    ' 1.2.3.4',
    '1.2.3.-4',
    '0x1.2.3.4',
  ])
    assert.equal(parseIpv4Address(text), undefined, JSON.stringify(text))
})

test('parseIpv4Prefix: any length, host bits refused', () => {
  for (const text of ['0.0.0.0/0', '10.0.0.0/8', '192.168.4.0/22', '192.168.1.128/25', '255.255.255.255/32'])
    assert.equal(formatIpv4Prefix(parseIpv4Prefix(text)!), text)
  for (const text of ['10.0.0.1/8', '10.0.0.0', '10.0.0.0/33', '10.0.0.0/08', '10.0.0.0/8/8', '/8'])
    assert.equal(parseIpv4Prefix(text), undefined, text)
})

test('containsIpv4, lastIpv4Address: the borders of a /22 and of everything', () => {
  const prefix = parseIpv4Prefix('192.168.4.0/22')!
  assert.equal(formatIpv4Address(lastIpv4Address(prefix)), '192.168.7.255')
  const inside = (text: string) => containsIpv4(prefix, parseIpv4Address(text)!)
  assert.deepEqual(['192.168.3.255', '192.168.4.0', '192.168.7.255', '192.168.8.0'].map(inside), [
    false,
    true,
    true,
    false,
  ])
  assert.equal(lastIpv4Address({ network: 0, length: 0 }), 0xffff_ffff)
})
