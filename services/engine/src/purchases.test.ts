import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { PurchaseData, SubscriptionsReader } from '@blockhost/chain/subscription-view.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { fetchPurchases } from './purchases.ts'
import { openStore } from './store.ts'

const subscriber = '0xabababababababababababababababababababab'
const day = 86_400_000

function world(hidden: { block: bigint; until: number }) {
  let nowMs = 1_800_000_000_000
  const clock: Clock = { now: () => nowMs, monotonic: () => nowMs, sleep: async () => undefined }
  const store = openStore(':memory:', clock)
  const scans: [bigint, bigint][] = []
  let looks = 0
  const data: PurchaseData = { id: 1n, subscriber, userEncrypted: Uint8Array.of(9), blockNumber: hidden.block }
  const chain = {
    purchaseData: async wanted => {
      looks += 1
      return wanted.some(({ block }) => block === hidden.block) && looks > hidden.until ? [data] : []
    },
    scanPurchases: async (_ids, { fromBlock, toBlock }) => {
      scans.push([fromBlock, toBlock])
      return { found: hidden.block >= fromBlock && hidden.block <= toBlock ? [data] : [], scannedTo: toBlock }
    },
  } as Partial<SubscriptionsReader> as SubscriptionsReader
  store.add(
    {
      ...{ id: 1n, subscriber, planId: 1, expiresAt: 2_000_000_000, purchaseBlock: 50n },
      ...{ cancelled: false, planActive: true, planRenewable: true },
    },
    60n,
  )
  store.change(1n, { state: 'paid' })
  const look = (heights = { head: 100n, blockNumber: 100n }) =>
    fetchPurchases({ store, chain, clock, log: silentLog }, heights)
  return { store, scans, look, looks: () => looks, pass: (ms: number) => (nowMs += ms) }
}

describe('fetchPurchases', () => {
  it('asks for the block of the purchase, and once', async () => {
    const { store, look, looks } = world({ block: 50n, until: 0 })
    await look()
    await look()
    assert.deepEqual(store.find(1n)?.data, Uint8Array.of(9))
    assert.equal(looks(), 1)
  })

  it('waits longer each time while an endpoint does not have it, and never gives up', async () => {
    const { store, look, looks, pass } = world({ block: 50n, until: 5 })
    await look()
    await look()
    assert.equal(looks(), 1, 'not due')
    for (let i = 0; i < 5; i++) {
      pass(day)
      await look()
    }
    assert.deepEqual(store.find(1n)?.data, Uint8Array.of(9))
  })

  it('searches the chain down from its head where contracts count other blocks, going on where it was', async () => {
    const { store, look, scans, pass } = world({ block: 70_000n, until: 0 })
    const heights = { head: 150_000n, blockNumber: 100n }
    await look(heights)
    pass(day)
    await look(heights)
    pass(day)
    await look(heights)
    assert.deepEqual(scans, [
      [110_001n, 150_000n],
      [70_001n, 110_000n],
      [30_001n, 70_000n],
    ])
    assert.deepEqual(store.find(1n)?.data, Uint8Array.of(9))
  })
})
