import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { takeLock } from './lock.ts'

const folder = mkdtempSync(join(tmpdir(), 'bc-lock-'))
after(() => rmSync(folder, { recursive: true }))

describe('takeLock', () => {
  it('is held by one at a time, and free again afterwards', () => {
    const dir = join(folder, 'etc')
    {
      using _held = takeLock(dir)
      assert.throws(() => takeLock(dir), failure('BH_ALREADY_RUNNING', true))
      using _other = takeLock(join(folder, 'other'))
    }
    using _again = takeLock(dir)
  })

  it('says when the folder can not be used', () => {
    writeFileSync(join(folder, 'file'), '')
    assert.throws(() => takeLock(join(folder, 'file')), failure('BH_CONFIG_DIR_UNUSABLE', false))
  })
})

function failure(code: string, retryable: boolean): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === code && error.retryable === retryable
}
