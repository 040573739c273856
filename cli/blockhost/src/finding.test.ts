import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bad, good, renderFindings, warning } from './finding.ts'

test('renderFindings: the worst last, each with what to do', () => {
  const findings = [
    bad('engine', 'it does not run', 'Start it.'),
    good('RPC', 'block 7'),
    warning('money', 'low', 'Send some.'),
  ]
  assert.equal(
    renderFindings(findings),
    `ok    RPC: block 7
look  money: low
      what to do: Send some.
BAD   engine: it does not run
      what to do: Start it.`,
  )
})
