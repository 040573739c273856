import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createRateLimit, sourceOf } from './rate-limit.ts'

describe('createRateLimit', () => {
  it('lets a minute’s worth pass at once, then one each time it is earned', () => {
    let nowMs = 1000
    const limit = createRateLimit(3, { monotonic: () => nowMs })
    const takes = () => [1, 2, 3, 4].map(() => limit.take('a'))
    assert.deepEqual(takes(), [true, true, true, false])
    nowMs += 20_000
    assert.deepEqual(takes(), [true, false, false, false])
    nowMs += 60_000
    assert.deepEqual(takes(), [true, true, true, false])
  })

  it('counts each key for itself', () => {
    const limit = createRateLimit(1, { monotonic: () => 0 })
    assert.deepEqual([limit.take('a'), limit.take('b'), limit.take('a')], [true, true, false])
  })

  it('holds a bounded number of keys, and the one in use is kept', () => {
    const limit = createRateLimit(1, { monotonic: () => 0 })
    limit.take('mine')
    for (let i = 0; i < 30_000; i++) {
      limit.take(`stranger ${i}`)
      if (i % 5000 === 0) assert.equal(limit.take('mine'), false)
    }
  })
})

describe('sourceOf', () => {
  it('is the /64 of an IPv6 address, however it is written', () => {
    for (const text of ['2001:db8::1', '2001:DB8:0:0:ffff:1:2:3', '2001:db8:0:0::9'])
      assert.equal(sourceOf(text), '2001:db8::/64', text)
    assert.equal(sourceOf('2001:db8:0:1::9'), '2001:db8:0:1::/64')
    assert.equal(sourceOf('::1'), '::/64')
    assert.equal(sourceOf('fe80::1%eth0'), 'fe80::/64')
  })

  it('is the address of IPv4, mapped or not, and the name of anything else', () => {
    assert.equal(sourceOf('::ffff:192.0.2.1'), '192.0.2.1')
    assert.equal(sourceOf('192.0.2.1'), '192.0.2.1')
    assert.equal(sourceOf('Host.example'), 'host.example')
    assert.equal(sourceOf(''), '')
  })
})
