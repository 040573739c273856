import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseAddress, parsePrefix } from './prefix.ts'
import {
  chainsOf,
  commentOf,
  type FirewallConfig,
  leaseElement,
  renderElements,
  renderFirewall,
  renderFirewallRemoval,
  tableName,
} from './ruleset.ts'

const config: FirewallConfig = {
  interface: 'wg0',
  upstream: parsePrefix('2001:db8::/64')!,
  allocationSize: 120,
  allowedTcpPorts: [],
  ndp: undefined,
}
const withNdp: FirewallConfig = {
  ...config,
  allowedTcpPorts: [53, 80],
  ndp: { interface: 'up0', brokerAddress: parseAddress('2001:db8::2')! },
}
const lease = leaseElement(parsePrefix('2001:db8::100/120')!)
const other = leaseElement(parsePrefix('2001:db8::200/120')!)
/** Digests say nothing to a reader. */
const plain = (script: string) => script.replace(/ \[[\da-f]{8}\]/g, '')

describe('renderFirewall', () => {
  test('replaces the table in one transaction', () => {
    assert.equal(
      plain(renderFirewall(config, [lease, other])),
      `table ip6 blockhost_wg0
delete table ip6 blockhost_wg0
table ip6 blockhost_wg0 {
  set leased {
    type ipv6_addr
    elements = { 2001:db8::100, 2001:db8::200 }
  }
  chain source {
    type filter hook prerouting priority -300; policy accept;
    iifname "wg0" ip6 saddr & ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00 != @leased counter drop comment "tenant with a source that is not leased"
    ip6 saddr 2001:db8::/64 iifname != "wg0" iifname != "lo" ip6 saddr & ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00 @leased counter drop comment "leased source from outside the tunnel"
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    oifname "wg0" iifname "wg0" counter drop comment "tenant to tenant"
    oifname "wg0" ip6 daddr & ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00 != @leased counter reject with icmpv6 addr-unreachable comment "destination that is not leased"
  }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "wg0" icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, echo-reply } accept comment "ping and errors"
    iifname "wg0" counter drop comment "tenant to this machine"
  }
}
`,
    )
  })
  test('ndppd mode: lets advertisements out for leased targets, sub-prefix 0, the broker and other networks only', () => {
    const script = plain(renderFirewall(withNdp, []))
    assert.ok(
      script.includes(`  chain advertisement {
    type filter hook output priority 0; policy accept;
    oifname "up0" icmpv6 type nd-neighbor-advert @th,64,128 & 0xffffffffffffffff0000000000000000 == 0x20010db8000000000000000000000000 @th,64,128 & 0xffffffffffffffffffffffffffffff00 != 0x20010db8000000000000000000000000 @th,64,128 != 0x20010db8000000000000000000000002 @th,64,128 & 0xffffffffffffffffffffffffffffff00 != @leased_targets counter drop comment "neighbour advertisement for space that is not leased"
`),
      script,
    )
    assert.ok(script.includes('  set leased_targets {\n    typeof @th,64,128\n  }\n'))
  })
  test('allowed ports stand before the drop', () => {
    const input = chainsOf(withNdp).find(chain => chain.name === 'input')
    assert.deepEqual(
      input?.rules.map(rule => rule.match),
      [input?.rules[0]?.match, 'iifname "wg0" tcp dport { 53, 80 }', 'iifname "wg0"'],
    )
  })
  test('a lease of one address needs no mask', () => {
    const script = renderFirewall({ ...withNdp, allocationSize: 128 }, [])
    assert.ok(script.includes('ip6 daddr != @leased '))
    assert.ok(script.includes('@th,64,128 != @leased_targets '))
  })
  test('removal runs whether or not there is a table', () => {
    assert.equal(renderFirewallRemoval(config), 'table ip6 blockhost_wg0\ndelete table ip6 blockhost_wg0\n')
  })
})

describe('renderElements', () => {
  test('one element a set, whatever the number of leases; a removed one is added first', () => {
    assert.equal(
      renderElements(withNdp, [lease], [other]),
      `add element ip6 blockhost_wg0 leased { 2001:db8::100 }
delete element ip6 blockhost_wg0 leased { 2001:db8::100 }
add element ip6 blockhost_wg0 leased { 2001:db8::200 }
add element ip6 blockhost_wg0 leased_targets { 0x20010db8000000000000000000000100 }
delete element ip6 blockhost_wg0 leased_targets { 0x20010db8000000000000000000000100 }
add element ip6 blockhost_wg0 leased_targets { 0x20010db8000000000000000000000200 }
`,
    )
    assert.equal(renderElements(withNdp, [], []), '')
  })
})

test('commentOf: two rules that differ at all have different comments', () => {
  const comments = [config, withNdp, { ...withNdp, allocationSize: 64 }, { ...withNdp, interface: 'wg1' }].flatMap(
    one => chainsOf(one).flatMap(chain => chain.rules.map(rule => commentOf(rule))),
  )
  const rules = new Set(
    [config, withNdp, { ...withNdp, allocationSize: 64 }, { ...withNdp, interface: 'wg1' }].flatMap(one =>
      chainsOf(one).flatMap(chain => chain.rules.map(rule => `${rule.match} ${rule.verdict}`)),
    ),
  )
  assert.equal(new Set(comments).size, rules.size)
  for (const comment of comments) assert.ok(comment.length <= 128, 'NFT_USERDATA limit of nft')
})

test('tableName: an identifier of nft whatever the interface is called', () => {
  assert.equal(tableName('wg-broker.0'), 'blockhost_wg_broker_0')
})

test('leaseElement: all 32 digits, so that the number has the size of an address', () => {
  assert.deepEqual(leaseElement(parsePrefix('::100/120')!), {
    address: '::100',
    number: '0x00000000000000000000000000000100',
  })
})
