import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createExec, ExecError } from '@blockhost/kit/exec.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import { tapName } from '@blockhost/root-agent/vm-files.ts'
import { type Machine, type MachineProcess, startMachine } from '@blockhost/testkit/machine.ts'

const agentProgram = fileURLToPath(new URL('../services/root-agent/src/main.ts', import.meta.url))
/** With the capabilities of the unit file, no more. */
const asUnit = ['setpriv', '--no-new-privs', '--bounding-set=-all,+net_admin,+chown,+fowner,+dac_override'] as const
const socket = '/run/blockhost/root-agent.sock'
const prefix = '2001:db8:5::/64'
const vms = {
  one: { name: 'blockhost-001', mac: '52:54:0a:09:00:0a', ipv4: '10.9.0.10', ipv6: '2001:db8:5::101' },
  two: { name: 'blockhost-002', mac: '52:54:0a:09:00:0b', ipv4: '10.9.0.11', ipv6: '2001:db8:5::102' },
}
type VmAddresses = (typeof vms)['one']

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
      assert.equal((await host.exec('ip', ['-6', 'route', 'show', 'proto', '177'])).stdout, '')
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

async function prepareHost(t: TestContext): Promise<Machine> {
  const host = await startMachine({ name: 'host', sysctl: { 'net.ipv6.conf.default.accept_dad': 0 } })
  t.after(() => host[Symbol.asyncDispose]())
  const write = (path: string, text: string, mode = 0o640) => {
    mkdirSync(join(host.path(path), '..'), { recursive: true, mode: 0o755 })
    writeFileSync(host.path(path), text, { mode })
  }
  await host.exec('sh', ['-c', 'getent group blockhost >/dev/null || groupadd --system blockhost'])
  write('/etc/blockhost/root-agent.toml', '[network]\nhost_tcp_ports = [5353]\n[firewall]\nknock_ports = [2222]\n')
  write('/etc/blockhost/db.yaml', "ip_pool: {network: '10.9.0.0/24', start: 10, end: 99, gateway: 10.9.0.1}\n")
  write('/etc/blockhost/broker-allocation.json', JSON.stringify({ prefix }))
  mkdirSync(host.path('/run/blockhost'))
  // A qm that waits until it is let go, as one does whose guest is slow; it says what it was told.
  write(
    '/run/bin/qm',
    '#!/bin/sh\ntouch /run/started\nwhile [ ! -e /run/release ]; do sleep 0.05; done\necho "$@" >/run/done\n',
    0o755,
  )
  return host
}

async function startHost(t: TestContext) {
  const host = await prepareHost(t)
  const env = { PATH: `/run/bin:${process.env.PATH}` }
  const agent: MachineProcess = await host.spawn([...asUnit, process.execPath, agentProgram], { env })
  const path = host.path(socket)
  await Promise.race([until(() => existsSync(path)), agent.ended])
  assert.ok(existsSync(path), agent.lastLines().join('\n'))
  const call = async (action: string, params: object = {}) => {
    const answer = await callFrame(path, { action, params }, { timeoutMs: 20_000, maxBytes: 1024 * 1024 })
    assert.equal((answer as { ok: boolean }).ok, true, JSON.stringify(answer))
    return answer as Record<string, unknown>
  }
  return { host, agent, path, call }
}

/** Two machines at the ports of VMs, and the internet on the other side: 192.0.2.0/24 and 2001:db8:6::/64. */
async function connectMachines(t: TestContext, host: Machine) {
  const start = async (name: string) => {
    const machine = await startMachine({
      name,
      sysctl: { 'net.ipv6.conf.all.accept_dad': 0, 'net.ipv6.conf.default.accept_dad': 0 },
    })
    t.after(() => machine[Symbol.asyncDispose]())
    return machine
  }
  const [one, two, internet] = [await start('one'), await start('two'), await start('internet')]
  for (const [machine, vm] of [
    [one, vms.one],
    [two, vms.two],
  ] as [Machine, VmAddresses][]) {
    const tap = tapName(vm.name)
    await connect(host, tap, machine, ['address', vm.mac])
    await host.exec('ip', ['link', 'set', tap, 'master', 'br-blockhost', 'up'])
    const setUp = `link set eth0 up\naddr add ${vm.ipv4}/24 dev eth0\naddr add ${vm.ipv6}/128 dev eth0\nroute add default via 10.9.0.1\n`
    await machine.exec('ip', ['-batch', '-'], { input: setUp })
    await machine.exec('ip', ['-6', 'route', 'add', 'default', 'via', 'fe80::1', 'dev', 'eth0'])
  }
  await connect(host, 'wan', internet)
  await host.exec('ip', ['-batch', '-'], {
    input: 'link set wan up\naddr add 192.0.2.1/24 dev wan\naddr add 2001:db8:6::1/64 dev wan nodad\n',
  })
  await internet.exec('ip', ['-batch', '-'], {
    input: 'link set eth0 up\naddr add 192.0.2.2/24 dev eth0\naddr add 2001:db8:6::2/64 dev eth0 nodad\n',
  })
  await internet.exec('ip', ['-6', 'route', 'add', prefix, 'via', '2001:db8:6::1'])
  return { one, two, internet }
}

/** A cable from a port of the host to the other machine's `eth0`. */
async function connect(host: Machine, port: string, machine: Machine, peerOptions: readonly string[] = []) {
  const peer = ['peer', 'name', 'eth0', ...peerOptions, 'netns', `${machine.pid}`]
  await createExec()('ip', ['link', 'add', port, 'netns', `${host.pid}`, 'type', 'veth', ...peer])
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

async function canPing(machine: Machine, address: string, source?: string): Promise<boolean> {
  const from = source === undefined ? [] : ['-I', source]
  // Three tries of which one is enough: the first packet after a change may be lost to resolution.
  return succeeds(machine.exec('ping', ['-q', '-c', '3', '-i', '0.2', '-W', '1', ...from, address]))
}

async function canConnect(machine: Machine, address: string, port: number): Promise<boolean> {
  const code = `require('node:net').connect({host:'${address}',port:${port},timeout:1000}).on('connect',()=>process.exit(0)).on('timeout',()=>process.exit(1)).on('error',()=>process.exit(1))`
  return succeeds(machine.exec(process.execPath, ['-e', code]))
}

async function listen(t: TestContext, machine: Machine, port: number): Promise<void> {
  const code = `require('node:net').createServer(c=>{c.on('error',()=>{});c.end()}).listen(${port},'::',()=>console.log('ready'))`
  const ready = Promise.withResolvers<void>()
  const server = await machine.spawn([process.execPath, '-e', code], { onLine: () => ready.resolve() })
  t.after(() => server.kill('SIGKILL'))
  await Promise.race([ready.promise, server.ended])
}

async function succeeds(work: Promise<unknown>): Promise<boolean> {
  try {
    await work
    return true
  } catch (error) {
    if (error instanceof ExecError && error.status !== undefined) return false
    throw error
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 1000, `still not: ${condition}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
