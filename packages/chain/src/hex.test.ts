import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { bytesToHex, hexToBytes, isAddress, parseAddressHex, parseHex, parseQuantity, toQuantity } from './hex.ts'

const refused = (run: () => unknown) =>
  assert.throws(
    run,
    (error: unknown) => error instanceof BlockHostError && error.code === 'BH_RPC_ANSWER_INVALID' && error.retryable,
  )

describe('quantities', () => {
  it('have no leading zeros', () => {
    assert.deepEqual([toQuantity(0), toQuantity(255n), toQuantity(2n ** 64n)], ['0x0', '0xff', '0x10000000000000000'])
    for (const value of [0n, 1n, 2n ** 256n - 1n]) assert.equal(parseQuantity(toQuantity(value), 'x'), value)
  })

  it('are nothing else', () => {
    for (const value of ['', '0x', '1', '-0x1', '0xg', '0x1 ', `0x${'f'.repeat(65)}`, 1, null, undefined])
      refused(() => parseQuantity(value, 'x'))
  })
})

describe('hex', () => {
  it('is read in any case and returned in lower case', () => {
    assert.equal(parseHex('0xABcd', 'x'), '0xabcd')
    assert.deepEqual(hexToBytes('0xabcd'), Uint8Array.of(0xab, 0xcd))
    assert.equal(bytesToHex(Uint8Array.of(0, 255)), '0x00ff')
    assert.equal(parseHex('0x', 'x'), '0x')
  })

  it('has whole bytes', () => {
    for (const value of ['0x1', '12', '0xzz', '', null, 7]) refused(() => parseHex(value, 'x'))
  })
})

describe('addresses', () => {
  it('are 20 bytes in any case', () => {
    const mixed = '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266'
    assert.equal(isAddress(mixed), true)
    assert.equal(parseAddressHex(mixed, 'x'), mixed.toLowerCase())
    for (const value of [mixed.slice(0, -1), `${mixed}0`, mixed.slice(2), `${mixed}\n`, null]) {
      assert.equal(isAddress(value), false)
      refused(() => parseAddressHex(value, 'x'))
    }
  })
})
