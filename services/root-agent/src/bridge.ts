import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Exec, ExecError } from '@blockhost/kit/exec.ts'
import { z } from 'zod'
import { type ActionContext, defineAction } from './action.ts'
import { unusable } from './errors.ts'
import { ensureKnockTable } from './knock.ts'
import { bridgeLinkLocal } from './seed.ts'
import { applyVmNetworks, readRecords } from './vm-network.ts'

/**
 * `bridge-ensure {}`: makes the VMs' bridge with the pool's gateway address, the host's IPv6 address and fe80::1, turns forwarding on,
 * and sets what VMs may reach on the host, plus NAT for their IPv4. All from the configuration. Again is fine.
 */
export const bridgeEnsure = defineAction({
  schema: z.strictObject({}),
  timeoutMs: 30_000,
  lane: 'network',
  async run(_params, context) {
    await ensureBridge(context)
    return { bridge: context.host.config.network.bridge }
  },
})

/** `network-ensure {}`: the bridge, the knock ports, and ports and routes of all VMs as they are remembered. Again is fine. */
export const networkEnsure = defineAction({
  schema: z.strictObject({}),
  timeoutMs: 60_000,
  lane: 'network',
  run: async (_params, context) => ({ vms: await ensureNetwork(context) }),
})

/** Brings everything of the host's network back. @returns Number of VMs. */
export async function ensureNetwork(context: ActionContext): Promise<number> {
  await ensureBridge(context)
  await ensureKnockTable(context.host, context.exec)
  const records = readRecords(context.host)
  await applyVmNetworks(context, records)
  return records.length
}

/** Name of the nftables table (family inet) between VMs, host and world. */
export const hostTable = 'blockhost_host'

/** What {@link renderHostTable} is made from. */
export type HostRules = {
  readonly bridge: string
  /** The VMs' IPv4 network. */
  readonly network: string
  readonly tcpPorts: readonly number[]
  readonly udpPorts: readonly number[]
  readonly masquerade: boolean
}

/** Renders the table in place of the one that is there: VMs reach ping and the configured ports of the host, the world, not each other. */
export function renderHostTable(rules: HostRules): string {
  const { bridge, network } = rules
  const errors = 'destination-unreachable, packet-too-big, time-exceeded, parameter-problem'
  const ports = (proto: string, list: readonly number[]) =>
    list.length === 0 ? '' : `    iifname "${bridge}" ${proto} dport { ${list.join(', ')} } accept\n`
  const nat = rules.masquerade
    ? `  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr ${network} oifname != "${bridge}" masquerade
  }
`
    : ''
  return `table inet ${hostTable}
delete table inet ${hostTable}
table inet ${hostTable} {
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "${bridge}" oifname "${bridge}" counter drop comment "VM to VM"
  }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname != "${bridge}" accept
    ct state established,related accept
    icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } accept
    icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, ${errors} } accept
${ports('tcp', rules.tcpPorts)}${ports('udp', rules.udpPorts)}    counter drop comment "VM to host"
  }
${nat}}
`
}

async function ensureBridge({ host, exec }: ActionContext): Promise<void> {
  const { bridge, host_tcp_ports, host_udp_ports, masquerade } = host.config.network
  const { network, gateway } = host.readDb().ipPool
  const allocation = host.findAllocation()
  await makeBridge(exec, bridge)
  const addresses = [
    `addr replace ${gateway}/${network.split('/')[1]} dev ${bridge}`,
    `addr replace ${bridgeLinkLocal}/64 dev ${bridge} nodad`,
    ...(allocation === undefined ? [] : [`addr replace ${allocation.hostAddress}/128 dev ${bridge} nodad`]),
  ]
  await exec('ip', ['-batch', '-'], { input: `${[...renderLink(bridge), ...addresses].join('\n')}\n` })
  const rules = { bridge, network, masquerade, tcpPorts: host_tcp_ports, udpPorts: host_udp_ports }
  await exec('nft', ['-f', '-'], { input: renderHostTable(rules) })
  enableForwarding(host.procSys)
}

async function makeBridge(exec: Exec, bridge: string): Promise<void> {
  try {
    await exec('ip', ['link', 'add', 'name', bridge, 'type', 'bridge'])
  } catch (error) {
    if (!(error instanceof ExecError) || !/File exists/.test(error.stderr)) throw error
    const { stdout } = await exec('ip', ['-j', 'link', 'show', 'type', 'bridge'])
    const links = JSON.parse(stdout) as { ifname?: string }[]
    if (!links.some(link => link.ifname === bridge))
      throw unusable(
        `${bridge} is an interface, but no bridge`,
        'Set network.bridge in root-agent.toml to another name.',
      )
  }
}

/** A fixed Ethernet address: a bridge otherwise takes that of whichever port came first, and VMs would remember a wrong one. */
function renderLink(bridge: string): string[] {
  const digest = createHash('sha256').update(`blockhost bridge ${bridge}`).digest('hex')
  const mac = ['02', ...digest.slice(0, 10).match(/../g)!].join(':')
  return [
    `link set dev ${bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
    `link set dev ${bridge} address ${mac}`,
    `link set dev ${bridge} addrgenmode none`,
    `link set dev ${bridge} up`,
  ]
}

/** Turning IPv6 forwarding on makes the kernel forget router advertisements unless `accept_ra` is 2, so that goes first. */
function enableForwarding(procSys: string): void {
  const path = (key: string) => join(procSys, 'net', key)
  const is = (key: string, value: string) => readFileSync(path(key), 'utf8').trim() === value
  const set = (key: string, value: string) => writeFileSync(path(key), value)
  if (!is('ipv4/ip_forward', '1')) set('ipv4/ip_forward', '1')
  if (is('ipv6/conf/all/forwarding', '1')) return
  for (const name of readdirSync(path('ipv6/conf'))) {
    const key = `ipv6/conf/${name}/accept_ra`
    if (name !== 'all' && name !== 'default' && is(key, '1')) set(key, '2')
  }
  set('ipv6/conf/all/forwarding', '1')
}
