import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Exec, ExecError } from '@blockhost/kit/exec.ts'
import { createLink, deleteLink, isInterfaceName } from './link.ts'

/** An `exec` in which `ip` says this on standard error and exits 2; everything else succeeds. */
function ipSays(stderr: string): { exec: Exec; runs: string[] } {
  const runs: string[] = []
  const exec: Exec = async (command, args) => {
    runs.push([command, ...args].join(' '))
    if (command === 'ip' && stderr !== '') throw new ExecError([command, ...args], 2, stderr, 'exited with 2')
    return { stdout: '', stderr: '' }
  }
  return { exec, runs }
}

describe('createLink', () => {
  test('takes the kernel where it can', async () => {
    const { exec, runs } = ipSays('')
    assert.equal(await createLink(exec, 'wg0'), 'kernel')
    assert.deepEqual(runs, ['ip link add dev wg0 type wireguard'])
  })
  for (const stderr of ['Error: Unknown device type.\n', 'RTNETLINK answers: Operation not supported\n'])
    test(`takes wireguard-go after ${JSON.stringify(stderr)}`, async () => {
      const { exec, runs } = ipSays(stderr)
      assert.equal(await createLink(exec, 'wg0'), 'wireguard-go')
      assert.deepEqual(runs, ['ip link add dev wg0 type wireguard', 'wireguard-go wg0'])
    })
  test('leaves one alone that somebody made in the meantime', async () => {
    const { exec, runs } = ipSays('RTNETLINK answers: File exists\n')
    await createLink(exec, 'wg0')
    assert.equal(runs.length, 1)
  })
  test('tells why wireguard-go ended, not what it recommends', async () => {
    const exec: Exec = async command => {
      if (command === 'ip') throw new ExecError([command], 2, 'Error: Unknown device type.\n', 'exited with 2')
      const banner = '┌─────────┐\n│  Running wireguard-go is not required  │\n└─────────┘\n'
      const reason = 'ERROR: (wg0) Failed to create TUN device: permission denied\n'
      throw new ExecError([command], 1, banner, 'exited with 1', undefined, reason)
    }
    await assert.rejects(createLink(exec, 'wg0'), /exited with 1: ERROR: .*permission denied$/)
  })
  test('does not take wireguard-go for missing rights', async () => {
    const { exec, runs } = ipSays('RTNETLINK answers: Operation not permitted\n')
    await assert.rejects(createLink(exec, 'wg0'), { code: 'BH_NETWORK_TOOL_FAILED', retryable: true })
    assert.equal(runs.length, 1)
  })
})

test('deleteLink: one that is gone is fine, a failure is not', async () => {
  await deleteLink(ipSays('Cannot find device "wg0"\n').exec, 'wg0')
  await assert.rejects(deleteLink(ipSays('Operation not permitted\n').exec, 'wg0'), { code: 'BH_EXEC_FAILED' })
})

test('isInterfaceName: nothing that a command, a file name or a rule could misread', () => {
  for (const name of ['wg0', 'wg-broker', 'tb25255R64', 'eth0.5', 'a_b']) assert.ok(isInterfaceName(name), name)
  for (const name of [
    '',
    'sixteen-letters-',
    '-wg',
    '.',
    '..',
    'wg/0',
    'wg 0',
    'wg"0',
    'wg*',
    'wg@if2',
    'wg0\n',
    'wgé',
  ])
    assert.ok(!isInterfaceName(name), name)
})
