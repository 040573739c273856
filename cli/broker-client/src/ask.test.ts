import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { ask } from './ask.ts'
import type { Generation } from './decide.ts'
import { createFakeHost, createFakeWorld, type FakeWorld, Killed, otherWallet } from './fake-world.ts'

function failure(code: string, exitCode: number): (error: unknown) => boolean {
  return error => {
    assert.ok(error instanceof BlockHostError, String(error))
    assert.deepEqual([error.code, error.exitCode], [code, exitCode])
    return true
  }
}

/** Runs until it ends by itself, starting again after each kill, as a person would. */
async function runUntilDone(world: FakeWorld, options: Parameters<typeof createFakeHost>[1] = {}) {
  for (let runs = 1; runs < 20; runs++) {
    const host = createFakeHost(world, options)
    try {
      return { ...(await ask(host.plan, host.deps)), runs, notes: host.notes }
    } catch (error) {
      if (!(error instanceof Killed)) throw error
    }
  }
  throw new Error('it never got through')
}

const generations: readonly Generation[] = [1, 2, 3]

describe('ask', () => {
  for (const generation of generations)
    it(`gets a lease, generation ${generation}`, async () => {
      const world = createFakeWorld({ generation })
      const { allocation, isNew } = await runUntilDone(world)
      assert.ok(isNew)
      assert.equal(allocation.wgPublicKey, world.broker.knownKey())
      assert.equal(world.chain.requests.length, 1)
      assert.deepEqual(world.disk.contract, createFakeHost(world).plan.broker)
      assert.equal(world.disk.intent, undefined)
    })

  for (const generation of generations)
    it(`killed at any point and started again, ends with the key the broker knows and one request, generation ${generation}`, async () => {
      let kills = 0
      for (let at = 1; ; at++) {
        const world = createFakeWorld({ generation })
        world.killAt(at)
        const { allocation, runs } = await runUntilDone(world)
        assert.equal(allocation.wgPublicKey, world.broker.knownKey(), `killed at ${at}`)
        assert.equal(world.chain.requests.length, 1, `killed at ${at}`)
        assert.equal(world.disk.allocation?.wgPrivateKey, allocation.wgPrivateKey)
        assert.equal(world.disk.intent, undefined)
        if (runs === 1) break
        kills++
      }
      assert.ok(kills > 15, `${kills} points`)
    })

  it('renewal killed at any point never leaves the key that is gone', async () => {
    for (let at = 1; ; at++) {
      const world = createFakeWorld({ generation: 3 })
      const first = await runUntilDone(world)
      world.killAt(at)
      const second = await runUntilDone(world, { purpose: 'renew' })
      // Killed after everything was saved but before it was said, the person renews once more; that is a new key again.
      assert.ok(world.chain.requests.length <= 3)
      assert.notEqual(second.allocation.wgPublicKey, first.allocation.wgPublicKey)
      assert.equal(second.allocation.wgPublicKey, world.broker.knownKey(), `killed at ${at}`)
      assert.equal(world.savedWith, second.allocation.wgPublicKey)
      if (second.runs === 1) break
    }
  })

  it('keeps a live lease whose key is saved, without a transaction', async () => {
    const world = createFakeWorld({ generation: 3 })
    const first = await runUntilDone(world)
    const sent = world.chain.sends
    const second = await runUntilDone(world)
    assert.equal(second.isNew, false)
    assert.deepEqual(second.allocation, first.allocation)
    assert.equal(world.chain.sends, sent)
  })

  it('sends the same transaction again when a reorg drops it', async () => {
    const world = createFakeWorld({ generation: 3 })
    world.at('after-mined', () => world.chain.reorg({ keepTransactions: false }))
    const { allocation } = await runUntilDone(world)
    assert.equal(allocation.wgPublicKey, world.broker.knownKey())
    assert.equal(world.chain.requests.length, 1)
    assert.equal(world.chain.reorgs, 1)
  })

  it('finds its request again when a reorg gives it another id', async () => {
    const world = createFakeWorld({ generation: 3 })
    world.at('after-mined', () => {
      world.chain.reorg({ keepTransactions: true })
      world.chain.submitFor(otherWallet, '0x00000000000000000000000000000000000000aa')
    })
    const { allocation } = await runUntilDone(world)
    assert.equal(allocation.requestId, 2n)
    assert.equal(allocation.wgPublicKey, world.broker.knownKey())
  })

  it('survives lost answers of the RPC endpoint at every call', async () => {
    for (let at = 1; at < 25; at++) {
      const world = createFakeWorld({ generation: 3 })
      world.failRpcAt(at)
      const { allocation } = await runUntilDone(world)
      assert.equal(allocation.wgPublicKey, world.broker.knownKey())
      assert.equal(world.chain.requests.length, 1, `lost call ${at}`)
    }
  })

  it('is not misled by an endpoint that is blocks behind', async () => {
    const world = createFakeWorld({ generation: 3, lag: [0, 2, 0, 1, 3, 0, 2, 0, 0, 1] })
    const { allocation } = await runUntilDone(world)
    assert.equal(allocation.wgPublicKey, world.broker.knownKey())
    assert.equal(world.chain.requests.length, 1)
  })

  it('offers more for gas when the transaction is not taken up, with the same nonce and key', async () => {
    const world = createFakeWorld({ generation: 3, minFeeWei: 40n })
    const { allocation } = await runUntilDone(world)
    assert.equal(allocation.wgPublicKey, world.broker.knownKey())
    assert.equal(world.chain.requests.length, 1)
    assert.ok(world.chain.replacements > 0)
  })

  it('asks once more when an answer is for another request or another server.key', async () => {
    for (const mistake of ['other-id', 'undecryptable'] as const) {
      const world = createFakeWorld({ generation: 2 })
      world.broker.mistakes.push(mistake)
      const { allocation, notes } = await runUntilDone(world)
      assert.equal(allocation.requestId, 2n)
      assert.equal(allocation.wgPublicKey, world.broker.knownKey())
      assert.ok(
        notes.some(note => note.endsWith('asking again') || note.includes('asking again with')),
        notes.join('\n'),
      )
    }
  })

  it('asks once more only once', async () => {
    const world = createFakeWorld({ generation: 2 })
    world.broker.mistakes.push('undecryptable', 'undecryptable', 'undecryptable')
    await assert.rejects(runUntilDone(world), failure('BH_REQUEST_KEPT_DYING', 1))
    assert.equal(world.chain.requests.length, 2)
  })

  it('refuses an answer with a bad field, writes nothing, and asks anew when run again', async () => {
    const world = createFakeWorld({ generation: 3 })
    world.broker.mistakes.push('invalid')
    await assert.rejects(runUntilDone(world), failure('BH_ANSWER_INVALID', 1))
    assert.equal(world.disk.allocation, undefined)
    const { allocation } = await runUntilDone(world)
    assert.equal(allocation.wgPublicKey, world.broker.knownKey())
    assert.equal(world.chain.requests.length, 2)
  })

  it('asks again when another machine took the NFT contract, and says so', async () => {
    const world = createFakeWorld({ generation: 3 })
    world.at('after-mined', () => world.chain.submitFor(world.wallet, world.nftContract))
    const { notes, allocation } = await runUntilDone(world)
    assert.ok(notes.some(note => note.includes('another machine')))
    assert.equal(allocation.wgPublicKey, world.broker.knownKey())
  })

  it('asks again with the same key when its request ran out of time', async () => {
    for (const generation of generations) {
      const world = createFakeWorld({ generation })
      world.broker.isAsleep = true
      await assert.rejects(runUntilDone(world, { timeoutMs: 20_000 }), failure('BH_TIMEOUT', 75))
      const key = world.disk.intent?.wg_public_key
      world.chain.passSeconds(90_000)
      world.broker.isAsleep = false
      const { allocation } = await runUntilDone(world)
      assert.equal(allocation.wgPublicKey, key, `generation ${generation}`)
      assert.equal(allocation.wgPublicKey, world.broker.knownKey())
    }
  })

  it('times out with 75 and goes on the next time', async () => {
    const world = createFakeWorld({ generation: 3 })
    world.broker.isAsleep = true
    await assert.rejects(runUntilDone(world, { timeoutMs: 10_000 }), failure('BH_TIMEOUT', 75))
    world.broker.isAsleep = false
    const { allocation } = await runUntilDone(world)
    assert.equal(world.chain.requests.length, 1)
    assert.equal(allocation.wgPublicKey, world.broker.knownKey())
  })

  it('stops with 75 when interrupted, and goes on the next time', async () => {
    const world = createFakeWorld({ generation: 3 })
    world.broker.isAsleep = true
    const host = createFakeHost(world)
    world.at('after-mined', () => host.interrupt())
    await assert.rejects(ask(host.plan, host.deps), failure('BH_INTERRUPTED', 75))
    world.broker.isAsleep = false
    assert.equal((await runUntilDone(world)).allocation.requestId, 1n)
  })
})

describe('ask, money', () => {
  it('pays a fee only up to what it was told', async () => {
    const world = createFakeWorld({ generation: 3, requestFeeWei: 1000n })
    await assert.rejects(runUntilDone(world, { maxFeeWei: 999n }), (error: unknown) => {
      assert.ok(error instanceof BlockHostError && error.code === 'BH_FEE_TOO_HIGH')
      assert.match(error.hint ?? '', /--max-fee-wei 1000/)
      return true
    })
    assert.equal(world.chain.sends, 0)
    const { notes } = await runUntilDone(world, { maxFeeWei: 1000n })
    assert.equal(world.chain.paidWei, 1000n)
    assert.ok(notes.includes("the broker's request fee is 1000 wei"))
  })

  it('says what is missing when the wallet is empty, before anything is signed', async () => {
    const world = createFakeWorld({ generation: 3, balanceWei: 100n })
    await assert.rejects(runUntilDone(world), failure('BH_BALANCE_TOO_LOW', 1))
    assert.equal(world.disk.intent, undefined)
  })

  it('believes a refusal of the contract after the third time', async () => {
    const world = createFakeWorld({ generation: 3, refusals: 2 })
    assert.equal((await runUntilDone(world)).allocation.requestId, 1n)
    const refused = createFakeWorld({ generation: 3, refusals: 3 })
    await assert.rejects(runUntilDone(refused), failure('BH_CALL_REFUSED', 1))
    assert.equal(refused.disk.intent, undefined)
  })
})

describe('ask, generation 1 with the NFT contract occupied', () => {
  it('waits for a release, then asks', async () => {
    const world = createFakeWorld({ generation: 1 })
    world.chain.submitFor(world.wallet, world.nftContract)
    world.broker.releaseAfterBlocks = 5
    const { notes, allocation } = await runUntilDone(world)
    assert.ok(notes.some(note => note.includes('WireGuard key that is not on this machine')))
    assert.equal(notes.filter(note => note.includes('waits for its answer')).length, 1, 'said once')
    assert.equal(allocation.wgPublicKey, world.broker.knownKey())
  })

  it('ends with 75 and what to do when nobody releases it', async () => {
    const world = createFakeWorld({ generation: 1 })
    world.chain.submitFor(world.wallet, world.nftContract)
    await assert.rejects(runUntilDone(world, { timeoutMs: 60_000 }), (error: unknown) => {
      assert.ok(failure('BH_NFT_CONTRACT_OCCUPIED', 75)(error))
      assert.match((error as BlockHostError).hint ?? '', /operator/)
      return true
    })
    assert.equal(world.chain.requests.length, 1)
  })

  it('clears what nobody answered in time, as anyone may, then asks', async () => {
    const world = createFakeWorld({ generation: 1 })
    world.broker.isAsleep = true
    world.chain.submitFor(world.wallet, world.nftContract)
    world.chain.passSeconds(90_000)
    const run = runUntilDone(world)
    world.at('after-mined', () => {
      world.broker.isAsleep = false
    })
    const { allocation } = await run
    assert.equal(allocation.requestId, 2n)
    assert.equal(world.chain.requests[0]?.status, 'expired')
    assert.equal(allocation.wgPublicKey, world.broker.knownKey())
  })

  it('does not renew what it could not get back', async () => {
    const world = createFakeWorld({ generation: 1 })
    await runUntilDone(world)
    await assert.rejects(runUntilDone(world, { purpose: 'renew' }), failure('BH_RENEW_IMPOSSIBLE', 1))
  })
})
