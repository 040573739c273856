import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Exec, ExecError } from '@blockhost/kit/exec.ts'
import { z } from 'zod'
import { type ActionContext, defineAction } from './action.ts'
import { unusable } from './errors.ts'
import { renderHostTable } from './host-ruleset.ts'
import { ensureKnockTable } from './knock.ts'
import { forgetOldPrefixes, unusedRoute } from './prefix-route.ts'
import { bridgeLinkLocal } from './seed.ts'
import { applyVmNetworks, readRecords } from './vm-network.ts'

/**
 * `bridge-ensure {}`: makes the VMs' bridge with the pool's gateway address, the host's IPv6 address and fe80::1, turns forwarding on,
 * answers for the addresses of the prefix that no VM has, and sets what VMs may reach on the host and beyond, plus NAT for their IPv4.
 * All from the configuration. Again is fine.
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
  await forgetOldPrefixes(context)
  await ensureKnockTable(context.host, context.exec)
  const records = readRecords(context.host)
  await applyVmNetworks(context, records)
  return records.length
}

async function ensureBridge({ host, exec }: ActionContext): Promise<void> {
  const { bridge, host_tcp_ports, host_udp_ports, allowed_private, masquerade } = host.config.network
  const { network, gateway } = host.readDb().ipPool
  const allocation = host.findAllocation()
  await makeBridge(exec, bridge)
  const lines = [
    ...renderLink(bridge),
    `addr replace ${gateway}/${network.split('/')[1]} dev ${bridge}`,
    `addr replace ${bridgeLinkLocal}/64 dev ${bridge} nodad`,
    ...(allocation === undefined ? [] : [`addr replace ${allocation.hostAddress}/128 dev ${bridge} nodad`]),
    ...(allocation === undefined ? [] : [`route replace ${unusedRoute(allocation.prefix)}`]),
  ]
  await exec('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` })
  const rules = renderHostTable({
    bridge,
    network,
    gateway,
    hostAddress: allocation?.hostAddress,
    tcpPorts: host_tcp_ports,
    udpPorts: host_udp_ports,
    allowedPrivate: allowed_private,
    masquerade,
  })
  await exec('nft', ['-f', '-'], { input: rules })
  hardenBridge(host.procSys, bridge)
  enableForwarding(host.procSys, bridge)
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

/**
 * VMs are no routers to the host, can't hide neighbour discovery in fragments (RFC 6980), and hear nothing of its other addresses: an
 * ARP request is answered for the bridge's own address alone (kernel documentation, ip-sysctl: arp_ignore).
 */
function hardenBridge(procSys: string, bridge: string): void {
  const settings = {
    [`ipv4/conf/${bridge}/arp_ignore`]: '1',
    [`ipv4/conf/${bridge}/accept_redirects`]: '0',
    [`ipv6/conf/${bridge}/accept_redirects`]: '0',
    [`ipv6/conf/${bridge}/accept_ra`]: '0',
    [`ipv6/conf/${bridge}/suppress_frag_ndisc`]: '1',
  }
  for (const [key, value] of Object.entries(settings)) writeSetting(procSys, key, value)
}

/** Turning IPv6 forwarding on makes the kernel forget router advertisements unless `accept_ra` is 2, so that goes first. */
function enableForwarding(procSys: string, bridge: string): void {
  writeSetting(procSys, 'ipv4/ip_forward', '1')
  if (readSetting(procSys, 'ipv6/conf/all/forwarding') === '1') return
  for (const name of readdirSync(join(procSys, 'net/ipv6/conf'))) {
    const key = `ipv6/conf/${name}/accept_ra`
    if (![bridge, 'all', 'default'].includes(name) && readSetting(procSys, key) === '1') writeSetting(procSys, key, '2')
  }
  writeSetting(procSys, 'ipv6/conf/all/forwarding', '1')
}

function readSetting(procSys: string, key: string): string {
  return readFileSync(join(procSys, 'net', key), 'utf8').trim()
}

function writeSetting(procSys: string, key: string, value: string): void {
  if (readSetting(procSys, key) !== value) writeFileSync(join(procSys, 'net', key), value)
}
