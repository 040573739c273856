import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { localSystem } from './system.ts'

const folder = mkdtempSync(join(tmpdir(), 'blockhost-system-'))
after(() => rmSync(folder, { recursive: true }))

test('read: text, or undefined for a file or process that is not there', async () => {
  assert.match((await localSystem.read('/proc/self/cmdline')) ?? '', /node/)
  for (const path of [join(folder, 'none'), '/proc/999999999/cmdline', '/proc/self/cmdline/none'])
    assert.equal(await localSystem.read(path), undefined, path)
  await assert.rejects(localSystem.read(folder), { code: 'BH_FILE_READ_FAILED' })
})

test('write: a readable file, in a folder that it makes', async () => {
  const path = join(folder, 'run', 'ndppd.conf')
  await localSystem.write(path, 'proxy up0 {}\n')
  assert.equal(await localSystem.read(path), 'proxy up0 {}\n')
  assert.equal(statSync(path).mode & 0o777, 0o644)
})

test('write: a kernel setting that does not exist is an error with a hint', async () => {
  const path = '/proc/sys/net/ipv6/conf/no-such-interface/proxy_ndp'
  await assert.rejects(localSystem.write(path, '1\n'), { code: 'BH_KERNEL_SETTING_FAILED', retryable: true })
})

test('hasProgram looks where programs are', () => {
  assert.ok(localSystem.hasProgram('sh'))
  assert.ok(!localSystem.hasProgram('no-such-program'))
})

test('signal: a process that is gone is fine', () => {
  localSystem.signal(999_999_999, 'SIGTERM')
})
