import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDatabase, transaction } from '@blockhost/kit/sqlite.ts'
import fc from 'fast-check'
import { createFreeSpace, createPool, prefixAt } from './pool.ts'

const table = `CREATE TABLE free_ranges (first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
  CREATE TABLE resting (prefix_index INTEGER PRIMARY KEY, nft_contract TEXT, freed_at INTEGER, available_at INTEGER)`

function openSpace(last: number) {
  const db = openDatabase(':memory:', [fresh => fresh.exec(table)])
  db.prepare('INSERT INTO free_ranges VALUES (1, ?)').run(last)
  const ranges = () =>
    db
      .prepare('SELECT first, last FROM free_ranges ORDER BY first')
      .all()
      .map(row => ({ ...row }))
  return { db, free: createFreeSpace(db), ranges }
}

test('createPool: the documented /64 with /120 leases starts at ::100 and has 2^56 - 1 prefixes, cut to exact numbers', () => {
  const pool = createPool('2a11:6c7:f04:276::/64', 120)
  assert.equal(prefixAt(pool, 1), '2a11:6c7:f04:276::100/120')
  assert.equal(prefixAt(pool, 255), '2a11:6c7:f04:276::ff00/120')
  assert.equal(pool.last, Number.MAX_SAFE_INTEGER)
})

test('createPool: /48 upstream and /128 leases work, as does a pool of a single lease', () => {
  assert.equal(prefixAt(createPool('2001:db8::/48', 128), 1), '2001:db8::1/128')
  assert.equal(createPool('2001:db8::/63', 64).last, 1)
})

test('createPool: refuses sizes in which no lease fits beside the broker', () => {
  for (const length of [64, 63, 0, 129])
    assert.throws(() => createPool('2001:db8::/64', length), { code: 'BH_POOL_INVALID', exitCode: 78 })
  assert.throws(() => createPool('2001:db8::/129', 120), { code: 'BH_POOL_INVALID' })
})

test('take: gives the lowest free index, and none when the pool is full', () => {
  const { free } = openSpace(2)
  assert.deepEqual([free.take('a'), free.take('b'), free.take('c')], [1, 2, undefined])
})

test('rest: only the same NFT contract gets a resting prefix', () => {
  const { free } = openSpace(2)
  free.take('a')
  free.rest(1, 'a', { freedAt: 0, availableAt: 100 })
  assert.equal(free.take('b'), 2)
  assert.equal(free.take('c'), undefined)
  assert.equal(free.take('a'), 1)
})

test('collect: prefixes that rested enough are free for everybody', () => {
  const { free } = openSpace(1)
  free.take('a')
  free.rest(1, 'a', { freedAt: 0, availableAt: 100 })
  assert.equal(free.collect(99), 0)
  assert.equal(free.take('b'), undefined)
  assert.equal(free.collect(100), 1)
  assert.equal(free.take('b'), 1)
})

test('giveBack: neighbouring ranges grow together, so a pool given back whole is one row again', () => {
  const operations = fc.array(fc.record({ take: fc.boolean(), pick: fc.nat() }), { maxLength: 60 })
  fc.assert(
    fc.property(operations, steps => {
      const { db, free, ranges } = openSpace(12)
      const held: number[] = []
      transaction(db, () => {
        for (const step of steps) {
          if (step.take || held.length === 0) {
            const index = free.take(`nft-${step.pick}`)
            if (index !== undefined) {
              assert.ok(!held.includes(index), `index ${index} was given out twice`)
              held.push(index)
            }
          } else free.giveBack(held.splice(step.pick % held.length, 1)[0]!)
        }
        for (const index of held) free.giveBack(index)
      })
      assert.deepEqual(ranges(), [{ first: 1, last: 12 }])
    }),
  )
})
