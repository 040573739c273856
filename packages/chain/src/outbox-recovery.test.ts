/** The outbox against death, forks, liars and rivals. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { Killed } from '@blockhost/testkit/fake-transaction-port.ts'
import { effectsOf, intent, type OutboxWorld, setupOutbox as setup, usual } from '@blockhost/testkit/outbox-world.ts'
import fc from 'fast-check'
import type { Hex } from './hex.ts'

describe('a crash', () => {
  it('at any await, before or after the effect, does every intent exactly once', async () => {
    let deaths = 0
    for (let at = 0; ; at++) {
      const world = setup()
      for (const key of ['a', 'b', 'c']) world.outbox().enqueue(intent(key, { gasLimit: undefined as never }))
      world.chain.killAt(at)
      await world.finish(10).catch(ignoreDeath)
      const died = world.chain.revive()
      if (!died) break
      deaths++
      world.chain.mine()
      world.restart()
      await world.finish()
      assert.deepEqual(effectsOf(world.chain).sort(), ['a', 'b', 'c'], `killed at await ${at}`)
      assert.deepEqual(
        ['a', 'b', 'c'].map(key => world.outbox().find(key)?.state),
        ['final', 'final', 'final'],
      )
    }
    assert.ok(deaths >= 18, `only ${deaths} places to die`)
  })

  it('twice in a row is no different', async () => {
    for (let first = 0; first < 14; first++) {
      for (let second = 0; second < 8; second++) {
        const world = setup()
        for (const key of ['a', 'b']) world.outbox().enqueue(intent(key))
        for (const at of [first, second]) {
          world.chain.killAt(at)
          await world.finish(4).catch(ignoreDeath)
          world.restart()
        }
        await world.finish()
        assert.deepEqual(effectsOf(world.chain).sort(), ['a', 'b'], `killed at ${first}, then at ${second}`)
      }
    }
  })

  it('of the network while sending is repaired by sending the same bytes again', async () => {
    const { outbox, chain, tick, finish } = setup()
    outbox().enqueue(intent('a'))
    const send = chain.port.send
    Object.assign(chain.port, {
      send: async (raws: readonly Hex[]) => {
        chain.world.down = 'after'
        return send(raws)
      },
    })
    assert.deepEqual(await tick(), ['a queued'])
    Object.assign(chain.port, { send })
    chain.world.down = false
    assert.deepEqual(await tick(), ['a sent'])
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
    assert.equal(outbox().find('a')?.attempts, 1)
  })
})

describe('reorgs and endpoints that are behind', () => {
  it('notices that a block is gone and sees the transaction mined again', async () => {
    const { outbox, chain, tick, finish } = setup()
    outbox().enqueue(intent('a'))
    await tick()
    chain.mine()
    assert.deepEqual(await tick(), ['a mined'])
    chain.reorg(1)
    chain.mine()
    chain.reorg(1)
    assert.deepEqual(await tick(), ['a sent'])
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
  })

  it('sends again what the network forgot together with the block', async () => {
    const { outbox, chain, tick, finish } = setup()
    outbox().enqueue(intent('a'))
    await tick()
    chain.mine()
    await tick()
    chain.reorg(1, { forget: true })
    chain.mine()
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
    assert.equal(outbox().find('a')?.attempts, 1)
  })

  it('sends again, three blocks later and long before it counts as stuck, what the pool forgot', async () => {
    const { outbox, chain, tick } = setup()
    outbox().enqueue(intent('a'))
    await tick()
    chain.forgetPool()
    for (let block = 0; block < 2; block++) {
      chain.mine()
      await tick()
      assert.equal(chain.pool().length, 0)
    }
    chain.mine()
    await tick()
    chain.mine()
    await tick()
    assert.deepEqual(effectsOf(chain), ['a'])
    assert.equal(outbox().find('a')?.attempts, 1)
    assert.equal(chain.calls.send, 2)
  })

  it('does nothing when an endpoint is behind the block that holds the transaction', async () => {
    const { outbox, chain, tick, finish } = setup()
    outbox().enqueue(intent('a'))
    await tick()
    chain.mine()
    await tick()
    chain.world.lag = 1
    chain.mine(1)
    chain.world.lag = 3
    assert.deepEqual(await tick(), [])
    chain.world.lag = 0
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
  })

  it('never uses a nonce twice when an endpoint reports an old one', async () => {
    const { outbox, chain, tick, finish } = setup({ confirmations: 0 })
    for (const key of ['a', 'b']) outbox().enqueue(intent(key))
    await finish()
    chain.world.lag = 10
    outbox().enqueue(intent('c'))
    await tick()
    chain.world.lag = 0
    await finish()
    assert.deepEqual(effectsOf(chain), ['a', 'b', 'c'])
    assert.equal(outbox().find('c')?.nonce, 2)
  })

  it('sends final transactions again when a reorg beyond the confirmations takes them', async () => {
    const { outbox, chain, finish, tick } = setup({ confirmations: 0 })
    outbox().enqueue(intent('a'))
    await finish()
    chain.reorg(3, { forget: true })
    outbox().enqueue(intent('b'))
    await finish()
    await tick()
    assert.deepEqual(effectsOf(chain), ['a', 'b'])
  })

  it('lets what such a reorg took pay more, if that is what the chain asks by then', async () => {
    const { outbox, chain, finish } = setup({ confirmations: 0 })
    outbox().enqueue(intent('a'))
    await finish()
    chain.reorg(3, { forget: true })
    chain.world.baseFeeWei = 50n * 10n ** 9n
    outbox().enqueue(intent('b'))
    await finish()
    assert.deepEqual(effectsOf(chain), ['a', 'b'])
  })
})

describe('a nonce that somebody else uses', () => {
  it('is given up after the depth and the time, and the intent gets another', async () => {
    const { outbox, chain, tick, finish, advance } = setup()
    outbox().enqueue(intent('a'))
    chain.world.swallowSends = true
    await tick()
    chain.world.swallowSends = false
    chain.useNonceElsewhere()
    assert.deepEqual(await tick(), [])
    advance(usual.stuckAfterMs)
    chain.mine()
    assert.deepEqual(await tick(), [])
    chain.mine()
    assert.deepEqual(await tick(), ['a sent'])
    assert.equal(outbox().find('a')?.nonce, 1)
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
  })

  it('is not suspected because receipts come late', async () => {
    const { outbox, chain, tick, finish } = setup()
    outbox().enqueue(intent('a'))
    await tick()
    chain.world.hideReceipts = true
    chain.mine()
    assert.deepEqual(await tick(), [])
    chain.mine(5)
    assert.deepEqual(await tick(), [])
    chain.world.hideReceipts = false
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
    assert.equal(outbox().find('a')?.attempts, 1)
  })

  it('was its own after all: the second nonce is used up by nothing, not by the same intent once more', async () => {
    const { outbox, chain, tick, finish, advance } = setup({ confirmations: 0 })
    outbox().enqueue(intent('a'))
    await tick()
    chain.world.hideReceipts = true
    for (let i = 0; i < 6 && outbox().find('a')?.nonce !== 1; i++) {
      chain.mine()
      await tick()
      advance(usual.stuckAfterMs)
    }
    assert.equal(outbox().find('a')?.nonce, 1)
    chain.forgetPool()
    chain.world.hideReceipts = false
    await tick()
    assert.equal(outbox().find('a')?.state, 'final')
    outbox().enqueue(intent('b'))
    await finish()
    assert.deepEqual(effectsOf(chain), ['a', '', 'b'])
  })

  it('is given up no sooner than it is told, so that receipts that come late are still found', async () => {
    const takenAfterMs = 10 * usual.stuckAfterMs
    const { outbox, chain, tick, finish, advance } = setup({ takenAfterMs })
    outbox().enqueue(intent('a'))
    await tick()
    chain.world.hideReceipts = true
    for (let waited = 0; waited < takenAfterMs - usual.stuckAfterMs; waited += usual.stuckAfterMs) {
      chain.mine()
      await tick()
      advance(usual.stuckAfterMs)
    }
    chain.world.hideReceipts = false
    await finish()
    assert.deepEqual([outbox().find('a')?.state, outbox().find('a')?.nonce], ['final', 0])
    assert.deepEqual(effectsOf(chain), ['a'])
  })

  it('is not given up because nobody looked for long', async () => {
    const { outbox, chain, tick, finish, advance, restart } = setup()
    outbox().enqueue(intent('a'))
    await tick()
    chain.world.hideReceipts = true
    chain.mine()
    await tick()
    for (const end of [() => advance(10 * usual.stuckAfterMs), restart]) {
      advance(usual.stuckAfterMs)
      end()
      chain.mine(3)
      await tick()
      assert.equal(outbox().find('a')?.nonce, 0)
    }
    chain.world.hideReceipts = false
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
  })

  it('every time ends the intent instead of an endless fight', async () => {
    const { outbox, chain, tick, advance } = setup()
    outbox().enqueue(intent('a'))
    chain.world.swallowSends = true
    for (let i = 0; i < 30 && outbox().pending() > 0; i++) {
      await tick()
      chain.useNonceElsewhere()
      advance(usual.stuckAfterMs / 2)
    }
    const row = outbox().find('a')
    assert.deepEqual([row?.state, row?.problem, row?.attempts], ['cancelled', 'nonce-taken', 3])
  })

  it('leaves a hole filled when it disappears', async () => {
    const { outbox, chain, tick, finish } = setup({ confirmations: 0 })
    chain.useNonceElsewhere()
    chain.useNonceElsewhere()
    outbox().enqueue(intent('a'))
    await tick()
    assert.equal(outbox().find('a')?.nonce, 2)
    chain.reorg(2)
    await finish()
    assert.deepEqual(
      effectsOf(chain).filter(data => data !== ''),
      ['a'],
    )
    assert.equal(chain.nonce(), 3)
  })
})

describe('whatever happens', () => {
  type Step =
    | { kind: 'enqueue' | 'tick' | 'mine' | 'forgetPool' | 'foreign' | 'lateReceipts' | 'restart' }
    | { kind: 'reorg' | 'lag' | 'kill' | 'wait' | 'baseFee'; n: number }
    | { kind: 'network'; down: false | 'before' | 'after' }
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 4, arbitrary: fc.constant<Step>({ kind: 'tick' }) },
    { weight: 3, arbitrary: fc.constant<Step>({ kind: 'mine' }) },
    { weight: 3, arbitrary: fc.constant<Step>({ kind: 'enqueue' }) },
    fc.constantFrom<Step[]>({ kind: 'forgetPool' }, { kind: 'foreign' }, { kind: 'lateReceipts' }, { kind: 'restart' }),
    fc.record({ kind: fc.constant('reorg' as const), n: fc.integer({ min: 1, max: 2 }) }),
    fc.record({ kind: fc.constant('lag' as const), n: fc.integer({ min: 0, max: 4 }) }),
    fc.record({ kind: fc.constant('kill' as const), n: fc.integer({ min: 0, max: 8 }) }),
    fc.record({ kind: fc.constant('wait' as const), n: fc.constantFrom(1000, 25_000, 70_000) }),
    fc.record({ kind: fc.constant('baseFee' as const), n: fc.integer({ min: 1, max: 40 }) }),
    fc.record({
      kind: fc.constant('network' as const),
      down: fc.constantFrom(false as const, 'before' as const, 'after' as const),
    }),
  )

  it('every intent happens exactly once', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), async steps => {
        // Two blocks may be replaced here, so that is the depth from which on the outbox may trust what it sees.
        const world = setup({ confirmations: 3 })
        let count = 0
        for (const next of steps) count += await play(world, next, count)
        Object.assign(world.chain.world, { lag: 0, down: false, baseFeeWei: 10n ** 9n, hideReceipts: false })
        world.restart()
        await world.finish(200)
        // Three foreign transactions against one intent end it; that is the only way not to happen.
        const isOver = (key: string) => world.outbox().find(key)?.problem === 'nonce-taken'
        const expected = Array.from({ length: count }, (_, i) => `i${i}`).filter(key => !isOver(key))
        const effects = effectsOf(world.chain).filter(data => data !== '')
        assert.deepEqual(effects.sort(), expected.sort())
        assert.equal(world.outbox().pending(), 0)
      }),
      { numRuns: 150 },
    )
  })

  async function play(world: OutboxWorld, next: Step, count: number): Promise<number> {
    const { chain, outbox, tick } = world
    if (next.kind === 'enqueue') outbox().enqueue(intent(`i${count}`))
    if (next.kind === 'tick') await tick().catch(ignoreTrouble(world))
    if (next.kind === 'mine') chain.mine()
    if (next.kind === 'forgetPool') chain.forgetPool()
    if (next.kind === 'foreign') chain.useNonceElsewhere()
    if (next.kind === 'restart') world.restart()
    if (next.kind === 'reorg') chain.reorg(next.n)
    if (next.kind === 'lag') chain.world.lag = next.n
    if (next.kind === 'kill') chain.killAt(next.n)
    if (next.kind === 'wait') world.advance(next.n)
    if (next.kind === 'baseFee') chain.world.baseFeeWei = BigInt(next.n) * 10n ** 8n
    if (next.kind === 'network') chain.world.down = next.down
    if (next.kind === 'lateReceipts') {
      chain.world.hideReceipts = true
      await tick().catch(ignoreTrouble(world))
      chain.world.hideReceipts = false
      await tick().catch(ignoreTrouble(world))
    }
    return next.kind === 'enqueue' ? 1 : 0
  }
})

function ignoreDeath(error: unknown): void {
  if (!(error instanceof Killed)) throw error
}

function ignoreTrouble(world: OutboxWorld): (error: unknown) => void {
  return error => {
    if (error instanceof Killed) world.restart()
    else if (!(error instanceof BlockHostError && error.retryable)) throw error
  }
}
