import { existsSync, readdirSync, rmSync } from 'node:fs'
import { readTextFile, writeFileAtomic } from '@blockhost/kit/files.ts'
import {
  containsIpv4,
  formatIpv4Prefix,
  lastIpv4Address,
  parseIpv4Address,
  parseIpv4Prefix,
} from '@blockhost/net/ipv4.ts'
import { z } from 'zod'
import { type ActionContext, defineAction } from './action.ts'
import { refused } from './errors.ts'
import type { Host } from './host.ts'
import { ipv4, ipv6, mac, vmName } from './params.ts'
import { checkVmIpv6, deleteRoute, vmRouteProtocol } from './routes.ts'
import { vmFiles } from './vm-files.ts'
import { renderVmBase, renderVmRemoval, renderVmRules, type VmNetwork } from './vm-ruleset.ts'

const addresses = { mac, ipv4, ipv6: ipv6.optional() }

/**
 * `vm-network-add {name, mac, ipv4, ipv6?}`: opens a VM's port for these addresses only, and routes its IPv6 address to the bridge.
 * Remembered, so that a restart of the host's services or of the host brings it back. Again, or with other addresses, is fine.
 */
export const vmNetworkAdd = defineAction({
  schema: z.strictObject({ name: vmName, ...addresses }),
  timeoutMs: 15_000,
  lane: 'network',
  async run({ name, mac, ipv4, ipv6 }, context) {
    const vm: VmNetwork = { name, mac, ipv4, ipv6 }
    checkVmIpv4(context.host, ipv4)
    if (ipv6 !== undefined) checkVmIpv6(context.host, ipv6)
    const before = findRecord(context.host, name)
    if (before !== undefined) await forgetAddresses(context, before, vm)
    writeFileAtomic(vmFiles(context.host, name).network, `${JSON.stringify({ mac, ipv4, ipv6 })}\n`, { mode: 0o600 })
    await applyVmNetworks(context, [vm])
    return {}
  },
})

/**
 * `vm-network-del {name, mac?, ipv4?, ipv6?}`: closes a VM's port and takes its route away. The addresses are those that were added;
 * given ones are only used when nothing is remembered. Again is fine.
 */
export const vmNetworkDel = defineAction({
  schema: z.strictObject({ name: vmName, mac: mac.optional(), ipv4: ipv4.optional(), ipv6: ipv6.optional() }),
  timeoutMs: 15_000,
  lane: 'network',
  async run({ name, ipv6 }, context) {
    const { bridge } = context.host.config.network
    const record = findRecord(context.host, name)
    await context.exec('nft', ['-f', '-'], { input: `${renderVmBase()}${renderVmRemoval(name)}` })
    if (record !== undefined) await forgetAddresses(context, record, undefined)
    else if (ipv6 !== undefined) {
      checkVmIpv6(context.host, ipv6)
      await deleteRoute(context.exec, ipv6, bridge)
    }
    rmSync(vmFiles(context.host, name).network, { force: true })
    return {}
  },
})

/** Opens the ports of VMs and routes their addresses: one nft and one ip, however many there are. */
export async function applyVmNetworks({ host, exec }: ActionContext, vms: readonly VmNetwork[]): Promise<void> {
  const { bridge } = host.config.network
  await exec('nft', ['-f', '-'], { input: `${renderVmBase()}${vms.map(renderVmRules).join('')}` })
  const lines = vms.flatMap(vm => renderNeighbours(vm, bridge))
  if (lines.length > 0) await exec('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` })
}

/** Reads what is remembered of all VMs. Records that can't be read are told and left out. */
export function readRecords(host: Host): VmNetwork[] {
  const ending = '.network.json'
  return readdirSync(host.config.paths.vms)
    .filter(file => file.endsWith(ending) && vmName.safeParse(file.slice(0, -ending.length)).success)
    .flatMap(file => {
      const record = findRecord(host, file.slice(0, -ending.length))
      if (record === undefined) host.log.warn({ file }, 'a VM’s network record can’t be read')
      return record ?? []
    })
}

function findRecord(host: Host, name: string): VmNetwork | undefined {
  const path = vmFiles(host, name).network
  if (!existsSync(path)) return undefined
  const parsed = z.strictObject(addresses).safeParse(parseJson(readTextFile(path)))
  return parsed.success ? { name, mac: parsed.data.mac, ipv4: parsed.data.ipv4, ipv6: parsed.data.ipv6 } : undefined
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The host knows where its VMs are: it never asks, so nobody can answer for them. */
function renderNeighbours({ mac, ipv4, ipv6 }: VmNetwork, bridge: string): string[] {
  const neighbour = (address: string) => `neigh replace ${address} lladdr ${mac} dev ${bridge} nud permanent`
  if (ipv6 === undefined) return [neighbour(ipv4)]
  return [neighbour(ipv4), neighbour(ipv6), `route replace ${ipv6}/128 dev ${bridge} proto ${vmRouteProtocol}`]
}

/** Takes away what a VM had and does not have any more. */
async function forgetAddresses(
  { host, exec }: ActionContext,
  old: VmNetwork,
  next: VmNetwork | undefined,
): Promise<void> {
  const { bridge } = host.config.network
  if (old.ipv6 !== undefined && old.ipv6 !== next?.ipv6) await deleteRoute(exec, old.ipv6, bridge)
  const gone = [old.ipv4, old.ipv6].filter(
    address => address !== undefined && address !== next?.ipv4 && address !== next?.ipv6,
  )
  const lines = gone.map(address => `neigh del ${address} dev ${bridge}`)
  // -force: one that is not there is fine, and the next is tried. ip ends with 1 then.
  if (lines.length > 0)
    await exec('ip', ['-force', '-batch', '-'], { input: `${lines.join('\n')}\n` }).catch(() => undefined)
}

function checkVmIpv4(host: Host, address: string): void {
  const { network, gateway } = host.readDb().ipPool
  const pool = parseIpv4Prefix(network)!
  const value = parseIpv4Address(address)!
  if (!containsIpv4(pool, value)) throw refused(`ipv4: ${address} is not in ${formatIpv4Prefix(pool)}`)
  if (address === gateway || value === pool.network || value === lastIpv4Address(pool))
    throw refused(`ipv4: ${address} is the gateway's, the network's or the broadcast address`)
}
