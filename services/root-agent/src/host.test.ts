import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { parseRootAgentConfig } from './config.ts'
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
    const machine = { kvm: join(root, 'kvm'), cpuInfo: join(root, 'cpuinfo'), procSys: root }
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
