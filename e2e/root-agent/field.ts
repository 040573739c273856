/** The root agent as a process in a machine of its own, with ports of VMs and a world around it: what its end-to-end tests stand on. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createExec, ExecError } from '@blockhost/kit/exec.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import { tapName } from '@blockhost/root-agent/vm-files.ts'
import { type Machine, type MachineProcess, startMachine } from '@blockhost/testkit/machine.ts'

/** The agent's program. */
export const agentProgram = fileURLToPath(new URL('../../services/root-agent/src/main.ts', import.meta.url))
/** With the capabilities of the unit file, no more. */
const asUnit = ['setpriv', '--no-new-privs', '--bounding-set=-all,+net_admin,+chown,+fowner,+dac_override'] as const
/** Where it listens, inside its machine. */
export const socket = '/run/blockhost/root-agent.sock'
/** The host's IPv6 prefix. */
export const prefix = '2001:db8:5::/64'
/** Two VMs. */
export const vms = {
  one: { name: 'blockhost-001', mac: '52:54:0a:09:00:0a', ipv4: '10.9.0.10', ipv6: '2001:db8:5::101' },
  two: { name: 'blockhost-002', mac: '52:54:0a:09:00:0b', ipv4: '10.9.0.11', ipv6: '2001:db8:5::102' },
}
type VmAddresses = (typeof vms)['one']

const defaultConfig = '[network]\nhost_tcp_ports = [5353]\n[firewall]\nknock_ports = [2222]\n'

/** A machine with the configuration of a host, and no agent yet. */
export async function prepareHost(t: TestContext, config = defaultConfig): Promise<Machine> {
  const host = await startMachine({ name: 'host', sysctl: { 'net.ipv6.conf.default.accept_dad': 0 } })
  t.after(() => host[Symbol.asyncDispose]())
  const write = (path: string, text: string, mode = 0o640) => {
    mkdirSync(join(host.path(path), '..'), { recursive: true, mode: 0o755 })
    writeFileSync(host.path(path), text, { mode })
  }
  await host.exec('sh', ['-c', 'getent group blockhost >/dev/null || groupadd --system blockhost'])
  write('/etc/blockhost/root-agent.toml', config)
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

/** The same with the agent running; `call` asks it for something that it must do. */
export async function startHost(t: TestContext, config = defaultConfig) {
  const host = await prepareHost(t, config)
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
export async function connectMachines(t: TestContext, host: Machine) {
  const [one, two, internet] = [await startPeer(t, 'one'), await startPeer(t, 'two'), await startPeer(t, 'internet')]
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

/** A machine without waiting for whether its addresses are taken. */
export async function startPeer(t: TestContext, name: string): Promise<Machine> {
  const settings = { 'net.ipv6.conf.all.accept_dad': 0, 'net.ipv6.conf.default.accept_dad': 0 }
  const machine = await startMachine({ name, sysctl: settings })
  t.after(() => machine[Symbol.asyncDispose]())
  return machine
}

/** A cable from a port of the host to the other machine's `eth0`. */
export async function connect(host: Machine, port: string, machine: Machine, peerOptions: readonly string[] = []) {
  const peer = ['peer', 'name', 'eth0', ...peerOptions, 'netns', `${machine.pid}`]
  await createExec()('ip', ['link', 'add', port, 'netns', `${host.pid}`, 'type', 'veth', ...peer])
}

/** Whether one of three pings is answered. */
export async function canPing(machine: Machine, address: string, source?: string): Promise<boolean> {
  const from = source === undefined ? [] : ['-I', source]
  // Three tries of which one is enough: the first packet after a change may be lost to resolution.
  return succeeds(machine.exec('ping', ['-q', '-c', '3', '-i', '0.2', '-W', '1', ...from, address]))
}

/** Whether a TCP connection comes about within a second. */
export async function canConnect(machine: Machine, address: string, port: number): Promise<boolean> {
  const code = `require('node:net').connect({host:'${address}',port:${port},timeout:1000}).on('connect',()=>process.exit(0)).on('timeout',()=>process.exit(1)).on('error',()=>process.exit(1))`
  return succeeds(machine.exec(process.execPath, ['-e', code]))
}

/** Accepts TCP connections on a port of a machine until the test ends. */
export async function listen(t: TestContext, machine: Machine, port: number): Promise<void> {
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

/** Waits for a condition, at most 20 s. */
export async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 1000, `still not: ${condition}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** Packets that rules with this comment counted, in all chains of a table, e.g. `inet blockhost_host`. */
export async function droppedBy(host: Machine, table: string, comment: string): Promise<number> {
  const { stdout } = await host.exec('nft', ['list', 'table', ...table.split(' ')])
  const counters = stdout.matchAll(/counter packets (\d+) bytes \d+(?: drop)? comment "([^"]*)"/g)
  return [...counters].reduce((sum, [, packets, said]) => (said === comment ? sum + Number(packets) : sum), 0)
}
