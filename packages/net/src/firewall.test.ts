import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ExecError } from '@blockhost/kit/exec.ts'
import { createFirewall, diffFirewall, type FirewallTable, parseFirewall } from './firewall.ts'
import { parseAddress, parsePrefix } from './prefix.ts'
import {
  chainsOf,
  commentOf,
  type FirewallConfig,
  leaseElement,
  renderElements,
  renderFirewall,
  setsOf,
} from './ruleset.ts'

const config: FirewallConfig = {
  interface: 'wg0',
  upstream: parsePrefix('2001:db8::/64')!,
  allocationSize: 120,
  allowedTcpPorts: [],
  ndp: { interface: 'up0', brokerAddress: parseAddress('2001:db8::2')! },
}
const [one, two, three] = ['2001:db8::100', '2001:db8::200', '2001:db8::300'].map(text =>
  leaseElement(parsePrefix(`${text}/120`)!),
) as [ReturnType<typeof leaseElement>, ReturnType<typeof leaseElement>, ReturnType<typeof leaseElement>]

/** The table as the kernel has it after `renderFirewall`, with these elements. */
function tableWith(leases: readonly (typeof one)[], of: FirewallConfig = config): FirewallTable {
  const chains = chainsOf(of).map(
    ({ name, hook, priority, rules }) =>
      [name, { hook: `filter ${hook} ${priority} accept`, rules: rules.map(commentOf) }] as const,
  )
  return { chains: new Map(chains), sets: new Map(setsOf(of).map(set => [set.name, leases.map(set.element)])) }
}

describe('diffFirewall', () => {
  test('a table that is as it should be gives nothing', () => {
    assert.equal(diffFirewall(config, [one, two], tableWith([two, one])), undefined)
    assert.equal(
      diffFirewall({ ...config, ndp: undefined }, [], tableWith([], { ...config, ndp: undefined })),
      undefined,
    )
  })
  test('no table: all of it', () => {
    assert.equal(diffFirewall(config, [one], undefined)?.script, renderFirewall(config, [one]))
  })
  test('single elements are added and removed', () => {
    const diff = diffFirewall(config, [one, two], tableWith([two, three]))
    assert.deepEqual(diff, {
      script: renderElements(config, [three], [one]),
      change: 'opened the firewall for 1 leases and closed it for 1',
    })
  })
  test('an element that only one of the sets lacks, or has too much, is put right in both', () => {
    const table = tableWith([one])
    const sets = new Map(table.sets).set('leased_targets', [two.number])
    assert.equal(diffFirewall(config, [one], { ...table, sets })?.script, renderElements(config, [two], [one]))
  })
  test('another spelling of an element is the same element', () => {
    const element = leaseElement(parsePrefix('::ffff:1.2.3.0/120')!)
    const upstream = { ...config, upstream: parsePrefix('::/64')! }
    const table = tableWith([], upstream)
    const sets = new Map([
      ['leased', ['::ffff:102:300']],
      ['leased_targets', ['0xffff01020300']],
    ])
    assert.equal(diffFirewall(upstream, [element], { ...table, sets }), undefined)
  })
  for (const [name, harm] of [
    ['a chain is missing', table => table.chains.delete('source')],
    ['a foreign chain is there', table => table.chains.set('mine', { hook: '', rules: [] })],
    [
      'a chain hooks in elsewhere',
      table => table.chains.set('source', { ...table.chains.get('source')!, hook: 'filter input 0 accept' }),
    ],
    [
      'a policy is changed',
      table => table.chains.set('forward', { ...table.chains.get('forward')!, hook: 'filter forward 0 drop' }),
    ],
    ['a rule is missing', table => table.chains.get('input')!.rules.pop()],
    ['a rule is added', table => table.chains.get('forward')!.rules.unshift('')],
    ['rules are swapped', table => table.chains.get('source')!.rules.reverse()],
    ['a set is missing', table => table.sets.delete('leased')],
    ['a foreign set is there', table => table.sets.set('mine', [])],
    ['an element has a timeout', table => table.sets.set('leased', ['{"elem":{"val":"2001:db8::100","timeout":5}}'])],
  ] as readonly (readonly [string, (table: MutableTable) => void])[])
    test(`${name}: all of it again`, () => {
      const table = tableWith([one])
      const changed: MutableTable = {
        chains: new Map([...table.chains].map(([key, { hook, rules }]) => [key, { hook, rules: [...rules] }])),
        sets: new Map(table.sets),
      }
      harm(changed)
      assert.equal(diffFirewall(config, [one], changed)?.script, renderFirewall(config, [one]))
    })
})

type MutableTable = {
  chains: Map<string, { hook: string; rules: string[] }>
  sets: Map<string, readonly string[]>
}

describe('parseFirewall', () => {
  const listing = (objects: readonly unknown[]) =>
    JSON.stringify({ nftables: [{ metainfo: { version: '1.0.6' } }, ...objects] })
  const chain = { family: 'ip6', table: 't', name: 'f', type: 'filter', hook: 'forward', prio: 0, policy: 'accept' }

  test('reads what nft 1.0.6 prints', () => {
    const text = listing([
      { table: { family: 'ip6', name: 't', handle: 5 } },
      { set: { family: 'ip6', name: 'leased', table: 't', type: 'ipv6_addr', handle: 5, elem: ['2001:db8::100'] } },
      { set: { family: 'ip6', name: 'leased_targets', table: 't', type: 'integer', handle: 6 } },
      { chain },
      { rule: { family: 'ip6', table: 't', chain: 'f', handle: 7, comment: 'tenant to tenant [865e0ff6]', expr: [] } },
      { rule: { family: 'ip6', table: 't', chain: 'f', handle: 8, expr: [{ drop: null }] } },
    ])
    assert.deepEqual(parseFirewall(text, 't'), {
      ok: true,
      value: {
        chains: new Map([['f', { hook: 'filter forward 0 accept', rules: ['tenant to tenant [865e0ff6]', ''] }]]),
        sets: new Map([
          ['leased', ['2001:db8::100']],
          ['leased_targets', []],
        ]),
      },
    })
  })
  for (const [name, text] of [
    ['nothing', ''],
    ['no JSON', 'Error: No such file or directory'],
    ['another JSON', '{"nftables": {}}'],
    ['a list of numbers', '{"nftables": [1]}'],
    ['an object it does not know', listing([{ flowtable: {} }])],
  ] as const)
    test(`refuses ${name}`, () => assert.equal(parseFirewall(text, 't').ok, false))
})

describe('createFirewall', () => {
  const failing = (stderr: string) => async () => {
    throw new ExecError(['nft'], 1, stderr, 'exited with 1')
  }
  test('a missing table is no error, any other failure is', async () => {
    const missing = 'Error: No such file or directory\nlist table ip6 blockhost_wg0\n               ^^^^\n'
    assert.equal(await createFirewall({ exec: failing(missing), config }).read(), undefined)
    await assert.rejects(createFirewall({ exec: failing('Operation not permitted'), config }).read(), {
      code: 'BH_NETWORK_TOOL_FAILED',
      retryable: true,
    })
  })
  test('an empty script starts no process', async () => {
    await createFirewall({ exec: failing('must not run'), config }).apply('')
  })
})
