import assert from 'node:assert/strict'
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Exec } from '@blockhost/kit/exec.ts'
import { actions } from './actions.ts'
import { createAgent } from './agent.ts'
import { createFakeHost } from './fake-host.ts'
import { renderHostTable } from './host-ruleset.ts'

const vm = { name: 'blockhost-001', mac: '52:54:0a:00:00:0a', ipv4: '10.0.0.10', ipv6: '2001:db8::101' }

function open(t: TestContext, toml = '') {
  const fake = createFakeHost(t, toml)
  const call = async (action: string, params: object = {}) => {
    const answer = await fake.agent.handle({ action, params })
    assert.ok(answer.ok, JSON.stringify(answer))
    return answer as Record<string, unknown>
  }
  const refuses = async (action: string, params: object, expected: RegExp) => {
    const answer = await fake.agent.handle({ action, params })
    assert.ok(!answer.ok, `${action} ${JSON.stringify(params)} was carried out`)
    assert.match(answer.error, expected)
    assert.deepEqual(fake.takeCommands(), [])
  }
  return { ...fake, call, refuses }
}

test('ip6-route-add, ip6-route-del: the documented parameters, canonical on the command line', async t => {
  const { call, takeCommands } = open(t)
  await call('ip6-route-add', { address: '2001:0DB8::0:101/128', dev: 'br-blockhost' })
  await call('ip6-route-del', { address: '2001:db8::101/128', dev: 'br-blockhost' })
  assert.deepEqual(takeCommands(), [
    'ip -6 route replace 2001:db8::101/128 dev br-blockhost proto 177',
    'ip -6 route del 2001:db8::101/128 dev br-blockhost proto 177',
  ])
})

test('ip6-route-add: only /128 of the host’s prefix, not its own addresses, only to configured devices', async t => {
  const { call, refuses } = open(t, "[network]\nroute_devices = ['vmbr0']\n")
  const dev = 'br-blockhost'
  for (const address of [
    '::::/128',
    '2001:db8::101',
    '2001:db8::101/64',
    '2001:db8::101/128\n',
    '2001:db8::101/128 dev eth0',
    '-6',
    '',
  ])
    await refuses('ip6-route-add', { address, dev }, /address: expected an IPv6 address and \/128/)
  await refuses('ip6-route-add', { address: '2001:db8:1::1/128', dev }, /not in the host's prefix/)
  await refuses('ip6-route-add', { address: '2001:db8::1/128', dev }, /the host's own/)
  await refuses(
    'ip6-route-add',
    { address: '2001:db8::101/128', dev: 'eth0' },
    /dev: only br-blockhost, vmbr0 may get routes/,
  )
  await refuses(
    'ip6-route-add',
    { address: '2001:db8::101/128', dev: '-net' },
    /dev: expected the name of an interface/,
  )
  await refuses('ip6-route-add', { address: '2001:db8::101/128', dev, table: 'x' }, /a key that is not known/)
  await call('ip6-route-add', { address: '2001:db8::101/128', dev: 'vmbr0' })
})

test('iptables-open, iptables-close: only the ports of the configuration', async t => {
  const { call, refuses, commands } = open(t, '[firewall]\nknock_ports = [22, 8006]\n')
  await call('iptables-open', { port: 22, proto: 'tcp', comment: 'knock-1', seconds: 300 })
  assert.match(
    commands.at(-1)!.input,
    /\nadd element inet blockhost_knock open \{ tcp \. 22 timeout 300s comment "knock-1" \}\n$/,
  )
  await call('iptables-close', { port: 22, proto: 'tcp', comment: 'knock-1' })
  assert.match(commands.at(-1)!.input, /\ndelete element inet blockhost_knock open \{ tcp \. 22 \}\n$/)
  commands.length = 0
  const good = { port: 22, proto: 'tcp', comment: 'a' }
  for (const port of [23, 0, -1, 65_536, 22.5, '22', true, null, 2 ** 60])
    await refuses('iptables-open', { ...good, port }, /port/)
  await refuses('iptables-open', { ...good, proto: 'icmp' }, /proto: expected tcp or udp/)
  for (const comment of ['', 'a"b', 'a\n', 'a b', 'x'.repeat(65), 'a"; flush ruleset; #'])
    await refuses('iptables-open', { ...good, comment }, /comment/)
})

test('iptables-open: nothing can be opened where nothing is configured', async t => {
  const { refuses } = open(t)
  await refuses('iptables-open', { port: 22, proto: 'tcp', comment: 'a' }, /not one of firewall\.knock_ports/)
})

test('vm-network-add: port rules, route and neighbours in two commands; remembered for root alone', async t => {
  const { call, commands, config } = open(t)
  await call('vm-network-add', vm)
  assert.deepEqual(
    commands.map(({ argv }) => argv.join(' ')),
    ['nft -f -', 'ip -batch -'],
  )
  assert.match(commands[0]!.input, /ip6 saddr 2001:db8::101 accept/)
  assert.equal(
    commands[1]!.input,
    `neigh replace 10.0.0.10 lladdr 52:54:0a:00:00:0a dev br-blockhost nud permanent
neigh replace 2001:db8::101 lladdr 52:54:0a:00:00:0a dev br-blockhost nud permanent
route replace 2001:db8::101/128 dev br-blockhost proto 177
`,
  )
  const record = join(config.paths.vms, 'blockhost-001.network.json')
  assert.equal(statSync(record).mode & 0o777, 0o600)
  assert.deepEqual(JSON.parse(readFileSync(record, 'utf8')), { mac: vm.mac, ipv4: vm.ipv4, ipv6: vm.ipv6 })
})

test('vm-network-add: other addresses take the old ones away; vm-network-del takes all away, twice is fine', async t => {
  const { call, takeCommands, commands, config } = open(t)
  await call('vm-network-add', vm)
  commands.length = 0
  await call('vm-network-add', { ...vm, ipv6: '2001:db8::102' })
  assert.deepEqual(takeCommands(), [
    'ip -6 route del 2001:db8::101/128 dev br-blockhost proto 177',
    'ip -force -batch -',
    'nft -f -',
    'ip -batch -',
  ])
  await call('vm-network-del', { name: vm.name })
  assert.deepEqual(takeCommands(), [
    'nft -f -',
    'ip -6 route del 2001:db8::102/128 dev br-blockhost proto 177',
    'ip -force -batch -',
  ])
  assert.ok(!existsSync(join(config.paths.vms, 'blockhost-001.network.json')))
  await call('vm-network-del', vm)
  assert.deepEqual(takeCommands(), ['nft -f -', 'ip -6 route del 2001:db8::101/128 dev br-blockhost proto 177'])
})

test('vm-network-add: refuses what is not the VM’s to have', async t => {
  const { refuses } = open(t)
  for (const ipv4 of ['10.0.0.1', '10.0.0.0', '10.0.3.255', '10.0.4.1', '127.0.0.1', '10.0.0.10/32', '010.0.0.10'])
    await refuses('vm-network-add', { ...vm, ipv4 }, /ipv4/)
  for (const ipv6 of ['2001:db8::1', '2001:db8::', 'fe80::1', '::ffff:10.0.0.10', '2001:db8:1::5', '2001:db8::5%eth0'])
    await refuses('vm-network-add', { ...vm, ipv6 }, /ipv6|prefix|own/)
  for (const mac of ['52:54:0a:00:00:0', '52:54:0A:00:00:0A', 'ff:ff:ff:ff:ff:ff', '01:54:0a:00:00:0a', `${vm.mac}\n`])
    await refuses('vm-network-add', { ...vm, mac }, /mac/)
  for (const name of ['../x', 'a/b', 'a.b', '-a', '', 'A', 'a\n', 'x'.repeat(64), '__proto__'])
    await refuses('vm-network-add', { ...vm, name }, /name/)
})

test('bridge-ensure: bridge, addresses, rules, forwarding; router advertisements stay valid', async t => {
  const { call, commands, takeCommands, root } = open(t, '[network]\nhost_udp_ports = [53]\n')
  await call('bridge-ensure')
  assert.match(
    commands[1]!.input,
    /addr replace 10\.0\.0\.1\/22 dev br-blockhost\naddr replace fe80::1\/64 dev br-blockhost nodad\naddr replace 2001:db8::1\/128 dev br-blockhost nodad\nroute replace unreachable 2001:db8::\/64 dev lo metric 2147483646 proto 177\n$/,
  )
  assert.match(commands[2]!.input, /\n {4}udp dport \{ 53 \} accept\n/)
  assert.match(commands[2]!.input, /ip saddr 10\.0\.0\.0\/22 oifname != "br-blockhost" masquerade/)
  assert.deepEqual(takeCommands(), ['ip link add name br-blockhost type bridge', 'ip -batch -', 'nft -f -'])
  const setting = (path: string) => readFileSync(join(root, 'proc/sys/net', path), 'utf8').trim()
  assert.deepEqual(
    ['ipv4/ip_forward', 'ipv6/conf/all/forwarding', 'ipv6/conf/eth0/accept_ra', 'ipv6/conf/lo/accept_ra'].map(setting),
    ['1', '1', '2', '0'],
  )
  assert.deepEqual(
    [
      'ipv6/conf/br-blockhost/accept_ra',
      'ipv6/conf/br-blockhost/accept_redirects',
      'ipv4/conf/br-blockhost/accept_redirects',
      'ipv4/conf/br-blockhost/arp_ignore',
      'ipv6/conf/br-blockhost/suppress_frag_ndisc',
    ].map(setting),
    ['0', '0', '0', '1', '1'],
    'VMs are no routers to the host, whatever the firewall says',
  )
})

test('bridge-ensure: without a prefix there is no IPv6 but link-local', async t => {
  const { call, commands, config } = open(t)
  rmSync(join(config.paths.config, 'broker-allocation.json'))
  await call('bridge-ensure')
  assert.doesNotMatch(commands.map(({ input }) => input).join(''), /2001:db8|route replace/)
  assert.match(commands[2]!.input, /ip6 daddr != \{ fe80::1, ff02::\/16 \} counter drop/)
})

test('network-ensure: routes of a prefix that the host no longer has are taken away', async t => {
  const fake = createFakeHost(t)
  const run: string[] = []
  const listed = '[{"type":"unreachable","dst":"2001:db8::/64"},{"type":"unreachable","dst":"2001:db8:9::/120"}]'
  const exec: Exec = async (_command, args) => {
    run.push(args.join(' '))
    return { stdout: args.includes('show') ? listed : '', stderr: '' }
  }
  const agent = createAgent(actions, { host: fake.host, exec })
  assert.ok((await agent.handle({ action: 'network-ensure' })).ok)
  assert.deepEqual(
    run.filter(line => line.includes('route del')),
    ['-6 route del unreachable 2001:db8:9::/120 dev lo metric 2147483646 proto 177'],
  )
})

test('renderHostTable: private addresses are dropped after the exceptions, and VM to VM before them', () => {
  const rules = {
    bridge: 'br0',
    network: '10.0.0.0/22',
    gateway: '10.0.0.1',
    hostAddress: undefined,
    tcpPorts: [],
    udpPorts: [],
    allowedPrivate: ['192.168.1.53/32', 'fd00:5::/64'],
    masquerade: false,
  }
  const lines = renderHostTable(rules).split('\n')
  const at = (expression: RegExp) => lines.findIndex(line => expression.test(line))
  const order = [
    at(/iifname "br0" oifname "br0" counter drop/),
    at(/ct direction reply ct state established,related accept/),
    at(/^ {4}ip daddr 192\.168\.1\.53\/32 accept$/),
    at(/^ {4}ip6 daddr fd00:5::\/64 accept$/),
    at(/^ {4}ip daddr \{ .*192\.168\.0\.0\/16.* \} counter drop comment "VM to a private address"$/),
    at(/^ {4}ip6 daddr != 2000::\/3 counter drop comment "VM to a private address"$/),
  ]
  assert.deepEqual(
    order,
    order.toSorted((a, b) => a - b),
  )
  assert.ok(!order.includes(-1))
})

test('network-ensure: brings back every VM with two commands; a broken record does not hold up the others', async t => {
  const { call, commands, config } = open(t)
  await call('vm-network-add', vm)
  await call('vm-network-add', {
    ...vm,
    name: 'web',
    ipv4: '10.0.0.11',
    ipv6: '2001:db8::102',
    mac: '52:54:0a:00:00:0b',
  })
  writeFileSync(join(config.paths.vms, 'broken.network.json'), '{"mac": "x"}')
  commands.length = 0
  assert.equal((await call('network-ensure')).vms, 2)
  assert.deepEqual(
    commands.slice(-2).map(({ argv }) => argv.join(' ')),
    ['nft -f -', 'ip -batch -'],
  )
  assert.match(commands.at(-1)!.input, /2001:db8::101\/128(?:.|\n)*2001:db8::102\/128/)
})

test('host-status: changes nothing', async t => {
  const { call, takeCommands } = open(t, '[firewall]\nknock_ports = [22]\n')
  const status = await call('host-status')
  assert.deepEqual(
    [status.accelerator, status.ipv6_prefix, status.knock_ports, status.libvirt],
    ['qemu', '2001:db8::/64', [22], true],
  )
  assert.deepEqual(takeCommands(), ['ip -j addr show dev br-blockhost', 'virsh -c qemu:///system -q uri'])
})
