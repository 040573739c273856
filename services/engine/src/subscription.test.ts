import assert from 'node:assert/strict'
import { test } from 'node:test'
import { subscriptionIdOf, vmNameOf } from './subscription.ts'

test('vmNameOf: three digits at least', () => {
  assert.deepEqual([1n, 42n, 1000n].map(vmNameOf), ['blockhost-001', 'blockhost-042', 'blockhost-1000'])
})

test('subscriptionIdOf: only names that vmNameOf gives', () => {
  assert.equal(subscriptionIdOf('blockhost-007'), 7n)
  assert.equal(subscriptionIdOf('blockhost-1234'), 1234n)
  for (const name of ['blockhost-7', 'blockhost-0007', 'blockhost-', 'other-007', 'blockhost-007x'])
    assert.equal(subscriptionIdOf(name), undefined, name)
})
