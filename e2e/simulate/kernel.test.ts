/** The fake kernel beside the real one: the same commands, the same facts and failures, through the same parsers. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createExec, type Exec, ExecError } from '@blockhost/kit/exec.ts'
import { createFirewall } from '@blockhost/net/firewall.ts'
import { queryIp } from '@blockhost/net/ip.ts'
import { parseInterfaceAddresses, parseLinks } from '@blockhost/net/link.ts'
import { parseProxyNeighbors } from '@blockhost/net/ndp.ts'
import { parsePrefix } from '@blockhost/net/prefix.ts'
import { parseRoutes } from '@blockhost/net/route.ts'
import { leaseElement, renderElements, renderFirewall } from '@blockhost/net/ruleset.ts'
import { createWireGuard, generateKeyPair } from '@blockhost/net/wireguard.ts'
import { createFakeKernel } from '@blockhost/testkit/fake-kernel.ts'

const needsRoot = { skip: process.getuid?.() === 0 ? false : 'needs root for a network namespace', timeout: 60_000 }
const folder = mkdtempSync(join(tmpdir(), 'blockhost-kernel-'))
after(() => rmSync(folder, { recursive: true }))
const keyFile = join(folder, 'wg.key')
writeFileSync(keyFile, `${generateKeyPair().privateKey}\n`, { mode: 0o600 })

const [one, two] = [generateKeyPair().publicKey, generateKeyPair().publicKey]
const firewallConfig = {
  interface: 'wg0',
  upstream: parsePrefix('2001:db8::/64')!,
  allocationSize: 120,
  allowedTcpPorts: [],
  ndp: { interface: 'up0', brokerAddress: parsePrefix('2001:db8::1/128')!.network },
}
const [first, second, third] = ['2001:db8::100/120', '2001:db8::200/120', '2001:db8::300/120'].map(text =>
  leaseElement(parsePrefix(text)!),
)

type Step = { readonly command: string; readonly args: readonly string[]; readonly input?: string }

const batch = (...lines: string[]): Step => ({
  command: 'ip',
  args: ['-6', '-batch', '-'],
  input: `${lines.join('\n')}\n`,
})
const wg = (...args: string[]): Step => ({ command: 'wg', args })
const nft = (input: string): Step => ({ command: 'nft', args: ['-f', '-'], input })

const steps: readonly Step[] = [
  wg('show', 'wg0', 'dump'),
  { command: 'nft', args: ['-j', 'list', 'table', 'ip6', 'blockhost_wg0'] },
  { command: 'wireguard-go', args: ['wg0'] },
  wg('set', 'wg0', 'listen-port', '51830', 'private-key', keyFile, 'peer', one!, 'allowed-ips', '2001:db8::100/120'),
  wg('set', 'wg0', 'peer', two!, 'allowed-ips', '2001:db8::100/120,2001:db8::200/120'),
  wg('set', 'wg0', 'peer', one!, 'allowed-ips', '2001:db8::200/120', 'peer', 'not-a-key', 'remove'),
  wg('set', 'wg0', 'peer', one!, 'remove', 'peer', one!, 'remove'),
  batch('route replace 2001:db8::/65 dev wg0 proto 176'),
  batch('link set dev wg0 addrgenmode none', 'link set dev wg0 up'),
  batch('addr replace 2001:db8::1/128 dev up0', 'addr replace 2001:db8::1/128 dev up0'),
  batch('route replace 2001:db8::/65 dev wg0 proto 176', 'route replace 2001:db8::/65 dev wg0 proto 176'),
  batch('neigh add proxy 2001:db8::100 dev up0', 'neigh add proxy 2001:db8::100 dev up0'),
  batch('neigh add proxy 2001:db8::101 dev up0', 'neigh del proxy 2001:db8::102 dev up0', 'link set dev up0 down'),
  batch('route del 2001:db8:8000::/65 dev wg0 proto 176'),
  batch('addr del 2001:db8::9/128 dev up0'),
  batch('link set dev gone up'),
  nft(renderFirewall(firewallConfig, [first!, second!])),
  nft(renderElements(firewallConfig, [first!], [third!])),
  nft(
    'add element ip6 blockhost_wg0 leased { 2001:db8::400 }\ndelete element ip6 blockhost_wg0 leased { 2001:db8::500 }\n',
  ),
  nft('delete table ip6 not_there\n'),
  { command: 'ip', args: ['link', 'del', 'dev', 'wg0'] },
]

test('every command has the same outcome and leaves the same network as with the real tools', needsRoot, async () => {
  await using real = await realMachine()
  const fake = createFakeKernel({ ethernet: { up0: [] }, programs: ['wireguard-go'], hasWireGuardModule: false })
  for (const step of steps) {
    const name = `${step.command} ${step.args.join(' ')} ${step.input?.split('\n', 1) ?? ''}`.slice(0, 120)
    assert.deepEqual(await outcome(fake.exec, step), await outcome(real.exec, step), name)
    if (step.command === 'wireguard-go') await until(async () => (await facts(real.exec)).links.length === 2)
    assert.deepEqual(await facts(fake.exec), await facts(real.exec), `after ${name}`)
  }
})

/** A namespace with one interface besides lo. */
async function realMachine(): Promise<AsyncDisposable & { exec: Exec }> {
  const host = createExec()
  const name = `kernel-${process.pid}`
  await host('ip', ['netns', 'add', name])
  const exec = createExec({ prefix: ['ip', 'netns', 'exec', name] })
  const end = async () => {
    await exec('ip', ['link', 'del', 'dev', 'wg0']).catch(() => undefined)
    await host('ip', ['netns', 'del', name])
  }
  try {
    await exec('ip', ['link', 'add', 'up0', 'type', 'bridge'])
    await exec('ip', ['-6', '-batch', '-'], { input: 'link set dev up0 addrgenmode none\nlink set dev up0 up\n' })
  } catch (error) {
    await end()
    throw error
  }
  return { exec, [Symbol.asyncDispose]: end }
}

/** Exit status, and the words that our code looks for; the rest of what tools say changes from version to version. */
async function outcome(exec: Exec, { command, args, input }: Step): Promise<string> {
  try {
    await exec(command, args, input === undefined ? {} : { input })
    return 'ok'
  } catch (error) {
    if (!(error instanceof ExecError)) throw error
    // What wg says on a kernel without WireGuard when there is no wireguard-go either.
    const said = error.stderr.replace('Protocol not supported', 'No such device')
    const words = /No such device|Cannot find device|No such file or directory|not up|No such process|address not found/
    return `fails: ${words.exec(said)?.[0] ?? ''}`
  }
}

async function facts(exec: Exec) {
  const questions = ['link show', 'addr show', 'route show proto 176', 'neigh show proxy']
  const [links, addresses, routes, proxies] = await queryIp(exec, questions)
  const isOurs = ({ interface: name }: { interface: string }) => name !== 'lo'
  return {
    links: parseLinks(links!).flatMap(({ name, up }) => (name === 'lo' ? [] : [`${name} ${up}`])),
    addresses: parseInterfaceAddresses(addresses!).filter(isOurs),
    routes: parseRoutes(routes!),
    proxies: parseProxyNeighbors(proxies!).toSorted((a, b) => (a.address < b.address ? -1 : 1)),
    wireguard: await peersOf(exec),
    firewall: await setsOf(exec),
  }
}

async function peersOf(exec: Exec) {
  const status = await createWireGuard({ exec, interface: 'wg0' })
    .readStatus()
    .catch(() => undefined)
  const peers = status?.peers.map(peer => ({ ...peer, allowedIps: peer.allowedIps.toSorted() }))
  // Until it is told one, the real one chooses a port.
  const listenPort = status?.listenPort === 51_830 ? 51_830 : 'any'
  return { ...status, listenPort, peers: peers?.toSorted((a, b) => (a.publicKey < b.publicKey ? -1 : 1)) }
}

async function setsOf(exec: Exec) {
  const table = await createFirewall({ exec, config: firewallConfig }).read()
  return {
    chains: table?.chains,
    sets: [...(table?.sets ?? [])].map(([name, elements]) => [name, elements.toSorted()]),
  }
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  for (const end = systemClock.monotonic() + 10_000; !(await holds()); await systemClock.sleep(20))
    assert.ok(systemClock.monotonic() < end, 'wireguard-go made no interface in 10 s')
}
