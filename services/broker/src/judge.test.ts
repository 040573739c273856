import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestView } from '@blockhost/chain/snapshot.ts'
import { type JudgeContext, judge } from './judge.ts'

const nft = '0x00000000000000000000000000000000000000Bb'
const wallet = '0x00000000000000000000000000000000000000Aa'
const wish = { publicKey: 'host-key', serverPublicKey: '04', nftContract: nft }
const view: RequestView = {
  id: 1n,
  requester: wallet,
  nftContract: nft,
  payload: new Uint8Array(),
  status: 0,
  submittedAt: 1000,
  digest: '0x01',
  mapped: true,
  codeHash: `0x${'ab'.repeat(32)}`,
  isErc721: true,
  nftOwner: wallet,
}
const context: JudgeContext = {
  now: 1100,
  expirationSeconds: 86_400,
  openPayload: () => ({ ok: true, wish }),
  acceptedCodeHashes: [],
  maxLeasesPerWallet: 0,
  requestsPerWalletPerDay: 0,
  brokerPublicKey: 'broker-key',
  findHolder: () => undefined,
  hasLease: () => false,
  countLeases: () => 0,
  countRequestsToday: () => 0,
}
const reasonOf = (changed: Partial<RequestView>, rules: Partial<JudgeContext> = {}): string => {
  const verdict = judge({ ...view, ...changed }, { ...context, ...rules })
  return verdict.kind === 'refuse' ? verdict.reason : verdict.kind
}

test('a sound request gets its lease', () => {
  assert.deepEqual(judge(view, context), { kind: 'lease', wish })
})

test('what the chain has decided is skipped; what a newer request replaced is superseded', () => {
  for (const status of [1, 2, 3]) assert.equal(reasonOf({ status }), 'skip')
  assert.equal(reasonOf({ mapped: false }), 'supersede')
})

test('ownership: code, ERC-165 0x80ac58cd and owner() are each checked', () => {
  assert.equal(reasonOf({ codeHash: `0x${'0'.repeat(64)}` }), 'nft-contract-has-no-code')
  assert.equal(
    reasonOf({ codeHash: '0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470' }),
    'nft-contract-has-no-code',
  )
  assert.equal(reasonOf({ isErc721: false }), 'nft-contract-is-not-erc721')
  assert.equal(reasonOf({ nftOwner: nft }), 'requester-does-not-own-nft-contract')
})

test('a request too old to be answered in time is refused before anything is given to it', () => {
  assert.equal(reasonOf({}, { now: 1000 + 86_400 - 119 }), 'expired')
  assert.equal(reasonOf({}, { now: 1000 + 86_400 - 120 }), 'lease')
})

test('accepted code hashes: empty accepts any', () => {
  assert.equal(reasonOf({}, { acceptedCodeHashes: [`0x${'cd'.repeat(32)}`] }), 'nft-contract-code-not-accepted')
  assert.equal(reasonOf({}, { acceptedCodeHashes: [`0x${'ab'.repeat(32)}`] }), 'lease')
})

test('limits per wallet: leases count once reached, but a new key for a lease one has is never refused for it', () => {
  assert.equal(reasonOf({}, { maxLeasesPerWallet: 2, countLeases: () => 2 }), 'too-many-leases-of-wallet')
  assert.equal(reasonOf({}, { maxLeasesPerWallet: 2, countLeases: () => 1 }), 'lease')
  assert.equal(reasonOf({}, { maxLeasesPerWallet: 2, countLeases: () => 2, hasLease: () => true }), 'lease')
  assert.equal(reasonOf({}, { requestsPerWalletPerDay: 5, countRequestsToday: () => 5 }), 'too-many-requests-of-wallet')
})

test('a payload that can not be opened is refused with its reason', () => {
  assert.equal(
    reasonOf({}, { openPayload: () => ({ ok: false, reason: 'payload-can-not-be-decrypted' }) }),
    'payload-can-not-be-decrypted',
  )
})

test('a payload written for another NFT contract is refused, whoever replays it', () => {
  const other = { ...wish, nftContract: wallet }
  assert.equal(reasonOf({}, { openPayload: () => ({ ok: true, wish: other }) }), 'payload-names-another-nft-contract')
})

test('a WireGuard key of another lease, or of the broker, is refused; the own one may be asked for again', () => {
  assert.equal(reasonOf({}, { findHolder: () => '0xcc' }), 'wireguard-key-belongs-to-another-lease')
  assert.equal(reasonOf({}, { findHolder: () => nft.toLowerCase() }), 'lease')
  assert.equal(reasonOf({}, { brokerPublicKey: 'host-key' }), 'wireguard-key-is-the-brokers')
})

test('a refusal on chain facts comes before decryption, so garbage costs no cryptography', () => {
  const openPayload = () => assert.fail('decrypted for nothing')
  assert.equal(reasonOf({ isErc721: false }, { openPayload }), 'nft-contract-is-not-erc721')
})
