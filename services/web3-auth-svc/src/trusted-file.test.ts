import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { readTrustedFile } from './trusted-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'trusted-'))
const me = process.getuid?.() ?? 0

it('reads a file that only its owner can write', () => {
  const path = join(folder, 'good')
  writeFileSync(path, 'text', { mode: 0o644 })
  assert.deepEqual(readTrustedFile(path, me), { kind: 'read', text: 'text' })
})

it('refuses one that others can write, or that belongs to somebody else', () => {
  const path = join(folder, 'loose')
  writeFileSync(path, 'text')
  for (const mode of [0o664, 0o646]) {
    chmodSync(path, mode)
    assert.match(reasonOf(path, me), /can be written by others/)
  }
  chmodSync(path, 0o644)
  assert.match(reasonOf(path, me + 1), /belongs to user id/)
})

it('tells what is absent, and takes nothing but a file', () => {
  assert.deepEqual(readTrustedFile(join(folder, 'none'), me), { kind: 'absent' })
  assert.match(reasonOf(folder, me), /is not a file/)
})

function reasonOf(path: string, owner: number): string {
  const file = readTrustedFile(path, owner)
  return file.kind === 'refused' ? file.reason : file.kind
}
