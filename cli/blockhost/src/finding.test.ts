import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { bad, configurationCheck, exitCodeOf, failed, good, renderFindings, warning } from './finding.ts'

test('renderFindings: the worst last, each with what to do', () => {
  const findings = [
    bad('engine', 'it does not run', 'Start it.'),
    good('RPC', 'block 7'),
    warning('money', 'low', 'Send some.'),
  ]
  assert.equal(
    renderFindings(findings),
    `ok    RPC: block 7
look  money: low
      what to do: Send some.
BAD   engine: it does not run
      what to do: Start it.`,
  )
})

test('failed: with the cause, and what to do by it', () => {
  const path = '/nonexistent/minter.key'
  const missing = failed(
    'key',
    errorOf(() => readTextFile(path, { what: 'key file' })),
    'Make one.',
  )
  assert.equal(missing.text, `Could not read the key file ${path}: ENOENT: no such file or directory`)
  assert.equal(missing.todo, `Create ${path}, or name another path.`)
  const cause = Object.assign(new Error(`EACCES: permission denied, open '${path}'`), { code: 'EACCES' })
  const message = `Could not read ${path}`
  const denied = failed('key', new BlockHostError({ code: 'BH_TEST', message, hint: 'Look.', cause }), 'Make one.')
  assert.equal(denied.text, `${message}: EACCES: permission denied`)
  assert.equal(denied.todo, 'Run this command as root or as the user blockhost.')
  assert.equal(failed('key', new Error('odd'), 'Make one.').todo, 'Make one.')
})

test('exitCodeOf: 78 when the configuration is bad, 1 for anything else that is', () => {
  const look = warning('money', 'low', 'Send some.')
  assert.equal(exitCodeOf([good('RPC', 'block 7'), look]), 0)
  assert.equal(exitCodeOf([bad('engine', 'off', 'Start it.'), look]), 1)
  assert.equal(exitCodeOf([bad(configurationCheck, 'gone', 'Write it.')]), 78)
})

function errorOf(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  throw new Error('it did not fail')
}
