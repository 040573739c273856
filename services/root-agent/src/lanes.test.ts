import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLanes } from './lanes.ts'

const limits = { running: 2, waiting: 2, total: 6, long: { running: 1, total: 3 } }
const at = (lane: string | undefined) => ({ lane, isLong: false })
const long = (lane: string | undefined) => ({ lane, isLong: true })

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
    lanes.run(at('a'), work('a1')),
    lanes.run(at('a'), work('a2')),
    lanes.run(at('b'), work('b1')),
    lanes.run(at(undefined), work('c')),
  ])
  assert.deepEqual(results, ['a1', 'a2', 'b1', 'c'])
  assert.ok(log.indexOf('-a1') < log.indexOf('+a2'))
  assert.ok(log.indexOf('+b1') < log.indexOf('-a1'))
  assert.equal(lanes.count(), 0)
})

test('a failing call does not hold up its lane', async () => {
  const lanes = createLanes(limits)
  const first = lanes.run(at('a'), () => Promise.reject(new Error('boom')))
  const second = lanes.run(at('a'), async () => 'fine')
  await assert.rejects(first, /boom/)
  assert.equal(await second, 'fine')
})

test('too much in one lane, or in all, is refused at once and can be tried again', async () => {
  const lanes = createLanes(limits)
  const gate = Promise.withResolvers<void>()
  const open = () => gate.promise
  const inLane = [1, 2, 3].map(() => lanes.run(at('a'), open))
  await assert.rejects(lanes.run(at('a'), open), { code: 'BH_AGENT_BUSY', retryable: true })
  const others = ['b', 'c', 'd'].map(lane => lanes.run(at(lane), open))
  await assert.rejects(lanes.run(at('e'), open), { code: 'BH_AGENT_BUSY' })
  gate.resolve()
  await Promise.all([...inLane, ...others])
  assert.equal(await lanes.run(at('a'), async () => 1), 1)
})

test('long calls take no place of short ones, and not all that may wait', async () => {
  const lanes = createLanes(limits)
  const gate = Promise.withResolvers<void>()
  let begun = 0
  const stay = () => {
    begun++
    return gate.promise
  }
  const stuck = [lanes.run(long('a'), stay), lanes.run(long('b'), stay), lanes.run(long(undefined), stay)]
  await assert.rejects(lanes.run(long('c'), stay), { code: 'BH_AGENT_BUSY', retryable: true })
  assert.equal(await lanes.run(at(undefined), async () => 'short'), 'short')
  assert.equal(await lanes.run(at('d'), async () => 'short'), 'short')
  assert.equal(begun, 1)
  const behind = lanes.run(at('b'), async () => begun)
  gate.resolve()
  await Promise.all(stuck)
  assert.equal(await behind, 3, 'one lane stays in order, long or not')
  assert.equal(await lanes.run(long('c'), async () => 'again'), 'again')
})
