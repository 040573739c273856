import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { checkTrusted } from './trusted-path.ts'

function makeFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'bh-trust-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

const untrusted = { code: 'BH_PATH_UNTRUSTED', exitCode: 78 }

test('checkTrusted: a private file below a sticky folder is fine', t => {
  const file = join(makeFolder(t), 'a')
  writeFileSync(file, '', { mode: 0o600 })
  assert.ok(checkTrusted(file, 'file').isFile())
})

test('checkTrusted: what others can write, a symbolic link anywhere, and another kind, are refused', t => {
  const folder = makeFolder(t)
  const file = join(folder, 'a')
  writeFileSync(file, '')
  chmodSync(file, 0o666)
  assert.throws(() => checkTrusted(file, 'file'), untrusted)
  chmodSync(file, 0o600)
  symlinkSync(file, join(folder, 'link'))
  symlinkSync(folder, join(folder, 'self'))
  assert.throws(() => checkTrusted(join(folder, 'link'), 'file'), untrusted)
  assert.throws(() => checkTrusted(join(folder, 'self/a'), 'file'), untrusted)
  assert.throws(() => checkTrusted(folder, 'file'), untrusted)
  assert.throws(() => checkTrusted(file, 'folder'), untrusted)
  assert.throws(() => checkTrusted(`${folder}/../x`, 'file'), untrusted)
  assert.throws(() => checkTrusted('relative', 'file'), untrusted)
  assert.throws(() => checkTrusted(join(folder, 'none'), 'file'), { code: 'BH_PATH_MISSING' })
  mkdirSync(join(folder, 'open'))
  chmodSync(join(folder, 'open'), 0o777)
  writeFileSync(join(folder, 'open/a'), '', { mode: 0o600 })
  assert.throws(() => checkTrusted(join(folder, 'open/a'), 'file'), untrusted)
  chmodSync(join(folder, 'open'), 0o1777)
  assert.ok(checkTrusted(join(folder, 'open/a'), 'file'))
})

test('checkTrusted: what belongs to another user, or lies in a folder of theirs, is refused', t => {
  if (process.getuid?.() !== 0) return t.skip('needs root to give a file away')
  const folder = makeFolder(t)
  mkdirSync(join(folder, 'theirs'))
  writeFileSync(join(folder, 'theirs/a'), '', { mode: 0o600 })
  writeFileSync(join(folder, 'b'), '', { mode: 0o600 })
  chownSync(join(folder, 'b'), 65534, 65534)
  chownSync(join(folder, 'theirs'), 65534, 65534)
  assert.throws(() => checkTrusted(join(folder, 'b'), 'file'), untrusted)
  assert.throws(() => checkTrusted(join(folder, 'theirs/a'), 'file'), untrusted)
})
