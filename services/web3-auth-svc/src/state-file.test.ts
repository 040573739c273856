import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { writeStateFile } from './state-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'state-file-'))

it('replaces the whole file, for its owner only, and leaves nothing else behind', () => {
  const path = join(folder, 'file')
  writeStateFile(path, 'a longer first text')
  writeStateFile(path, 'ü')
  assert.equal(readFileSync(path, 'utf8'), 'ü')
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.deepEqual(readdirSync(folder), ['file'])
})

it('says which file it could not write', () => {
  assert.throws(
    () => writeStateFile(join(folder, 'missing', 'file'), 'x'),
    (error: unknown) => error instanceof BlockHostError && error.code === 'BH_FILE_WRITE_FAILED',
  )
})
