import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { complementOfFirst, parseAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import type { DataplaneChange, DataplaneLease } from './dataplane.ts'
import { createLeaseReader } from './dataplane-lease.ts'
import type { DataplanePlan } from './dataplane-plan.ts'

const key = (n: number): string => Buffer.alloc(32, n + 1).toString('base64')
const upstream = parsePrefix('2001:db8::/64')!
const plan: DataplanePlan = {
  interface: 'wg0',
  listenPort: 51820,
  privateKeyFile: '/etc/wg.key',
  publicKey: key(200),
  upstream,
  allocationSize: 120,
  brokerAddress: parseAddress('2001:db8::502')!,
  ndpInterface: 'up0',
  upstreamInterface: 'up0',
  ndp: { mode: 'kernel', reason: '' },
  leaseLimit: 3,
  coveringRoutes: complementOfFirst(upstream, 120),
  firewall: { interface: 'wg0', upstream, allocationSize: 120, allowedTcpPorts: [], ndp: undefined },
  runtimeFolder: '/run/test',
}
const lease = (n: number, publicKey = key(n)): DataplaneLease => ({
  prefix: `2001:db8::${n.toString(16)}00/120`,
  publicKey,
})

describe('readAll', () => {
  test('gives each part of the network what it needs of a lease', () => {
    const { accepted, refused } = createLeaseReader(plan).readAll([{ ...lease(1), endpoint: '192.0.2.1:51820' }])
    assert.deepEqual(refused, [])
    assert.deepEqual(accepted[0]?.peer, {
      publicKey: key(1),
      allowedIps: ['2001:db8::100/120'],
      endpoint: '192.0.2.1:51820',
    })
    assert.deepEqual(accepted[0]?.prefix.element, {
      address: '2001:db8::100',
      number: '0x20010db8000000000000000000000100',
    })
    assert.equal(accepted[0]?.prefix.addresses.length, 256)
  })
  for (const [name, bad, problem] of [
    ['another spelling', { ...lease(1), prefix: '2001:DB8::100/120' }, /RFC 5952/],
    ['host bits', { ...lease(1), prefix: '2001:db8::101/120' }, /no IPv6 prefix/],
    ['another length', { ...lease(1), prefix: '2001:db8::100/121' }, /no \/120/],
    ['another network', { ...lease(1), prefix: '2001:db9::100/120' }, /outside 2001:db8::\/64/],
    ['sub-prefix 0', { ...lease(1), prefix: '2001:db8::/120' }, /belongs to the broker/],
    ["the broker's own address in it", lease(5), /belongs to the broker/],
    ['no key', lease(1, ''), /key/],
    ["the broker's key", lease(1, key(200)), /the broker's own/],
    ['a name as endpoint', { ...lease(1), endpoint: 'host.example:1' }, /endpoint/],
    ['a hostile endpoint', { ...lease(1), endpoint: '192.0.2.1:1\nremove' }, /endpoint/],
  ] as const)
    test(`leaves out a lease with ${name}, and carries the others`, () => {
      const { accepted, refused } = createLeaseReader(plan).readAll([bad, lease(2)])
      assert.deepEqual(
        accepted.map(one => one.prefix.text),
        [lease(2).prefix],
      )
      assert.match(refused[0]?.problem ?? '', problem)
    })
  test('the first holder of a prefix or a key wins', () => {
    const { accepted, refused } = createLeaseReader(plan).readAll([lease(1), lease(1, key(9)), lease(2, key(1))])
    assert.equal(accepted.length, 1)
    assert.deepEqual(
      refused.map(one => one.problem),
      ['another lease has the same prefix', 'another lease has the same WireGuard key'],
    )
  })
  test('leases beyond the NDP limit are left out with an error that says what to install', () => {
    const { accepted, failure } = createLeaseReader(plan).readAll([1, 2, 3, 4].map(n => lease(n)))
    assert.equal(accepted.length, 3)
    assert.equal(failure?.code, 'BH_NDP_LIMIT')
  })
})

describe('fold', () => {
  const fold = (...changes: DataplaneChange[]) => {
    const { peers, remove, add } = createLeaseReader(plan).fold(changes)
    return {
      peers: peers.map(action =>
        action.kind === 'remove' ? `- ${action.publicKey}` : `+ ${action.peer.publicKey} ${action.peer.allowedIps}`,
      ),
      remove: remove.map(prefix => prefix.text),
      add: add.map(prefix => prefix.text),
    }
  }
  const one = lease(1)
  const two = lease(2)

  test('a new lease', () => {
    const expected = { peers: [`+ ${key(1)} ${one.prefix}`], remove: [], add: [one.prefix] }
    assert.deepEqual(fold({ kind: 'set', lease: one }), expected)
  })
  test('a new key: the old peer goes first', () => {
    assert.deepEqual(fold({ kind: 'set', lease: lease(1, key(7)), previousPublicKey: key(1) }), {
      peers: [`- ${key(1)}`, `+ ${key(7)} ${one.prefix}`],
      remove: [],
      add: [one.prefix],
    })
    assert.deepEqual(fold({ kind: 'set', lease: one, previousPublicKey: key(1) }).peers, [`+ ${key(1)} ${one.prefix}`])
  })
  test('the last word on a prefix counts', () => {
    assert.deepEqual(fold({ kind: 'set', lease: one }, { kind: 'remove', lease: one }), {
      peers: [`- ${key(1)}`],
      remove: [one.prefix],
      add: [],
    })
    assert.deepEqual(fold({ kind: 'remove', lease: one }, { kind: 'set', lease: lease(1, key(7)) }), {
      peers: [`- ${key(1)}`, `+ ${key(7)} ${one.prefix}`],
      remove: [],
      add: [one.prefix],
    })
  })
  test('a key that moves to another prefix stays, in whichever order', () => {
    const moved = lease(2, key(1))
    const expected = { peers: [`+ ${key(1)} ${two.prefix}`], remove: [one.prefix], add: [two.prefix] }
    assert.deepEqual(fold({ kind: 'remove', lease: one }, { kind: 'set', lease: moved }), expected)
    assert.deepEqual(fold({ kind: 'set', lease: moved }, { kind: 'remove', lease: one }), expected)
    assert.deepEqual(
      fold({ kind: 'set', lease: moved }, { kind: 'set', lease: lease(1, key(7)), previousPublicKey: key(1) }).peers,
      [`+ ${key(1)} ${two.prefix}`, `+ ${key(7)} ${one.prefix}`],
    )
  })
  test('a lease that can not be carried is refused before anything is done', () => {
    assert.throws(() => fold({ kind: 'set', lease: two }, { kind: 'set', lease: lease(1, 'short') }), {
      code: 'BH_LEASE_NOT_CARRIABLE',
      retryable: false,
    })
  })
})
