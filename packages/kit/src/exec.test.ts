import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createExec, ExecError } from './exec.ts'

const exec = createExec()

test('exec: argv is taken literally, no shell looks at it', async () => {
  const { stdout } = await exec('printf', ['%s|', '$HOME', 'a b', ';ls'])
  assert.equal(stdout, '$HOME|a b|;ls|')
})

test('exec: input goes to standard input; the locale is C', async () => {
  assert.equal((await exec('cat', [], { input: 'secret' })).stdout, 'secret')
  assert.match((await exec('env', [])).stdout, /^LC_ALL=C$/m)
})

test('exec: a failure keeps argv, status and what was said, never the input', async () => {
  const failing = exec('sh', ['-c', 'cat >/dev/null; echo broken >&2; exit 3'], { input: 'secret' })
  await assert.rejects(failing, (error: unknown) => {
    assert.ok(error instanceof ExecError)
    assert.equal(error.status, 3)
    assert.equal(error.stderr, 'broken\n')
    assert.match(error.message, /exited with 3: broken/)
    assert.doesNotMatch(JSON.stringify(error), /secret/)
    return true
  })
})

test('exec: a program that is not there, and one that does not read its input', async () => {
  await assert.rejects(exec('no-such-program', []), { code: 'BH_EXEC_FAILED', status: undefined })
  await exec('true', [], { input: 'x'.repeat(1e6) })
})

test('exec: out of time, the program is killed', async () => {
  await assert.rejects(exec('sleep', ['60'], { timeoutMs: 50 }), /did not finish within 50 ms/)
})

test('createExec: the prefix comes first and every start is told', async () => {
  const started: string[] = []
  const prefixed = createExec({ prefix: ['env', 'A=1'], onSpawn: argv => started.push(argv.join(' ')) })
  assert.match((await prefixed('env', [])).stdout, /^A=1$/m)
  assert.deepEqual(started, ['env A=1 env'])
})
