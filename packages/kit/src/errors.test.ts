import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BlockHostError, describeError, errorToJson, isRetryable, messageOf, toExitCode } from './errors.ts'

const cause = new Error('connect ECONNREFUSED 127.0.0.1:1\nat somewhere')
const error = new BlockHostError({
  code: 'BH_RPC_UNREACHABLE',
  message: 'Could not reach the chain at http://127.0.0.1:1',
  hint: 'Start the node, or correct rpc_url.',
  fields: { url: 'http://127.0.0.1:1' },
  retryable: true,
  cause,
})

test('describeError: the sentence, its causes, and what to do', () => {
  assert.equal(
    describeError(error),
    [
      'Could not reach the chain at http://127.0.0.1:1',
      '  because: connect ECONNREFUSED 127.0.0.1:1; at somewhere',
      '  what to do: Start the node, or correct rpc_url.',
    ].join('\n'),
  )
})

test('errorToJson: code, message, hint, fields and cause; foreign errors are BH_UNEXPECTED', () => {
  assert.deepEqual(errorToJson(error), {
    code: 'BH_RPC_UNREACHABLE',
    message: 'Could not reach the chain at http://127.0.0.1:1',
    hint: 'Start the node, or correct rpc_url.',
    retryable: true,
    fields: { url: 'http://127.0.0.1:1' },
    cause: 'connect ECONNREFUSED 127.0.0.1:1; at somewhere',
  })
  assert.deepEqual(errorToJson('x'), { code: 'BH_UNEXPECTED', message: 'x', retryable: false })
})

test('toExitCode: 75 for what may go away, 1 otherwise, or what the error says', () => {
  assert.equal(toExitCode(error), 75)
  assert.equal(toExitCode(new BlockHostError({ code: 'BH_X', message: 'x' })), 1)
  assert.equal(toExitCode(new BlockHostError({ code: 'BH_X', message: 'x', exitCode: 78 })), 78)
  assert.equal(toExitCode(new TypeError('x')), 1)
  assert.equal(isRetryable(error), true)
  assert.equal(isRetryable(new TypeError('x')), false)
})

test('describeError: a cycle of causes ends', () => {
  const a = new Error('a')
  a.cause = a
  assert.equal(describeError(a).split('\n').length, 8)
})

test('messageOf: one line, at most 500 characters', () => {
  assert.equal(messageOf(new Error('a\n  b')), 'a; b')
  assert.equal(messageOf('x'.repeat(900)).length, 500)
})
