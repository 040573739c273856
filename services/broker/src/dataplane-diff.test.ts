import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { FirewallTable } from '@blockhost/net/firewall.ts'
import { complementOfFirst, parseAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import { chainsOf, commentOf, setsOf } from '@blockhost/net/ruleset.ts'
import { diffDataplane, findConflict, findMissingUpstream } from './dataplane-diff.ts'
import type { DataplaneFacts } from './dataplane-facts.ts'
import { type CarriedLease, createLeaseReader } from './dataplane-lease.ts'
import type { DataplanePlan } from './dataplane-plan.ts'

const key = (n: number): string => Buffer.alloc(32, n + 1).toString('base64')
const address = (text: string) => parseAddress(text)!
const upstream = parsePrefix('2001:db8::/118')!
const plan: DataplanePlan = {
  interface: 'wg0',
  listenPort: 51820,
  privateKeyFile: '/etc/wg.key',
  publicKey: key(200),
  upstream,
  allocationSize: 120,
  brokerAddress: address('2001:db8::2'),
  ndpInterface: 'up0',
  upstreamInterface: 'up0',
  ndp: { mode: 'ndppd', reason: '' },
  leaseLimit: Number.POSITIVE_INFINITY,
  coveringRoutes: complementOfFirst(upstream, 120),
  firewall: {
    interface: 'wg0',
    upstream,
    allocationSize: 120,
    allowedTcpPorts: [],
    ndp: { interface: 'up0', brokerAddress: address('2001:db8::2') },
  },
  runtimeFolder: '/run/test',
}
const routed: DataplanePlan = {
  ...plan,
  ndp: { mode: 'routed', reason: '' },
  ndpInterface: undefined,
  firewall: { ...plan.firewall, ndp: undefined },
}
const kernel: DataplanePlan = { ...plan, ndp: { mode: 'kernel', reason: '' }, firewall: routed.firewall }

const leasesOf = (of: DataplanePlan): readonly CarriedLease[] =>
  createLeaseReader(of).readAll([{ prefix: '2001:db8::100/120', publicKey: key(1) }]).accepted

function firewallOf(of: DataplanePlan, leases: readonly CarriedLease[]): FirewallTable {
  const chains = chainsOf(of.firewall).map(
    ({ name, hook, priority, rules }) =>
      [name, { hook: `filter ${hook} ${priority} accept`, rules: rules.map(commentOf) }] as const,
  )
  const elements = leases.map(lease => lease.prefix.element)
  return {
    chains: new Map(chains),
    sets: new Map(setsOf(of.firewall).map(set => [set.name, elements.map(set.element)])),
  }
}

const on = (name: string, text: string, length = 64) => ({
  interface: name,
  address: address(text),
  length,
  duplicate: false,
})

/** The network as it is when everything is right. */
function factsOf(of: DataplanePlan): DataplaneFacts {
  const leases = leasesOf(of)
  return {
    links: [
      { name: 'up0', index: 2, up: true },
      { name: 'wg0', index: 3, up: true },
    ],
    addresses: [on('up0', '2001:db8::2')],
    routes: of.coveringRoutes.map(destination => ({ destination, interface: 'wg0', gateway: undefined })),
    proxies: leases.flatMap(lease => lease.prefix.addresses.map(one => ({ address: one, interface: 'up0' }))),
    defaultRoutes: [{ destination: parsePrefix('::/0')!, interface: 'up0', gateway: address('2001:db8::1') }],
    wireguard: {
      publicKey: of.publicKey,
      listenPort: 51820,
      peers: leases.map(lease => ({
        ...lease.peer,
        hasPresharedKey: false,
        endpoint: undefined,
        latestHandshake: undefined,
        rxBytes: 0n,
        txBytes: 0n,
      })),
    },
    firewall: firewallOf(of, leases),
    sysctls: new Map([
      ['/proc/sys/net/ipv6/conf/all/forwarding', '1\n'],
      ['/proc/sys/net/ipv6/conf/up0/proxy_ndp', '1\n'],
      ['/proc/sys/net/ipv6/neigh/up0/proxy_delay', '0\n'],
    ]),
  }
}

const diff = (of: DataplanePlan, changes: Partial<DataplaneFacts> = {}) =>
  diffDataplane(of, leasesOf(of), { ...factsOf(of), ...changes })

describe('diffDataplane', () => {
  for (const mode of [plan, kernel, routed])
    test(`${mode.ndp.mode}: nothing to do when everything is right`, () => {
      const { ndppdConfig, ...repair } = diff(mode)
      assert.deepEqual(repair, {
        firewallScript: '',
        createLink: false,
        sysctls: [],
        settings: {},
        peerActions: [],
        ipLines: [],
        changes: [],
        warnings: [],
      })
      assert.equal(ndppdConfig !== undefined, mode.ndp.mode === 'ndppd')
    })

  test('from nothing: everything, with the key as a file name only', () => {
    const repair = diff(kernel, {
      links: [{ name: 'up0', index: 2, up: true }],
      routes: [],
      proxies: [],
      wireguard: undefined,
      firewall: undefined,
      sysctls: new Map(),
    })
    assert.equal(repair.createLink, true)
    assert.deepEqual(repair.settings, { listenPort: 51820, privateKeyFile: '/etc/wg.key' })
    assert.equal(repair.peerActions.length, 1)
    assert.deepEqual(repair.ipLines.slice(0, 5), [
      'link set dev wg0 addrgenmode none',
      'link set dev wg0 up',
      'route replace 2001:db8::100/120 dev wg0 proto 176',
      'route replace 2001:db8::200/119 dev wg0 proto 176',
      'neigh add proxy 2001:db8::100 dev up0',
    ])
    assert.equal(repair.ipLines.length, 4 + 256)
  })

  test('a port of 0 is whatever the kernel chose', () => {
    assert.deepEqual(diff({ ...plan, listenPort: 0 }).settings, {})
  })

  test('routes of another broker on this machine are not ours, though they carry our number', () => {
    const theirs = { destination: parsePrefix('2001:db9::/64')!, interface: 'wg1', gateway: undefined }
    assert.deepEqual(diff(plan, { routes: [...factsOf(plan).routes, theirs] }).changes, [])
  })
})

describe("the broker's address", () => {
  const lines = (of: DataplanePlan, addresses: DataplaneFacts['addresses']) => diff(of, { addresses }).ipLines

  test('where the upstream asks for it, it is put on the upstream link, with sub-prefix 0 on the link', () => {
    assert.deepEqual(lines(plan, []), ['addr replace 2001:db8::2/120 dev up0'])
    assert.deepEqual(lines(plan, [on('lo', '2001:db8::2', 128)]), ['addr replace 2001:db8::2/120 dev up0'])
  })
  test('where nobody asks, any place is good, and the tunnel is the last', () => {
    assert.deepEqual(lines(routed, []), ['addr replace 2001:db8::2/128 dev wg0'])
    assert.deepEqual(lines(routed, [on('lo', '2001:db8::2', 128)]), [])
    assert.deepEqual(lines(routed, [on('wg0', '2001:db8::2', 128)]), [])
  })
  test('it is never in two places because of us', () => {
    const both = [on('wg0', '2001:db8::2', 128), on('up0', '2001:db8::2')]
    assert.deepEqual(lines(plan, both), ['addr del 2001:db8::2/128 dev wg0'])
    assert.deepEqual(lines(routed, both), ['addr del 2001:db8::2/128 dev wg0'])
  })
  test('outside the upstream prefix it is not asked for by NDP', () => {
    const outside = { ...plan, brokerAddress: address('2001:db8:ffff::2') }
    assert.deepEqual(lines(outside, [on('eth0', '2001:db8:ffff::2')]), [])
  })
  test('a duplicate is a warning', () => {
    const addresses = [{ ...on('up0', '2001:db8::2'), duplicate: true }]
    assert.equal(diff(plan, { addresses }).warnings.length, 1)
  })
})

describe('findConflict', () => {
  const conflict = (changes: Partial<DataplaneFacts>, of = plan) =>
    findConflict(of, { ...factsOf(of), ...changes })?.message ?? 'none'
  const gateway = (text: string) => [{ destination: parsePrefix('::/0')!, interface: 'up0', gateway: address(text) }]

  test('none when what is on the link lies in sub-prefix 0 or elsewhere', () => {
    assert.equal(conflict({}), 'none')
    assert.equal(conflict({ addresses: [on('up0', '2001:db8::2'), on('eth0', '2001:db8:1::1')] }), 'none')
    assert.equal(conflict({ defaultRoutes: gateway('fe80::1') }), 'none')
  })
  test('an own address or the default gateway among the leases', () => {
    assert.match(
      conflict({ addresses: [on('up0', '2001:db8::303')] }),
      /the address 2001:db8::303 on up0 lies in there/,
    )
    assert.match(conflict({ defaultRoutes: gateway('2001:db8::101') }), /the default gateway 2001:db8::101 on up0/)
  })
  test("the broker's own address may be among them: it is never leased", () => {
    const of = { ...plan, brokerAddress: address('2001:db8::303') }
    assert.equal(conflict({ addresses: [on('up0', '2001:db8::303')] }, of), 'none')
  })
  test("the broker's address can't be the router's", () => {
    assert.match(conflict({ defaultRoutes: gateway('2001:db8::2') }), /the upstream router/)
  })
})

test('findMissingUpstream: only where NDP needs it, and the rest is repaired all the same', () => {
  const facts = { ...factsOf(kernel), links: [{ name: 'wg0', index: 3, up: true }], proxies: [] }
  assert.equal(findMissingUpstream(kernel, facts)?.code, 'BH_UPSTREAM_INTERFACE_MISSING')
  assert.equal(findMissingUpstream(routed, facts), undefined)
  assert.deepEqual(diffDataplane(kernel, leasesOf(kernel), { ...facts, addresses: [], routes: [] }).ipLines, [
    'route replace 2001:db8::100/120 dev wg0 proto 176',
    'route replace 2001:db8::200/119 dev wg0 proto 176',
  ])
  assert.equal(diffDataplane(plan, leasesOf(plan), { ...facts, addresses: [] }).ndppdConfig, undefined)
})
