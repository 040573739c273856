import assert from 'node:assert/strict'
import { test } from 'node:test'
import { foldChanges } from './changes.ts'

const lease = (prefix: string, publicKey: string) => ({ prefix, publicKey })

test('a key changed twice becomes one change from the first to the last', () => {
  assert.deepEqual(
    foldChanges([
      { kind: 'set', lease: lease('p', 'k2'), previousPublicKey: 'k1' },
      { kind: 'set', lease: lease('p', 'k3'), previousPublicKey: 'k2' },
    ]),
    [{ kind: 'set', lease: lease('p', 'k3'), previousPublicKey: 'k1' }],
  )
})

test('a restored and then removed lease is removed with the key that the network has', () => {
  assert.deepEqual(
    foldChanges([
      { kind: 'set', lease: lease('p', 'k1'), previousPublicKey: 'k2' },
      { kind: 'remove', lease: lease('p', 'k1') },
    ]),
    [{ kind: 'remove', lease: lease('p', 'k2') }],
  )
})

test('a prefix that goes to another host is one change of key', () => {
  assert.deepEqual(
    foldChanges([
      { kind: 'remove', lease: lease('p', 'k1') },
      { kind: 'set', lease: lease('p', 'k2') },
    ]),
    [{ kind: 'set', lease: lease('p', 'k2'), previousPublicKey: 'k1' }],
  )
})

test('a lease made and taken back in one batch is removed, in case it was there', () => {
  assert.deepEqual(
    foldChanges([
      { kind: 'set', lease: lease('p', 'k') },
      { kind: 'remove', lease: lease('p', 'k') },
    ]),
    [{ kind: 'remove', lease: lease('p', 'k') }],
  )
})

test('prefixes do not touch each other', () => {
  const changes = [
    { kind: 'set', lease: lease('p', 'k1') } as const,
    { kind: 'remove', lease: lease('q', 'k2') } as const,
  ]
  assert.deepEqual(foldChanges(changes), changes)
})
