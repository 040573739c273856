import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { openStore, type Store } from './store.ts'
import type { State, SubscriptionChange } from './subscription.ts'

const subscriber = '0xabababababababababababababababababababab'

function world() {
  let nowMs = 1_000
  const clock: Clock = { now: () => nowMs, monotonic: () => nowMs, sleep: async () => undefined }
  const store = openStore(':memory:', clock)
  const add = (id: bigint, state: State, change: SubscriptionChange = {}) => {
    const view = { id, subscriber, planId: 1, expiresAt: 5_000, purchaseBlock: id * 10n } as const
    store.add({ ...view, cancelled: false, planActive: true, planRenewable: true }, 1n)
    store.change(id, { state, ...change })
  }
  const pass = (ms: number) => {
    nowMs += ms
  }
  return { store, add, pass }
}

const ids = (rows: readonly { id: bigint }[]) => rows.map(({ id }) => Number(id))

describe('store', () => {
  it('jobs: first come first served, over all states; one that failed waits for its time and then for its turn', () => {
    const { store, add, pass } = world()
    add(1n, 'paid')
    pass(10)
    add(2n, 'creating')
    store.change(1n, { retryAt: 1_050, attempts: 1 })
    add(3n, 'paid')
    assert.deepEqual(ids(store.jobs(['paid', 'creating'], 9)), [2, 3])
    pass(60)
    add(4n, 'paid')
    assert.deepEqual(ids(store.jobs(['paid', 'creating'], 9)), [2, 3, 1, 4])
    assert.deepEqual(ids(store.jobs(['paid', 'creating'], 2)), [2, 3])
  })

  it('wake: what waits for a time beyond a limit is due now, and nothing else', () => {
    const { store, add } = world()
    add(1n, 'paid', { retryAt: 50_000 })
    add(2n, 'paid', { retryAt: 2_000, dataRetryAt: 50_000 })
    add(3n, 'paid', { retryAt: 2_000, dataRetryAt: 2_000 })
    assert.deepEqual(ids(store.jobs(['paid'], 9)), [])
    store.wake(2_000)
    assert.deepEqual(ids(store.jobs(['paid'], 9)), [1, 2])
    assert.deepEqual(ids(store.withoutData(9)), [1, 2])
  })

  it('wakeFailed: what failed is due now, in its old order; what waits for its turn keeps its place', () => {
    const { store, add, pass } = world()
    add(1n, 'paid', { retryAt: 90_000, error: 'The disk is full', attempts: 9 })
    add(2n, 'resuming', { retryAt: 80_000, error: 'No answer', attempts: 2 })
    add(3n, 'paid', { retryAt: 900 })
    add(4n, 'creating', { retryAt: 70_000 })
    add(5n, 'paid', { retryAt: 950, error: 'It is due already', dataRetryAt: 60_000, dataAttempts: 4 })
    pass(1)
    assert.equal(store.wakeFailed(), 3)
    assert.deepEqual(ids(store.jobs(['paid', 'creating', 'resuming'], 9)), [3, 5, 1, 2])
    assert.deepEqual(ids(store.withoutData(9)), [1, 3, 4, 5])
    assert.equal(store.find(1n)!.attempts, 9, 'when it fails again it waits as long as before')
    assert.equal(store.wakeFailed(), 0)
  })

  it('due: what expired and runs, what is paid and suspended, what was suspended long enough', () => {
    const { store, add } = world()
    for (const [index, state] of (['created', 'minting', 'minted', 'live'] as const).entries())
      add(BigInt(index + 1), state)
    add(5n, 'live', { expiresAt: 5_001 })
    add(6n, 'suspended', { expiresAt: 6_000 })
    add(7n, 'suspended', { expiresAt: 4_000, suspendedAt: 4_900 })
    add(8n, 'suspended', { expiresAt: 4_000, suspendedAt: 4_901 })
    add(9n, 'ended', { expiresAt: 1 })
    assert.deepEqual(
      ids(store.due(5_000, 100, 99)).toSorted((a, b) => a - b),
      [1, 2, 3, 4, 6, 7],
    )
  })

  it('unsettled: recent purchases and what a reorganization may change, each once, page by page', () => {
    const { store, add } = world()
    add(1n, 'live')
    add(2n, 'dropped')
    add(3n, 'seen')
    add(4n, 'live')
    assert.deepEqual(ids(store.unsettled(30n, 0n, 2)), [2, 3])
    assert.deepEqual(ids(store.unsettled(30n, 3n, 2)), [4])
  })

  it('unsynced: whose expiry or owner the VM database does not know yet', () => {
    const { store, add } = world()
    add(1n, 'live', { vmExpiresAt: 5_000, vmOwner: subscriber, tokenOwner: subscriber })
    add(2n, 'live', { vmExpiresAt: 4_000, vmOwner: subscriber })
    add(3n, 'suspended', { vmExpiresAt: 5_000, vmOwner: subscriber, tokenOwner: `0x${'cd'.repeat(20)}` })
    add(4n, 'ending', { vmExpiresAt: 4_000 })
    add(5n, 'paid')
    assert.deepEqual(ids(store.unsynced(9)), [2, 3])
  })

  it('keeps every value, and empties what is undefined', () => {
    const { store, add } = world()
    add(7n, 'live', { tokenId: 2n ** 60n, data: Uint8Array.of(1, 2), error: 'no', hostname: '::1' })
    assert.equal(store.findByToken(2n ** 60n)?.id, 7n)
    assert.deepEqual(store.find(7n)?.data, Uint8Array.of(1, 2))
    store.change(7n, { tokenId: undefined, data: undefined, error: undefined })
    const { tokenId, data, error, hostname } = store.find(7n)!
    assert.deepEqual([tokenId, data, error, hostname], [undefined, undefined, undefined, '::1'])
  })

  it('walks no table in what a turn asks', () => {
    const { store } = world()
    for (const query of turnQueries(store)) {
      const plan = store.db.prepare(`EXPLAIN QUERY PLAN ${query}`).all() as { detail: string }[]
      for (const { detail } of plan)
        assert.doesNotMatch(
          detail,
          /^SCAN subscriptions(?! USING INDEX subscriptions_(unsynced|with_token|no_data))/,
          query,
        )
    }
  })
})

/** The statements that the store prepares, as SQLite keeps them. */
function turnQueries(store: Store): string[] {
  const seen: string[] = []
  const { prepare } = store.db
  const clock: Clock = { now: () => 0, monotonic: () => 0, sleep: async () => undefined }
  const prototype = Object.getPrototypeOf(store.db) as { prepare: typeof prepare }
  prototype.prepare = function (sql: string) {
    if (/^SELECT/.test(sql) && !/count\(\*\)/.test(sql)) seen.push(sql)
    return prepare.call(this, sql)
  }
  try {
    openStore(':memory:', clock).close()
  } finally {
    prototype.prepare = prepare
  }
  assert.ok(seen.length > 8)
  return seen
}
