import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { readReport } from './report.ts'
import { openStore } from './store.ts'
import type { State, SubscriptionChange } from './subscription.ts'

const nowMs = 1_000
const clock: Clock = { now: () => nowMs, monotonic: () => nowMs, sleep: async () => undefined }

/** A database with these subscriptions, numbered from 1. */
function makeDatabase(t: TestContext, rows: readonly [State, SubscriptionChange?][]): string {
  const folder = mkdtempSync(join(tmpdir(), 'bh-report-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'engine.db')
  using store = openStore(path, clock)
  store.transaction(() => {
    for (const [at, [state, change]] of rows.entries()) {
      const [id, subscriber] = [BigInt(at + 1), `0x${'ab'.repeat(20)}` as const]
      const terms = { cancelled: false, planActive: true, planRenewable: true }
      store.add({ id, subscriber, planId: 1, expiresAt: 9, purchaseBlock: 1n, ...terms }, 1n)
      store.change(id, { state, ...change })
    }
  })
  return path
}

test('readReport: 200 that fail or are under way, failing ones first, and how many it left out', t => {
  const rows: [State, SubscriptionChange?][] = [...Array(260).keys()].map(() => ['paid'])
  rows.push(['live'], ['live', { error: 'It is gone', errorCode: 'BH_VM_LOST' }])
  const path = makeDatabase(t, rows)
  const report = readReport(path, { all: false, nowMs })
  assert.deepEqual([report.items.length, report.omitted, report.items[0]?.id], [200, 61, 262])
  assert.deepEqual(report.counts, { paid: 260, live: 2 })
  const whole = readReport(path, { all: true, nowMs })
  assert.deepEqual([whole.items.length, whole.omitted], [262, 0])
})

test('readReport: exactly as many as are shown leaves none out', t => {
  const path = makeDatabase(t, Array(200).fill(['paid']))
  const report = readReport(path, { all: false, nowMs })
  assert.deepEqual([report.items.length, report.omitted], [200, 0])
})

test('readReport: why a VM is started', t => {
  const path = makeDatabase(t, [
    ['resuming'],
    ['resuming', { errorCode: 'BH_VM_OFF' }],
    ['resuming', { errorCode: 'BH_VM_REMOVED' }],
    ['resuming', { errorCode: 'BH_DISK_FULL', error: 'The disk is full', attempts: 2, retryAt: 5_000 }],
  ])
  const { items } = readReport(path, { all: true, nowMs })
  assert.deepEqual(Object.fromEntries(items.map(({ id, words, trouble }) => [id, [words, trouble]])), {
    1: ['paid again, being resumed', false],
    2: ['was off; being started again', false],
    3: ['its VM was removed; being made anew', false],
    4: ['being started again; failed 2 times: The disk is full', true],
  })
})

test('readReport: no engine ever ran', () => {
  assert.throws(() => readReport('/nonexistent/engine.db', { all: false, nowMs }), {
    code: 'BH_ENGINE_DATABASE_MISSING',
    exitCode: 78,
  })
})
