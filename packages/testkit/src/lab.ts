import { setTimeout as sleep } from 'node:timers/promises'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { type Machine, type MachineOptions, startMachine } from './machine.ts'

/** The machines of a {@link Lab}. */
export const labNodes = [
  'internet',
  'upstream',
  'carrier',
  'broker',
  'nat-a',
  'nat-b',
  'host-a',
  'host-b',
  'vm-a',
  'vm-b',
] as const
/** One of {@link labNodes}. */
export type LabNode = (typeof labNodes)[number]

/** Addresses of the lab: documentation ranges (RFC 3849, RFC 5737) and private ones (RFC 1918, RFC 4193). */
export const labAddresses = {
  /** A server somewhere: the far end of every ping, and where the chain's RPC listens. */
  internet: { ipv4: '192.0.2.10', ipv6: '2001:db8:ffff::10' },
  /** The upstream router on the broker's link. */
  upstream: { ipv6: '2001:db8:1:2::1' },
  /** The broker: public IPv4 on `eth0`, `/64` on-link on `upstream0`. */
  broker: { ipv4: '198.51.100.1', ipv6: '2001:db8:1:2::2', prefix: '2001:db8:1:2::/64' },
  /** What the world sees of each host. */
  natA: { ipv4: '203.0.113.10' },
  natB: { ipv4: '203.0.113.22' },
  /** Both hosts have the same private address, as homes do. */
  host: { ipv4: '192.168.1.2' },
} as const

/** Options of {@link createLab}. */
export type LabOptions = {
  /**
   * How the upstream router delivers the broker's prefix: `on-link` resolves each address by neighbor discovery (RFC 4861) on the
   * shared link; `routed` sends all of it to the broker's link-local address. Default `on-link`.
   */
  delivery?: 'on-link' | 'routed'
  /** Environment of everything that runs in the lab, beside PATH and `LC_ALL=C`. Default: none. */
  env?: Readonly<Record<string, string>>
}

/** A running lab; disposing of it removes everything, see {@link startMachine}. */
export type Lab = AsyncDisposable & {
  readonly [node in LabNode]: Machine
} & {
  /** Returns one of the machines by name. */
  machine(node: LabNode): Machine
  /**
   * Gives the VM behind a host an address of the host's prefix, the way the host's operator does: a /128 route to its bridge.
   */
  giveAddress(vm: 'a' | 'b', address: string): Promise<void>
}

/**
 * Builds the whole path of a lease out of network namespaces:
 *
 * ```text
 * internet ── upstream ── broker          IPv6; upstream finds the broker's /64 by NDP, on the link
 *     └────── carrier ───────┤            IPv4
 *                ├── nat-a ── host-a ══ vm-a
 *                └── nat-b ── host-b ══ vm-b      ══ is the bridge br0 of the host
 * ```
 *
 * Neither host has public IPv6; host-b has a default route to an IPv6 that leads nowhere, as behind many home routers. Takes
 * about half a second. Root only.
 */
export async function createLab(options: LabOptions = {}): Promise<Lab> {
  const machines = new Map<LabNode, Machine>()
  const started = await Promise.allSettled(
    labNodes.map(async node => machines.set(node, await startMachine({ ...plan(node), env: options.env ?? {} }))),
  )
  const stopAll = async () => {
    await Promise.all([...machines.values()].map(machine => machine[Symbol.asyncDispose]()))
  }
  const machine = (node: LabNode) => {
    const found = machines.get(node)
    if (found === undefined)
      throw new BlockHostError({ code: 'BH_LAB_NODE_UNKNOWN', message: `The lab has no ${node}` })
    return found
  }
  try {
    for (const result of started) if (result.status === 'rejected') throw result.reason
    await connect(machine, options.delivery ?? 'on-link')
  } catch (error) {
    await stopAll()
    throw error
  }
  return {
    ...(Object.fromEntries(machines) as { [node in LabNode]: Machine }),
    machine,
    giveAddress: (vm, address) => giveAddress(machine(`host-${vm}`), machine(`vm-${vm}`), address),
    [Symbol.asyncDispose]: stopAll,
  }
}

const routers: readonly LabNode[] = ['upstream', 'carrier', 'broker', 'nat-a', 'nat-b', 'host-a', 'host-b']

function plan(name: LabNode): MachineOptions {
  const forwarding = routers.includes(name) ? 1 : 0
  return {
    name,
    sysctl: {
      // Addresses are ours alone: nobody has to wait a second to see whether they are taken.
      'net.ipv6.conf.all.accept_dad': 0,
      'net.ipv6.conf.default.accept_dad': 0,
      'net.ipv6.conf.all.forwarding': forwarding,
      'net.ipv4.ip_forward': forwarding,
    },
  }
}

type Link = readonly [node: LabNode, name: string, peer: LabNode, peerName: string]

const links: readonly Link[] = [
  ['internet', 'eth6', 'upstream', 'internet0'],
  ['internet', 'eth4', 'carrier', 'internet0'],
  ['upstream', 'broker0', 'broker', 'upstream0'],
  ['carrier', 'broker0', 'broker', 'eth0'],
  ['carrier', 'home-a', 'nat-a', 'wan'],
  ['carrier', 'home-b', 'nat-b', 'wan'],
  ['nat-a', 'lan', 'host-a', 'eth0'],
  ['nat-b', 'lan', 'host-b', 'eth0'],
  ['host-a', 'vm0', 'vm-a', 'eth0'],
  ['host-b', 'vm0', 'vm-b', 'eth0'],
]

async function connect(machine: (node: LabNode) => Machine, delivery: 'on-link' | 'routed'): Promise<void> {
  const cables = links.map(
    ([node, name, peer, peerName]) =>
      `link add name ${name} netns ${machine(node).pid} type veth peer name ${peerName} netns ${machine(peer).pid}`,
  )
  // Laid from outside, where the process ids are known; the kernel makes each end where it belongs, none out here.
  await createExec()('ip', ['-batch', '-'], { input: `${cables.join('\n')}\n` })
  await Promise.all([
    ...labNodes.map(node => batch(machine(node), [...linksUp(node), ...addresses(node, delivery)])),
    ...(['nat-a', 'nat-b'] as const).map(node => machine(node).exec('nft', ['-f', '-'], { input: natRules })),
  ])
  // The kernel may take up to a second to notice that both ends of a link are up.
  const { internet, broker } = labAddresses
  await Promise.all([
    answers(machine('internet'), broker.ipv6),
    answers(machine('internet'), broker.ipv4),
    answers(machine('host-a'), internet.ipv4),
    answers(machine('host-b'), internet.ipv4),
  ])
}

async function answers(from: Machine, to: string): Promise<void> {
  for (let tries = 1; ; tries++)
    try {
      return void (await from.exec('ping', ['-q', '-c', '1', '-W', '1', to]))
    } catch (error) {
      if (tries === 20) throw error
      await sleep(50)
    }
}

function linksUp(node: LabNode): string[] {
  const bridge = node.startsWith('host-')
    ? ['link add br0 type bridge', 'link set vm0 master br0', 'link set br0 up', 'addr add fe80::1/64 dev br0']
    : []
  const ends = links.flatMap(([a, name, b, peerName]) => (a === node ? [name] : b === node ? [peerName] : []))
  return [...bridge, ...ends.map(name => `link set ${name} up`)]
}

function addresses(node: LabNode, delivery: 'on-link' | 'routed'): readonly string[] {
  return delivery === 'routed' ? (routedPlan[node] ?? addressPlan[node]) : addressPlan[node]
}

const home = (network: string, wan: string, gateway: string) => [
  `addr add ${wan}/${network} dev wan`,
  `route add default via ${gateway}`,
  'addr add 192.168.1.1/24 dev lan',
]
const behindHome = ['addr add 192.168.1.2/24 dev eth0', 'route add default via 192.168.1.1']

const addressPlan: { readonly [node in LabNode]: readonly string[] } = {
  internet: [
    'addr add 2001:db8:ffff::10/64 dev eth6',
    'route add default via 2001:db8:ffff::1',
    'addr add 192.0.2.10/24 dev eth4',
    'route add default via 192.0.2.1',
  ],
  upstream: ['addr add 2001:db8:ffff::1/64 dev internet0', 'addr add 2001:db8:1:2::1/64 dev broker0'],
  carrier: [
    'addr add 192.0.2.1/24 dev internet0',
    'addr add 198.51.100.254/24 dev broker0',
    'addr add 203.0.113.9/30 dev home-a',
    'addr add 203.0.113.21/30 dev home-b',
  ],
  broker: [
    'addr add 2001:db8:1:2::2/64 dev upstream0',
    'route add default via 2001:db8:1:2::1',
    'addr add 198.51.100.1/24 dev eth0',
    'route add default via 198.51.100.254',
  ],
  'nat-a': home('30', '203.0.113.10', '203.0.113.9'),
  'nat-b': [...home('30', '203.0.113.22', '203.0.113.21'), 'addr add fd00:b::1/64 dev lan'],
  'host-a': behindHome,
  'host-b': [...behindHome, 'addr add fd00:b::2/64 dev eth0', 'route add default via fd00:b::1'],
  'vm-a': [],
  'vm-b': [],
}

// The prefix is not on the link: link-local addresses carry it, and the broker's own address lies on its loopback.
const routedPlan: { readonly [node in LabNode]?: readonly string[] } = {
  upstream: [
    'addr add 2001:db8:ffff::1/64 dev internet0',
    'addr add fe80::1/64 dev broker0',
    'route add 2001:db8:1:2::/64 via fe80::2 dev broker0',
  ],
  broker: [
    'addr add fe80::2/64 dev upstream0',
    'addr add 2001:db8:1:2::2/128 dev lo',
    'route add default via fe80::1 dev upstream0',
    'addr add 198.51.100.1/24 dev eth0',
    'route add default via 198.51.100.254',
  ],
}

const natRules = `
table ip nat {
  chain out { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
}
table inet filter {
  chain in { type filter hook input priority filter; iifname "wan" ct state new drop; }
  chain through { type filter hook forward priority filter; policy drop; iifname "lan" accept; ct state established,related accept; }
}
`

async function giveAddress(host: Machine, vm: Machine, address: string): Promise<void> {
  await batch(host, [`route replace ${address}/128 dev br0`])
  await batch(vm, [`addr replace ${address}/128 dev eth0 nodad`, 'route replace default via fe80::1 dev eth0'])
  await answers(host, address)
}

async function batch(machine: Machine, lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await machine.exec('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` })
}
