import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findTroubles } from './api.ts'
import type { EngineStatus } from './engine.ts'
import { createMetricsText } from './metrics.ts'

const status: EngineStatus = {
  headBlock: 7n,
  lastPollAt: 10_000,
  problems: [],
  minterBalanceWei: 5n * 10n ** 17n,
  subscriptions: { live: 3 },
  trouble: { failing: 1, needsKey: 2, withoutData: 0 },
  jobsRunning: 0,
  outboxPending: 4,
  counters: { bought: 3, extended: 0, cancelled: 0, dropped: 0, transferred: 0, stale: 0, jobsDone: 9, jobsFailed: 1 },
}

test('createMetricsText: Prometheus reads each line', () => {
  const text = createMetricsText(status, { cpuSeconds: 1.5, rssBytes: 1024 }, 12_500)
  for (const line of [
    'blockhost_engine_subscriptions{state="live"} 3',
    'blockhost_engine_subscriptions{state="paid"} 0',
    'blockhost_engine_trouble{kind="needs_key"} 2',
    'blockhost_engine_chain_age_seconds 2.5',
    'blockhost_engine_minter_balance_ether 0.5',
    'blockhost_engine_events_total{kind="jobsFailed"} 1',
  ])
    assert.ok(text.split('\n').includes(line), line)
  for (const line of text.trimEnd().split('\n'))
    assert.match(line, /^(# (HELP|TYPE) blockhost_engine_\w+ .+|blockhost_engine_\w+(\{\w+="\w+"\})? -?[\d.]+)$/)
})

test('findTroubles: a chain that was not read for five minutes, and what the engine says', () => {
  assert.deepEqual(findTroubles(status, 310_000), [])
  assert.deepEqual(findTroubles(status, 310_001), ['the chain was not read for five minutes'])
  assert.deepEqual(findTroubles({ ...status, lastPollAt: undefined, problems: ['no money'] }, 0), [
    'the chain was not read yet',
    'no money',
  ])
})
