/** The tunnel that `broker-client` sets up, on real namespaces, with `wg-quick` and wireguard-go; the broker here is a bare WireGuard interface. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { formatAllocation } from '@blockhost/broker-client/allocation.ts'
import { parseLease } from '@blockhost/broker-client/lease.ts'
import { createRpc } from '@blockhost/chain/rpc.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { ExecError } from '@blockhost/kit/exec.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { findAnvil } from '@blockhost/testkit/anvil.ts'
import { createLab, type Lab, labAddresses } from '@blockhost/testkit/lab.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { answerAll, type ClientRun, createField, program } from './broker-client/field.ts'

const limit = { timeout: 90_000 }
const needsRoot = { skip: process.getuid?.() === 0 ? false : 'needs root for network namespaces' }
const prefix = '2001:db8:1:2::100/120'
const vmAddress = '2001:db8:1:2::110'
const gateway = labAddresses.broker.ipv6
const allocationFile = '/etc/blockhost/broker-allocation.json'
const confFile = '/etc/wireguard/wg-broker.conf'

const keys = { broker: generateKeyPair(), host: generateKeyPair() }

/** A lab in which the broker knows `peer` and the upstream routes the whole /64 to it. */
async function start(peer = keys.host.publicKey): Promise<Lab> {
  const lab = await createLab({ delivery: 'routed' })
  await lab.broker.exec('wireguard-go', ['wg0'])
  const key = '/run/wg.key'
  writeFileSync(lab.broker.path(key), `${keys.broker.privateKey}\n`, { mode: 0o600 })
  await lab.broker.exec('wg', [
    'set',
    'wg0',
    'listen-port',
    '51820',
    'private-key',
    key,
    'peer',
    peer,
    'allowed-ips',
    prefix,
  ])
  await lab.broker.exec('ip', ['-6', '-batch', '-'], { input: `link set wg0 up\nroute add ${prefix} dev wg0\n` })
  return lab
}

const grant = {
  prefix,
  gateway,
  brokerPubkey: keys.broker.publicKey,
  brokerEndpoint: `${labAddresses.broker.ipv4}:51820`,
}

function saveLease(host: Machine, over: Partial<Record<keyof typeof grant, string>> = {}): void {
  const lease = parseLease({ ...grant, ...over }, { expectUpstream: undefined })
  assert.ok(lease.ok)
  const { privateKey, publicKey } = keys.host
  const text = formatAllocation({
    lease: lease.value,
    nftContract: '',
    requestId: 1n,
    wgPrivateKey: privateKey,
    wgPublicKey: publicKey,
    allocatedAtMs: 0,
    brokerWallet: '',
  })
  mkdirSync(host.path('/etc/blockhost'), { recursive: true })
  writeFileSync(host.path(allocationFile), text, { mode: 0o600 })
}

async function client(host: Machine, ...args: string[]): Promise<ClientRun> {
  try {
    return { status: 0, ...(await host.exec(program, args, { timeoutMs: 60_000 })) }
  } catch (error) {
    if (!(error instanceof ExecError)) throw error
    return { status: error.status ?? null, stdout: '', stderr: error.stderr }
  }
}

function succeeded(run: ClientRun): void {
  assert.equal(run.status, 0, run.stderr)
}

/** What the client may change outside of its files, as text. */
async function picture({ exec }: Machine): Promise<string> {
  const answers = [
    await exec('ip', ['-6', 'rule']),
    await exec('ip', ['-6', 'route', 'show', 'table', 'all']),
    await exec('ip', ['-br', 'link']),
  ]
  return answers.map(({ stdout }) => stdout.replace(/ (expires|pref) \S+/g, '')).join('\n')
}

async function output(machine: Machine, command: string, ...args: string[]): Promise<string> {
  return (await machine.exec(command, args)).stdout
}

async function pings(from: Machine, to: string, ...options: string[]): Promise<boolean> {
  return from.exec('ping', ['-n', '-q', '-c', '1', '-W', '2', ...options, to]).then(
    () => true,
    () => false,
  )
}

describe('install', { ...needsRoot, ...limit }, () => {
  it('carries the VM’s traffic where the host has another IPv6 default route, which stays', async () => {
    await using lab = await start()
    const host = lab['host-b']
    saveLease(host)
    const before = await picture(host)
    assert.match(before, /default via fd00:b::1 dev eth0/)

    const run = await client(host, 'install')
    succeeded(run)
    assert.match(run.stderr, /not enabled at boot: systemd does not run here/)
    assert.equal(statSync(host.path(confFile)).mode & 0o777, 0o600)
    assert.equal(statSync(host.path('/etc/wireguard')).mode & 0o077, 0)

    const outside = labAddresses.internet.ipv6
    assert.match(await output(host, 'ip', '-6', 'route', 'get', outside), /dev eth0/)
    assert.match(await output(host, 'ip', '-6', 'route', 'get', outside, 'from', '2001:db8:1:2::101'), /dev wg-broker/)
    assert.ok(await pings(host, gateway), 'the broker answers the host')
    assert.ok(await pings(lab.internet, '2001:db8:1:2::101'), 'the host answers at its own address')
    await lab.giveAddress('b', vmAddress)
    assert.ok(await pings(lab.internet, vmAddress), 'the VM answers')
    assert.ok(await pings(lab['vm-b'], outside), 'the VM reaches out')
    assert.ok(await pings(lab['vm-b'], '2001:db8:1:2::101'), 'the VM reaches its host')

    const unused = await output(lab.internet, 'sh', '-c', 'ping -n -c 1 -W 2 2001:db8:1:2::177 || true')
    assert.match(
      unused,
      /From \S+ icmp_seq=1 Destination unreachable/,
      'an unused address is refused at once, not passed around',
    )
    assert.match(unused, /From 2001:db8:1:2::101 /)
  })

  it('changes nothing when run again, and leaves nothing when cleaned up', async () => {
    await using lab = await start()
    const host = lab['host-b']
    saveLease(host)
    const before = await picture(host)
    succeeded(await client(host, 'install'))
    const installed = await picture(host)
    succeeded(await client(host, 'install'))
    assert.equal(normal(await picture(host)), normal(installed))
    assert.ok(await pings(host, gateway))
    succeeded(await client(host, 'release', '--cleanup-wg'))
    assert.equal(normal(await picture(host)), normal(before))
    assert.deepEqual(readdirSync(host.path('/etc/wireguard')), [])
    assert.ok(!existsSync(host.path(allocationFile)))
  })

  it('takes over from a tunnel whose interface, or whose file, was removed by hand', async () => {
    await using lab = await start()
    const host = lab['host-a']
    saveLease(host)
    succeeded(await client(host, 'install'))
    await host.exec('ip', ['link', 'del', 'wg-broker'])
    succeeded(await client(host, 'install'))
    await host.exec('rm', [confFile])
    succeeded(await client(host, 'install'))
    assert.ok(await pings(host, gateway))
  })

  it('keeps reading router advertisements where it switches forwarding on', async () => {
    await using lab = await start()
    const host = lab['host-b']
    saveLease(host)
    const settings = '/proc/sys/net/ipv6/conf'
    await host.exec('sh', [
      '-c',
      `echo 0 >${settings}/all/forwarding; echo 1 >${settings}/eth0/accept_ra; ip -6 route replace default via fd00:b::1 dev eth0 proto ra metric 512`,
    ])
    succeeded(await client(host, 'install'))
    const values = await output(
      host,
      'cat',
      `${settings}/all/forwarding`,
      `${settings}/eth0/accept_ra`,
      `${settings}/vm0/accept_ra`,
    )
    assert.deepEqual(values.trim().split('\n').slice(0, 2), ['1', '2'])
    succeeded(await client(host, 'install'))
    assert.match(readFileSync(host.path(confFile), 'utf8'), /echo 2 > \/proc\/sys\/net\/ipv6\/conf\/eth0\/accept_ra/)
  })

  it('leaves forwarding alone when told, and says what that means', async () => {
    await using lab = await start()
    const host = lab['host-a']
    saveLease(host)
    await host.exec('sh', ['-c', 'echo 0 >/proc/sys/net/ipv6/conf/all/forwarding'])
    const run = await client(host, 'install', '--no-forwarding')
    succeeded(run)
    assert.match(run.stderr, /forwarding is off/)
    assert.equal((await output(host, 'cat', '/proc/sys/net/ipv6/conf/all/forwarding')).trim(), '0')
  })

  it('gives the host itself a way out when asked to', async () => {
    await using lab = await start()
    const host = lab['host-a']
    saveLease(host)
    assert.equal(await pings(host, labAddresses.internet.ipv6), false)
    succeeded(await client(host, 'install', '--default-route'))
    assert.ok(await pings(host, labAddresses.internet.ipv6))
    // Its own way out is the tunnel now: what comes by it for nobody must not go back.
    const unused = await output(lab.internet, 'sh', '-c', 'ping -n -c 1 -W 2 2001:db8:1:2::177 || true')
    assert.match(unused, /From 2001:db8:1:2::101 icmp_seq=1 Destination unreachable/)
  })

  it('fails when the broker does not know the key, saying what to look at', async () => {
    await using lab = await start(generateKeyPair().publicKey)
    const host = lab['host-a']
    saveLease(host)
    const run = await client(host, 'install')
    assert.equal(run.status, 1)
    assert.match(
      run.stderr,
      /does not answer the tunnel's handshake[\s\S]*what to do: Check that UDP to 198\.51\.100\.1:51820/,
    )
  })

  it('refuses a prefix that is the host’s own network, before touching anything', async () => {
    await using lab = await start()
    const host = lab['host-b']
    saveLease(host, { prefix: 'fd00:b::/64', gateway: 'fd00:c::1' })
    const before = await picture(host)
    const run = await client(host, 'install')
    assert.equal(run.status, 1)
    assert.match(run.stderr, /holds fd00:b::2, this host's own address on eth0/)
    assert.equal(await picture(host), before)
    assert.ok(!existsSync(host.path(confFile)))
  })

  it('acts on no allocation file that says more than a lease', async () => {
    await using lab = await start()
    const host = lab['host-a']
    saveLease(host)
    const text = readFileSync(host.path(allocationFile), 'utf8')
    writeFileSync(
      host.path(allocationFile),
      text.replace('198.51.100.1:51820', '198.51.100.1:51820\\nPostUp = touch /run/owned'),
    )
    const run = await client(host, 'install')
    assert.equal(run.status, 1)
    assert.match(run.stderr, /brokerEndpoint is not host:port/)
    assert.ok(!existsSync(host.path(confFile)) && !existsSync(host.path('/run/owned')))
  })

  it('is root’s', async () => {
    await using lab = await start()
    const host = lab['host-a']
    saveLease(host)
    // Nobody, but able to read this tree wherever it lies (below /root, say).
    const nobody = ['--reuid=65534', '--clear-groups', '--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search']
    const run = await host.exec('setpriv', [...nobody, program, 'install']).then(
      () => 'done',
      error => String(error.stderr),
    )
    assert.match(run, /Only root can/)
  })
})

describe('configure', { ...needsRoot, ...limit }, () => {
  it('sets the same tunnel up without leaving a file', async () => {
    await using lab = await start()
    const host = lab['host-b']
    saveLease(host)
    for (let times = 0; times < 2; times++) {
      succeeded(await client(host, 'configure'))
      assert.ok(await pings(host, gateway))
    }
    assert.ok(!existsSync(host.path(confFile)))
    assert.deepEqual(
      readdirSync('/tmp').filter(name => name.startsWith('broker-client-')),
      [],
    )
  })
})

describe('renew --configure-wg', { ...needsRoot, ...limit }, () => {
  it('brings the installed tunnel up with the new key, and after the next boot too', async () => {
    await using lab = await start()
    const address = labAddresses.internet.ipv4
    const node = await lab.internet.spawn([findAnvil(), '--host', address, '--port', '8545'])
    while (!node.lastLines().some(line => line.startsWith('Listening')))
      await new Promise(resolve => setTimeout(resolve, 20))
    await using forward = await lab.internet.forward(8545, address)
    const rpc = createRpc({ urls: [`http://127.0.0.1:${forward.port}`] }, { clock: systemClock, log: silentLog })
    using field = await createField({ rpc, url: `http://${address}:8545`, chainId: 31337 }, 3)
    await using broker = answerAll(field, { over: grant })
    const host = lab['host-b']
    const letKeyIn = async () => {
      const { wgPubkey } = await field.askedKey(await field.liveId())
      await lab.broker.exec('wg', ['set', 'wg0', 'peer', wgPubkey, 'allowed-ips', prefix])
    }
    const ask = (...args: string[]) => client(host, ...field.globals(), ...args)

    succeeded(await ask('request', ...field.askArgs()))
    await letKeyIn()
    succeeded(await ask('install'))
    const before = field.json('broker-allocation.json')
    const renewing = ask('renew', ...field.askArgs('--configure-wg'))
    while ((await field.liveId()) !== 2n) await new Promise(resolve => setTimeout(resolve, 50))
    await letKeyIn()
    succeeded(await renewing)
    assert.deepEqual(broker.answered, [1n, 2n])
    const after = field.json('broker-allocation.json')
    assert.notEqual(after.wg_public_key, before.wg_public_key)
    assert.ok(await pings(host, gateway))
    assert.equal((await output(host, 'wg', 'show', 'wg-broker', 'public-key')).trim(), after.wg_public_key)
    assert.ok(readFileSync(host.path(confFile), 'utf8').includes(String(after.wg_private_key)))
    const status = JSON.parse((await ask('status', '--json')).stdout)
    assert.equal(status.tunnel.public_key, after.wg_public_key)
    assert.ok(status.tunnel.latest_handshake !== null)
  })
})

/** The kernel numbers interfaces and lists routes in any order. */
function normal(text: string): string {
  return text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '' && !/fe80::|multicast/.test(line))
    .sort()
    .join('\n')
}
