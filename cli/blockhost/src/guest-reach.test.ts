import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { carriesSecret, checkGuestReach, checkGuestSecret, type GuestConfig } from './guest-reach.ts'

const rpcUrls = ['https://rpc.example.net']
const base: GuestConfig = {
  ...{ folder: '/nonexistent', provisioner: 'libvirt', rpcUrls, guestRpcUrls: rpcUrls, hostIpv6: '2001:db8::1' },
  nameservers: ['2606:4700:4700::1111', '1.1.1.1'],
  pools: { vmid: { first: 100, last: 199 }, ipv4: { network: '10.77.0.0/24', gateway: '10.77.0.1' }, restSeconds: 600 },
}
const resolve = async (name: string) => {
  const known: Record<string, string[]> = {
    'rpc.example.net': ['9.9.9.9'],
    'node.lan': ['10.0.0.5'],
    'both.lan': ['10.0.0.5', '2606:4700::1'],
  }
  return known[name] ?? Promise.reject(new Error('ENOTFOUND'))
}

test('checkGuestReach: what is public will do, also where one address of several is, or a name is not found', async () => {
  for (const url of ['https://rpc.example.net', 'https://both.lan', 'https://nowhere.example', 'http://[2606::1]:8545'])
    assert.equal((await checkGuestReach({ ...base, guestRpcUrls: [url] }, resolve)).verdict, 'good', url)
})

test('checkGuestReach: what is private will not, unless the root agent lets it through', async t => {
  const config = {
    ...base,
    folder: makeFolder(t),
    nameservers: ['192.168.1.53', 'fd00::53'],
    guestRpcUrls: ['http://node.lan'],
  }
  const { verdict, text, todo } = await checkGuestReach(config, resolve)
  assert.equal(verdict, 'warning')
  assert.match(
    text,
    /name server 192\.168\.1\.53: .*; .*name server fd00::53: .*; .*RPC endpoint node\.lan \(10\.0\.0\.5\): /,
  )
  assert.match(todo!, /"192\.168\.1\.53\/32".*"fd00::53\/128".*"10\.0\.0\.5\/32"/)
  const allowed = "[network]\nallowed_private = ['192.168.1.0/24', 'fd00::/64', '10.0.0.5/32']\n"
  writeFileSync(join(config.folder, 'root-agent.toml'), allowed)
  assert.equal((await checkGuestReach(config, resolve)).verdict, 'good')
})

test('checkGuestReach: the host itself, by the ports that it opens; never the loopback', async t => {
  const folder = makeFolder(t)
  const config = { ...base, folder, nameservers: ['10.77.0.1'], guestRpcUrls: ['http://[2001:db8::1]:8545'] }
  const closed = await checkGuestReach(config, resolve)
  assert.match(closed.text, /does not open udp port 53 to VMs; .* does not open tcp port 8545 to VMs/)
  writeFileSync(join(folder, 'root-agent.toml'), '[network]\nhost_udp_ports = [53]\nhost_tcp_ports = [8545]\n')
  assert.equal((await checkGuestReach(config, resolve)).verdict, 'good')
  const own = await checkGuestReach(
    { ...config, guestRpcUrls: ['http://127.0.0.1:8545', 'http://[::1]:8545'] },
    resolve,
  )
  assert.match(own.text, /127\.0\.0\.1: that is the VM itself; .*::1: that is the VM itself/)
})

test('checkGuestReach: a file of the root agent that is wrong', async t => {
  const folder = makeFolder(t)
  writeFileSync(join(folder, 'root-agent.toml'), 'network = 5\n')
  const { verdict, text } = await checkGuestReach({ ...base, folder }, resolve)
  assert.equal(verdict, 'bad')
  assert.match(text, /root-agent\.toml can't be used: network/)
})

const key = 'k3yOfMine7aBcDeFgHiJkLmNoPqRsTuV'

test('checkGuestSecret: warns of a key that tenants get, without repeating it; not when guest_rpc_urls is set', () => {
  const mine = [`https://eth.example.net/v2/${key}`]
  const found = checkGuestSecret({ ...base, rpcUrls: mine, guestRpcUrls: mine })
  assert.equal(found.verdict, 'warning')
  assert.match(found.text, /eth\.example\.net/)
  assert.ok(!JSON.stringify(found).includes(key))
  assert.equal(checkGuestSecret({ ...base, rpcUrls: mine, guestRpcUrls: [...mine] }).verdict, 'good')
  assert.equal(checkGuestSecret(base).verdict, 'good')
})

test('carriesSecret: user, path and query, not plain names', () => {
  const secret = [
    'https://me:word@x.net',
    `https://x.net/${key}`,
    'https://x.net/?apikey=abc',
    `https://x.net/?a=${key}`,
  ]
  for (const url of [...secret, `https://x.net/0123456789abcdef0123456789abcdef/`])
    assert.equal(carriesSecret(url), true, url)
  for (const url of [
    'https://x.net',
    'https://x.net/v2',
    'https://x.net/ethereum-sepolia-archive',
    'http://10.0.0.1:8545',
  ])
    assert.equal(carriesSecret(url), false, url)
})

function makeFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'bh-guest-reach-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}
