import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipv6NumberOf, parsePools, type VmPools } from './pools.ts'

const base: VmPools = {
  vmid: { first: 100, last: 999 },
  ipv4: { network: '192.168.122.0/24', gateway: '192.168.122.1' },
}

function ipv4Texts(ipv4: VmPools['ipv4']): string[] {
  const pool = parsePools({ ...base, ipv4 }).ipv4
  return pool.ranges.map(({ first, last }) => `${pool.format(first)}-${pool.format(last)}`)
}

test('IPv4: network, broadcast, gateway and reserved addresses are never handed out, whatever the size', () => {
  assert.deepEqual(ipv4Texts({ network: '192.168.4.0/22', gateway: '192.168.4.1' }), ['192.168.4.2-192.168.7.254'])
  assert.deepEqual(ipv4Texts({ network: '192.168.1.128/25', gateway: '192.168.1.254', reserved: ['192.168.1.200'] }), [
    '192.168.1.129-192.168.1.199',
    '192.168.1.201-192.168.1.253',
  ])
  assert.deepEqual(ipv4Texts({ network: '10.0.0.0/30', gateway: '10.0.0.2' }), ['10.0.0.1-10.0.0.1'])
  assert.deepEqual(ipv4Texts({ network: '10.0.0.0/24', gateway: '10.0.0.1', first: '10.0.0.0', last: '10.0.0.255' }), [
    '10.0.0.2-10.0.0.254',
  ])
})

test('IPv4: what is no pool is refused with the reason', () => {
  const bad: VmPools['ipv4'][] = [
    { network: '10.0.0.0/31', gateway: '10.0.0.0' },
    { network: '10.0.0.5/24', gateway: '10.0.0.1' },
    { network: '10.0.0.0/24', gateway: '10.0.1.1' },
    { network: '10.0.0.0/24', gateway: '10.0.0.1', first: '10.0.1.0' },
    { network: '10.0.0.0/24', gateway: '10.0.0.1', first: '10.0.0.9', last: '10.0.0.8' },
    { network: '10.0.0.0/30', gateway: '10.0.0.1', reserved: ['10.0.0.2'] },
  ]
  for (const ipv4 of bad)
    assert.throws(() => ipv4Texts(ipv4), { code: 'BH_VM_POOL_INVALID', exitCode: 78 }, JSON.stringify(ipv4))
})

test('IPv6: a /120 has the numbers 2 to 254, a pool of its own if configured, never the host', () => {
  const texts = (ipv6: NonNullable<VmPools['ipv6']>) => {
    const pool = parsePools({ ...base, ipv6 }).ipv6!
    return pool.ranges.map(({ first, last }) => `${pool.format(first)}-${pool.format(last)}`)
  }
  assert.deepEqual(texts({ prefix: '2001:db8::ff00/120' }), ['2001:db8::ff02-2001:db8::fffe'])
  assert.deepEqual(texts({ prefix: '2001:db8::/120', first: 0, last: 5, reserved: ['2001:db8::3'] }), [
    '2001:db8::2-2001:db8::2',
    '2001:db8::4-2001:db8::5',
  ])
  assert.deepEqual(texts({ prefix: '2001:db8::/126' }), ['2001:db8::2-2001:db8::3'])
  assert.equal(texts({ prefix: '2001:db8::/64', first: 7, last: 9 })[0]!.split('-')[0], '2001:db8::100')
  assert.throws(() => texts({ prefix: '2001:db8::/127' }), { code: 'BH_VM_POOL_INVALID' })
  assert.throws(() => texts({ prefix: '2001:db8::1/64' }), { code: 'BH_VM_POOL_INVALID' })
})

test('ipv6NumberOf: 256 + the subscription', () => {
  assert.deepEqual(['blockhost-000', 'blockhost-007', 'blockhost-12345', 'web', 'blockhost-7x'].map(ipv6NumberOf), [
    256,
    263,
    12601,
    undefined,
    undefined,
  ])
})
