import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backoffMs, isoTime, systemClock } from './clock.ts'

test('sleep: ends at once when the signal is, or becomes, aborted', async () => {
  await systemClock.sleep(1e6, AbortSignal.abort())
  const controller = new AbortController()
  const sleeping = systemClock.sleep(1e6, controller.signal)
  controller.abort()
  await sleeping
})

test('backoffMs: doubles up to the cap, and jitter keeps at least half', () => {
  const options = { baseMs: 100, maxMs: 1000 }
  assert.deepEqual(
    [0, 1, 2, 3, 4, 50].map(attempt => backoffMs(attempt, options, () => 1)),
    [100, 200, 400, 800, 1000, 1000],
  )
  assert.equal(
    backoffMs(3, options, () => 0),
    400,
  )
})

test('isoTime: UTC with milliseconds', () => {
  assert.equal(isoTime(0), '1970-01-01T00:00:00.000Z')
})
