/** The WireGuard interface of the host: up, down, checked. Everything through `wg-quick`, `wg`, `ip` and `ping`. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, messageOf } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { readTextFile, writeFileAtomic } from '@blockhost/kit/files.ts'
import { queryIp } from '@blockhost/net/ip.ts'
import { contains, formatAddress, formatPrefix, type Prefix, parseAddress } from '@blockhost/net/prefix.ts'
import type { System } from '@blockhost/net/system.ts'
import { runTool } from '@blockhost/net/tool.ts'
import { createWireGuard, type WireGuardStatus } from '@blockhost/net/wireguard.ts'
import type { Allocation } from './allocation.ts'
import { hostAddress, leaseTexts, routableGateway } from './lease.ts'
import type { Progress } from './progress.ts'
import { confHeader, renderWgQuick, routingTable, undoCommands } from './wg-quick.ts'

/** What the tunnel's functions need from outside. */
export type TunnelDeps = {
  readonly exec: Exec
  readonly system: System
  readonly clock: Clock
  readonly progress: Progress
}

/** How the tunnel is set up. */
export type TunnelSettings = {
  readonly wgInterface: string
  readonly wgConfDir: string
  readonly forwarding: boolean
  readonly defaultRoute: boolean
}

/** Where the `wg-quick` file of an interface lies. */
export function confPath({ wgInterface, wgConfDir }: { wgInterface: string; wgConfDir: string }): string {
  return join(wgConfDir, `${wgInterface}.conf`)
}

/**
 * Writes the `wg-quick` file of a lease, mode 0600, replacing what was there whole or not at all.
 *
 * @throws {BlockHostError} `BH_PREFIX_IN_USE` when the host already uses the prefix on its own uplink; `BH_NETWORK_TOOL_MISSING`, `BH_FILE_WRITE_FAILED`.
 */
export async function writeConf(deps: TunnelDeps, allocation: Allocation, settings: TunnelSettings): Promise<void> {
  const uplinks = await readUplinks(deps, settings.wgInterface)
  checkNotOnUplink(allocation.lease.prefix, uplinks)
  const text = renderConf(allocation, settings, await advertisedUplinks(deps, uplinks))
  mkdirSync(settings.wgConfDir, { recursive: true, mode: 0o700 })
  writeFileAtomic(confPath(settings), text, { mode: 0o600 })
}

/**
 * Rewrites the file of an interface when it belongs to this lease, told by its key: the lease's own, or the one it had before. The interface is
 * not touched. What `install` was told and found out about the uplinks is taken over.
 *
 * @returns Whether there was such a file.
 */
export function rewriteConf(
  allocation: Allocation,
  previous: Allocation | undefined,
  tunnel: { wgInterface: string; wgConfDir: string },
): boolean {
  const path = confPath(tunnel)
  const text = existsSync(path) ? readTextFile(path, { what: 'WireGuard file' }) : ''
  const key = /^\s*PrivateKey\s*=\s*(\S+)\s*$/m.exec(text)?.[1]
  if (key === undefined || (key !== allocation.wgPrivateKey && key !== previous?.wgPrivateKey)) return false
  const uplinks = [
    ...text.matchAll(/^PostUp = echo 2 > \/proc\/sys\/net\/ipv6\/conf\/([a-zA-Z0-9_=+.-]{1,15})\/accept_ra /gm),
  ]
  // A file of the first generation says nothing about forwarding; its installer had switched it on.
  const forwarding = text.includes('/proc/sys/net/ipv6/conf/all/forwarding') || !text.startsWith(confHeader)
  const defaultRoute = /^PostUp = ip -6 route replace default dev %i metric /m.test(text)
  const settings = { ...tunnel, forwarding, defaultRoute }
  writeFileAtomic(
    path,
    renderConf(
      allocation,
      settings,
      uplinks.map(match => match[1]!),
    ),
    { mode: 0o600 },
  )
  return true
}

function renderConf(allocation: Allocation, settings: TunnelSettings, uplinks: readonly string[]): string {
  const { lease } = allocation
  const texts = leaseTexts(lease)
  return renderWgQuick({
    wgInterface: settings.wgInterface,
    privateKey: allocation.wgPrivateKey,
    hostAddress: hostAddress(lease.prefix),
    prefix: texts.prefix,
    gateway: routableGateway(lease),
    brokerPubkey: texts.brokerPubkey,
    brokerEndpoint: texts.brokerEndpoint,
    forwarding: settings.forwarding,
    advertisedUplinks: uplinks,
    defaultRoute: settings.defaultRoute,
  })
}

/**
 * Takes the interface down (if it is up), writes its file and brings it up.
 *
 * @throws {BlockHostError} as {@link writeConf}, before anything is taken down; `BH_TUNNEL_UP_FAILED` with what `wg-quick` said.
 */
export async function installTunnel(deps: TunnelDeps, allocation: Allocation, settings: TunnelSettings): Promise<void> {
  checkNotOnUplink(allocation.lease.prefix, await readUplinks(deps, settings.wgInterface))
  // By the old file, whose prefix may be another.
  await stopTunnel(deps, settings, allocation.lease.prefix)
  await writeConf(deps, allocation, settings)
  await bringUp(deps, confPath(settings), settings.wgInterface)
}

/** Takes the interface down and up again by its file as it is. Throws as {@link installTunnel} does. */
export async function restartTunnel(
  deps: TunnelDeps,
  tunnel: { wgInterface: string; wgConfDir: string },
  former: Prefix,
): Promise<void> {
  await stopTunnel(deps, tunnel, former)
  await bringUp(deps, confPath(tunnel), tunnel.wgInterface)
}

/** Sets the tunnel up until the next boot: the same, from a file that nobody else can read and that is gone afterwards. */
export async function configureTunnel(
  deps: TunnelDeps,
  allocation: Allocation,
  settings: TunnelSettings,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'broker-client-')) // mkdtemp(3): mode 0700, unpredictable
  const temporary = { ...settings, wgConfDir: folder }
  try {
    await writeConf(deps, allocation, temporary)
    await stopTunnel(deps, settings, allocation.lease.prefix)
    await bringUp(deps, confPath(temporary), settings.wgInterface)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function bringUp(deps: TunnelDeps, path: string, wgInterface: string): Promise<void> {
  try {
    await runTool(deps.exec, 'wg-quick', ['up', path], { doing: `bring ${wgInterface} up`, timeoutMs: 60_000 })
  } catch (cause) {
    throw new BlockHostError({
      code: 'BH_TUNNEL_UP_FAILED',
      message: `The tunnel ${wgInterface} did not come up: ${messageOf(cause)}`,
      hint: 'Run as root, with wireguard-tools installed and either the kernel module wireguard or the package wireguard-go.',
      fields: { interface: wgInterface },
    })
  }
}

/**
 * Takes the interface down and removes what its file set up outside of it; does nothing when there is nothing. An interface of that name that is
 * not WireGuard's is left alone.
 */
export async function stopTunnel(
  deps: TunnelDeps,
  settings: { wgInterface: string; wgConfDir: string },
  prefix: Prefix | undefined,
): Promise<void> {
  const { wgInterface } = settings
  const attempt = async (command: string, args: readonly string[]) =>
    deps.exec(command, args, { timeoutMs: 30_000 }).catch(() => undefined)
  const isUp = (await listInterfaces(deps)).includes(wgInterface)
  const path = confPath(settings)
  if (isUp && existsSync(path)) await attempt('wg-quick', ['down', path])
  if (isUp && (await listInterfaces(deps)).includes(wgInterface))
    await attempt('ip', ['link', 'delete', 'dev', wgInterface])
  if (isUp) await waitForUserspace(deps, wgInterface)
  if (prefix !== undefined)
    for (const [command, ...args] of undoCommands(formatPrefix(prefix), routingTable(wgInterface)))
      await attempt(command!, args)
}

/** Asks systemd to bring the interface up at boot; returns `undefined` when it does, or one clause why it will not. */
export async function enableAtBoot(
  { exec, system }: TunnelDeps,
  settings: { wgInterface: string; wgConfDir: string },
): Promise<string | undefined> {
  if (settings.wgConfDir !== '/etc/wireguard') return 'wg-quick@.service reads /etc/wireguard only'
  // sd_booted(3)
  if (!existsSync('/run/systemd/system') || !system.hasProgram('systemctl')) return 'systemd does not run here'
  try {
    await exec('systemctl', ['enable', `wg-quick@${settings.wgInterface}`])
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}

/** Takes the tunnel down for good: interface, rules, start at boot, file. */
export async function removeTunnel(
  deps: TunnelDeps,
  settings: { wgInterface: string; wgConfDir: string },
  prefix: Prefix | undefined,
): Promise<void> {
  await stopTunnel(deps, settings, prefix)
  if (settings.wgConfDir === '/etc/wireguard' && existsSync('/run/systemd/system'))
    await deps.exec('systemctl', ['disable', `wg-quick@${settings.wgInterface}`]).catch(() => undefined)
  rmSync(confPath(settings), { force: true })
}

/** How often the broker is pinged before the tunnel counts as broken; each ping waits two seconds for its answer. */
const pings = 6

/**
 * Pings the broker through the tunnel until it answers.
 *
 * @throws {BlockHostError} `BH_TUNNEL_SILENT` saying whether there was a handshake; `BH_NETWORK_TOOL_MISSING` without ping(8).
 */
export async function checkTunnel(deps: TunnelDeps, allocation: Allocation, wgInterface: string): Promise<void> {
  const gateway = formatAddress(allocation.lease.gateway)
  const args = ['-6', '-n', '-q', '-c', '1', '-W', '2', '-I', hostAddress(allocation.lease.prefix), gateway]
  for (let tries = 1; tries <= pings; tries++)
    try {
      await runTool(deps.exec, 'ping', args, { doing: `ping the broker at ${gateway}` })
      return
    } catch (error) {
      if (error instanceof BlockHostError && error.code === 'BH_NETWORK_TOOL_MISSING') throw error
      if (tries < pings) await deps.clock.sleep(500)
    }
  throw await silence(deps, allocation, wgInterface, gateway)
}

async function silence(
  deps: TunnelDeps,
  allocation: Allocation,
  wgInterface: string,
  gateway: string,
): Promise<BlockHostError> {
  const peer = (await findStatus(deps, wgInterface))?.peers[0]
  const shook = peer?.latestHandshake !== undefined
  const { brokerEndpoint } = leaseTexts(allocation.lease)
  return new BlockHostError({
    code: 'BH_TUNNEL_SILENT',
    message: shook
      ? `The tunnel has a handshake, but the broker's address ${gateway} does not answer pings through it`
      : `The broker at ${brokerEndpoint} does not answer the tunnel's handshake`,
    hint: shook
      ? 'The broker does not forward or filters; tell its operator. The tunnel stays up.'
      : `Check that UDP to ${brokerEndpoint} gets out; if the lease is older than two minutes and was never used, the broker has taken it back: run \`broker-client request\` again. The tunnel stays up.`,
    fields: { interface: wgInterface, gateway, endpoint: brokerEndpoint, handshake: shook },
  })
}

/** Reads the interface's WireGuard state; `undefined` when it is not there, or `wg` can't be run. */
export async function findStatus({ exec }: TunnelDeps, wgInterface: string): Promise<WireGuardStatus | undefined> {
  return createWireGuard({ exec, interface: wgInterface })
    .readStatus()
    .catch(() => undefined)
}

/** Returns whether the kernel forwards IPv6 packets, which VMs behind this host need. */
export async function isForwarding({ system }: TunnelDeps): Promise<boolean> {
  return (await system.read('/proc/sys/net/ipv6/conf/all/forwarding'))?.trim() === '1'
}

async function listInterfaces({ exec }: TunnelDeps): Promise<readonly string[]> {
  const { stdout } = await exec('wg', ['show', 'interfaces'], { timeoutMs: 10_000 }).catch(() => ({ stdout: '' }))
  return stdout.split(/\s+/)
}

/** wireguard-go unlinks its socket when it ends; one started before that would lose its own. */
async function waitForUserspace({ clock }: TunnelDeps, wgInterface: string): Promise<void> {
  const socket = `/var/run/wireguard/${wgInterface}.sock`
  for (let tries = 0; tries < 100 && existsSync(socket); tries++) await clock.sleep(20)
}

type Uplink = {
  readonly name: string
  /** `ra` when the route came from a router advertisement. */
  readonly protocol: string
  readonly addresses: readonly bigint[]
}

/** The interfaces that the host's own default IPv6 routes leave by, with their addresses; one process. */
async function readUplinks({ exec }: TunnelDeps, wgInterface: string): Promise<readonly Uplink[]> {
  const [routes, links] = await queryIp(exec, ['route show default', 'addr show scope global'])
  const addressesOf = (name: unknown) =>
    links!
      .filter(link => link.ifname === name)
      .flatMap(link => (Array.isArray(link.addr_info) ? link.addr_info.map(readLocal) : []))
  return routes!.flatMap(({ dev, protocol }) => {
    if (typeof dev !== 'string' || dev === wgInterface) return []
    return [
      { name: dev, protocol: String(protocol), addresses: addressesOf(dev).filter(address => address !== undefined) },
    ]
  })
}

function readLocal(info: { local?: unknown }): bigint | undefined {
  return typeof info.local === 'string' ? parseAddress(info.local) : undefined
}

/** Without this, a broker that leases the host's own network would get the host's own traffic. */
function checkNotOnUplink(prefix: Prefix, uplinks: readonly Uplink[]): void {
  for (const { name, addresses } of uplinks)
    for (const address of addresses)
      if (contains(prefix, address))
        throw new BlockHostError({
          code: 'BH_PREFIX_IN_USE',
          message: `The leased prefix ${formatPrefix(prefix)} holds ${formatAddress(address)}, this host's own address on ${name}`,
          hint: 'The broker leases space that is not its own; tell its operator, or choose another broker.',
          fields: { prefix: formatPrefix(prefix), interface: name },
        })
}

/** Those whose advertisements the kernel reads itself (`accept_ra` 0: a daemon such as NetworkManager does, and goes on doing it). */
async function advertisedUplinks({ system }: TunnelDeps, uplinks: readonly Uplink[]): Promise<readonly string[]> {
  const names = new Set(uplinks.filter(({ protocol }) => protocol === 'ra').map(({ name }) => name))
  const read = await Promise.all(
    [...names].map(async name => ({ name, value: await system.read(`/proc/sys/net/ipv6/conf/${name}/accept_ra`) })),
  )
  return read.filter(({ value }) => value !== undefined && value.trim() !== '0').map(({ name }) => name)
}
