import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { classifyRpcError, type RpcFailureKind, refusesBatches } from './rpc-failure.ts'

describe('classifyRpcError', () => {
  const said: [RpcFailureKind, number, string][] = [
    // geth
    ['known', -32000, 'already known'],
    ['nonce-too-low', -32000, 'nonce too low: next nonce 5, tx nonce 4'],
    ['underpriced', -32000, 'replacement transaction underpriced'],
    ['underpriced', -32000, 'transaction underpriced: tip needed 1000000, tip permitted 1'],
    ['underpriced', -32000, 'max fee per gas less than block base fee: address 0x, maxFeePerGas: 1, baseFee: 2'],
    ['insufficient-funds', -32000, 'insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1'],
    ['reverted', 3, 'execution reverted: not the owner'],
    ['reverted', -32000, 'execution reverted'],
    ['reverted', -32000, 'gas required exceeds allowance (30000000)'],
    ['reverted', -32000, 'invalid opcode: INVALID'],
    ['transient', -32000, 'header not found'],
    ['transient', -32000, 'missing trie node 0123 (path ) state 0x is not available'],
    ['transient', -32000, 'transaction indexing is in progress'],
    ['transient', -32000, 'txpool is full'],
    ['permanent', -32000, 'intrinsic gas too low: gas 20000, minimum needed 21000'],
    ['permanent', -32000, 'exceeds block gas limit'],
    ['permanent', -32000, 'max initcode size exceeded: code size 60000, limit 49152'],
    ['permanent', -32000, 'transaction type not supported'],
    ['permanent', -32000, 'invalid sender'],
    ['permanent', -32000, 'rlp: value size exceeds available input length'],
    ['permanent', -32601, 'the method eth_foo does not exist/is not available'],
    ['permanent', -32602, 'invalid argument 0: hex string has length 3, want 40 for common.Address'],
    // anvil
    ['known', -32003, 'transaction already imported'],
    ['nonce-too-low', -32003, 'nonce too low'],
    ['insufficient-funds', -32003, 'Insufficient funds for gas * price + value'],
    ['reverted', 3, 'execution reverted: custom error 0x48f5c3ed'],
    // Nethermind, Besu, Erigon
    ['nonce-too-low', -32010, 'OldNonce, Current nonce: 5, nonce of rejected tx: 4'],
    ['known', -32010, 'AlreadyKnown'],
    ['underpriced', -32010, 'FeeTooLow, MaxFeePerGas too low.'],
    ['insufficient-funds', -32004, 'Upfront cost exceeds account balance'],
    ['reverted', -32015, 'VM execution error.'],
    // providers
    ['transient', 429, 'Your app has exceeded its compute units per second capacity'],
    ['transient', -32005, 'daily request count exceeded, request rate limited'],
    ['transient', -32603, 'Internal error'],
    ['transient', -32602, 'Too many requests, please slow down'],
    ['transient', -32000, 'request timed out'],
    ['transient', -32000, 'something nobody has ever heard of'],
  ]
  for (const [kind, code, message] of said) {
    it(`${code} "${message.slice(0, 50)}" is ${kind}`, () => {
      assert.equal(classifyRpcError({ code, message }).kind, kind)
    })
  }

  it("takes a contract's words for a contract's words", () => {
    for (const text of ['insufficient balance', 'nonce too low', 'rate limit', 'already exists'])
      assert.equal(classifyRpcError({ code: -32000, message: `execution reverted: ${text}` }).kind, 'reverted')
  })

  it('finds revert data where the nodes put it', () => {
    for (const data of [
      '0x48f5c3ed',
      'Reverted 0x48f5c3ed',
      { data: '0x48F5C3ED' },
      { originalError: { data: '0x48f5c3ed' } },
    ])
      assert.deepEqual(classifyRpcError({ code: -32000, message: 'VM Exception', data }), {
        kind: 'reverted',
        code: -32000,
        message: 'VM Exception',
        data: '0x48f5c3ed',
      })
  })

  it('drops data that is too long or no data', () => {
    for (const data of [`0x${'00'.repeat(9000)}`, '0x123', 'text', 7, null])
      assert.equal(classifyRpcError({ code: 3, message: 'execution reverted', data }).data, undefined)
  })

  it('takes anything for an error, and keeps one line of it', () => {
    for (const error of [undefined, null, 'text', 7, {}, { message: 7, code: 'x' }])
      assert.equal(classifyRpcError(error).kind, 'transient')
    assert.equal(classifyRpcError({ message: `a\n\u001b[31mb${'c'.repeat(400)}` }).message.length, 300)
    assert.doesNotMatch(classifyRpcError({ message: 'a\n\u001b[31mb' }).message, /[\n\u001b]/)
  })
})

describe('refusesBatches', () => {
  it('recognises what endpoints say', () => {
    assert.equal(refusesBatches({ message: 'Batch requests are not supported' }), true)
    assert.equal(refusesBatches({ message: 'batching is disabled' }), true)
    assert.equal(refusesBatches({ message: 'rate limit' }), false)
  })
})
