import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { missedKeys, renderTable } from './table.ts'

const figures = {
  'a.perSecond': { value: 12_345, unit: '/s', limit: 12_000, comparedWith: 'bare: 20,000/s' },
  'b.ms': { value: 251.5, unit: 'ms', limit: 250 },
  c: { value: 0.5, unit: 'us' },
}

describe('table', () => {
  it('shows key, value, unit, limit and whether it is reached, aligned', () => {
    assert.equal(
      renderTable(figures),
      [
        'key           value  unit      limit          compared with',
        'a.perSecond  12,345  /s    >= 12,000  ok      bare: 20,000/s',
        'b.ms          251.5  ms       <= 250  MISSED',
        'c               0.5  us',
        '',
      ].join('\n'),
    )
  })

  it('names what missed its limit', () => assert.deepEqual(missedKeys(figures), ['b.ms']))
})
