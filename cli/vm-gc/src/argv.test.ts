import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseGcArgs } from './argv.ts'

function args(...argv: string[]) {
  const parsed = parseGcArgs(argv)
  assert.ok(parsed.ok, JSON.stringify(parsed))
  return parsed.args
}

describe('parseGcArgs', () => {
  test('only looks unless told to execute', () => {
    assert.deepEqual(args(), { execute: false, suspend: true, destroy: true, graceDays: undefined, json: false })
    assert.equal(args('--execute').execute, true)
  })

  test('takes the documented flags', () => {
    assert.deepEqual(args('--execute', '--suspend-only', '--grace-days', '3', '-v'), {
      execute: true,
      suspend: true,
      destroy: false,
      graceDays: 3,
      json: false,
    })
    assert.equal(args('--destroy-only').suspend, false)
  })

  test('refuses what makes no sense', () => {
    for (const argv of [
      ['--grace-days', '-1'],
      ['--grace-days', 'x'],
      ['--suspend-only', '--destroy-only'],
      ['--no'],
      ['x'],
    ])
      assert.equal(parseGcArgs(argv).ok, false, argv.join(' '))
  })
})
