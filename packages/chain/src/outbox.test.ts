import assert from 'node:assert/strict'
import type { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { openDatabase, transaction } from '@blockhost/kit/sqlite.ts'
import {
  createFakeTransactionPort,
  type FakeTransactionPort,
  Killed,
} from '@blockhost/testkit/fake-transaction-port.ts'
import fc from 'fast-check'
import type { Hex } from './hex.ts'
import { createOutbox, type Outbox, type OutboxIntent } from './outbox.ts'
import type { OutboxOptions } from './outbox-decide.ts'
import { outboxSchema } from './outbox-store.ts'
import type { SendOutcome } from './transaction-port.ts'

const usual: OutboxOptions = { confirmations: 2, stuckAfterMs: 60_000, feeBumpPercent: 20, maxInFlight: 8 }

/** One account's world: fake chain, database, clock, and the outbox as the living process has it. */
type Setup = {
  readonly chain: FakeTransactionPort
  readonly db: DatabaseSync
  readonly outbox: () => Outbox
  /** Starts the process again: another outbox on the same database. */
  restart(): void
  advance(ms: number): void
  tick(): Promise<string[]>
  /** Ticks and mines until nothing is pending, at most `turns` times. */
  finish(turns?: number): Promise<void>
}

function setup(options: Partial<OutboxOptions> = {}, chain = createFakeTransactionPort()): Setup {
  const db = openDatabase(':memory:', [database => database.exec(outboxSchema)])
  let nowMs = 1_700_000_000_000
  const clock: Clock = { now: () => nowMs, monotonic: () => nowMs, sleep: async () => undefined }
  const make = () => createOutbox(db, chain.port, { ...usual, ...options }, { clock, log: silentLog })
  let outbox = make()
  const tick = async () => {
    const rows = await outbox.tick({ blockNumber: chain.height() })
    return rows.map(row => `${row.key} ${row.state}${row.problem === undefined ? '' : ` ${row.problem}`}`)
  }
  return {
    chain,
    db,
    outbox: () => outbox,
    restart() {
      chain.revive()
      outbox = make()
    },
    advance(ms) {
      nowMs += ms
    },
    tick,
    async finish(turns = 60) {
      for (let turn = 0; turn < turns && outbox.pending() > 0; turn++) {
        await tick()
        chain.mine()
        nowMs += 5000
      }
    },
  }
}

function intent(key: string, more: Partial<OutboxIntent> = {}): OutboxIntent {
  return { key, to: `0x${'b2'.repeat(20)}`, data: dataOf(key), gasLimit: 50_000n, note: `test ${key}`, ...more }
}

function dataOf(key: string): Hex {
  return `0x${Buffer.from(key).toString('hex')}`
}

function effectsOf(chain: FakeTransactionPort): string[] {
  return chain.effects().map(({ data }) => Buffer.from(data.slice(2), 'hex').toString())
}

describe('enqueue', () => {
  it('keeps one row for a key', () => {
    const { outbox } = setup()
    const id = outbox().enqueue(intent('a'))
    assert.equal(outbox().enqueue(intent('a', { data: '0xff' })), id)
    assert.equal(outbox().pending(), 1)
  })

  it("is undone with the caller's transaction", () => {
    const { outbox, db } = setup()
    const failing = () =>
      transaction(db, () => {
        outbox().enqueue(intent('a'))
        throw new Error('the caller changed its mind')
      })
    assert.throws(failing)
    assert.equal(outbox().find('a'), undefined)
  })
})

describe('cancelQueued', () => {
  it('takes back what was never signed, and lets it be asked for again', async () => {
    const { outbox, finish, chain } = setup()
    outbox().enqueue(intent('a'))
    assert.equal(outbox().cancelQueued('a'), true)
    assert.equal(outbox().find('a')?.state, 'cancelled')
    assert.equal(outbox().pending(), 0)
    outbox().enqueue(intent('a'))
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
  })

  it('does not touch what was signed, nor what it does not know', async () => {
    const { outbox, tick } = setup()
    outbox().enqueue(intent('a'))
    await tick()
    assert.equal(outbox().cancelQueued('a'), false)
    assert.equal(outbox().cancelQueued('b'), false)
  })

  it('leaves no nonce unused when it comes while the transaction is being signed', async () => {
    const { outbox, tick, finish, chain } = setup()
    for (const key of ['a', 'b', 'c']) outbox().enqueue(intent(key))
    const sign = chain.port.sign
    Object.assign(chain.port, {
      sign: async (...args: Parameters<typeof sign>) => {
        const signed = await sign(...args)
        outbox().cancelQueued('b')
        return signed
      },
    })
    await tick()
    assert.deepEqual(
      chain.pool().map(({ nonce }) => nonce),
      [0],
    )
    await finish()
    assert.deepEqual(effectsOf(chain), ['a', 'c'])
    assert.equal(outbox().find('b')?.state, 'cancelled')
  })
})

describe('tick', () => {
  it('sends in order, then reports mined and final', async () => {
    const { outbox, chain, tick } = setup()
    for (const key of ['a', 'b']) outbox().enqueue(intent(key))
    assert.deepEqual(await tick(), ['a sent', 'b sent'])
    chain.mine()
    assert.deepEqual(await tick(), ['a mined', 'b mined'])
    chain.mine()
    assert.deepEqual(await tick(), [])
    chain.mine()
    assert.deepEqual(await tick(), ['a final', 'b final'])
    assert.deepEqual(effectsOf(chain), ['a', 'b'])
    const row = outbox().find('b')
    assert.deepEqual([row?.nonce, row?.blockNumber, row?.gasUsed, row?.attempts], [1, 2n, 21_000n, 1])
    assert.equal(outbox().pending(), 0)
  })

  it('is final with its own block when no confirmations are asked for', async () => {
    const { outbox, chain, tick } = setup({ confirmations: 0 })
    outbox().enqueue(intent('a'))
    await tick()
    chain.mine()
    assert.deepEqual(await tick(), ['a final'])
  })

  it('needs three round trips for any number of transactions, and none while nothing can change', async () => {
    const { outbox, chain, tick } = setup({ maxInFlight: 200 })
    await tick()
    assert.deepEqual(chain.calls, { poll: 0, estimate: 0, send: 0, sign: 0 })
    for (let i = 0; i < 100; i++) outbox().enqueue(intent(`i${i}`, { gasLimit: undefined as never }))
    await tick()
    assert.deepEqual(chain.calls, { poll: 1, estimate: 1, send: 1, sign: 100 })
    await tick()
    await tick()
    assert.deepEqual(chain.calls, { poll: 1, estimate: 1, send: 1, sign: 100 })
    chain.mine()
    await tick()
    assert.deepEqual(chain.calls, { poll: 2, estimate: 1, send: 1, sign: 100 })
    assert.equal(effectsOf(chain).length, 100)
  })

  it('has at most maxInFlight transactions on their way', async () => {
    const { outbox, chain, tick, finish } = setup({ maxInFlight: 3 })
    for (let i = 0; i < 10; i++) outbox().enqueue(intent(`i${i}`))
    await tick()
    assert.equal(chain.pool().length, 3)
    await finish()
    assert.equal(effectsOf(chain).length, 10)
  })

  it('joins a turn that is still going on', async () => {
    const { outbox, chain } = setup()
    outbox().enqueue(intent('a'))
    const head = { blockNumber: chain.height() }
    await Promise.all([outbox().tick(head), outbox().tick(head)])
    assert.equal(chain.calls.poll, 1)
    assert.equal(chain.pool().length, 1)
  })

  it('continues after a nonce the account already has', async () => {
    const chain = createFakeTransactionPort({ nonce: 41 })
    const { outbox, finish } = setup({}, chain)
    outbox().enqueue(intent('a'))
    await finish()
    assert.equal(outbox().find('a')?.nonce, 41)
  })

  it('creates contracts and reports where', async () => {
    const { outbox, finish } = setup()
    outbox().enqueue(intent('a', { to: undefined }))
    await finish()
    assert.match(outbox().find('a')?.contractAddress ?? '', /^0x[0-9a-f]{40}$/)
  })

  it('offers a gas price where the chain has no base fee', async () => {
    const { outbox, chain, finish } = setup()
    chain.world.baseFeeWei = undefined
    outbox().enqueue(intent('a'))
    await finish()
    assert.deepEqual(chain.effects()[0]?.fees, { type: 'legacy', gasPriceWei: 10n ** 9n })
  })
})

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
})

describe('a nonce that somebody else uses', () => {
  it('is given up after the depth, and the intent gets another', async () => {
    const { outbox, chain, tick, finish } = setup()
    outbox().enqueue(intent('a'))
    chain.world.swallowSends = true
    await tick()
    chain.world.swallowSends = false
    chain.useNonceElsewhere()
    assert.deepEqual(await tick(), [])
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
    chain.mine()
    assert.deepEqual(await tick(), [])
    chain.world.hideReceipts = false
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
    assert.equal(outbox().find('a')?.attempts, 1)
  })

  it('every time ends the intent instead of an endless fight', async () => {
    const { outbox, chain, tick } = setup()
    outbox().enqueue(intent('a'))
    chain.world.swallowSends = true
    for (let i = 0; i < 30 && outbox().pending() > 0; i++) {
      await tick()
      chain.useNonceElsewhere()
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

describe('fees', () => {
  it('replaces what is stuck with at least 12.5 % more and keeps watching the old hash', async () => {
    const { outbox, chain, tick, advance, finish } = setup({ feeBumpPercent: 1 })
    outbox().enqueue(intent('a'))
    await tick()
    const first = outbox().find('a')!
    const before = chain.pool()[0]!.fees
    chain.world.baseFeeWei = 10n ** 10n
    chain.mine()
    advance(usual.stuckAfterMs)
    chain.world.swallowSends = true
    await tick()
    const second = outbox().find('a')!
    assert.equal(second.attempts, 2)
    assert.notEqual(second.hash, first.hash)
    chain.world.baseFeeWei = 1n
    chain.mine()
    await finish()
    assert.equal(outbox().find('a')?.hash, first.hash)
    assert.deepEqual(effectsOf(chain), ['a'])
    assert.ok(before.type === 'eip1559')
  })

  it('raises both fees by what nodes ask', async () => {
    const { outbox, chain, tick, advance } = setup({ feeBumpPercent: 1 })
    outbox().enqueue(intent('a'))
    await tick()
    const [before] = chain.pool()
    chain.world.baseFeeWei = before!.fees.type === 'eip1559' ? before!.fees.maxFeePerGasWei + 1n : 0n
    chain.world.tipWei = 0n
    chain.mine()
    advance(usual.stuckAfterMs)
    await tick()
    const [after] = chain.pool()
    assert.ok(before!.fees.type === 'eip1559' && after!.fees.type === 'eip1559')
    assert.ok(after!.fees.maxFeePerGasWei * 1000n >= before!.fees.maxFeePerGasWei * 1125n)
    assert.ok(after!.fees.maxPriorityFeePerGasWei * 1000n >= before!.fees.maxPriorityFeePerGasWei * 1125n)
    assert.equal(after!.nonce, before!.nonce)
  })

  it('raises once for each block when a node says that it pays too little', async () => {
    const { outbox, chain, tick, finish } = setup()
    chain.world.refuseSends = refusal('underpriced')
    outbox().enqueue(intent('a'))
    await tick()
    await tick()
    assert.equal(outbox().find('a')?.attempts, 1)
    chain.mine()
    await tick()
    assert.equal(outbox().find('a')?.attempts, 2)
    chain.world.refuseSends = undefined
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
  })

  it('waits while the chain asks more than the cap', async () => {
    const { outbox, chain, tick, finish } = setup({ maxFeePerGasWei: 10n ** 10n })
    chain.world.baseFeeWei = 2n * 10n ** 10n
    outbox().enqueue(intent('a'))
    assert.deepEqual(await tick(), ['a queued fee-cap'])
    assert.equal(chain.calls.send, 0)
    chain.world.baseFeeWei = 10n ** 9n
    chain.mine()
    assert.deepEqual(await tick(), ['a sent'])
    assert.ok(chain.pool().every(({ fees }) => fees.type === 'eip1559' && fees.maxFeePerGasWei <= 10n ** 10n))
    await finish()
    assert.deepEqual(effectsOf(chain), ['a'])
  })

  it('never replaces above the cap, and says so', async () => {
    const { outbox, chain, tick, advance } = setup({ maxFeePerGasWei: 3n * 10n ** 9n })
    outbox().enqueue(intent('a'))
    await tick()
    chain.world.baseFeeWei = 10n ** 11n
    chain.mine()
    advance(usual.stuckAfterMs)
    assert.deepEqual(await tick(), ['a sent'])
    assert.equal(outbox().find('a')?.attempts, 1)
  })
})

describe('refusals', () => {
  it('keeps an intent queued while the account is empty, and says so once', async () => {
    const { outbox, chain, tick, finish, advance } = setup()
    chain.world.isPoor = true
    for (const key of ['a', 'b']) outbox().enqueue(intent(key))
    assert.deepEqual(await tick(), ['a queued insufficient-funds', 'b queued insufficient-funds'])
    chain.mine()
    assert.deepEqual(await tick(), [])
    chain.world.isPoor = false
    advance(usual.stuckAfterMs / 3)
    assert.deepEqual(await tick(), ['a sent', 'b sent'])
    await finish()
    assert.deepEqual(effectsOf(chain), ['a', 'b'])
  })

  it('signs nothing more while the account is empty', async () => {
    const { outbox, chain, tick } = setup({ maxInFlight: 2 })
    chain.world.isPoor = true
    for (let i = 0; i < 6; i++) outbox().enqueue(intent(`i${i}`))
    for (let i = 0; i < 5; i++) {
      await tick()
      chain.mine()
    }
    assert.equal(chain.calls.sign, 2)
  })

  it('reports a transaction that reverted in its block, once it is deep enough', async () => {
    const { outbox, chain, tick } = setup()
    chain.world.reverts = ({ data }) => data === dataOf('a')
    for (const key of ['a', 'b']) outbox().enqueue(intent(key))
    await tick()
    chain.mine()
    assert.deepEqual(await tick(), ['a mined reverted', 'b mined'])
    chain.mine(1)
    assert.deepEqual(await tick(), ['a reverted reverted', 'b final'])
  })

  it('gives up what would revert, without spending gas, after the confirmations', async () => {
    const { outbox, chain, tick, finish } = setup()
    chain.world.reverts = ({ data }) => data === dataOf('a')
    outbox().enqueue(intent('a', { gasLimit: undefined as never }))
    assert.deepEqual(await tick(), ['a queued reverted'])
    outbox().enqueue(intent('b', { gasLimit: undefined as never }))
    await finish()
    assert.deepEqual([outbox().find('a')?.state, outbox().find('b')?.state], ['reverted', 'final'])
    assert.equal(outbox().find('a')?.hash, undefined)
    assert.equal(chain.nonce(), 1)
  })

  it('waits with what would revert only until something before it is mined', async () => {
    const { outbox, chain, tick, finish } = setup({ confirmations: 0 })
    outbox().enqueue(intent('first'))
    await tick()
    chain.world.reverts = ({ data }) => data === dataOf('second') && effectsOf(chain).length === 0
    outbox().enqueue(intent('second', { gasLimit: undefined as never }))
    assert.deepEqual(await tick(), ['second queued reverted'])
    await finish()
    assert.deepEqual(effectsOf(chain), ['first', 'second'])
  })

  it('uses up the nonce of what a node refuses for good, so that the rest goes on', async () => {
    const { outbox, chain, finish } = setup()
    for (const key of ['a', 'b']) outbox().enqueue(intent(key))
    const send = chain.port.send
    const isBad = (raw: Hex) => Buffer.from(raw.slice(2), 'hex').toString().includes(dataOf('a'))
    Object.assign(chain.port, {
      send: async (raws: readonly Hex[]): Promise<readonly SendOutcome[]> => {
        const outcomes = await send(raws.filter(raw => !isBad(raw)))
        return raws.map(raw =>
          isBad(raw) ? refusal('permanent') : outcomes[raws.filter(r => !isBad(r)).indexOf(raw)]!,
        )
      },
    })
    await finish()
    const row = outbox().find('a')
    assert.deepEqual([row?.state, row?.problem, row?.detail], ['cancelled', 'refused', 'no'])
    assert.deepEqual(effectsOf(chain), ['', 'b'])
  })

  it('opens only for the account whose transactions are on their way', async () => {
    const { outbox, tick, db } = setup()
    outbox().enqueue(intent('a'))
    await tick()
    const other = createFakeTransactionPort({ address: `0x${'c3'.repeat(20)}` })
    const deps = { clock: {} as Clock, log: silentLog }
    assert.throws(
      () => createOutbox(db, other.port, usual, deps),
      (error: unknown) => error instanceof BlockHostError && error.code === 'BH_OUTBOX_OTHER_ACCOUNT',
    )
  })
})

describe('the tables', () => {
  it('forget the bytes of old transactions and keep their rows', async () => {
    const { outbox, finish, db } = setup({ confirmations: 0, maxInFlight: 50 })
    for (let i = 0; i < 400; i++) outbox().enqueue(intent(`i${i}`))
    await finish(200)
    const count = (sql: string) => Number(db.prepare(sql).get()!.n)
    assert.equal(count('SELECT count(*) AS n FROM outbox'), 400)
    assert.ok(count('SELECT count(*) AS n FROM outbox_attempts') <= 257)
    assert.ok(count(`SELECT count(*) AS n FROM outbox WHERE data <> x''`) <= 257)
    assert.equal(outbox().find('i0')?.state, 'final')
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
      { numRuns: 300 },
    )
  })

  async function play(world: Setup, next: Step, count: number): Promise<number> {
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

function ignoreTrouble(world: Setup): (error: unknown) => void {
  return error => {
    if (error instanceof Killed) world.restart()
    else if (!(error instanceof BlockHostError && error.retryable)) throw error
  }
}

function refusal(kind: 'underpriced' | 'permanent'): SendOutcome & { ok: false } {
  return { ok: false, kind, message: 'no' }
}
