import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { firstFees, mostPaid, raisedFees } from './fees.ts'

const gwei = 10n ** 9n
const wei = fc.bigInt({ min: 1n, max: 10n ** 12n })
const markets = fc.record({ baseFeeWei: fc.option(wei, { nil: undefined }), tipWei: wei })

describe('firstFees', () => {
  it('offers twice the base fee and the tip', () => {
    const fees = firstFees({ baseFeeWei: 10n * gwei, tipWei: gwei }, undefined)
    assert.deepEqual(fees, { type: 'eip1559', maxFeePerGasWei: 21n * gwei, maxPriorityFeePerGasWei: gwei })
  })

  it('offers a gas price where there is no base fee', () => {
    assert.deepEqual(firstFees({ baseFeeWei: undefined, tipWei: gwei }, undefined), {
      type: 'legacy',
      gasPriceWei: gwei,
    })
  })

  it('stays under the cap while the block can be paid, else offers nothing', () => {
    const market = { baseFeeWei: 10n * gwei, tipWei: 30n * gwei }
    const fees = { type: 'eip1559', maxFeePerGasWei: 12n * gwei, maxPriorityFeePerGasWei: 12n * gwei }
    assert.deepEqual(firstFees(market, 12n * gwei), fees)
    assert.equal(firstFees(market, 9n * gwei), undefined)
    assert.equal(firstFees({ baseFeeWei: undefined, tipWei: gwei }, gwei - 1n), undefined)
  })

  it('never has a tip above the whole, which nodes refuse', () => {
    fc.assert(
      fc.property(markets, wei, (market, cap) => {
        const fees = firstFees(market, cap)
        if (fees === undefined) return
        assert.ok(mostPaid(fees) <= cap)
        assert.ok(fees.type === 'legacy' || fees.maxPriorityFeePerGasWei <= fees.maxFeePerGasWei)
      }),
    )
  })
})

describe('raisedFees', () => {
  it('raises both fees by 12.5 % at least, whatever is asked for, and follows the market', () => {
    fc.assert(
      fc.property(markets, markets, fc.double({ min: 0, max: 200, noNaN: true }), (before, now, percent) => {
        const old = firstFees(before, undefined)!
        const raised = raisedFees(old, now, percent, undefined)!
        assert.equal(raised.type, old.type)
        assert.ok(mostPaid(raised) * 1000n >= mostPaid(old) * 1125n)
        assert.ok(mostPaid(raised) >= mostPaid(firstFees(now, undefined)!))
        if (raised.type === 'legacy' || old.type === 'legacy') return
        assert.ok(raised.maxPriorityFeePerGasWei * 1000n >= old.maxPriorityFeePerGasWei * 1125n)
        assert.ok(raised.maxPriorityFeePerGasWei <= raised.maxFeePerGasWei)
      }),
    )
  })

  it('gives up when the least raise is above the cap', () => {
    const old = { type: 'eip1559', maxFeePerGasWei: 100n, maxPriorityFeePerGasWei: 10n } as const
    const market = { baseFeeWei: 1000n, tipWei: 1n }
    assert.equal(raisedFees(old, market, 12.5, 112n), undefined)
    assert.equal(mostPaid(raisedFees(old, market, 12.5, 113n)!), 113n)
  })
})
