import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { reaches } from './figure.ts'
import { median, percentile, round } from './statistics.ts'

describe('statistics', () => {
  it('takes the nearest rank, whatever the order', () => {
    assert.equal(median([3, 1, 2]), 2)
    assert.equal(median([7]), 7)
    const hundred = Array.from({ length: 100 }, (_, at) => 100 - at)
    assert.equal(percentile(hundred, 99), 99)
    assert.equal(percentile(hundred, 50), 50)
    assert.equal(percentile(hundred, 100), 100)
    assert.throws(() => median([]), RangeError)
  })

  it('rounds to significant digits', () => {
    assert.equal(round(1234.567), 1230)
    assert.equal(round(0.0123456, 2), 0.012)
  })
})

describe('reaches', () => {
  it('wants at least the limit of rates and ratios, at most that of anything else', () => {
    assert.equal(reaches({ value: 12_000, unit: '/s', limit: 12_000 }), true)
    assert.equal(reaches({ value: 11_999, unit: '/s', limit: 12_000 }), false)
    assert.equal(reaches({ value: 0.94, unit: 'x', limit: 0.95 }), false)
    assert.equal(reaches({ value: 10, unit: 'processes', limit: 10 }), true)
    assert.equal(reaches({ value: 2.1, unit: 's', limit: 2 }), false)
    assert.equal(reaches({ value: 2.1, unit: 's' }), undefined)
  })
})
