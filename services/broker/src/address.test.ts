import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toAddress } from './address.ts'

test('EIP-55: takes one case or the right checksum, gives the checksum', () => {
  const right = '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'
  assert.equal(toAddress(right), right)
  assert.equal(toAddress(right.toLowerCase()), right)
})

test('EIP-55: refuses a wrong checksum and what is no address', () => {
  for (const text of [
    '0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed',
    '0x12',
    `0x${'g'.repeat(40)}`,
    '',
    `${'a'.repeat(40)}`,
  ])
    assert.equal(toAddress(text), undefined, text)
})
