import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createPeerView, peersFreshMs } from './peer-view.ts'

test('peer view: many readers cause one reading while it is fresh', async () => {
  const { view, world } = setUp()
  const [first, second] = await Promise.all([view.read(), view.read()])
  assert.equal(first, second)
  world.now = peersFreshMs - 1
  assert.equal(await view.read(), first)
  assert.equal(world.readings, 1)
  world.now = peersFreshMs
  assert.notEqual(await view.read(), first)
  assert.equal(world.readings, 2)
})

test('peer view: a failed reading is told, and the next reader tries again', async () => {
  const { view, world } = setUp()
  world.failure = new Error('no wg here')
  await assert.rejects(view.read(), /no wg here/)
  world.failure = undefined
  assert.equal((await view.read()).peers.size, 0)
  assert.equal(world.readings, 2)
})

function setUp() {
  const world = { now: 0, readings: 0, failure: undefined as Error | undefined }
  const readPeers = async () => {
    world.readings++
    if (world.failure !== undefined) throw world.failure
    return new Map()
  }
  return { world, view: createPeerView(readPeers, { ...systemClock, monotonic: () => world.now }) }
}
