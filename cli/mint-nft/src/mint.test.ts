import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { describe, test } from 'node:test'
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import { createOutbox } from '@blockhost/chain/outbox.ts'
import { outboxSchema } from '@blockhost/chain/outbox-store.ts'
import type { MintRequest } from '@blockhost/engine/mint-call.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { atEveryCall } from '@blockhost/testkit/failure-point.ts'
import { createFakeTransactionPort, Killed } from '@blockhost/testkit/fake-transaction-port.ts'
import { cancelMint, type MintDeps, mintToken } from './mint.ts'

const nft: Address = `0x${'cc'.repeat(20)}`
const request: MintRequest = {
  owner: `0x${'11'.repeat(20)}`,
  machineId: 'blockhost-001.1a2b3c4d',
  userEncrypted: new Uint8Array(),
  publicSecret: '',
}

/** A chain that mines at every look, and a database that outlives the commands. */
function makeWorld() {
  const chain = createFakeTransactionPort()
  const db = new DatabaseSync(':memory:')
  db.exec(outboxSchema)
  let time = 1_800_000_000_000
  const clock: Clock = {
    now: () => time,
    monotonic: () => time,
    sleep: ms => {
      time += ms
      return Promise.resolve()
    },
  }
  const settings = { confirmations: 1, stuckAfterMs: 60_000, feeBumpPercent: 20, maxInFlight: 4 }
  const hashes = () => chain.effects().map(({ nonce }) => BigInt(nonce))
  /** What one command holds. */
  const start = (port = chain.port): MintDeps => ({
    nft,
    outbox: createOutbox(db, port, settings, { clock, log: silentLog }),
    head: () => Promise.resolve(chain.mine(1)),
    mintedTokens: (_nft: Address, of: readonly Hex[]) =>
      Promise.resolve(of.map(() => ({ tokenId: hashes()[0]!, to: request.owner }))),
    clock,
    timeoutMs: 20_000,
  })
  return { chain, start }
}

describe('mintToken', () => {
  test('mints once for one machine and owner, however often it is called', async () => {
    const { chain, start } = makeWorld()
    const first = await mintToken(start(), request)
    assert.deepEqual(await mintToken(start(), request), first)
    assert.equal(chain.effects().length, 1)
    await mintToken(start(), { ...request, machineId: 'another' })
    assert.equal(chain.effects().length, 2)
  })

  test('whichever call fails, or loses its answer: the same again ends with one token', async () => {
    const makeError = () => new BlockHostError({ code: 'BH_TEST', message: 'made to fail', retryable: true })
    const tried = await atEveryCall(makeError, async point => {
      const { chain, start } = makeWorld()
      const failing = start(point.wrap(chain.port, ['sign', 'poll', 'estimate', 'send']))
      await mintToken(point.wrap(failing, ['head', 'mintedTokens']), request).catch(error =>
        assert.equal(error, point.error),
      )
      const { tokenId } = await mintToken(start(), request)
      assert.equal(tokenId, 0n)
      assert.equal(chain.effects().length, 1)
    })
    assert.ok(tried >= 10, `${tried} failures`)
  })

  test('killed at any moment: the next run goes on with the same transaction', async () => {
    for (let at = 0, isOver = false; !isOver; at++) {
      const { chain, start } = makeWorld()
      chain.killAt(at)
      await mintToken(start(), request).catch(error => assert.ok(error instanceof Killed, String(error)))
      isOver = !chain.revive()
      assert.equal((await mintToken(start(), request)).tokenId, 0n)
      assert.equal(chain.effects().length, 1, `killed at moment ${at}`)
    }
  })

  test('says that it is still under way when nothing is mined in time, and leaves it under way', async () => {
    const { chain, start } = makeWorld()
    const waiting = { ...start(), head: () => Promise.resolve(chain.height()) }
    await assert.rejects(mintToken(waiting, request), { code: 'BH_MINT_PENDING', retryable: true })
    assert.equal(cancelMint(waiting, request), false)
    assert.equal((await mintToken(start(), request)).tokenId, 0n)
    assert.equal(chain.effects().length, 1)
  })

  test('says when the contract refuses', async () => {
    const { chain, start } = makeWorld()
    chain.world.reverts = () => true
    await assert.rejects(mintToken(start(), request), { code: 'BH_MINT_FAILED' })
    assert.equal(chain.effects().length, 0)
  })
})

describe('cancelMint', () => {
  test('takes back what nobody has seen', async () => {
    const { chain, start } = makeWorld()
    chain.world.down = 'before'
    await assert.rejects(mintToken(start(), request), { code: 'BH_RPC_UNAVAILABLE' })
    assert.equal(cancelMint(start(), request), true)
    assert.equal(cancelMint(start(), { ...request, machineId: 'never asked for' }), true)
    chain.world.down = false
    chain.mine(3)
    assert.equal(chain.effects().length, 0)
  })
})
