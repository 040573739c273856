/** What one VM can do to another, and to its host, on the cable: hand-made frames through the agent's own bridge and rules. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eui64LinkLocal } from '@blockhost/root-agent/seed.ts'
import { tapName } from '@blockhost/root-agent/vm-files.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { canPing, connectMachines, droppedBy, startHost, until, vms } from './root-agent/field.ts'
import {
  arp,
  ethernet,
  etherTypes,
  fragment,
  icmpEcho,
  icmpv6,
  ipv4,
  ipv6,
  macBytes,
  neighbourAdvert,
  neighbourSolicit,
  padding,
  routerAdvert,
  sendFrames,
  sniff,
  udp,
} from './root-agent/wire.ts'

if (process.getuid?.() !== 0) test('neighbours', { skip: 'needs root: it makes network namespaces' }, () => undefined)
else defineTests()

const { one, two } = vms
const own = eui64LinkLocal(one.mac)
const everybody = 'ff:ff:ff:ff:ff:ff'
const allNodes = { mac: '33:33:00:00:00:01', ip: 'ff02::1' }
const gateway = '10.9.0.1'
const router = 'fe80::1'
const hostAddress = '2001:db8:5::1'
const elsewhere = { ipv4: '192.0.2.2', ipv6: '2001:db8:6::2' }
const unspecified = { mac: '00:00:00:00:00:00', ip: '0.0.0.0' }

type Frame = { readonly name: string; readonly frame: Buffer }

/** What no VM may send at all, by the comment of the rule that counts and drops it. @param bridge - Ethernet address of the host's bridge. */
function forgeries(bridge: string): Readonly<Record<string, readonly Frame[]>> {
  const ip4 = (to: string, from: string, packet: Buffer) => ethernet(to, from, etherTypes.ipv4, packet)
  const ip6 = (to: string, packet: Buffer) => ethernet(to, one.mac, etherTypes.ipv6, packet)
  const icmp6 = (mac: string, from: string, to: string, type: number, body: Buffer) =>
    ip6(mac, ipv6(from, to, 58, icmpv6(from, to, type, body)))
  const ping = icmpEcho('forged')
  const ping6 = (from: string, to: string) => icmp6(bridge, from, to, 128, Buffer.from('\0\x01\0\x01forged'))
  const claim = (ip: string, to = everybody) =>
    ethernet(to, one.mac, etherTypes.arp, arp(2, { mac: one.mac, ip }, { mac: to, ip }))
  const advert = (from: string, target: string, to = allNodes) =>
    icmp6(to.mac, from, to.ip, 136, neighbourAdvert(target, one.mac))
  const routed = icmpv6(own, allNodes.ip, 134, routerAdvert(one.mac))
  return {
    'forged Ethernet address': [
      { name: 'the neighbour’s, to the host', frame: ip4(bridge, two.mac, ipv4(one.ipv4, gateway, 1, ping)) },
      { name: 'the neighbour’s, to all', frame: ip4(everybody, two.mac, ipv4(one.ipv4, '10.9.0.255', 1, ping)) },
      { name: 'the bridge’s', frame: ip4(everybody, bridge, ipv4(one.ipv4, '10.9.0.255', 1, ping)) },
      { name: 'nobody’s', frame: ip4(bridge, '52:54:0a:09:00:99', ipv4(one.ipv4, gateway, 1, ping)) },
    ],
    'forged address': [
      { name: 'ARP: I am the gateway', frame: claim(gateway) },
      { name: 'ARP: I am the gateway, to the neighbour', frame: claim(gateway, two.mac) },
      { name: 'ARP: I am the neighbour, to the host', frame: claim(two.ipv4, bridge) },
      {
        name: 'ARP: who has it, tell the neighbour',
        frame: ethernet(
          everybody,
          one.mac,
          etherTypes.arp,
          arp(1, { mac: one.mac, ip: two.ipv4 }, { ...unspecified, ip: gateway }),
        ),
      },
      {
        name: 'ARP: my address is at the neighbour’s Ethernet address',
        frame: ethernet(
          bridge,
          one.mac,
          etherTypes.arp,
          arp(2, { mac: two.mac, ip: one.ipv4 }, { mac: bridge, ip: gateway }),
        ),
      },
      { name: 'IPv4 of the neighbour', frame: ip4(bridge, one.mac, ipv4(two.ipv4, elsewhere.ipv4, 1, ping)) },
      { name: 'IPv4 of the gateway', frame: ip4(two.mac, one.mac, ipv4(gateway, two.ipv4, 1, ping)) },
      { name: 'IPv4 of the internet', frame: ip4(bridge, one.mac, ipv4('198.51.100.9', elsewhere.ipv4, 1, ping)) },
      {
        name: 'DHCP from nobody',
        frame: ip4(everybody, one.mac, ipv4('0.0.0.0', '255.255.255.255', 17, udp(67, 68, 'x'))),
      },
      { name: 'IPv6 of the neighbour', frame: ping6(two.ipv6, elsewhere.ipv6) },
      { name: 'IPv6 of the host', frame: ping6(hostAddress, elsewhere.ipv6) },
      { name: 'IPv6 of the internet', frame: ping6('2001:db8:77::7', elsewhere.ipv6) },
      { name: 'a ping from the link-local address', frame: ping6(own, router) },
      {
        name: 'the router’s link-local address',
        frame: icmp6(allNodes.mac, router, allNodes.ip, 135, neighbourSolicit(two.ipv6, one.mac)),
      },
      {
        name: 'a router advertisement in fragments, the type in the second one',
        frame: ip6(allNodes.mac, ipv6(own, allNodes.ip, 44, Buffer.concat([fragment(60, 0, true), padding(58)]))),
      },
      {
        name: 'the second fragment of it',
        frame: ip6(allNodes.mac, ipv6(own, allNodes.ip, 44, Buffer.concat([fragment(60, 1, false), routed]))),
      },
      {
        name: 'a frame with a VLAN tag',
        frame: ethernet(
          two.mac,
          one.mac,
          etherTypes.vlan,
          Buffer.concat([Buffer.from([0, 1, 8, 0]), ipv4(one.ipv4, two.ipv4, 1, ping)]),
        ),
      },
      {
        name: 'a protocol that is neither IP nor ARP',
        frame: ethernet(everybody, one.mac, etherTypes.lldp, Buffer.alloc(50)),
      },
      {
        name: 'spanning tree',
        frame: ethernet(
          '01:80:c2:00:00:00',
          one.mac,
          38,
          Buffer.concat([Buffer.from([0x42, 0x42, 3]), Buffer.alloc(43)]),
        ),
      },
    ],
    'VM as a router': [
      { name: 'a router advertisement', frame: ip6(allNodes.mac, ipv6(own, allNodes.ip, 58, routed)) },
      { name: 'as the router', frame: icmp6(allNodes.mac, router, allNodes.ip, 134, routerAdvert(one.mac)) },
      { name: 'to the neighbour alone', frame: icmp6(two.mac, own, allNodes.ip, 134, routerAdvert(one.mac)) },
      {
        name: 'behind two extension headers',
        frame: ip6(
          allNodes.mac,
          ipv6(
            own,
            allNodes.ip,
            0,
            Buffer.concat([padding(60), padding(58), icmpv6(own, allNodes.ip, 134, routerAdvert(one.mac))]),
          ),
        ),
      },
      {
        name: 'a redirect',
        frame: icmp6(bridge, router, two.ipv6, 137, Buffer.concat([Buffer.alloc(4), Buffer.alloc(32)])),
      },
    ],
    'forged neighbour': [
      { name: 'I am the router', frame: advert(own, router) },
      { name: 'I am the host', frame: advert(one.ipv6, hostAddress) },
      {
        name: 'I am the router, behind an extension header',
        frame: ip6(
          allNodes.mac,
          ipv6(
            one.ipv6,
            allNodes.ip,
            60,
            Buffer.concat([padding(58), icmpv6(one.ipv6, allNodes.ip, 136, neighbourAdvert(router, one.mac))]),
          ),
        ),
      },
      { name: 'I am the neighbour, to the host', frame: advert(one.ipv6, two.ipv6, { mac: bridge, ip: hostAddress }) },
      { name: 'I am the neighbour’s link-local address', frame: advert(own, eui64LinkLocal(two.mac)) },
    ],
  }
}

/** What a VM may send, but its neighbour must not get: in the bridge, or by way of the host. */
function strayFrames(bridge: string): readonly Frame[] {
  const ip4 = (mac: string, to: string, protocol: number, payload: Buffer) =>
    ethernet(mac, one.mac, etherTypes.ipv4, ipv4(one.ipv4, to, protocol, payload))
  const ip6 = (mac: string, from: string, to: string, type: number, body: Buffer) =>
    ethernet(mac, one.mac, etherTypes.ipv6, ipv6(from, to, 58, icmpv6(from, to, type, body)))
  const asked = (ip: string) =>
    ethernet(everybody, one.mac, etherTypes.arp, arp(1, { mac: one.mac, ip: one.ipv4 }, { ...unspecified, ip }))
  const solicited = { mac: '33:33:ff:00:01:02', ip: 'ff02::1:ff00:102' }
  const echo = Buffer.from('\0\x01\0\x01stray')
  return [
    { name: 'IPv4 to the neighbour', frame: ip4(two.mac, two.ipv4, 1, icmpEcho('stray')) },
    { name: 'IPv4 to the neighbour through the host', frame: ip4(bridge, two.ipv4, 1, icmpEcho('stray')) },
    { name: 'IPv4 to all', frame: ip4(everybody, '255.255.255.255', 1, icmpEcho('stray')) },
    { name: 'IPv4 multicast', frame: ip4('01:00:5e:00:00:fb', '224.0.0.251', 17, udp(5353, 5353, 'stray')) },
    { name: 'a DHCP offer', frame: ip4(everybody, '255.255.255.255', 17, udp(67, 68, 'stray')) },
    { name: 'a DHCP offer to the neighbour', frame: ip4(two.mac, two.ipv4, 17, udp(67, 68, 'stray')) },
    {
      name: 'a DHCPv6 advertisement',
      frame: ethernet(two.mac, one.mac, etherTypes.ipv6, ipv6(one.ipv6, two.ipv6, 17, udp(547, 546, 'stray'))),
    },
    { name: 'ARP: who is the neighbour', frame: asked(two.ipv4) },
    { name: 'ARP: who is the gateway', frame: asked(gateway) },
    { name: 'ARP about itself', frame: asked(one.ipv4) },
    {
      name: 'ARP answer to the neighbour',
      frame: ethernet(
        two.mac,
        one.mac,
        etherTypes.arp,
        arp(2, { mac: one.mac, ip: one.ipv4 }, { mac: two.mac, ip: two.ipv4 }),
      ),
    },
    { name: 'IPv6 to the neighbour', frame: ip6(two.mac, one.ipv6, two.ipv6, 128, echo) },
    { name: 'IPv6 to the neighbour through the host', frame: ip6(bridge, one.ipv6, two.ipv6, 128, echo) },
    { name: 'a ping to all nodes', frame: ip6(allNodes.mac, one.ipv6, allNodes.ip, 128, echo) },
    {
      name: 'neighbour discovery: who is the neighbour',
      frame: ip6(solicited.mac, own, solicited.ip, 135, neighbourSolicit(two.ipv6, one.mac)),
    },
    {
      name: 'neighbour discovery of the neighbour, to it alone',
      frame: ip6(two.mac, own, two.ipv6, 135, neighbourSolicit(two.ipv6, one.mac)),
    },
    {
      name: 'an unsolicited advertisement',
      frame: ip6(allNodes.mac, own, allNodes.ip, 136, neighbourAdvert(own, one.mac)),
    },
    ...[0, 1].map(part => {
      const advert = icmpv6(one.ipv6, hostAddress, 136, neighbourAdvert(two.ipv6, one.mac))
      const piece = part === 0 ? advert.subarray(0, 8) : advert.subarray(8)
      const packet = ipv6(one.ipv6, hostAddress, 44, Buffer.concat([fragment(58, part, part === 0), piece]))
      return {
        name: `forged advertisement, fragment ${part}`,
        frame: ethernet(bridge, one.mac, etherTypes.ipv6, packet),
      }
    }),
    { name: 'a router solicitation', frame: ip6('33:33:00:00:00:02', own, 'ff02::2', 133, Buffer.alloc(4)) },
  ]
}

function defineTests(): void {
  test('two VMs on one bridge', { timeout: 120_000 }, async t => {
    const { host, call } = await startHost(t)
    const machines = await connectMachines(t, host)
    await call('vm-network-add', one)
    await call('vm-network-add', two)
    const bridge = (await host.exec('cat', ['/sys/class/net/br-blockhost/address'])).stdout.trim()
    for (const { ipv4 } of [one, two]) assert.ok(await canPing(host, ipv4)) // the bridge knows them from now on
    const world = await describeWorld(host)
    await using atTwo = await sniff(machines.two)
    /** What came from the first VM, after something came that was sent later: the host's own ping. */
    const seenByTwo = async () => {
      const from = atTwo.frames.length
      assert.ok(await canPing(host, two.ipv4), 'the host reaches the neighbour')
      await until(() => atTwo.frames.slice(from).some(frame => frame.subarray(6, 12).equals(macBytes(bridge))))
      return atTwo.frames.filter(
        frame => frame.subarray(6, 12).equals(macBytes(one.mac)) || /stray|forged/.test(frame.toString('latin1')),
      )
    }

    for (const [comment, cases] of Object.entries(forgeries(bridge)))
      await t.test(`${comment}: dropped and counted`, async () => {
        for (const { name, frame } of cases) {
          const count = () => droppedBy(host, 'bridge blockhost_vms', comment)
          const before = await count()
          await sendFrames(machines.one, [frame])
          await settles(async () => (await count()) > before, `${name} was not counted as "${comment}"`)
        }
        assert.deepEqual(await seenByTwo(), [])
      })
    await t.test('nothing that a VM may send reaches its neighbour', async () => {
      for (const { name, frame } of strayFrames(bridge)) {
        await sendFrames(machines.one, [frame])
        assert.deepEqual(await seenByTwo(), [], name)
      }
      assert.ok((await droppedBy(host, 'inet blockhost_host', 'VM to VM')) >= 2, 'through the host')
      assert.ok((await droppedBy(host, 'bridge blockhost_vms', 'VM to VM')) >= 10, 'in the bridge')
    })
    await t.test('the host believes none of it', async () => {
      assert.deepEqual(await describeWorld(host), world)
      assert.ok(await canPing(machines.internet, two.ipv6))
      assert.ok(await canPing(machines.two, elsewhere.ipv4))
      assert.ok(await canPing(machines.one, elsewhere.ipv6), 'and the first VM is as well off as before')
    })
    await t.test(
      'a VM sees nothing of what its neighbour is sent, also when the bridge does not know where that is',
      async () => {
        await using atOne = await sniff(machines.one)
        const tap = tapName(two.name)
        await host.exec('bridge', ['fdb', 'del', two.mac, 'dev', tap, 'master']).catch(() => undefined)
        assert.ok(await canPing(machines.internet, two.ipv6))
        await machines.two.exec('ip', ['neigh', 'flush', 'dev', 'eth0'])
        assert.ok(await canPing(machines.two, gateway)) // asks for it aloud
        assert.ok(await canPing(host, one.ipv4))
        await until(() => atOne.frames.length > 0)
        const foreign = atOne.frames.filter(frame => frame.includes(macBytes(two.mac)))
        assert.deepEqual(foreign, [])
      },
    )
    await t.test('it is the rules that do it: without them the neighbour gets all of that', async () => {
      // Where br_netfilter is loaded, as Docker does it, the host's own table sees bridged packets too.
      await host.exec('nft', ['flush', 'ruleset'])
      const direct = strayFrames(bridge).filter(({ frame }) => !frame.subarray(0, 6).equals(macBytes(bridge)))
      await sendFrames(
        machines.one,
        direct.map(({ frame }) => frame),
      )
      for (const { frame } of direct) await until(() => atTwo.frames.some(seen => seen.equals(frame)))
      await call('network-ensure')
    })
  })
}

/** What VMs might change: neighbours of the bridge, routes, and where the bridge knows Ethernet addresses. */
async function describeWorld(host: Machine): Promise<string[]> {
  const lines = async (...argv: [string, ...string[]]) =>
    (await host.exec(argv[0], argv.slice(1))).stdout.split('\n').filter(line => line !== '')
  const known = (await lines('bridge', 'fdb', 'show', 'br', 'br-blockhost')).filter(line => line.startsWith('52:54:'))
  return [
    ...(await lines('ip', 'neigh', 'show', 'dev', 'br-blockhost', 'nud', 'permanent')),
    ...(await lines('ip', '-6', 'neigh', 'show', 'dev', 'br-blockhost')).filter(line => !/^fe80/.test(line)),
    ...(await lines('ip', 'route')),
    ...(await lines('ip', '-6', 'route')),
    ...known.map(line => line.replace(/ master.*/, '')),
  ].sort()
}

async function settles(condition: () => Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; !(await condition()); tries++) {
    assert.ok(tries < 50, what)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
