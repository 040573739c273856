import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WatchView } from '@blockhost/chain/snapshot.ts'
import { observe } from './observe.ts'
import type { RequestRow, RequestState } from './requests.ts'

const row = (state: RequestState): RequestRow => ({
  contract: '0xc0',
  id: 7n,
  digest: '0x77',
  requester: '0xaa',
  nftContract: '0xbb',
  state,
  reason: undefined,
  publicKey: 'key',
  serverPublicKey: '04',
  previous: undefined,
  txKey: 'answer',
  attempts: 0,
  changedBlock: 1n,
})
const chain = (over: Partial<WatchView>): WatchView => ({
  id: 7n,
  exists: true,
  status: 0,
  digest: '0x77',
  mappedId: 7n,
  ...over,
})
const pending = chain({})
const approved = chain({ status: 1 })

test('an open request: answered, superseded, released, or still waiting', () => {
  for (const state of ['leased', 'answering'] as const) {
    assert.deepEqual(observe(row(state), approved, 'mined', false), { kind: 'answered' })
    assert.deepEqual(observe(row(state), pending, 'sent', false), { kind: 'same' })
    assert.deepEqual(observe(row(state), chain({ status: 3, mappedId: 9n }), 'sent', false), {
      kind: 'overtaken',
      reason: 'superseded',
    })
    assert.deepEqual(observe(row(state), chain({ status: 3, mappedId: 0n }), 'sent', false), {
      kind: 'overtaken',
      reason: 'released',
    })
    assert.deepEqual(observe(row(state), chain({ mappedId: 0n }), 'sent', false), {
      kind: 'overtaken',
      reason: 'released',
    })
  }
})

test('an answer that reverted, or is final without effect, is due again; one that may still be mined is not', () => {
  for (const over of ['reverted', 'cancelled', 'final', undefined] as const)
    assert.deepEqual(observe(row('answering'), pending, over, false), { kind: 'retry' })
  for (const underWay of ['queued', 'sent', 'mined'] as const)
    assert.deepEqual(observe(row('answering'), pending, underWay, false), { kind: 'same' })
  assert.deepEqual(observe(row('leased'), pending, undefined, false), { kind: 'same' })
})

test('reorg: a request that is gone, or whose content changed, is dropped in whatever state it is', () => {
  for (const state of ['leased', 'answering', 'answered', 'releasing', 'refused', 'superseded', 'released'] as const) {
    assert.deepEqual(observe(row(state), chain({ exists: false }), undefined, true), { kind: 'dropped' })
    assert.deepEqual(observe(row(state), chain({ digest: '0x78' }), undefined, true), { kind: 'dropped' })
  }
})

test('a lagging endpoint takes nothing back: whatever looks like a reorg needs a block higher than any read before', () => {
  for (const state of ['leased', 'answering', 'answered', 'releasing', 'refused', 'superseded', 'released'] as const)
    assert.deepEqual(observe(row(state), chain({ exists: false }), 'sent', false), { kind: 'same' })
  assert.deepEqual(observe(row('answered'), pending, 'final', false), { kind: 'same' })
  assert.deepEqual(observe(row('answered'), chain({ status: 3, mappedId: 0n }), 'final', false), { kind: 'same' })
  assert.deepEqual(observe(row('released'), approved, 'final', false), { kind: 'same' })
  assert.deepEqual(observe(row('superseded'), pending, undefined, false), { kind: 'same' })
})

test('an answered request: the answer reorganized away, released by its host, or replaced by a newer request', () => {
  assert.deepEqual(observe(row('answered'), approved, 'final', true), { kind: 'same' })
  assert.deepEqual(observe(row('answered'), pending, 'mined', true), { kind: 'unanswered' })
  assert.deepEqual(observe(row('answered'), chain({ status: 3, mappedId: 0n }), 'final', true), { kind: 'released' })
  assert.deepEqual(observe(row('answered'), chain({ status: 1, mappedId: 0n }), 'final', true), { kind: 'released' })
  assert.deepEqual(observe(row('answered'), chain({ status: 3, mappedId: 9n }), 'final', true), { kind: 'same' })
})

test('a lease taken back: waits for its transaction, asks again when that is over, and is done when the chain agrees', () => {
  assert.deepEqual(observe(row('releasing'), approved, 'sent', false), { kind: 'same' })
  assert.deepEqual(observe(row('releasing'), approved, 'reverted', false), { kind: 'lingering' })
  assert.deepEqual(observe(row('releasing'), chain({ status: 3, mappedId: 0n }), 'mined', false), { kind: 'gone' })
  assert.deepEqual(observe(row('releasing'), chain({ status: 1, mappedId: 0n }), 'mined', false), { kind: 'gone' })
  assert.deepEqual(observe(row('released'), approved, 'final', true), { kind: 'lingering' })
})

test('reorg: a superseded request whose successor is gone is judged again', () => {
  assert.deepEqual(observe(row('superseded'), pending, undefined, true), { kind: 'revived' })
  assert.deepEqual(observe(row('superseded'), chain({ status: 3, mappedId: 9n }), undefined, true), { kind: 'same' })
})

test('reorg: a superseded request whose answer landed after all takes its lease back', () => {
  assert.deepEqual(observe(row('superseded'), approved, 'mined', true), { kind: 'revived' })
  assert.deepEqual(observe(row('superseded'), approved, 'mined', false), { kind: 'same' })
})

test('reorg: a released request that waits again is judged again, but not before its answer under way is over', () => {
  assert.deepEqual(observe(row('released'), pending, undefined, true), { kind: 'revived' })
  assert.deepEqual(observe(row('released'), pending, 'cancelled', true), { kind: 'revived' })
  for (const underWay of ['queued', 'sent', 'mined'] as const)
    assert.deepEqual(observe(row('released'), pending, underWay, true), { kind: 'landing' })
  assert.deepEqual(observe(row('released'), pending, 'sent', false), { kind: 'same' })
})

test('a request given up after failing answers comes back when one of them counts; one refused for itself never does', () => {
  const givenUp = { ...row('refused'), publicKey: 'key' }
  assert.deepEqual(observe(givenUp, approved, 'final', true), { kind: 'revived' })
  assert.deepEqual(observe(givenUp, approved, 'final', false), { kind: 'same' })
  assert.deepEqual(observe({ ...givenUp, publicKey: undefined }, approved, 'final', true), { kind: 'same' })
})
