import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createFreeRanges } from './free-ranges.ts'
import { openDatabase } from './sqlite.ts'

function openRanges(...ranges: [first: number, last: number][]) {
  const db = openDatabase(':memory:', [
    fresh => fresh.exec('CREATE TABLE free_things (first INTEGER PRIMARY KEY, last INTEGER NOT NULL)'),
  ])
  for (const range of ranges) db.prepare('INSERT INTO free_things VALUES (?, ?)').run(...range)
  const rows = () =>
    db
      .prepare('SELECT first, last FROM free_things ORDER BY first')
      .all()
      .map(row => [row.first, row.last])
  return { free: createFreeRanges(db, 'free_things'), rows }
}

test('take: the lowest, and none when all are taken', () => {
  const { free } = openRanges([3, 4])
  assert.deepEqual([free.take(), free.take(), free.take()], [3, 4, undefined])
})

test('take: the lowest from a number on, inside a range or behind it', () => {
  const { free, rows } = openRanges([1, 9], [20, 21])
  assert.deepEqual([free.take(5), free.take(10), free.take(22)], [5, 20, undefined])
  assert.deepEqual(rows(), [
    [1, 4],
    [6, 9],
    [21, 21],
  ])
})

test('takeExact: splits a range; a number that is not free is said to be so', () => {
  const { free, rows } = openRanges([1, 5])
  assert.deepEqual(
    [free.takeExact(3), free.takeExact(3), free.takeExact(6), free.takeExact(5)],
    [true, false, false, true],
  )
  assert.deepEqual(rows(), [
    [1, 2],
    [4, 4],
  ])
})

test('any order of taking and giving back hands nothing out twice, and ends as one range', () => {
  const steps = fc.array(fc.record({ kind: fc.constantFrom('take', 'from', 'exact', 'back'), pick: fc.nat(30) }), {
    maxLength: 80,
  })
  fc.assert(
    fc.property(steps, operations => {
      const { free, rows } = openRanges([1, 24])
      const held = new Set<number>()
      const hold = (number: number | undefined) => {
        if (number === undefined) return
        assert.ok(!held.has(number), `${number} was handed out twice`)
        assert.ok(number >= 1 && number <= 24)
        held.add(number)
      }
      for (const { kind, pick } of operations) {
        if (kind === 'take') hold(free.take())
        else if (kind === 'from') hold(free.take(pick))
        else if (kind === 'exact') {
          const wasFree = pick >= 1 && pick <= 24 && !held.has(pick)
          assert.equal(free.takeExact(pick), wasFree)
          if (wasFree) held.add(pick)
        } else if (held.size > 0) {
          const number = [...held][pick % held.size]!
          held.delete(number)
          free.giveBack(number)
        }
      }
      for (const number of held) free.giveBack(number)
      assert.deepEqual(rows(), [[1, 24]])
    }),
  )
})
