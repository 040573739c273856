/** `install` and `configure`. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { type Allocation, openAllocationStore } from './allocation.ts'
import type { Command } from './argv.ts'
import { type CommandDeps, type CommandResult, requireRoot } from './command.ts'
import { hostAddress, leaseTexts } from './lease.ts'
import { takeLock } from './lock.ts'
import { checkTunnel, configureTunnel, confPath, enableAtBoot, installTunnel, isForwarding } from './tunnel.ts'

type TunnelCommand = Command & { name: 'install' | 'configure' }

/**
 * Sets up the tunnel of the saved lease, for good (`install`) or until the next boot (`configure`), and pings the broker through it.
 *
 * @throws {BlockHostError} `BH_NOT_ROOT`, `BH_NO_LEASE`, `BH_PREFIX_IN_USE`, `BH_TUNNEL_UP_FAILED`, `BH_TUNNEL_SILENT`.
 */
export async function install(command: TunnelCommand, deps: CommandDeps): Promise<CommandResult> {
  const { progress } = deps
  requireRoot(deps, 'set up a network interface')
  if (!existsSync(deps.globals.configDir)) throw noLease(deps.globals.configDir, 'it is not there')
  using _lock = takeLock(deps.globals.configDir)
  const allocation = readLease(deps.globals.configDir)
  progress.step(`bringing ${command.wgInterface} up`)
  await (command.name === 'install' ? installTunnel : configureTunnel)(deps, allocation, command)
  const notEnabled = command.name === 'install' ? await enableAtBoot(deps, command) : 'it lasts until the next boot'
  if (command.name === 'install' && notEnabled !== undefined) progress.note(`not enabled at boot: ${notEnabled}`)
  const forwarding = await isForwarding(deps)
  if (!forwarding)
    progress.note('IPv6 forwarding is off: VMs behind this host get no traffic (net.ipv6.conf.all.forwarding)')
  progress.step('pinging the broker through the tunnel')
  await checkTunnel(deps, allocation, command.wgInterface)
  progress.end('done')
  return report(command, allocation, { enabled: notEnabled === undefined, forwarding })
}

/**
 * Returns the saved lease.
 *
 * @throws {BlockHostError} `BH_NO_LEASE` when there is none, or the file is none that can be acted on.
 */
export function readLease(configDir: string): Allocation {
  const found = openAllocationStore(configDir, { mode: 0o600 }).findAllocation()
  if (found?.ok) return found.value
  throw noLease(configDir, found === undefined ? 'it is not there' : found.problem)
}

function noLease(configDir: string, problem: string): BlockHostError {
  const path = join(configDir, 'broker-allocation.json')
  return new BlockHostError({
    code: 'BH_NO_LEASE',
    message: `${path} holds no lease: ${problem}`,
    hint: 'Run `broker-client request` first.',
    fields: { path },
  })
}

function report(
  command: TunnelCommand,
  allocation: Allocation,
  facts: { enabled: boolean; forwarding: boolean },
): CommandResult {
  const { prefix, gateway } = leaseTexts(allocation.lease)
  const conf = command.name === 'install' ? confPath(command) : undefined
  const address = hostAddress(allocation.lease.prefix)
  return {
    json: { interface: command.wgInterface, address, prefix, gateway, conf: conf ?? null, ...facts },
    text: [
      `Tunnel: ${command.wgInterface} is up; the broker answers at ${gateway}`,
      `Prefix: ${prefix}`,
      `Address: ${address}`,
      ...(conf === undefined ? [] : [`File: ${conf}${facts.enabled ? ', enabled at boot' : ''}`]),
      `VMs: route each address to its bridge, e.g. ip -6 route add ADDRESS/128 dev BRIDGE${facts.forwarding ? '' : ' (IPv6 forwarding is off)'}`,
    ],
  }
}
