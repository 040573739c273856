import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  decideNdpMode,
  diffProxyNeighbors,
  isLeasable,
  type NdpSituation,
  proxiedAddresses,
  renderNdppdConfig,
  renderProxyNeighbors,
} from './ndp.ts'
import { complementOfFirst, parseAddress, parsePrefix } from './prefix.ts'

const upstream = parsePrefix('2001:db8::/64')!
const situation: NdpSituation = {
  wanted: 'auto',
  upstreamInterface: 'up0',
  upstream,
  allocationSize: 120,
  hasNdppd: true,
}
const modeOf = (changes: Partial<NdpSituation>) => {
  const decision = decideNdpMode({ ...situation, ...changes })
  return decision.ok ? decision.value.mode : `refused: ${decision.problem}`
}

describe('decideNdpMode', () => {
  test('auto: routed without an upstream interface', () => {
    assert.equal(modeOf({ upstreamInterface: undefined }), 'routed')
  })
  test('auto: kernel for a pool that fits, ndppd for one address more', () => {
    // 15 leases of 256 addresses are 3,840; 31 are 7,936.
    assert.equal(modeOf({ upstream: parsePrefix('2001:db8::/116')! }), 'kernel')
    assert.equal(modeOf({ upstream: parsePrefix('2001:db8::/115')! }), 'ndppd')
    assert.equal(modeOf({}), 'ndppd')
  })
  test('auto without ndppd: kernel with a limit, and an error where not one lease fits', () => {
    const decision = decideNdpMode({ ...situation, hasNdppd: false })
    assert.ok(decision.ok && decision.value.mode === 'kernel')
    assert.match(decision.value.reason, /16384 addresses/)
    assert.match(modeOf({ hasNdppd: false, allocationSize: 96 }), /refused: a lease of \/96 .* apt-get install ndppd/)
  })
  test('a wish is followed, or refused with what is missing', () => {
    for (const wanted of ['routed', 'kernel', 'ndppd'] as const) assert.equal(modeOf({ wanted }), wanted)
    assert.match(modeOf({ wanted: 'ndppd', hasNdppd: false }), /refused: .*apt-get install ndppd/)
    for (const wanted of ['kernel', 'ndppd'] as const)
      assert.match(modeOf({ wanted, upstreamInterface: undefined }), /refused: .*upstream_interface/)
    assert.match(modeOf({ wanted: 'kernel', allocationSize: 113 }), /refused/)
    assert.equal(modeOf({ wanted: 'kernel', allocationSize: 114 }), 'kernel')
  })
})

describe('proxiedAddresses', () => {
  test('first and last address, and never the neighbour’s first', () => {
    const addresses = proxiedAddresses([parsePrefix('2001:db8::100/120')!])
    assert.equal(addresses.size, 256)
    assert.ok(addresses.has('2001:db8::100') && addresses.has('2001:db8::1ff'))
    assert.ok(!addresses.has('2001:db8::ff') && !addresses.has('2001:db8::200'))
  })
  test('a /128 has its own address', () => {
    assert.deepEqual([...proxiedAddresses([parsePrefix('2001:db8::7/128')!])], ['2001:db8::7'])
  })
})

describe('diffProxyNeighbors', () => {
  const isOurs = (address: bigint) => isLeasable(upstream, 120, address)
  const on = (name: string, ...addresses: string[]) => addresses.map(address => ({ address, interface: name }))

  test('adds what lacks and removes what is not leased; entries outside the leasable space stay', () => {
    const diff = diffProxyNeighbors(
      { addresses: new Set(['2001:db8::100', '2001:db8::101']), interface: 'up0' },
      on('up0', '2001:db8::101', '2001:db8::200', '2001:db8::9', '2001:db8:1::100'),
      isOurs,
    )
    assert.deepEqual(diff, { remove: on('up0', '2001:db8::200'), add: on('up0', '2001:db8::100') })
  })
  test('an entry on the former upstream interface is moved', () => {
    const desired = { addresses: new Set(['2001:db8::100']), interface: 'up0' }
    const diff = diffProxyNeighbors(desired, on('old0', '2001:db8::100'), isOurs)
    assert.deepEqual(diff, { remove: on('old0', '2001:db8::100'), add: on('up0', '2001:db8::100') })
  })
  test('no interface: all of ours go', () => {
    const diff = diffProxyNeighbors({ addresses: new Set(), interface: undefined }, on('up0', '2001:db8::100'), isOurs)
    assert.deepEqual(diff, { remove: on('up0', '2001:db8::100'), add: [] })
  })
})

test('renderProxyNeighbors: lines that may run twice', () => {
  const entry = (address: string) => ({ address, interface: 'up0' })
  const lines = renderProxyNeighbors({ remove: [entry('2001:db8::1')], add: [entry('2001:db8::2')] })
  assert.deepEqual(lines, [
    'neigh add proxy 2001:db8::1 dev up0',
    'neigh del proxy 2001:db8::1 dev up0',
    'neigh add proxy 2001:db8::2 dev up0',
  ])
})

test('renderNdppdConfig: answers for all that can be leased, not for sub-prefix 0', () => {
  const config = renderNdppdConfig({ name: 'up0', index: 7 }, complementOfFirst(parsePrefix('2001:db8::/118')!, 120))
  assert.equal(
    config,
    `# Written by blockhost-broker; changes are overwritten.
# interface index 7
proxy up0 {
  router yes
  ttl 30000
  rule 2001:db8::100/120 { static }
  rule 2001:db8::200/119 { static }
}
`,
  )
})

test('isLeasable: the upstream prefix without its first sub-prefix', () => {
  for (const [text, expected] of [
    ['2001:db8::ff', false],
    ['2001:db8::100', true],
    ['2001:db8::ffff:ffff:ffff:ffff', true],
    ['2001:db8:0:1::', false],
  ] as const)
    assert.equal(isLeasable(upstream, 120, parseAddress(text)!), expected, text)
})
