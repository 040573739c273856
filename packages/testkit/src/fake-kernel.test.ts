import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createFirewall } from '@blockhost/net/firewall.ts'
import { queryIp } from '@blockhost/net/ip.ts'
import { createLink, parseInterfaceAddresses, parseLinks } from '@blockhost/net/link.ts'
import { parseProxyNeighbors } from '@blockhost/net/ndp.ts'
import { parsePrefix } from '@blockhost/net/prefix.ts'
import { parseRoutes } from '@blockhost/net/route.ts'
import { leaseElement, renderElements, renderFirewall } from '@blockhost/net/ruleset.ts'
import { createWireGuard, generateKeyPair } from '@blockhost/net/wireguard.ts'
import { createFakeKernel, type FakeKernelOptions } from './fake-kernel.ts'

const one = generateKeyPair().publicKey
const two = generateKeyPair().publicKey

function machine(options: Partial<FakeKernelOptions> = {}) {
  return createFakeKernel({ ethernet: { up0: ['2001:db8::1/64'] }, programs: ['wireguard-go', 'ndppd'], ...options })
}

async function machineWithTunnel() {
  const kernel = machine()
  await kernel.exec('ip', ['link', 'add', 'dev', 'wg0', 'type', 'wireguard'])
  return { ...kernel, wireguard: createWireGuard({ exec: kernel.exec, interface: 'wg0' }) }
}

test('wg: dump is what the real parser reads; a prefix moves to the peer it was given to last', async () => {
  const { wireguard } = await machineWithTunnel()
  await wireguard.apply([
    { kind: 'set', peer: { publicKey: one, allowedIps: ['2001:db8::100/120'] } },
    { kind: 'set', peer: { publicKey: two, allowedIps: ['2001:db8::100/120'] } },
  ])
  const { peers, listenPort, publicKey } = await wireguard.readStatus()
  assert.deepEqual(
    peers.map(peer => [peer.publicKey, peer.allowedIps]),
    [
      [one, []],
      [two, ['2001:db8::100/120']],
    ],
  )
  assert.deepEqual([listenPort, publicKey], [0, undefined])
  await wireguard.apply([{ kind: 'remove', publicKey: two }])
  assert.equal((await wireguard.readStatus()).peers.length, 1)
})

test('wg: a peer with the key of the interface itself is passed over, as the kernel does', async () => {
  const { wireguard } = await machineWithTunnel()
  const pair = generateKeyPair()
  const folder = mkdtempSync(join(tmpdir(), 'fake-kernel-'))
  try {
    writeFileSync(join(folder, 'key'), pair.privateKey)
    await wireguard.apply([{ kind: 'set', peer: { publicKey: pair.publicKey, allowedIps: ['2001:db8::100/120'] } }], {
      privateKeyFile: join(folder, 'key'),
      listenPort: 51_820,
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
  assert.deepEqual(await wireguard.readStatus(), { publicKey: pair.publicKey, listenPort: 51_820, peers: [] })
})

test('wg: fails with the words of the real one when the interface is not there', async () => {
  const { exec } = machine()
  await assert.rejects(exec('wg', ['show', 'wg0', 'dump']), /Unable to access interface: No such device/)
})

test('handshake: only with a peer of an interface that is up and has a key', async () => {
  const { exec, handshake, state, wireguard } = await machineWithTunnel()
  await wireguard.apply([{ kind: 'set', peer: { publicKey: one, allowedIps: ['2001:db8::100/120'] } }])
  assert.equal(handshake(one, 1000), false)
  await exec('ip', ['-6', '-batch', '-'], { input: 'link set dev wg0 up\n' })
  state.links.get('wg0')!.wireguard!.privateKey = 'set'
  assert.equal(handshake(one, 1000), true)
  assert.equal(handshake(two, 1000), false)
  state.links.get('wg0')!.wireguard!.privateKey = undefined
  assert.equal((await wireguard.readStatus()).peers[0]!.latestHandshake, 1000)
})

test('ip: links, addresses, routes and proxies are read back by the real parsers', async () => {
  const { exec } = await machineWithTunnel()
  const lines = [
    'link set dev wg0 up',
    'addr replace 2001:db8::5/128 dev wg0',
    'route replace 2001:db8:1::/64 dev wg0 proto 176',
    'neigh add proxy 2001:db8::100 dev up0',
    'neigh add proxy 2001:db8::100 dev up0',
  ]
  await exec('ip', ['-6', '-batch', '-'], { input: `${lines.join('\n')}\n` })
  const questions = ['link show', 'addr show', 'route show proto 176', 'neigh show proxy', 'route show default']
  const [links, addresses, routes, proxies, defaults] = await queryIp(exec, questions)
  assert.deepEqual(
    parseLinks(links!).map(({ name, up }) => [name, up]),
    [
      ['up0', true],
      ['wg0', true],
    ],
  )
  assert.equal(parseInterfaceAddresses(addresses!).length, 2)
  assert.deepEqual(
    parseRoutes(routes!).map(route => route.destination),
    [parsePrefix('2001:db8:1::/64')],
  )
  assert.deepEqual(parseProxyNeighbors(proxies!), [{ address: '2001:db8::100', interface: 'up0' }])
  assert.deepEqual(defaults, [])
})

test('ip -batch: stops at the first line that fails; what was done stays done', async () => {
  const { exec, render } = machine()
  const input = 'neigh add proxy 2001:db8::100 dev up0\nlink set dev gone up\nneigh add proxy 2001:db8::101 dev up0\n'
  await assert.rejects(exec('ip', ['-6', '-batch', '-'], { input }), /Cannot find device "gone"\nCommand failed -:2/)
  assert.match(render(), /neigh proxy 2001:db8::100 dev up0/)
  assert.doesNotMatch(render(), /2001:db8::101/)
})

test('an interface that goes takes its peers, routes, proxies and settings along', async () => {
  const { exec, deleteLink, render, system } = await machineWithTunnel()
  const input = 'link set dev wg0 up\nroute replace 2001:db8:1::/64 dev wg0 proto 176\n'
  await exec('ip', ['-6', '-batch', '-'], { input })
  assert.equal(await system.read('/proc/sys/net/ipv6/conf/wg0/disable_ipv6'), '0\n')
  deleteLink('wg0')
  assert.equal(render(), 'link 2 up0 up 2001:db8::1/64\n')
  assert.equal(await system.read('/proc/sys/net/ipv6/conf/wg0/disable_ipv6'), undefined)
})

test('without the module wireguard-go makes the interface, and both live and die together', async () => {
  const { exec, state, kill, deleteLink } = machine({ hasWireGuardModule: false })
  assert.equal(await createLink(exec, 'wg0'), 'wireguard-go')
  assert.equal(kill('wireguard-go'), true)
  assert.equal(state.links.has('wg0'), false)
  await createLink(exec, 'wg0')
  deleteLink('wg0')
  assert.equal(state.processes.size, 0)
})

test('nft: the real firewall is written, read back and changed; a script applies wholly or not at all', async () => {
  const { exec, render } = machine()
  const config = {
    interface: 'wg0',
    upstream: parsePrefix('2001:db8::/64')!,
    allocationSize: 120,
    allowedTcpPorts: [8080],
    ndp: undefined,
  }
  const firewall = createFirewall({ exec, config })
  const [first, second] = ['2001:db8::100/120', '2001:db8::200/120'].map(text => leaseElement(parsePrefix(text)!))
  assert.equal(await firewall.read(), undefined)
  await firewall.apply(renderFirewall(config, [first!]))
  assert.deepEqual((await firewall.read())!.sets.get('leased'), ['2001:db8::100'])
  await firewall.apply(renderElements(config, [first!], [second!]))
  const table = (await firewall.read())!
  assert.deepEqual(table.sets.get('leased'), ['2001:db8::200'])
  assert.equal(table.chains.get('forward')!.hook, 'filter forward 0 accept')
  const before = render()
  const name = before.match(/nft (\S+)/)![1]
  const script = `add element ip6 ${name} leased { 2001:db8::300 }\ndelete element ip6 ${name} leased { 2001:db8::400 }\n`
  await assert.rejects(exec('nft', ['-f', '-'], { input: script }), /No such file or directory/)
  assert.equal(render(), before)
})

test('reboot: everything but the Ethernet interfaces is gone', async () => {
  const { exec, reboot, render } = await machineWithTunnel()
  await exec('nft', ['-f', '-'], { input: 'table ip6 t\n' })
  reboot()
  assert.match(render(), /^link \d+ up0 up 2001:db8::1\/64\n$/)
})

test('a program that is not installed can not be started', async () => {
  const { exec } = machine({ programs: [] })
  await assert.rejects(exec('ndppd', ['-d']), { code: 'BH_EXEC_FAILED', status: undefined })
})
