import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { buildTemplate, templateBuildEnv } from '@blockhost/image/build-template.ts'
import { type GuestSettings, readCloudInitTemplate, renderCloudInit } from '@blockhost/image/cloud-init.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { type ConformanceSubject, conformance } from '@blockhost/provisioners/conformance/suite.ts'
import { createLibvirtProvisioner } from '@blockhost/provisioners/libvirt/libvirt.ts'
import { connectRootAgent } from '@blockhost/provisioners/libvirt/root-agent.ts'
import type { Provisioner, VmSpec } from '@blockhost/provisioners/provisioner.ts'
import { type Machine, startMachine } from '@blockhost/testkit/machine.ts'
import { missingForVms, startVmHost } from '@blockhost/testkit/vm-host.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
// A real VM boots for minutes under software emulation, so these run when asked for.
const isWanted = process.env.BLOCKHOST_VM_TESTS === '1'
const missing = isWanted ? missingForVms() : 'takes minutes; BLOCKHOST_VM_TESTS=1 npm test -- e2e runs it'
const prefix = '2001:db8:5::/64'

if (missing !== undefined) test('VMs by libvirt', { skip: missing }, () => undefined)
else defineTests()

function defineTests(): void {
  conformance('libvirt, with a real VM', () => makeSubject())

  describe('a real VM', () => {
    test('is reached over IPv6 by SSH, forges nothing, reaches nothing of the host', { timeout: 400_000 }, async t => {
      await using subject = await makeSubject()
      const { provisioner, spec, host } = subject
      const start = systemClock.monotonic()
      await provisioner.create(spec)
      t.diagnostic(`create, until it can be logged in to: ${seconds(start)} s`)
      await t.test('SSH answers over the public IPv6 address', async () => {
        assert.match(await sshGreeting(host, spec.ipv6!.address), /^SSH-2\.0-/)
      })
      const guest = guestOf(provisioner, spec.name)
      await t.test('the VM reaches its router', async () => {
        assert.equal(await guest.pings(spec.ipv4.gateway), true)
        assert.equal(await guest.pings('2001:db8:5::1'), true)
      })
      await t.test('a service of the host is not reached', async () => {
        const service = await host.spawn([process.execPath, '-e', 'net.createServer().listen(9999, "::")'])
        try {
          await until(() => connects(host, '127.0.0.1', 9999))
          const attempt = `exec 3<>/dev/tcp/${spec.ipv4.gateway}/9999`
          assert.notEqual(await guest.run('timeout', '3', 'bash', '-c', attempt), 0)
        } finally {
          await service.kill('SIGKILL')
        }
      })
      await t.test('forged IPv4, IPv6 and Ethernet addresses go nowhere', async () => {
        await guest.run('ip', 'addr', 'add', '10.9.0.77/24', 'dev', 'eth0')
        assert.equal(await guest.pings(spec.ipv4.gateway, '10.9.0.77'), false, 'IPv4')
        await guest.run('ip', 'addr', 'add', '2001:db8:5::77/128', 'dev', 'eth0', 'nodad')
        assert.equal(await guest.pings('2001:db8:5::1', '2001:db8:5::77'), false, 'IPv6')
        await guest.run('ip', 'link', 'set', 'eth0', 'address', '52:54:00:00:00:77')
        assert.equal(await guest.pings(spec.ipv4.gateway), false, 'Ethernet')
        await guest.run('ip', 'link', 'set', 'eth0', 'address', spec.mac)
        assert.equal(await guest.pings(spec.ipv4.gateway), true, 'its own again')
      })
      await t.test('signing in has what it needs: module, service, socket, and sshd heeds it', async () => {
        const { stdout } = await provisioner.guestExec(spec.name, ['/usr/sbin/sshd', '-T'])
        assert.match(stdout, /^authenticationmethods keyboard-interactive$/m)
        assert.equal(await guest.run('systemctl', 'is-active', '--quiet', 'web3-auth.socket'), 0)
        assert.equal(await guest.run('test', '-e', '/usr/lib/x86_64-linux-gnu/security/pam_web3.so'), 0)
      })
      await provisioner.destroy(spec.name)
      assert.deepEqual(await subject.leftovers(spec.name), [])
    })
  })
}

/** One host with its own libvirt, for one VM. */
async function makeSubject(): Promise<ConformanceSubject & { readonly host: Machine }> {
  const folder = join(root, 'build/vm-templates')
  const template = await buildTemplate({
    root,
    folder,
    exec: createExec({ env: templateBuildEnv }),
    clock: systemClock,
  })
  const host = await startMachine({ name: 'vm-host', sysctl: { 'net.ipv6.conf.all.accept_dad': 0 } })
  try {
    const options = { templates: folder, workFolder: join(root, 'build/e2e'), ipv6Prefix: prefix }
    const vmHost = await startVmHost(host, options)
    const config = { template: template.id, nameservers: ['192.0.2.53'], shutdownSeconds: 60, readyTimeoutMs: 180_000 }
    const addressesOf = () => ({ mac: spec.mac, ipv4: spec.ipv4.address, ipv6: spec.ipv6?.address })
    const provisioner = createLibvirtProvisioner(config, { agent: connectRootAgent(vmHost.agentSocket), addressesOf })
    return {
      ...{ provisioner, spec, host },
      leftovers: async name => [
        ...readdirSync(vmHost.vmFolder).filter(file => file.includes(name)),
        ...((await isRouted(host)) ? ['route'] : []),
      ],
      isRouted: () => isRouted(host),
      [Symbol.asyncDispose]: async () => {
        await vmHost[Symbol.asyncDispose]()
        await host[Symbol.asyncDispose]()
      },
    }
  } catch (error) {
    await host[Symbol.asyncDispose]()
    throw error
  }
}

const settings: GuestSettings = {
  name: 'blockhost-001',
  username: 'admin',
  machineId: 'blockhost-001.1a2b3c4d',
  otpSecret: randomBytes(32),
  otpLength: 6,
  otpTtlSeconds: 300,
  chainId: 31337,
  nftContract: `0x${'ab'.repeat(20)}`,
  rpcUrls: ['http://10.9.0.1:8545'],
  pagePort: 8443,
  nameservers: ['192.0.2.53'],
}

const spec: VmSpec = {
  name: settings.name,
  vmid: 101,
  vcpus: 1,
  memoryMiB: 512,
  diskGiB: 4,
  mac: '52:54:0a:09:00:0a',
  ipv4: { address: '10.9.0.10', prefixLength: 24, gateway: '10.9.0.1' },
  ipv6: { address: '2001:db8:5::101', gateway: 'fe80::1' },
  userData: renderCloudInit(readCloudInitTemplate('nft-auth'), settings),
}

async function isRouted(host: Machine): Promise<boolean> {
  const { stdout } = await host.exec('ip', ['-6', 'route', 'show', `${spec.ipv6!.address}/128`])
  return stdout.trim() !== ''
}

function guestOf(provisioner: Provisioner, name: string) {
  const run = async (program: string, ...args: string[]) =>
    (await provisioner.guestExec(name, ['/usr/bin/env', program, ...args])).exitCode
  return {
    run,
    pings: async (to: string, from?: string) =>
      (await run('ping', '-q', '-c', '2', '-i', '0.3', '-W', '2', ...(from === undefined ? [] : ['-I', from]), to)) ===
      0,
  }
}

async function sshGreeting(host: Machine, address: string): Promise<string> {
  await using forward = await host.forward(22, address)
  return await new Promise((resolve, reject) => {
    const socket = connect(forward.port, '127.0.0.1')
    socket.setTimeout(20_000, () => socket.destroy(new Error('no greeting within 20 s')))
    socket.once('error', reject)
    socket.once('data', chunk => {
      resolve(chunk.toString())
      socket.destroy()
    })
  })
}

async function connects(host: Machine, address: string, port: number): Promise<boolean> {
  const attempt = host.exec('bash', ['-c', `exec 3<>/dev/tcp/${address}/${port}`])
  return attempt.then(
    () => true,
    () => false,
  )
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = systemClock.monotonic() + 20_000; !(await holds()); await systemClock.sleep(100))
    assert.ok(systemClock.monotonic() < deadline, 'it did not come to be within 20 s')
}

function seconds(start: number): string {
  return ((systemClock.monotonic() - start) / 1000).toFixed(1)
}
