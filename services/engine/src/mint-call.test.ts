import assert from 'node:assert/strict'
import { test } from 'node:test'
import { accessCredentialNftAbi } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { decodeData, fromAbi } from 'ox/AbiFunction'
import { mintCall } from './mint-call.ts'

test('mintCall: the contract’s mint with seven arguments, a token that never expires by itself', () => {
  const owner = `0x${'11'.repeat(20)}` as const
  const request = { owner, machineId: 'm', userEncrypted: new Uint8Array([7]), publicSecret: 's' }
  const args = decodeData(fromAbi(accessCredentialNftAbi, 'mint'), mintCall(request))
  assert.deepEqual(args, [owner, '0x07', 's', 'Access to m', '', '', 0n])
})
