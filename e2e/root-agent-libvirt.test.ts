import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createExec } from '@blockhost/kit/exec.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import { tapName, vmUuid } from '@blockhost/root-agent/vm-files.ts'
import { hideKvm } from '@blockhost/testkit/hide-kvm.ts'
import { startMachine } from '@blockhost/testkit/machine.ts'

/*
 * The root agent with a real libvirt and a real QEMU (software emulation), in a machine of its own. The guest is firmware that finds
 * nothing to boot, so this costs no more than seconds; booting Debian is the provisioner's test.
 */

const agentProgram = fileURLToPath(new URL('../services/root-agent/src/main.ts', import.meta.url))
/** With the capabilities of the unit file, no more. */
const asUnit = ['setpriv', '--no-new-privs', '--bounding-set=-all,+net_admin,+chown,+fowner,+dac_override'] as const
const name = 'blockhost-001'
const template = 'aaaabbbbcccc'
const mac = '52:54:0a:09:00:0a'

const missing = await findMissing()
test('a VM of a real libvirt, from disk to destroyed', { skip: missing }, async t => {
  const host = await startMachine({ name: 'host' })
  t.after(() => host[Symbol.asyncDispose]())
  const write = (path: string, text: string) => {
    mkdirSync(join(host.path(path), '..'), { recursive: true, mode: 0o755 })
    writeFileSync(host.path(path), text, { mode: 0o640 })
  }
  write(
    '/etc/blockhost/root-agent.toml',
    "[socket]\ngroup = 'daemon'\n[vm]\naccelerator = 'qemu'\ndisk_cache = 'unsafe'\n",
  )
  write('/etc/blockhost/db.yaml', "ip_pool: {network: '10.9.0.0/24', start: 10, end: 99, gateway: 10.9.0.1}\n")
  write('/etc/libvirt/qemu.conf', 'security_driver = "none"\ncgroup_controllers = [ ]\nnamespaces = [ ]\n')
  mkdirSync(host.path('/run/blockhost'))
  await hideKvm(host)
  await host.exec('virtlogd', ['-d'])
  await host.exec('libvirtd', ['-d'])
  const agent = await host.spawn([...asUnit, process.execPath, agentProgram])
  const path = host.path('/run/blockhost/root-agent.sock')
  await Promise.race([until(() => existsSync(path)), agent.ended])
  const ask = async (action: string, params: object = {}) =>
    (await callFrame(path, { action, params }, { timeoutMs: 60_000, maxBytes: 1024 * 1024 })) as Record<string, unknown>
  const call = async (action: string, params: object = {}) => {
    const answer = await ask(action, params)
    assert.equal(answer.ok, true, `${action}: ${JSON.stringify(answer)}`)
    return answer
  }
  const stateIs = async (state: string) => assert.equal((await call('vm-status', { name })).state, state)
  const templatePath = `/var/lib/blockhost/templates/${template}.qcow2`
  await host.exec('qemu-img', ['create', '-q', '-f', 'qcow2', templatePath, '1G'])

  assert.equal((await call('host-status')).libvirt, true)
  await stateIs('absent')
  const network = {
    mac,
    ipv4: { address: '10.9.0.10', prefix_length: 24, gateway: '10.9.0.1' },
    nameservers: ['9.9.9.9'],
  }
  for (let again = 0; again < 2; again++) {
    await call('vm-disk-create', { name, template, disk_gib: 2 })
    await call('vm-seed-write', { name, user_data: '#cloud-config\n', network })
    const defined = await call('vm-define', { name, vcpus: 1, memory_mib: 128, mac, template })
    assert.equal(defined.uuid, vmUuid(name))
  }
  await stateIs('stopped')
  await call('vm-network-add', { name, mac, ipv4: '10.9.0.10' })
  for (let again = 0; again < 2; again++) await call('vm-start', { name })
  await stateIs('running')
  assert.deepEqual((await call('vm-list')).vms, [{ name, state: 'running' }])
  const port = JSON.parse((await host.exec('ip', ['-j', '-d', 'link', 'show', 'dev', tapName(name)])).stdout)[0]
  assert.deepEqual([port.master, port.linkinfo.info_slave_data.isolated], ['br-blockhost', true])
  for (let again = 0; again < 2; again++) await call('vm-suspend', { name })
  await stateIs('paused')
  for (let again = 0; again < 2; again++) await call('vm-resume', { name })
  await stateIs('running')
  const { stats } = await call('vm-metrics', { name })
  assert.ok((stats as Record<string, number>)['cpu.time']! > 0)
  assert.deepEqual(await call('vm-guest-ping', { name }), { ok: true, alive: false })
  assert.equal((await ask('vm-guest-exec', { name, argv: ['id'] })).code, 'BH_LIBVIRT_FAILED')
  assert.equal(typeof (await call('vm-console', { name })).output, 'string')
  assert.deepEqual(await call('vm-shutdown', { name, seconds: 1 }), { ok: true, stopped: false })
  assert.equal(statSync(host.path(`/var/lib/blockhost/vms/${name}.qcow2`)).mode & 0o077, 0, 'the disk is private')
  for (let again = 0; again < 2; again++) await call('vm-stop', { name })
  await stateIs('stopped')
  await call('vm-start', { name })

  write(
    '/run/prod.xml',
    '<domain type="qemu"><name>prod</name><memory unit="MiB">64</memory><os><type>hvm</type></os></domain>',
  )
  await host.exec('virsh', ['-c', 'qemu:///system', 'define', '/run/prod.xml'])
  assert.equal((await call('vm-status', { name: 'prod' })).state, 'absent')
  await call('vm-destroy', { name: 'prod' })
  assert.match((await host.exec('virsh', ['-c', 'qemu:///system', 'list', '--all', '--name'])).stdout, /^prod$/m)

  await call('vm-network-del', { name })
  for (let again = 0; again < 2; again++) await call('vm-destroy', { name })
  await stateIs('absent')
  assert.deepEqual(readdirSync(host.path('/var/lib/blockhost/vms')), [])
  assert.ok(existsSync(host.path(templatePath)))
})

/** Says what can't be done here, for the skipped test's line. */
async function findMissing(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'needs root: it makes namespaces'
  const programs = ['libvirtd', 'virtlogd', 'virsh', 'qemu-img', 'qemu-system-x86_64', 'genisoimage']
  const { stdout } = await createExec()('sh', [
    '-c',
    `for p in ${programs.join(' ')}; do command -v $p >/dev/null || echo $p; done`,
  ])
  return stdout === '' ? false : `not installed: ${stdout.trim().replaceAll('\n', ', ')}`
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 1000, `still not: ${condition}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
