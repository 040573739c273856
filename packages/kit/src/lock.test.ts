import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { takeLock } from './lock.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'broker-lock-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

test('takeLock: a second holder is refused with exit 75 until the first lets go', () => {
  const path = join(folder, 'new', 'ipam.db')
  const first = takeLock(path, 'blockhost-test')
  assert.throws(() => takeLock(path, 'blockhost-test'), { code: 'BH_ALREADY_RUNNING', exitCode: 75 })
  first[Symbol.dispose]()
  takeLock(path, 'blockhost-test')[Symbol.dispose]()
})

test('takeLock: databases of their own do not disturb each other', () => {
  using _one = takeLock(join(folder, 'one.db'), 'blockhost-test')
  using _two = takeLock(join(folder, 'two.db'), 'blockhost-test')
})

test('takeLock: a place that can hold no lock is an error of its own', () => {
  writeFileSync(join(folder, 'file'), '')
  assert.throws(() => takeLock(join(folder, 'file', 'ipam.db'), 'blockhost-test'), {
    code: 'BH_LOCK_FAILED',
    exitCode: 1,
  })
})
