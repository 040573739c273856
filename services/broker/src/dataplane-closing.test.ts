import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { leaseElement } from '@blockhost/net/ruleset.ts'
import { createClosing } from './dataplane-closing.ts'
import type { LeasedPrefix } from './dataplane-lease.ts'

const prefix = (text: string): LeasedPrefix => ({
  text,
  element: leaseElement({ network: 0n, length: 120 }),
  addresses: [],
})
const [one, two] = [prefix('2001:db8::100/120'), prefix('2001:db8::200/120')]

/** Returns whether `promise` is still pending after everything that could run has run. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const late = new Promise(resolve => setImmediate(() => resolve('pending')))
  return (await Promise.race([promise, late])) === 'pending'
}

describe('createClosing', () => {
  test('only a change of the same prefix waits, and whoever looks at the whole', async () => {
    const closing = createClosing(() => assert.fail('nothing failed'))
    const removal = Promise.withResolvers<void>()
    closing.add([one], removal.promise)
    assert.equal(await isPending(closing.end([two])), false)
    const [same, all] = [closing.end([one]), closing.end()]
    assert.equal(await isPending(same), true)
    assert.equal(await isPending(all), true)
    removal.resolve()
    await Promise.all([same, all])
    closing.check()
  })

  test('a failure is told, shows at the next check, and until the whole was looked at', async () => {
    const told: unknown[] = []
    const closing = createClosing(error => told.push(error))
    const failure = new Error('nft failed')
    closing.add([one], Promise.reject(failure))
    await closing.end([one])
    assert.deepEqual(told, [failure])
    for (const _ of [1, 2]) assert.throws(() => closing.check(), failure)
    await closing.end()
    closing.check()
  })

  test('a second removal of a prefix is waited for as well', async () => {
    const closing = createClosing(() => assert.fail('nothing failed'))
    const second = Promise.withResolvers<void>()
    closing.add([one], Promise.resolve())
    closing.add([one, two], second.promise)
    const end = closing.end([one])
    assert.equal(await isPending(end), true)
    second.resolve()
    await end
    assert.equal(await isPending(closing.end([one, two])), false)
  })
})
