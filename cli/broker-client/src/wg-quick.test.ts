import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { renderWgQuick, routingTable, undoCommands, type WgQuickInput } from './wg-quick.ts'

const key = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='
const input: WgQuickInput = {
  wgInterface: 'wg-broker',
  privateKey: key,
  hostAddress: '2001:db8:1:2::101',
  prefix: '2001:db8:1:2::100/120',
  gateway: '2001:db8:1:2::2',
  brokerPubkey: key,
  brokerEndpoint: '198.51.100.1:51820',
  forwarding: true,
  advertisedUplinks: ['eth0', 'eth0.100'],
  defaultRoute: false,
}
const table = routingTable('wg-broker')

describe('renderWgQuick', () => {
  it('writes the whole file', () => {
    assert.equal(
      renderWgQuick(input),
      `# Written by broker-client; \`broker-client install\` writes it anew.
[Interface]
PrivateKey = ${key}
Address = 2001:db8:1:2::101/128
MTU = 1420
Table = off
PostUp = ip -6 route replace unreachable 2001:db8:1:2::100/120 dev lo metric 2147483647
PostUp = ip -6 route replace default dev %i table ${table}
PostUp = ip -6 route replace 2001:db8:1:2::2/128 dev %i
PostUp = ip -6 rule del pref 5200 from 2001:db8:1:2::100/120 to 2001:db8:1:2::100/120 table main 2>/dev/null || true
PostUp = ip -6 rule add pref 5200 from 2001:db8:1:2::100/120 to 2001:db8:1:2::100/120 table main
PostUp = ip -6 rule del pref 5201 from 2001:db8:1:2::100/120 table ${table} 2>/dev/null || true
PostUp = ip -6 rule add pref 5201 from 2001:db8:1:2::100/120 table ${table}
PostUp = echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra || true
PostUp = echo 2 > /proc/sys/net/ipv6/conf/eth0.100/accept_ra || true
PostUp = echo 1 > /proc/sys/net/ipv6/conf/all/forwarding || true
PostDown = ip -6 rule del pref 5201 from 2001:db8:1:2::100/120 table ${table} 2>/dev/null || true
PostDown = ip -6 rule del pref 5200 from 2001:db8:1:2::100/120 to 2001:db8:1:2::100/120 table main 2>/dev/null || true
PostDown = ip -6 route del unreachable 2001:db8:1:2::100/120 dev lo metric 2147483647 2>/dev/null || true

[Peer]
PublicKey = ${key}
Endpoint = 198.51.100.1:51820
AllowedIPs = ::/0
PersistentKeepalive = 25
`,
    )
  })

  it('leaves the main default route alone unless asked', () => {
    assert.doesNotMatch(renderWgQuick(input), /default dev %i(?! table)/)
    assert.match(renderWgQuick({ ...input, defaultRoute: true }), /default dev %i metric 65535$/m)
  })

  it('routes nothing to a gateway that it was not given', () => {
    assert.doesNotMatch(renderWgQuick({ ...input, gateway: undefined }), /2001:db8:1:2::2\//)
  })

  it('leaves forwarding alone when told to', () => {
    assert.doesNotMatch(renderWgQuick({ ...input, forwarding: false }), /proc/)
  })

  it('refuses anything that bash or wg-quick could read as more than a value', () => {
    const hostile = ['a\nPostUp = id', 'x;id', '$(id)', '`id`', 'a b', "a'", '', 'é', '\u0000', 'a#b', 'a\r']
    for (const field of [
      'wgInterface',
      'privateKey',
      'hostAddress',
      'prefix',
      'brokerPubkey',
      'brokerEndpoint',
    ] as const)
      for (const value of [...hostile, `${input[field]}\n`, `\n${input[field]}`, `${input[field]};id`])
        assert.throws(() => renderWgQuick({ ...input, [field]: value }), refusal(field))
    for (const value of hostile)
      assert.throws(() => renderWgQuick({ ...input, advertisedUplinks: ['eth0', value] }), refusal('advertisedUplinks'))
  })
})

describe('routingTable', () => {
  it('is stable, and apart for the names in use', () => {
    assert.equal(routingTable('wg-broker'), routingTable('wg-broker'))
    const tables = ['wg-broker', 'wg0', 'wg1', 'wg-a', 'wg-b', 'wg-hosta', 'wg-hostb'].map(routingTable)
    assert.equal(new Set(tables).size, tables.length)
    for (const at of tables) assert.ok(at >= 520_000 && at < 530_000)
  })
})

describe('undoCommands', () => {
  it('names every rule and route outside the interface', () => {
    const undone = undoCommands(input.prefix, table).map(argv => argv.slice(4).join(' '))
    const done = renderWgQuick(input)
      .split('\n')
      .filter(line => /PostUp = ip -6 (rule add|route replace unreachable)/.test(line))
    assert.deepEqual(new Set(done.map(line => line.split(' ').slice(6).join(' '))), new Set(undone))
  })
})

function refusal(field: string): (error: unknown) => boolean {
  return error =>
    error instanceof BlockHostError && error.code === 'BH_WG_QUICK_FIELD_INVALID' && error.fields.field === field
}
