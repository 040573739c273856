import { BlockHostError } from '@blockhost/kit/errors.ts'
import { type Exec, ExecError } from '@blockhost/kit/exec.ts'
import type { IpObject } from './ip.ts'
import { formatAddress, parseAddress } from './prefix.ts'
import { runTool } from './tool.ts'

/** A network interface. */
export type Link = {
  readonly name: string
  /** Changes when the interface is deleted and made again. */
  readonly index: number
  readonly up: boolean
}

/** An IPv6 address on an interface. */
export type InterfaceAddress = {
  readonly interface: string
  readonly address: bigint
  readonly length: number
  /** Another node on the link has it too (RFC 4862 section 5.4.5), so the kernel does not use it. */
  readonly duplicate: boolean
}

/** Returns whether `name` can name an interface in every command and file here: 1 to 15 letters, digits, `_`, `-`, `.`. */
export function isInterfaceName(name: string): boolean {
  return /^[a-z\d_][a-z\d_.-]{0,14}$/i.test(name) && !name.endsWith('\n')
}

/** Reads the answer to `link show`; entries that are no links are left out. */
export function parseLinks(answer: readonly IpObject[]): Link[] {
  return answer.flatMap(({ ifname, ifindex, flags }) =>
    typeof ifname === 'string' && typeof ifindex === 'number' && Array.isArray(flags)
      ? [{ name: ifname, index: ifindex, up: flags.includes('UP') }]
      : [],
  )
}

/** Reads the answer to `addr show`: the IPv6 addresses of all interfaces. */
export function parseInterfaceAddresses(answer: readonly IpObject[]): InterfaceAddress[] {
  return answer.flatMap(({ ifname, addr_info }) =>
    typeof ifname === 'string' && Array.isArray(addr_info)
      ? addr_info.flatMap((entry: IpObject) => parseInterfaceAddress(ifname, entry))
      : [],
  )
}

/**
 * Makes the WireGuard interface: by the kernel, or by a `wireguard-go` that puts itself into the background where the kernel has no
 * WireGuard. That process lives as long as the interface: it ends when the interface is deleted, outlives this one, and when it is
 * killed the interface goes with it. An interface of that name that exists already is left as it is.
 *
 * @returns Who runs it.
 * @throws {BlockHostError} `BH_NETWORK_TOOL_FAILED`, `BH_NETWORK_TOOL_MISSING` (neither kernel module nor wireguard-go).
 */
export async function createLink(exec: Exec, name: string): Promise<'kernel' | 'wireguard-go'> {
  try {
    await exec('ip', ['link', 'add', 'dev', name, 'type', 'wireguard'])
    return 'kernel'
  } catch (error) {
    if (!(error instanceof ExecError)) throw error
    if (/File exists/.test(error.stderr)) return 'kernel'
    if (!/Unknown device type|not supported/i.test(error.stderr)) throw linkFailed(name, error)
  }
  await runTool(exec, 'wireguard-go', [name], {
    doing: `start wireguard-go for ${name}, as the kernel has no WireGuard`,
    hint: 'Load the kernel module (modprobe wireguard), or give wireguard-go /dev/net/tun and CAP_NET_ADMIN.',
  })
  return 'wireguard-go'
}

/** Deletes the interface, peers, routes and a `wireguard-go` included; one that does not exist is fine. */
export async function deleteLink(exec: Exec, name: string): Promise<void> {
  try {
    await exec('ip', ['link', 'del', 'dev', name])
  } catch (error) {
    if (error instanceof ExecError && /Cannot find device/.test(error.stderr)) return
    throw error
  }
}

/** Returns the `ip -batch` lines that bring an interface up. It gets no link-local address: nobody is asked for one in a tunnel. */
export function renderLinkUp(name: string): string[] {
  return [`link set dev ${name} addrgenmode none`, `link set dev ${name} up`]
}

/** Returns the `ip -batch` line that gives an interface an address, the first `length` bits of which are on its link; may run twice. */
export function renderAddAddress(name: string, address: bigint, length: number): string {
  return `addr replace ${formatAddress(address)}/${length} dev ${name}`
}

/** Returns the `ip -batch` line that takes an address away. */
export function renderDeleteAddress(entry: InterfaceAddress): string {
  return `addr del ${formatAddress(entry.address)}/${entry.length} dev ${entry.interface}`
}

function parseInterfaceAddress(name: string, entry: IpObject): InterfaceAddress[] {
  const { local, prefixlen, dadfailed } = entry
  const address = typeof local === 'string' ? parseAddress(local) : undefined
  if (address === undefined || typeof prefixlen !== 'number') return []
  return [{ interface: name, address, length: prefixlen, duplicate: dadfailed === true }]
}

function linkFailed(name: string, error: ExecError): BlockHostError {
  return new BlockHostError({
    code: 'BH_NETWORK_TOOL_FAILED',
    message: `Could not make the interface ${name}: ${error.stderr.trim()}`,
    hint: 'The service needs CAP_NET_ADMIN.',
    retryable: true,
    cause: error,
  })
}
