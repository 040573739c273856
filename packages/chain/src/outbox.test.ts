import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { transaction } from '@blockhost/kit/sqlite.ts'
import { createFakeTransactionPort } from '@blockhost/testkit/fake-transaction-port.ts'
import { dataOf, effectsOf, intent, setupOutbox as setup, usual } from '@blockhost/testkit/outbox-world.ts'
import type { Hex } from './hex.ts'
import { createOutbox } from './outbox.ts'
import type { SendOutcome } from './transaction-port.ts'

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
    assert.deepEqual(await tick(), ['a sent fee-cap'])
    advance(usual.stuckAfterMs)
    assert.deepEqual(await tick(), [])
    assert.equal(outbox().find('a')?.attempts, 1)
    chain.world.baseFeeWei = 1n
    chain.mine()
    assert.deepEqual(await tick(), ['a mined'])
  })

  it('stops raising at ten times what the chain asks', async () => {
    const { outbox, chain, tick, advance } = setup()
    chain.world.swallowSends = true
    outbox().enqueue(intent('a'))
    for (let i = 0; i < 60; i++) {
      await tick()
      chain.mine()
      advance(usual.stuckAfterMs)
    }
    const attempts = outbox().find('a')!.attempts
    assert.ok(attempts > 10 && attempts < 20, `${attempts} attempts`)
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

function refusal(kind: 'underpriced' | 'permanent'): SendOutcome & { ok: false } {
  return { ok: false, kind, message: 'no' }
}
