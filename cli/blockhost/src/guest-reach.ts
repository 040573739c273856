import { lookup } from 'node:dns/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { EngineConfig } from '@blockhost/engine/config.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { isPublicAddress, networkHolds } from '@blockhost/net/public-address.ts'
import { parseRootAgentConfig, type RootAgentConfig } from '@blockhost/root-agent/config.ts'
import { type Finding, failed, good, warning } from './finding.ts'

/** The part of the engine's configuration that says what VMs talk to. */
export type GuestConfig = Pick<
  EngineConfig,
  'folder' | 'provisioner' | 'rpcUrls' | 'guestRpcUrls' | 'nameservers' | 'pools' | 'hostIpv6'
>

/** Gives the addresses of a name; rejects when there are none. */
export type Resolve = (name: string) => Promise<readonly string[]>

/**
 * Looks whether VMs reach the name servers and RPC endpoints that they are given: the root agent drops what goes to a private address
 * that `network.allowed_private` does not name. Names are looked up; one that is not found now is passed over. Never rejects.
 */
export async function checkGuestReach(config: GuestConfig, resolve: Resolve = resolveByHost): Promise<Finding> {
  const what = 'what VMs reach'
  if (config.provisioner === 'fake') return good(what, 'not needed')
  const file = join(config.folder, 'root-agent.toml')
  try {
    const { network } = parseRootAgentConfig(existsSync(file) ? readTextFile(file) : '', file)
    const targets = await Promise.all(targetsOf(config).map(target => locate(target, resolve)))
    const problems = targets.flatMap(target => findProblem(target, { config, network, file }) ?? [])
    if (problems.length === 0) return good(what, 'their name servers and RPC endpoints')
    const todo = [...new Set(problems.map(problem => problem.todo))].join(' ')
    return warning(what, problems.map(problem => problem.text).join('; '), todo)
  } catch (error) {
    return failed(what, error, `Correct ${file}.`)
  }
}

/** Warns when VMs, whose tenants can read everything in them, get an endpoint of the operator's with what looks like his key. */
export function checkGuestSecret({ rpcUrls, guestRpcUrls, provisioner }: GuestConfig): Finding {
  const what = 'RPC endpoint of VMs'
  if (provisioner === 'fake') return good(what, 'not needed')
  // The same list: guest_rpc_urls is not set. Who sets it has chosen.
  const open = guestRpcUrls === rpcUrls ? guestRpcUrls.filter(carriesSecret).map(url => new URL(url).host) : []
  if (open.length === 0) return good(what, guestRpcUrls.map(url => new URL(url).host).join(', '))
  return warning(
    what,
    `tenants can read rpc_url in their VMs, and that of ${open.join(', ')} looks as if it held your key`,
    'Set guest_rpc_urls in engine.yaml: an endpoint without a key, or with one of its own that is limited.',
  )
}

/** Returns whether a URL holds what looks like a key: a user or password, or in path or query a long word with digits. */
export function carriesSecret(text: string): boolean {
  const url = new URL(text)
  if (url.username !== '' || url.password !== '') return true
  if (url.pathname.split('/').some(isToken)) return true
  return [...url.searchParams].some(
    ([name, value]) => value !== '' && (/key|token|secret|auth/i.test(name) || isToken(value)),
  )
}

function isToken(word: string): boolean {
  return /^[\w-]{20,}$/.test(word) && (word.match(/\d/g)?.length ?? 0) >= 2
}

// --- reach ------------------------------------------------------------------------------------------------------------

type Target = { readonly what: string; readonly host: string; readonly port: number; readonly protocol: 'tcp' | 'udp' }
type Located = Target & { readonly addresses: readonly string[] }

function targetsOf({ nameservers, guestRpcUrls }: GuestConfig): Target[] {
  const servers = nameservers.map(host => ({ what: 'name server', host, port: 53, protocol: 'udp' }) as const)
  const endpoints = guestRpcUrls.map(text => {
    const url = new URL(text)
    const usual = /^(https|wss):$/.test(url.protocol) ? 443 : 80
    const port = url.port === '' ? usual : Number(url.port)
    return { what: 'RPC endpoint', host: url.hostname.replace(/^\[|\]$/g, ''), port, protocol: 'tcp' } as const
  })
  return [...servers, ...endpoints]
}

async function locate(target: Target, resolve: Resolve): Promise<Located> {
  if (isPublicAddress(target.host) !== undefined) return { ...target, addresses: [target.host] }
  return { ...target, addresses: await resolve(target.host).catch(() => []) }
}

type Facts = { config: GuestConfig; network: RootAgentConfig['network']; file: string }

function findProblem(target: Located, facts: Facts): { text: string; todo: string } | undefined {
  const outcomes = target.addresses.map(address => judge(address, target, facts))
  const first = outcomes[0]
  if (first === undefined || outcomes.includes(undefined)) return undefined // at least one of its addresses will do
  const { what, host, addresses } = target
  const name = addresses[0] === host ? host : `${host} (${addresses.join(', ')})`
  return { text: `VMs can not reach the ${what} ${name}: ${first.why}`, todo: first.todo }
}

/** Returns why VMs can't reach an address; `undefined` when they can. */
function judge(address: string, { port, protocol }: Target, facts: Facts): { why: string; todo: string } | undefined {
  const { config, network, file } = facts
  if (networkHolds('127.0.0.0/8', address) || networkHolds('::1/128', address))
    return {
      why: 'that is the VM itself',
      todo: 'Give VMs an address of their own for it: guest_rpc_urls, nameservers in engine.yaml.',
    }
  if ([config.pools.ipv4.gateway, config.hostIpv6].includes(address)) {
    if ((protocol === 'tcp' ? network.host_tcp_ports : network.host_udp_ports).includes(port)) return undefined
    const key = `network.host_${protocol}_ports`
    const todo = `Put ${port} into ${key} of ${file}, and run \`systemctl restart blockhost-root-agent\`.`
    return { why: `this host does not open ${protocol} port ${port} to VMs`, todo }
  }
  if (isPublicAddress(address) || network.allowed_private.some(allowed => networkHolds(allowed, address)))
    return undefined
  const todo = `Name it in network.allowed_private of ${file}, e.g. "${address}/${address.includes(':') ? 128 : 32}", and run \`systemctl restart blockhost-root-agent\`; or choose a public one.`
  return { why: 'the root agent drops what goes to private addresses', todo }
}

async function resolveByHost(name: string): Promise<readonly string[]> {
  const late = new Promise<never>((_, reject) => setTimeout(reject, 3_000, new Error('no answer in time')).unref())
  const found = await Promise.race([lookup(name, { all: true }), late])
  return found.map(({ address }) => address)
}
