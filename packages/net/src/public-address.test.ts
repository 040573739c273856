import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isPublicAddress, networkHolds } from './public-address.ts'

test('isPublicAddress: the borders of what is private', () => {
  for (const text of [
    '1.1.1.1',
    '9.255.255.255',
    '11.0.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '2606:4700::1111',
    '3fff::',
  ])
    assert.equal(isPublicAddress(text), true, text)
  for (const text of ['10.0.0.0', '10.255.255.255', '172.16.0.0', '172.31.255.255', '192.168.1.53', '100.127.255.255'])
    assert.equal(isPublicAddress(text), false, text)
  for (const text of [
    '169.254.169.254',
    '127.0.0.1',
    '224.0.0.1',
    '::1',
    'fe80::1',
    'fd00::53',
    '4000::',
    '::ffff:1.1.1.1',
  ])
    assert.equal(isPublicAddress(text), false, text)
  for (const text of ['', 'localhost', '1.1.1', '1.1.1.1/32', 'fe80::1%eth0'])
    assert.equal(isPublicAddress(text), undefined)
})

test('networkHolds: an address of the same family inside', () => {
  assert.equal(networkHolds('192.168.1.0/24', '192.168.1.53'), true)
  assert.equal(networkHolds('192.168.1.0/24', '192.168.2.53'), false)
  assert.equal(networkHolds('fd00::/64', 'fd00::53'), true)
  assert.equal(networkHolds('fd00::/64', 'fd00:1::53'), false)
  assert.equal(networkHolds('::/0', '1.1.1.1'), false)
  assert.equal(networkHolds('192.168.1.0/24', 'router.lan'), false)
})
