import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { prefixAt } from '@blockhost/broker/pool.ts'
import { openStore } from '@blockhost/broker/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { benchPool, fillStore, newLease } from './leases.ts'

describe('fillStore', () => {
  it('leaves what the broker itself would have left', context => {
    const folder = mkdtempSync(join(tmpdir(), 'bench-leases-'))
    context.after(() => rmSync(folder, { recursive: true }))
    using filled = openStore(join(folder, 'filled.db'), benchPool, systemClock)
    using own = openStore(':memory:', benchPool, systemClock)
    fillStore(filled, 300)
    for (let id = 1n; id <= 300n; id++) own.allocate(newLease(id))
    assert.deepEqual(
      filled.leases().map(({ id, prefix, prefixIndex }) => ({ id, prefix, prefixIndex })),
      own.leases().map(({ id, prefix, prefixIndex }) => ({ id, prefix, prefixIndex })),
    )
    assert.deepEqual(
      filled.db.prepare('SELECT * FROM free_ranges').all(),
      own.db.prepare('SELECT * FROM free_ranges').all(),
    )
    const indexes = "SELECT sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
    assert.deepEqual(filled.db.prepare(indexes).all(), own.db.prepare(indexes).all())
    assert.equal(filled.db.prepare('PRAGMA journal_mode').get()?.journal_mode, 'wal')
    assert.equal(filled.db.prepare('PRAGMA synchronous').get()?.synchronous, 2)
    assert.deepEqual(filled.requests.countByState(), { answered: 300 })
    assert.equal(filled.allocate(newLease(301n))?.prefix, prefixAt(filled.pool, 301))
  })
})
