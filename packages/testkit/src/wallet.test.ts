import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { privateKeyToAddress } from 'viem/accounts'
import { testWallet } from './wallet.ts'

describe('testWallet', () => {
  it('is the same in every run and another for every number', () => {
    assert.deepEqual(testWallet(3), testWallet(3))
    assert.equal(new Set(Array.from({ length: 20 }, (_, i) => testWallet(i).address)).size, 20)
  })

  it('has the address of its key', () => {
    assert.equal(testWallet(0).address, privateKeyToAddress(testWallet(0).privateKeyHex))
  })
})
