import assert from 'node:assert/strict'
import {
  chmodSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { parseRootAgentConfig } from './config.ts'
import { createFakeHost, fakeTemplate } from './fake-host.ts'
import { describeHost, prepareFolders } from './host.ts'

function open(t: TestContext, toml = '') {
  const root = mkdtempSync(join(tmpdir(), 'bh-host-'))
  t.after(() => rmSync(root, { recursive: true }))
  const paths = ['state', 'templates', 'vms', 'build', 'packages'].map(
    key => `${key} = ${JSON.stringify(join(root, 'lib', key === 'state' ? '' : key).replace(/\/$/, ''))}`,
  )
  const config = parseRootAgentConfig(`${toml}\n[paths]\nconfig = ${JSON.stringify(root)}\n${paths.join('\n')}`, 'x')
  const describe = (cpu: string) => {
    writeFileSync(join(root, 'cpuinfo'), cpu)
    const machine = { kvm: join(root, 'kvm'), cpuInfo: join(root, 'cpuinfo'), procSys: root, etc: root }
    return describeHost(config, { gid: 0, clock: systemClock, log: silentLog }, machine)
  }
  return { root, config, describe }
}

test('describeHost: KVM only where device and processor are there, or where it is configured', t => {
  const { root, describe } = open(t)
  const intel = 'flags\t\t: fpu vmx sse2\n'
  assert.deepEqual([describe(intel).kvm, describe(intel).accelerator], ['absent', 'qemu'])
  writeFileSync(join(root, 'kvm'), '')
  assert.deepEqual([describe('flags\t\t: fpu sse2\n').kvm, describe('').accelerator], ['unusable', 'qemu'])
  assert.deepEqual([describe(intel).kvm, describe(intel).accelerator], ['usable', 'kvm'])
  assert.equal(open(t, "[vm]\naccelerator = 'kvm'").describe('').accelerator, 'kvm')
})

test('describeHost: files that others can write are not believed', t => {
  const { root, describe } = open(t)
  writeFileSync(join(root, 'db.yaml'), '{}', { mode: 0o640 })
  assert.equal(describe('').readDb().gcGraceDays, 7)
  chmodSync(join(root, 'db.yaml'), 0o666)
  assert.throws(() => describe('').readDb(), { code: 'BH_PATH_UNTRUSTED' })
  assert.equal(describe('').findAllocation(), undefined)
  writeFileSync(join(root, 'broker-allocation.json'), '{"prefix": "2001:db8::/64"}')
  chmodSync(join(root, 'broker-allocation.json'), 0o662)
  assert.throws(() => describe('').findAllocation(), { code: 'BH_PATH_UNTRUSTED' })
})

test('prepareFolders: makes what only root may change; a link in the place of a folder is refused', t => {
  const { config } = open(t)
  prepareFolders(config, process.getgid?.() ?? 0)
  prepareFolders(config, process.getgid?.() ?? 0)
  assert.equal(statSync(config.paths.vms).mode & 0o022, 0)
  if (process.getuid?.() === 0) assert.equal(statSync(config.paths.state).mode & 0o7777, 0o1771)
  rmSync(config.paths.vms, { recursive: true })
  mkdirSync(join(config.paths.state, 'elsewhere'))
  symlinkSync(join(config.paths.state, 'elsewhere'), config.paths.vms)
  assert.throws(() => prepareFolders(config, process.getgid?.() ?? 0), { code: 'BH_PATH_UNTRUSTED' })
})

test('prepareFolders: under the umask of the unit, QEMU still comes to disks and templates', t => {
  const { config } = open(t)
  const former = process.umask(0o077)
  t.after(() => process.umask(former))
  prepareFolders(config, process.getgid?.() ?? 0)
  for (const folder of [config.paths.vms, config.paths.templates]) assert.equal(statSync(folder).mode & 0o7777, 0o711)
})

test('a folder that others came to own or may write is not written in, whatever is asked', async t => {
  const { agent, config, takeCommands } = createFakeHost(t)
  const vm = { name: 'web', mac: '52:54:0a:00:00:0a', ipv4: '10.0.0.10' }
  const network = {
    mac: vm.mac,
    ipv4: { address: vm.ipv4, prefix_length: 22, gateway: '10.0.0.1' },
    nameservers: ['9.9.9.9'],
  }
  const actions: [string, object][] = [
    ['vm-disk-create', { name: 'web', template: fakeTemplate, disk_gib: 20 }],
    ['vm-seed-write', { name: 'web', user_data: '#cloud-config\n', network }],
    ['vm-define', { name: 'web', vcpus: 1, memory_mib: 512, mac: vm.mac, template: fakeTemplate }],
    ['vm-network-add', vm],
    ['vm-network-del', { name: 'web' }],
    ['vm-console', { name: 'web' }],
    ['vm-destroy', { name: 'web' }],
    ['generate-wallet', { name: 'hot' }],
    ['addressbook-save', {}],
  ]
  chmodSync(config.paths.vms, 0o777)
  chmodSync(config.paths.config, 0o777)
  for (const [action, params] of actions) {
    const answer = await agent.handle({ action, params })
    assert.equal(answer.ok ? 'done' : answer.code, 'BH_PATH_UNTRUSTED', action)
  }
  const changing = takeCommands().filter(line => !/^(?:qemu-img info|virsh .* (?:destroy|undefine)) ?/.test(line))
  assert.deepEqual(changing, [])
  assert.deepEqual([...readdirSync(config.paths.vms), ...readdirSync(config.paths.config)].sort(), [
    'broker-allocation.json',
    'db.yaml',
  ])
})

test('no unit gives the state folder away: systemd hands a StateDirectory over with all that is in it', () => {
  const root = fileURLToPath(new URL('../../..', import.meta.url))
  const units = globSync('{services,cli,image}/**/*.{service,socket,conf}', { cwd: root, exclude: ['**/node_modules'] })
  assert.ok(units.some(unit => unit.endsWith('blockhost-engine.service')))
  for (const unit of units) {
    const text = readFileSync(join(root, unit), 'utf8')
    // Root's own unit may have a folder in it, which is root's anyway; all of it is the engine's too.
    const forbidden = /^User=root$/m.test(text) ? 'blockhost/?(?:\\s|$)' : 'blockhost(?:[/\\s]|$)'
    assert.doesNotMatch(text, new RegExp(`^StateDirectory=(?:.*\\s)?${forbidden}`, 'm'), unit)
  }
})
