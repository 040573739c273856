import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLanes } from './lanes.ts'

const limits = { running: 2, waiting: 2, total: 6 }

test('one lane in order, others beside it, never more than allowed at once', async () => {
  const lanes = createLanes(limits)
  const log: string[] = []
  let running = 0
  const work = (name: string) => async () => {
    running++
    assert.ok(running <= 2)
    log.push(`+${name}`)
    await new Promise(resolve => setImmediate(resolve))
    log.push(`-${name}`)
    running--
    return name
  }
  const results = await Promise.all([
    lanes.run('a', work('a1')),
    lanes.run('a', work('a2')),
    lanes.run('b', work('b1')),
    lanes.run(undefined, work('c')),
  ])
  assert.deepEqual(results, ['a1', 'a2', 'b1', 'c'])
  assert.ok(log.indexOf('-a1') < log.indexOf('+a2'))
  assert.ok(log.indexOf('+b1') < log.indexOf('-a1'))
  assert.equal(lanes.count(), 0)
})

test('a failing call does not hold up its lane', async () => {
  const lanes = createLanes(limits)
  const first = lanes.run('a', () => Promise.reject(new Error('boom')))
  const second = lanes.run('a', async () => 'fine')
  await assert.rejects(first, /boom/)
  assert.equal(await second, 'fine')
})

test('too much in one lane, or in all, is refused at once and can be tried again', async () => {
  const lanes = createLanes(limits)
  const gate = Promise.withResolvers<void>()
  const open = () => gate.promise
  const inLane = [1, 2, 3].map(() => lanes.run('a', open))
  await assert.rejects(lanes.run('a', open), { code: 'BH_AGENT_BUSY', retryable: true })
  const others = ['b', 'c', 'd'].map(lane => lanes.run(lane, open))
  await assert.rejects(lanes.run('e', open), { code: 'BH_AGENT_BUSY' })
  gate.resolve()
  await Promise.all([...inLane, ...others])
  assert.equal(await lanes.run('a', async () => 1), 1)
})
