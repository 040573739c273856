import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Exec } from '@blockhost/kit/exec.ts'
import { applyIp, parseAnswers, queryIp } from './ip.ts'
import { parseInterfaceAddresses, parseLinks } from './link.ts'
import { parseProxyNeighbors } from './ndp.ts'
import { formatAddress, formatPrefix } from './prefix.ts'
import { parseRoutes } from './route.ts'

/** What iproute2 6.1 printed to `link show`, `addr show`, `route show proto 176`, `neigh show proxy`, `route show default`. */
const printed = `[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK"],"mtu":65536,"operstate":"DOWN"},{"ifindex":3,"link_index":3,"ifname":"up0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP"}]
[{"ifindex":3,"ifname":"up0","flags":["BROADCAST","UP"],"addr_info":[{"family":"inet6","local":"2001:db8::2","prefixlen":64,"scope":"global","tentative":true,"dadfailed":true},{"family":"inet6","local":"fe80::c890:d3ff:fe74:9fa9","prefixlen":64,"scope":"link"}]}]

[{"dst":"2001:db8::200/119","dev":"wg0","metric":1024,"flags":[],"pref":"medium"},{"dst":"2001:db8::5","dev":"wg0","metric":1024,"flags":["linkdown"],"pref":"medium"}]
[{"dst":"2001:db8::105","dev":"up0","proxy":null}]
[{"dst":"default","gateway":"fe80::1","dev":"up0","metric":1024,"flags":[],"pref":"medium"},{"type":"unreachable","dst":"default","dev":"lo","metric":4278198272}]
`

test('queryIp asks everything with one process and reads each answer', async () => {
  const runs: string[] = []
  const exec: Exec = async (command, args, options) => {
    runs.push(`${command} ${args.join(' ')} <<< ${options?.input}`)
    return { stdout: printed, stderr: '' }
  }
  const questions = ['link show', 'addr show', 'route show proto 176', 'neigh show proxy', 'route show default']
  const [links, addresses, routes, proxies, defaults] = await queryIp(exec, questions)
  assert.deepEqual(runs, [`ip -6 -j -batch - <<< ${questions.join('\n')}\n`])
  assert.deepEqual(parseLinks(links!), [
    { name: 'lo', index: 1, up: false },
    { name: 'up0', index: 3, up: true },
  ])
  assert.deepEqual(
    parseInterfaceAddresses(addresses!).map(one => [
      one.interface,
      formatAddress(one.address),
      one.length,
      one.duplicate,
    ]),
    [
      ['up0', '2001:db8::2', 64, true],
      ['up0', 'fe80::c890:d3ff:fe74:9fa9', 64, false],
    ],
  )
  assert.deepEqual(
    parseRoutes(routes!).map(route => [formatPrefix(route.destination), route.interface, route.gateway]),
    [
      ['2001:db8::200/119', 'wg0', undefined],
      ['2001:db8::5/128', 'wg0', undefined],
    ],
  )
  assert.deepEqual(parseProxyNeighbors(proxies!), [{ address: '2001:db8::105', interface: 'up0' }])
  assert.deepEqual(
    parseRoutes(defaults!).map(route => [formatPrefix(route.destination), route.interface]),
    [
      ['::/0', 'up0'],
      ['::/0', 'lo'],
    ],
  )
})

describe('parseAnswers', () => {
  for (const [name, text, count] of [
    ['fewer answers than questions', '[]\n', 2],
    ['more answers than questions', '[]\n[]\n', 1],
    ['text', 'Device "wg0" does not exist.\n', 1],
    ['half an answer', '[{"ifname":"lo"}', 1],
    ['an object', '{}\n', 1],
    ['numbers', '[1,2]\n', 1],
  ] as const)
    test(`refuses ${name}`, () => assert.equal(parseAnswers(text, count).ok, false))
})

test('applyIp starts nothing when there is nothing to do', async () => {
  const exec: Exec = async () => assert.fail('no process should start')
  await applyIp(exec, [], 'do nothing')
})
