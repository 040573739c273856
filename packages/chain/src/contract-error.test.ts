import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { encodeErrorResult, toHex } from 'viem'
import { decodeContractError, describeContractError } from './contract-error.ts'
import type { Hex } from './hex.ts'

const caller = `0x${'11'.repeat(20)}` as const
const owner = `0x${'22'.repeat(20)}` as const

describe('decodeContractError', () => {
  it('reads a custom error of the ABI', () => {
    const data = encodeErrorResult({ abi: brokerRequestsAbi, errorName: 'NotNftOwner', args: [caller, owner] })
    assert.deepEqual(decodeContractError(brokerRequestsAbi, data), { name: 'NotNftOwner', args: [caller, owner] })
  })

  it('reads one with a single argument, and one with none', () => {
    const one = encodeErrorResult({ abi: brokerRequestsAbi, errorName: 'NoAllocation', args: [caller] })
    assert.deepEqual(decodeContractError(brokerRequestsAbi, one), { name: 'NoAllocation', args: [caller] })
    const none = encodeErrorResult({ abi: brokerRequestsAbi, errorName: 'ZeroAddress' })
    assert.deepEqual(decodeContractError(brokerRequestsAbi, none), { name: 'ZeroAddress', args: [] })
  })

  it('reads the text of a require and the code of a panic', () => {
    const abi = [
      { type: 'error', name: 'Error', inputs: [{ type: 'string' }] },
      { type: 'error', name: 'Panic', inputs: [{ type: 'uint256' }] },
    ] as const
    const text = decodeContractError([], encodeErrorResult({ abi, errorName: 'Error', args: ['not yours'] }))
    assert.equal(describeContractError(text!), '"not yours"')
    const panic = decodeContractError([], encodeErrorResult({ abi, errorName: 'Panic', args: [17n] }))
    assert.equal(describeContractError(panic!), 'Panic(17)')
  })

  it('gives nothing for foreign bytes', () => {
    const cut = encodeErrorResult({ abi: brokerRequestsAbi, errorName: 'NoAllocation', args: [caller] }).slice(0, 20)
    for (const data of [undefined, '0x', '0x12', '0xdeadbeef', cut, toHex(new Uint8Array(100))])
      assert.equal(decodeContractError(brokerRequestsAbi, data as Hex | undefined), undefined)
  })
})

describe('describeContractError', () => {
  it('names the error and its arguments', () => {
    assert.equal(describeContractError({ name: 'WrongFee', args: [1n, 2n] }), 'WrongFee(1, 2)')
  })
})
