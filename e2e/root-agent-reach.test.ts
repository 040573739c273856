/** What a VM reaches beyond its host, and where packets to addresses of nobody end: the real agent, nft and ip in machines of their own. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Machine } from '@blockhost/testkit/machine.ts'
import {
  canConnect,
  canPing,
  connect,
  connectMachines,
  droppedBy,
  listen,
  startHost,
  startPeer,
  until,
  vms,
} from './root-agent/field.ts'
import { arp, ethernet, etherTypes, sendFrames, sniff } from './root-agent/wire.ts'

if (process.getuid?.() !== 0) test('reach of VMs', { skip: 'needs root: it makes network namespaces' }, () => undefined)
else defineTests()

/** Machines of a LAN and of the provider, all of which the host reaches. */
const private4 = [
  '192.168.1.54',
  '10.8.0.1',
  '10.9.1.1',
  '172.16.0.1',
  '172.31.255.1',
  '100.64.0.1',
  '169.254.169.254',
  '198.18.0.1',
  '192.0.0.9',
]
const private6 = ['fd00:1::54', 'fc00::1', '64:ff9b::a08:1', '64:ff9b:1::1', 'fec0::1', '4000::1']
/** Those that the operator named. */
const allowed = ['192.168.1.53', 'fd00:1::53']
/** Documentation ranges lead nowhere on the internet; here they are it. */
const publicOnes = ['192.0.2.2', '198.51.100.7', '203.0.113.7', '2001:db8:6::2', '2001:db8:7::7']

const config = `[network]
host_tcp_ports = [5353]
allowed_private = ["192.168.1.53/32", "FD00:1::53/128"]
`

function defineTests(): void {
  test('VMs reach the public internet and what the operator named, nothing else that is private', async t => {
    const { host, call } = await startHost(t, config)
    const { one } = await connectMachines(t, host)
    const lan = await connectLan(t, host)
    await call('vm-network-add', vms.one)
    await t.test('the host reaches all of them', async () => {
      assert.deepEqual(await unreached(host, [...private4, ...private6, ...allowed, ...publicOnes]), [])
    })
    await t.test('a VM reaches what is public, and the exceptions', async () => {
      assert.deepEqual(await unreached(one, [...publicOnes, ...allowed]), [])
    })
    await t.test('and none of the others; what it sent is counted', async () => {
      const before = await droppedBy(host, 'inet blockhost_host', 'VM to a private address')
      assert.deepEqual(await unreached(one, [...private4, ...private6]), [...private4, ...private6])
      const after = await droppedBy(host, 'inet blockhost_host', 'VM to a private address')
      assert.ok(after - before >= 3 * (private4.length + private6.length), `${after - before}`)
    })
    await t.test('the exception is for that address alone, on every port', async () => {
      await listen(t, lan, 5353)
      assert.equal(await canConnect(one, '192.168.1.53', 5353), true)
      assert.equal(await canConnect(one, '192.168.1.54', 5353), false)
      assert.equal(await canConnect(host, '192.168.1.54', 5353), true)
    })
    await t.test('of the host, only its addresses on the bridge', async () => {
      await listen(t, host, 5353)
      assert.equal(await canConnect(one, '10.9.0.1', 5353), true)
      assert.equal(await canConnect(one, '2001:db8:5::1', 5353), true)
      for (const address of ['192.168.1.1', '192.0.2.1', 'fd00:1::1', '2001:db8:6::1']) {
        assert.equal(await canConnect(lan, address, 5353), true, `${address} from the LAN`)
        assert.equal(await canConnect(one, address, 5353), false, `${address} from the VM`)
        assert.equal(await canPing(one, address), false, `${address} from the VM`)
      }
    })
    await t.test('and it answers ARP for those alone', async () => {
      await using seen = await sniff(one)
      const zero = '00:00:00:00:00:00'
      const asked = (ip: string) =>
        ethernet(
          'ff:ff:ff:ff:ff:ff',
          vms.one.mac,
          etherTypes.arp,
          arp(1, { mac: vms.one.mac, ip: vms.one.ipv4 }, { mac: zero, ip }),
        )
      await sendFrames(one, ['192.168.1.1', '192.0.2.1', '10.9.0.1'].map(asked))
      const answers = () => seen.frames.filter(frame => frame.readUInt16BE(12) === etherTypes.arp && frame[21] === 2)
      await until(() => answers().length > 0)
      assert.deepEqual(
        answers().map(frame => [...frame.subarray(28, 32)].join('.')),
        ['10.9.0.1'],
      )
    })
    await t.test('a VM answers whoever asks it from there', async () => {
      assert.ok(await canPing(lan, vms.one.ipv4, '192.168.1.54'))
      assert.ok(await canPing(lan, vms.one.ipv6, 'fd00:1::54'))
    })
    await t.test('a connection that a VM has when it is forbidden ends', async () => {
      await host.exec('nft', ['delete', 'table', 'inet', 'blockhost_host'])
      const answered = Promise.withResolvers<void>()
      const ping = await one.spawn(['ping', '-n', '-c', '2', '-i', '3', '-W', '1', '192.168.1.54'], {
        onLine: line => line.includes('icmp_seq=1') && answered.resolve(),
      })
      await Promise.race([answered.promise, ping.ended])
      await call('network-ensure')
      await ping.ended
      assert.match(ping.lastLines().join('\n'), /2 packets transmitted, 1 received/)
    })
  })

  test('addresses of no VM are refused at once and go to and fro between nobody', async t => {
    const { host, call } = await startHost(t)
    const { one, internet } = await connectMachines(t, host)
    // As with a tunnel that is the host's own way out, too: what comes by it and is not known goes back.
    await host.exec('ip', ['-6', 'route', 'replace', 'default', 'via', '2001:db8:6::2'])
    await internet.exec('sh', ['-c', 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'])
    await call('vm-network-add', vms.one)
    await call('vm-network-add', vms.two)
    const nobody = '2001:db8:5::999'
    await t.test('an address that was never used', async () => {
      assert.deepEqual(await send(host, internet, nobody), { said: 'unreachable', seen: 1 })
    })
    await t.test('asked for by a VM, too: nothing leaves the host', async () => {
      assert.deepEqual(await send(host, one, nobody), { said: 'unreachable', seen: 0 })
    })
    await t.test('without the route it would be a loop: this test can see one', async () => {
      await host.exec('ip', ['-6', 'route', 'flush', 'type', 'unreachable', 'proto', '177'])
      const { said, seen } = await send(host, internet, nobody)
      assert.equal(said, 'hop limit')
      assert.ok(seen > 20, `${seen}`)
      await call('network-ensure')
      assert.deepEqual(await send(host, internet, nobody), { said: 'unreachable', seen: 1 })
    })
    await t.test('a VM that is frozen swallows what is sent to it', async () => {
      await one.exec('nft', ['-f', '-'], {
        input: 'table inet frozen { chain input { type filter hook input priority -300; drop; }; }',
      })
      assert.deepEqual(await send(host, internet, vms.one.ipv6), { said: 'nothing', seen: 1 })
    })
    await t.test('a VM whose port is gone', async () => {
      await one.exec('ip', ['link', 'del', 'eth0'])
      assert.deepEqual(await send(host, internet, vms.one.ipv6), { said: 'nothing', seen: 1 })
    })
    await t.test('a VM that was destroyed', async () => {
      await call('vm-network-del', { name: vms.one.name })
      assert.deepEqual(await send(host, internet, vms.one.ipv6), { said: 'unreachable', seen: 1 })
    })
    await t.test('the prefix of another lease: the old one’s route goes', async () => {
      await call('vm-network-del', { name: vms.two.name })
      await host.exec('sh', ['-c', `echo '{"prefix": "2001:db8:8::/120"}' >/etc/blockhost/broker-allocation.json`])
      await call('network-ensure')
      const { stdout } = await host.exec('ip', ['-6', 'route', 'show', 'proto', '177'])
      assert.match(stdout, /^unreachable 2001:db8:8::\/120 dev lo [^\n]*\n$/)
    })
  })
}

/** One machine that is the LAN, the provider and a part of the internet; the host's way to all of it. */
async function connectLan(t: TestContext, host: Machine): Promise<Machine> {
  const lan = await startPeer(t, 'lan')
  await connect(host, 'lan0', lan)
  const beyond = ['198.51.100.7', '203.0.113.7', '2001:db8:7::7', ...private4.slice(1), ...private6.slice(1)]
  const length = (address: string) => (address.includes(':') ? 128 : 32)
  const own = ['192.168.1.53/24', '192.168.1.54/24', 'fd00:1::53/64', 'fd00:1::54/64']
  await batch(host, ['link set lan0 up', 'addr add 192.168.1.1/24 dev lan0', 'addr add fd00:1::1/64 dev lan0 nodad'])
  await batch(lan, [
    'link set eth0 up',
    ...own.map(address => `addr add ${address} dev eth0${address.includes(':') ? ' nodad' : ''}`),
    ...beyond.map(address => `addr add ${address}/${length(address)} dev lo`),
    'route add default via 192.168.1.1',
    'route add default via fd00:1::1',
  ])
  await batch(
    host,
    beyond.map(
      address =>
        `route add ${address}/${length(address)} via ${address.includes(':') ? 'fd00:1::53' : '192.168.1.53'} dev lan0`,
    ),
  )
  return lan
}

async function unreached(from: Machine, addresses: readonly string[]): Promise<string[]> {
  const answers = await Promise.all(addresses.map(async address => ((await canPing(from, address)) ? [] : [address])))
  return answers.flat()
}

/** Sends one ping to an address of the prefix, and tells what came back and how often it was seen between the host and the internet. */
async function send(host: Machine, from: Machine, address: string): Promise<{ said: string; seen: number }> {
  const table = 'inet seen'
  await host.exec('nft', ['-f', '-'], {
    input: `table ${table}
delete table ${table}
table ${table} {
  chain pre { type filter hook prerouting priority -400; iifname wan ip6 daddr ${address} counter comment "seen"; }
  chain post { type filter hook postrouting priority 400; oifname wan ip6 daddr ${address} counter comment "seen"; }
}
`,
  })
  const { stdout } = await from.exec('sh', ['-c', `ping -n -c 1 -W 2 ${address} || true`])
  const said = /Time exceeded|hop limit/i.test(stdout)
    ? 'hop limit'
    : /unreachable/i.test(stdout)
      ? 'unreachable'
      : / 1 received/.test(stdout)
        ? 'an answer'
        : 'nothing'
  return { said, seen: await droppedBy(host, table, 'seen') }
}

async function batch(machine: Machine, lines: readonly string[]): Promise<void> {
  await machine.exec('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` })
}
