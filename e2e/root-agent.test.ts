import assert from 'node:assert/strict'
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { test } from 'node:test'
import { callFrame } from '@blockhost/kit/frame.ts'
import { tapName } from '@blockhost/root-agent/vm-files.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import {
  agentProgram,
  canConnect,
  canPing,
  connectMachines,
  listen,
  prepareHost,
  socket,
  startHost,
  until,
  vms,
} from './root-agent/field.ts'

if (process.getuid?.() !== 0) test('root agent', { skip: 'needs root: it makes network namespaces' }, () => undefined)
else defineTests()

function defineTests(): void {
  test('ports of VMs: closed without addresses, open for their own, for nothing else; all is brought back, and gone at the end', async t => {
    const { host, call } = await startHost(t)
    const { one, internet } = await connectMachines(t, host)
    await t.test('bridge, addresses and forwarding are there when the agent answers', async () => {
      const status = await call('host-status')
      assert.deepEqual(status.bridge, {
        name: 'br-blockhost',
        addresses: ['10.9.0.1/24', '2001:db8:5::1/128', 'fe80::1/64'],
      })
      assert.equal((await host.exec('sysctl', ['-n', 'net.ipv6.conf.all.forwarding'])).stdout, '1\n')
    })
    await t.test('a VM that has no addresses reaches nobody', async () => {
      assert.equal(await canPing(one, '10.9.0.1'), false)
    })
    await call('vm-network-add', vms.one)
    await call('vm-network-add', vms.two)
    await t.test('a VM reaches its router and the world, the world reaches the VM', async () => {
      for (const address of ['10.9.0.1', '2001:db8:5::1', '2001:db8:6::2', '192.0.2.2'])
        assert.ok(await canPing(one, address), `${address} from one`)
      assert.ok(await canPing(internet, vms.one.ipv6), 'one from the internet')
      assert.ok(await canPing(internet, vms.two.ipv6), 'two from the internet')
    })
    await t.test('VMs do not reach each other, neither on the bridge nor through the host', async () => {
      for (const address of [vms.two.ipv4, vms.two.ipv6]) assert.equal(await canPing(one, address), false, address)
      await one.exec('ip', ['neigh', 'replace', vms.two.ipv4, 'lladdr', vms.two.mac, 'dev', 'eth0'])
      assert.equal(await canPing(one, vms.two.ipv4), false, 'with the Ethernet address known')
    })
    await t.test('forged addresses are dropped', () => checkForgeries(one, host))
    await t.test('of the host, only the configured port is reached', async () => {
      await listen(t, host, 9999)
      await listen(t, host, 5353)
      assert.equal(await canConnect(one, '10.9.0.1', 5353), true)
      assert.equal(await canConnect(one, '10.9.0.1', 9999), false)
      assert.equal(await canConnect(internet, '192.0.2.1', 9999), true)
    })
    await t.test('after the host’s firewall and routes were emptied, network-ensure brings all back', async () => {
      await host.exec('nft', ['flush', 'ruleset'])
      await host.exec('ip', ['-6', 'route', 'flush', 'proto', '177'])
      assert.equal(await canPing(internet, vms.one.ipv6), false)
      assert.equal((await call('network-ensure')).vms, 2)
      assert.ok(await canPing(internet, vms.one.ipv6))
      assert.equal(await canPing(one, vms.two.ipv6), false)
    })
    await t.test('vm-network-del leaves nothing of a VM', async () => {
      for (const vm of [vms.one, vms.two, vms.one]) await call('vm-network-del', { name: vm.name })
      const routes = (await host.exec('ip', ['-6', 'route', 'show', 'proto', '177'])).stdout
      assert.match(routes, /^unreachable 2001:db8:5::\/64 dev lo [^\n]*\n$/)
      assert.equal((await host.exec('ip', ['neigh', 'show', 'nud', 'permanent', 'dev', 'br-blockhost'])).stdout, '')
      const { stdout } = await host.exec('nft', ['list', 'table', 'bridge', 'blockhost_vms'])
      assert.doesNotMatch(stdout, new RegExp(tapName(vms.one.name)))
      assert.equal(await canPing(one, '10.9.0.1'), false)
      assert.equal(existsSync(host.path('/var/lib/blockhost/vms/blockhost-001.network.json')), false)
    })
  })

  test('knock ports: closed until opened, by the clock or by hand; connections from inside are not asked', async t => {
    const { host, call } = await startHost(t)
    const { internet } = await connectMachines(t, host)
    await listen(t, host, 2222)
    assert.equal(await canConnect(internet, '192.0.2.1', 2222), false)
    assert.equal(await canConnect(host, '127.0.0.1', 2222), true)
    await call('iptables-open', { port: 2222, proto: 'tcp', comment: 'knock' })
    await call('iptables-open', { port: 2222, proto: 'tcp', comment: 'again' })
    assert.equal(await canConnect(internet, '192.0.2.1', 2222), true)
    assert.equal(await canConnect(internet, '2001:db8:6::1', 2222), true)
    await call('iptables-close', { port: 2222, proto: 'tcp', comment: 'knock' })
    assert.equal(await canConnect(internet, '192.0.2.1', 2222), false)
    await call('iptables-open', { port: 2222, proto: 'tcp', comment: 'knock', seconds: 1 })
    const isListed = async () =>
      (await host.exec('nft', ['list', 'set', 'inet', 'blockhost_knock', 'open'])).stdout.includes('2222')
    for (let tries = 0; await isListed(); tries++) {
      assert.ok(tries < 100, 'it stays open')
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    assert.equal(await canConnect(internet, '192.0.2.1', 2222), false)
  })

  test('the socket: for its group alone; a flood and stalling clients hurt nobody', async t => {
    const { host, call, path } = await startHost(t)
    assert.equal(statSync(path).mode & 0o777, 0o660)
    const gid = statSync(path).gid
    const connectAs = (groups: readonly string[]) =>
      host.exec('setpriv', [
        '--reuid=65534',
        '--regid=65534',
        ...groups,
        process.execPath,
        '-e',
        `require('node:net').connect('${socket}').on('connect', () => process.exit(0)).on('error', error => { console.error(error.code); process.exit(1) })`,
      ])
    await assert.rejects(connectAs(['--clear-groups']), /EACCES/)
    await connectAs([`--groups=${gid}`])
    const flood = Array.from({ length: 200 }, () => {
      const client = createConnection({ path })
      client.on('error', () => undefined)
      client.write(Buffer.from([0, 0, 1]))
      return client
    })
    for (let n = 0; n < 20; n++) await call('vm-network-del', { name: 'nobody' })
    for (const client of flood) client.destroy()
  })

  test('a long action runs beside short ones, and to its end when its client has gone', async t => {
    const { host, call, path } = await startHost(t)
    const release = host.path('/run/release')
    const done = host.path('/run/done')
    const started = host.path('/run/started')
    const impatient = assert.rejects(
      callFrame(path, { action: 'qm-shutdown', params: { vmid: 100 } }, { timeoutMs: 1500, maxBytes: 1000 }),
      { code: 'BH_SOCKET_TIMEOUT' },
    )
    await until(() => existsSync(started))
    await call('ip6-route-add', { address: '2001:db8:5::777/128', dev: 'br-blockhost' })
    assert.match((await host.exec('ip', ['-6', 'route', 'show', 'proto', '177'])).stdout, /2001:db8:5::777/)
    await call('ip6-route-del', { address: '2001:db8:5::777/128', dev: 'br-blockhost' })
    await impatient
    assert.equal(existsSync(done), false)
    writeFileSync(release, '')
    await until(() => existsSync(done))
    assert.equal(readFileSync(done, 'utf8'), 'shutdown 100 --timeout 300\n')
  })

  test('a seed that cloud-init finds: label, files, addresses', async t => {
    const { host, call } = await startHost(t)
    if (!(await host.exec('sh', ['-c', 'command -v genisoimage isoinfo']).catch(() => undefined)))
      return t.skip('genisoimage is not installed')
    const network = {
      mac: vms.one.mac,
      ipv4: { address: vms.one.ipv4, prefix_length: 24, gateway: '10.9.0.1' },
      ipv6: { address: vms.one.ipv6 },
      nameservers: ['9.9.9.9'],
    }
    const userData = '#cloud-config\nhostname: ünïcode\n'
    await call('vm-seed-write', { name: 'web', user_data: userData, network })
    const image = '/var/lib/blockhost/vms/web.seed.iso'
    const info = async (...args: string[]) => (await host.exec('isoinfo', [...args, '-i', image])).stdout
    assert.match(await info('-d'), /Volume id: cidata/)
    assert.equal(await info('-R', '-x', '/user-data'), userData)
    assert.match(await info('-J', '-x', '/meta-data'), /^instance-id: web-[\da-f]{16}\nlocal-hostname: web\n$/)
    const config = JSON.parse(await info('-R', '-x', '/network-config'))
    assert.deepEqual(config.ethernets.eth0.addresses, ['10.9.0.10/24', '2001:db8:5::101/128'])
    assert.equal(statSync(host.path(image)).mode & 0o777, 0o600)
  })

  test('started by systemd’s way of handing over a socket; ends when told to, and leaves that socket alone', async t => {
    const host = await prepareHost(t)
    if (!(await host.exec('sh', ['-c', 'command -v systemd-socket-activate']).catch(() => undefined)))
      return t.skip('systemd-socket-activate (Debian package systemd) is not installed')
    const activate = ['systemd-socket-activate', '--listen', '/run/blockhost/root-agent.sock'] as const
    const agent = await host.spawn([...activate, process.execPath, agentProgram])
    await until(() => existsSync(host.path(socket)))
    const answer = await callFrame(
      host.path(socket),
      { action: 'host-status' },
      { timeoutMs: 20_000, maxBytes: 100_000 },
    )
    assert.equal((answer as { ok: boolean }).ok, true)
    await agent.kill('SIGTERM')
    assert.equal((await agent.ended).status, 0)
    assert.ok(existsSync(host.path(socket)))
  })

  test('refuses to start on a configuration that others could write, with exit 78', async t => {
    const host = await prepareHost(t)
    chmodSync(host.path('/etc/blockhost/root-agent.toml'), 0o666)
    const agent = await host.spawn([process.execPath, agentProgram])
    assert.equal((await agent.ended).status, 78)
    assert.match(agent.lastLines().join('\n'), /root-agent\.toml can't be trusted: others than its owner can write it/)
  })
}

async function checkForgeries(one: Machine, host: Machine): Promise<void> {
  await one.exec('ip', ['addr', 'add', '10.9.0.77/24', 'dev', 'eth0'])
  await one.exec('ip', ['-6', 'addr', 'add', '2001:db8:5::777/128', 'dev', 'eth0'])
  assert.equal(await canPing(one, '10.9.0.1', '10.9.0.77'), false, 'IPv4')
  assert.equal(await canPing(one, '2001:db8:5::1', '2001:db8:5::777'), false, 'IPv6')
  assert.equal(await canPing(one, '10.9.0.1', vms.one.ipv4), true, 'its own')
  assert.equal(await canPing(one, '2001:db8:5::1', vms.one.ipv6), true, 'its own')
  await one.exec('ip', ['link', 'set', 'eth0', 'address', '52:54:0a:09:00:99'])
  assert.equal(await canPing(one, '10.9.0.1'), false, 'Ethernet')
  await one.exec('ip', ['link', 'set', 'eth0', 'address', vms.one.mac])
  assert.equal(await canPing(one, '10.9.0.1'), true, 'its own again')
  const { stdout } = await host.exec('nft', [
    'list',
    'chain',
    'bridge',
    'blockhost_vms',
    `from_${tapName(vms.one.name)}`,
  ])
  for (const comment of ['forged Ethernet address', 'forged address'])
    assert.match(stdout, new RegExp(`counter packets [1-9]\\d* bytes \\d+ drop comment "${comment}"`))
}
