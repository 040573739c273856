import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseMintArgs } from './main.ts'

const owner = `0x${'11'.repeat(20)}`
const never = () => assert.fail('standard input was read')

describe('parseMintArgs', () => {
  test('takes the documented flags; details from standard input', () => {
    const argv = ['--owner-wallet', owner, '--machine-id', 'blockhost-001.aa', '--public-secret', 's', '--dry-run']
    const parsed = parseMintArgs([...argv, '--user-encrypted', '-'], () => '0x0102')
    assert.deepEqual(parsed, {
      ok: true,
      dryRun: true,
      request: {
        ...{ owner, machineId: 'blockhost-001.aa', publicSecret: 's' },
        userEncrypted: new Uint8Array([1, 2]),
      },
    })
  })

  test('refuses what makes no sense', () => {
    for (const argv of [
      [],
      ['--owner-wallet', '0x1', '--machine-id', 'x'],
      ['--owner-wallet', owner],
      ['--owner-wallet', owner, '--machine-id', 'a b'],
      ['--owner-wallet', owner, '--machine-id', 'x', '--user-encrypted', '0x1'],
      ['--owner-wallet', owner, '--machine-id', 'x', '--nope'],
    ])
      assert.equal(parseMintArgs(argv, never).ok, false, argv.join(' '))
  })
})
