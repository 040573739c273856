import { BlockHostError } from '@blockhost/kit/errors.ts'
import { type Exec, ExecError } from '@blockhost/kit/exec.ts'
import { contains, parseAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import { z } from 'zod'
import { defineAction } from './action.ts'
import { refused } from './errors.ts'
import type { Host } from './host.ts'
import { deviceName, ipv6HostRoute } from './params.ts'

/**
 * The protocol number of our routes (rtnetlink(7), user-defined range); the broker's are 176 and would be taken away by it where both
 * run on one machine.
 */
export const vmRouteProtocol = 177

const schema = z.strictObject({ address: ipv6HostRoute, dev: deviceName })

/** `ip6-route-add {address: "…/128", dev}`: a host route to a VM; again is fine. */
export const ip6RouteAdd = defineAction({
  schema,
  timeoutMs: 10_000,
  lane: 'network',
  async run({ address, dev }, { host, exec }) {
    checkRoute(host, address, dev)
    await exec('ip', ['-6', 'route', 'replace', `${address}/128`, 'dev', dev, 'proto', String(vmRouteProtocol)])
    return {}
  },
})

/** `ip6-route-del {address, dev}`: one that is not there is fine. */
export const ip6RouteDel = defineAction({
  schema,
  timeoutMs: 10_000,
  lane: 'network',
  async run({ address, dev }, { host, exec }) {
    checkRoute(host, address, dev)
    await deleteRoute(exec, address, dev)
    return {}
  },
})

/** Deletes a host route of ours; one that is not there, or whose interface is gone, is fine. One that somebody else made stays. */
export async function deleteRoute(exec: Exec, address: string, dev: string): Promise<void> {
  try {
    await exec('ip', ['-6', 'route', 'del', `${address}/128`, 'dev', dev, 'proto', String(vmRouteProtocol)])
  } catch (error) {
    if (!(error instanceof ExecError) || !/No such process|Cannot find device/.test(error.stderr)) throw error
  }
}

/**
 * Refuses addresses that are not the host's to give to VMs: the rest of the internet, and its own (numbers 0 and 1 of its prefix).
 *
 * @throws {BlockHostError} `BH_ACTION_REFUSED`.
 */
export function checkVmIpv6(host: Host, address: string): void {
  const allocation = host.findAllocation()
  if (allocation === undefined) throw refused('the host has no IPv6 prefix (broker-allocation.json)')
  const prefix = parsePrefix(allocation.prefix)!
  const value = parseAddress(address)!
  if (!contains(prefix, value)) throw refused(`${address} is not in the host's prefix ${allocation.prefix}`)
  if (value - prefix.network < 2n) throw refused(`${address} is the host's own`)
}

function checkRoute(host: Host, address: string, dev: string): void {
  const { bridge, route_devices } = host.config.network
  const devices = [bridge, ...route_devices]
  if (!devices.includes(dev))
    throw new BlockHostError({
      code: 'BH_ACTION_REFUSED',
      message: `dev: only ${devices.join(', ')} may get routes`,
      hint: 'Add it to network.route_devices in root-agent.toml.',
    })
  checkVmIpv6(host, address)
}
