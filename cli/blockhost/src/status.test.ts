import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Report, ReportItem } from '@blockhost/engine/report.ts'
import { renderStatus, statusToJson } from './status.ts'

const running: ReportItem = {
  id: 1,
  vm: 'blockhost-001',
  plan: 2,
  buyer: '0xab',
  owner: '0xab',
  state: 'creating',
  expires: '2027-01-15T08:00:00.000Z',
  token: null,
  words: 'its VM is being made',
  trouble: false,
  code: null,
  attempts: 0,
  retry: null,
}
const failing: ReportItem = {
  ...running,
  vm: 'blockhost-002',
  words: 'its VM is being made; failed 2 times: The disk is full',
  trouble: true,
  retry: '2027-01-01T00:00:05.000Z',
}
const report: Report = { counts: { creating: 2, live: 5 }, items: [failing, running], omitted: 0 }
const nowMs = Date.parse('2027-01-01T00:00:00.000Z')
const well = { healthy: true, version: '1.2.3', reasons: [] }

test('renderStatus: says what fails, why, and when it is tried again', () => {
  assert.equal(
    renderStatus(report, well, { all: false, nowMs }),
    `Engine: running and well, version 1.2.3
Subscriptions: 2 being made, 5 running

Needs a look:
  blockhost-002  plan 2, until 2027-01-15T08:00Z: its VM is being made; failed 2 times: The disk is full; next try in 5 s

Under way:
  blockhost-001  plan 2, until 2027-01-15T08:00Z: its VM is being made`,
  )
})

test('renderStatus: an engine that is ill or gone', () => {
  const none: Report = { counts: {}, items: [], omitted: 0 }
  const ill = { healthy: false, version: '1', reasons: ['the chain could not be read: no answer'] }
  assert.match(
    renderStatus(none, undefined, { all: false, nowMs }),
    /^Engine: not running .*\nSubscriptions: none yet$/,
  )
  assert.match(
    renderStatus(none, ill, { all: false, nowMs }),
    /running, but\n {2}- the chain could not be read: no answer\n/,
  )
})

test('renderStatus: how long until the next try', () => {
  const waits = { 0: 'now', 89000: 'in 89 s', 240000: 'in 4 min', 1800000: 'in 30 min', 7200000: 'in 2 h' }
  for (const [ms, words] of Object.entries(waits)) {
    const items = [{ ...failing, retry: new Date(nowMs + Number(ms)).toISOString() }]
    assert.ok(renderStatus({ ...report, items }, well, { all: false, nowMs }).endsWith(`; next try ${words}`), words)
  }
})

test('renderStatus: says how many are not shown', () => {
  const text = renderStatus({ ...report, omitted: 37 }, well, { all: false, nowMs })
  assert.ok(text.endsWith('\n\n37 more are not shown: `blockhost status --all`'))
})

test('statusToJson: everything, for machines', () => {
  assert.deepEqual(statusToJson(report, undefined), {
    engine: { running: false },
    subscriptions: report.counts,
    items: report.items,
    omitted: 0,
  })
})
