import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { accessCredentialNftAbi as abi } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import fc from 'fast-check'
import { encodeData, encodeResult, from, fromAbi } from 'ox/AbiFunction'
import {
  balanceCall,
  type CallAnswer,
  decodeTokenView,
  expiredCall,
  heldTokenCall,
  isValidSignature,
  signatureCall,
  tokenIdHex,
  tokenViewCalls,
} from './token-calls.ts'

const contract = '0x00000000000000000000000000000000000000aa'
const wallet = '0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a'
const eip1271 = from('function isValidSignature(bytes32 hash, bytes signature) view returns (bytes4)')
const returned = (data: `0x${string}`): CallAnswer => ({ kind: 'returned', data })
const reverted = (empty: boolean): CallAnswer => ({ kind: 'reverted', empty })

describe('calls', () => {
  it('are those of the contract’s ABI and of EIP-1271, byte for byte', () => {
    const [owner, expired, access] = tokenViewCalls(contract, 258n)
    assert.deepEqual(owner, { to: contract, data: encodeData(abi, 'ownerOf', [258n]) })
    assert.equal(expired?.data, encodeData(abi, 'isExpired', [258n]))
    assert.equal(access?.data, encodeData(abi, 'getAccessData', [258n]))
    assert.equal(expiredCall(contract, 258n).data, expired?.data)
    assert.equal(balanceCall(contract, wallet).data, encodeData(abi, 'balanceOf', [wallet]))
    assert.equal(heldTokenCall(contract, wallet, 7).data, encodeData(abi, 'tokenOfOwnerByIndex', [wallet, 7n]))
    assert.equal(tokenIdHex(258n), `0x${'102'.padStart(64, '0')}`)
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.uint8Array({ maxLength: 200 }), (hash, bytes) => {
        const expected = encodeData(eip1271, [`0x${hash.toHex()}`, `0x${bytes.toHex()}`])
        assert.deepEqual(signatureCall(wallet, hash, bytes), { to: wallet, data: expected })
      }),
    )
  })
})

describe('decodeTokenView', () => {
  const owner = returned(encodeResult(fromAbi(abi, 'ownerOf'), wallet))
  const live = returned(encodeResult(fromAbi(abi, 'isExpired'), false))
  const over = returned(encodeResult(fromAbi(abi, 'isExpired'), true))
  const access = (expiresAt: bigint) =>
    returned(encodeResult(fromAbi(abi, 'getAccessData'), [`0x${'ab'.repeat(99)}`, 'secret', 5n, expiresAt]))

  it('reads holder and expiry', () => {
    const view = { kind: 'held', owner: wallet, expired: false, expiresAt: 99 }
    assert.deepEqual(decodeTokenView([owner, live, access(99n)]), view)
    assert.deepEqual(decodeTokenView([owner, over, access(99n)]), { ...view, expired: true })
  })

  it('a token that does not exist is none', () => {
    assert.deepEqual(decodeTokenView([reverted(false), reverted(false), reverted(false)]), { kind: 'none' })
  })

  it('a contract without expiry has tokens that never expire, but one missing answer is no such contract', () => {
    const view = { kind: 'held', owner: wallet, expired: false, expiresAt: 0 }
    assert.deepEqual(decodeTokenView([owner, reverted(true), reverted(true)]), view)
    for (const answers of [
      [owner, reverted(true), access(1n)],
      [owner, live, reverted(true)],
      [owner, reverted(false), reverted(false)],
    ])
      assert.throws(() => decodeTokenView(answers), invalid)
  })

  it('an account without code, short data and words that are no address are invalid answers', () => {
    for (const data of ['0x', '0x1234', `0x${'ff'.repeat(32)}`] as const)
      assert.throws(() => decodeTokenView([returned(data), live, access(1n)]), invalid)
  })
})

describe('isValidSignature', () => {
  it('EIP-1271: nothing but the magic value is a yes', () => {
    assert.ok(isValidSignature(returned(encodeResult(eip1271, '0x1626ba7e'))))
    for (const answer of [
      reverted(true),
      returned('0x'),
      returned('0x1626ba7e'),
      returned(encodeResult(eip1271, '0xffffffff')),
      returned(`0x${'1'.padStart(64, '0')}`),
      returned(`0x1626ba7e${'1'.padStart(56, '0')}`),
    ])
      assert.equal(isValidSignature(answer), false)
  })
})

function invalid(error: unknown): boolean {
  return error instanceof BlockHostError && error.code === 'BH_RPC_ANSWER_INVALID' && error.retryable
}
