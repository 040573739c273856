import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type CpioEntry, renderCpio } from './cpio.ts'

const entries: readonly CpioEntry[] = [
  { kind: 'folder', path: 'bin' },
  { kind: 'file', path: 'bin/a', data: Buffer.from('hello'), isExecutable: true },
  { kind: 'file', path: 'empty', data: new Uint8Array(), isExecutable: false },
  { kind: 'link', path: 'bin/b', target: 'a' },
]

describe('renderCpio', () => {
  test('gives the same bytes for the same entries', () => {
    assert.deepEqual(renderCpio(entries), renderCpio(entries))
  })

  test('pads every header, name and file to four bytes', () => {
    assert.equal(renderCpio(entries).length % 4, 0)
  })

  test('is read by cpio(1)', t => {
    try {
      execFileSync('cpio', ['--version'], { stdio: 'ignore' })
    } catch {
      return t.skip('cpio is not installed')
    }
    const folder = mkdtempSync(join(tmpdir(), 'bh-cpio-'))
    try {
      execFileSync('cpio', ['--extract', '--quiet'], { cwd: folder, input: renderCpio(entries) })
      assert.equal(readFileSync(join(folder, 'bin/a'), 'utf8'), 'hello')
      assert.equal(statSync(join(folder, 'bin/a')).mode & 0o777, 0o755)
      assert.equal(readlinkSync(join(folder, 'bin/b')), 'a')
      assert.equal(statSync(join(folder, 'empty')).size, 0)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
