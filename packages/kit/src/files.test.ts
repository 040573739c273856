import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { readTextFile, writeFileAtomic } from './files.ts'

function inFolder(use: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'files-'))
  try {
    use(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('writeFileAtomic: has its mode whatever the umask, replaces whole, leaves nothing beside it', () => {
  inFolder(folder => {
    const path = join(folder, 'new', 'key')
    const before = process.umask(0o077)
    try {
      writeFileAtomic(path, 'one', { mode: 0o640 })
      writeFileAtomic(path, 'two', { mode: 0o640 })
    } finally {
      process.umask(before)
    }
    assert.equal(readFileSync(path, 'utf8'), 'two')
    assert.equal(statSync(path).mode & 0o777, 0o640)
    assert.deepEqual(readdirSync(join(folder, 'new')), ['key'])
  })
})

test('writeFileAtomic: exclusive keeps what is there and says so', () => {
  inFolder(folder => {
    const path = join(folder, 'key')
    writeFileAtomic(path, 'one', { mode: 0o600, exclusive: true })
    assert.throws(() => writeFileAtomic(path, 'two', { mode: 0o600, exclusive: true }), { code: 'BH_FILE_EXISTS' })
    assert.equal(readFileSync(path, 'utf8'), 'one')
    assert.deepEqual(readdirSync(folder), ['key'])
  })
})

test('writeFileAtomic: a link at the target is replaced, not followed', () => {
  inFolder(folder => {
    const victim = join(folder, 'victim')
    writeFileSync(victim, 'untouched')
    symlinkSync(victim, join(folder, 'key'))
    writeFileAtomic(join(folder, 'key'), 'secret', { mode: 0o600 })
    assert.equal(readFileSync(victim, 'utf8'), 'untouched')
  })
})

test('readTextFile: names the file, what it was for, and what to do', () => {
  inFolder(folder => {
    const path = join(folder, 'absent')
    assert.throws(() => readTextFile(path, { what: 'operator key' }), {
      code: 'BH_FILE_READ_FAILED',
      exitCode: 78,
      message: `Could not read the operator key ${path}`,
    })
    writeFileSync(path, 'x'.repeat(11))
    assert.throws(() => readTextFile(path, { maxBytes: 10 }), { code: 'BH_FILE_TOO_LARGE' })
    assert.equal(readTextFile(path, { maxBytes: 11 }).length, 11)
  })
})
