import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { grant } from '@blockhost/broker/effects.ts'
import { type LeaseInput, openStore, type Store } from '@blockhost/broker/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { openDatabase, transaction } from '@blockhost/kit/sqlite.ts'
import type { BenchContext, BenchGroup, Figure } from './figure.ts'
import { benchPool, fillStore, newLease } from './leases.ts'
import { median, round } from './statistics.ts'

/** Leases in SQLite: one durable allocation with few and many leases there already, and a backlog committed together. */
export const ipam: BenchGroup = {
  keys: ['ipam.allocateUs.1000', 'ipam.allocateUs.1000000', 'ipam.backlogPerSecond'],
  async run(context) {
    using few = openFilled(context, 1_000)
    using many = openFilled(context, 1_000_000)
    using bare = openBare(context)
    const { ofFew, ofMany, ofBare } = measureSingle(few, many, bare)
    const backlog = measureBacklog(few, bare)
    return {
      'ipam.allocateUs.1000': {
        value: round(median(ofFew)),
        unit: 'us',
        comparedWith: `one row into a bare table, same disk, synchronous FULL: ${round(median(ofBare))} us`,
      },
      'ipam.allocateUs.1000000': {
        value: round(median(ofMany)),
        unit: 'us',
        limit: round(2 * median(ofFew)),
        comparedWith: `with 1,000 leases: ${round(median(ofFew))} us, taken in turns`,
      },
      'ipam.backlogPerSecond': backlog,
    }
  },
}

function openFilled(context: BenchContext, leases: number): Store {
  context.note(`filling a database with ${leases.toLocaleString('en')} leases`)
  const store = openStore(join(context.folder, `ipam-${leases}.db`), benchPool, systemClock)
  fillStore(store, leases)
  return store
}

function openBare(context: BenchContext): DatabaseSync {
  return openDatabase(join(context.folder, 'bare.db'), [
    db => db.exec('CREATE TABLE bare (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT) STRICT'),
  ])
}

const rounds = 300
const warmUp = 20

/** Each commit waits for the disk, so the three take turns: a slow moment of the disk hits all. In microseconds. */
function measureSingle(few: Store, many: Store, bare: DatabaseSync) {
  const insert = bare.prepare('INSERT INTO bare (a, b, c) VALUES (?, ?, ?)')
  const ofFew: number[] = []
  const ofMany: number[] = []
  const ofBare: number[] = []
  for (let at = -warmUp; at < rounds; at++) {
    const input = newLease(BigInt(2_000_000 + at))
    const row = [input.publicKey, input.nftContract, input.wallet] as const
    const took = [
      timeUs(() => few.transaction(() => few.allocate(input))),
      timeUs(() => many.transaction(() => many.allocate(input))),
      timeUs(() => transaction(bare, () => insert.run(...row))),
    ]
    if (at < 0) continue
    for (const [index, times] of [ofFew, ofMany, ofBare].entries()) times.push(took[index]!)
  }
  return { ofFew, ofMany, ofBare }
}

const backlogSize = 5_000
const backlogRuns = 5

/** What the daemon writes for each request it accepts: lease, request and audit row; thousands in one commit. */
function measureBacklog(store: Store, bare: DatabaseSync): Figure {
  const insert = bare.prepare('INSERT INTO bare (a, b, c) VALUES (?, ?, ?)')
  const rates: number[] = []
  const bareRates: number[] = []
  for (let run = 0; run <= backlogRuns; run++) {
    const inputs = Array.from({ length: backlogSize }, (_, at) => newLease(BigInt(3_000_000 + run * backlogSize + at)))
    const ofStore = timeUs(() => store.transaction(() => acceptAll(store, inputs)))
    const ofBare = timeUs(() =>
      transaction(bare, () => {
        for (const { publicKey, nftContract, wallet } of inputs)
          for (let row = 0; row < 3; row++) insert.run(publicKey, nftContract, wallet)
      }),
    )
    if (run === 0) continue
    rates.push((backlogSize / ofStore) * 1e6)
    bareRates.push((backlogSize / ofBare) * 1e6)
  }
  return {
    value: round(median(rates)),
    unit: '/s',
    limit: 12_000,
    comparedWith: `three rows each into a bare table without an index: ${round(median(bareRates))}/s`,
  }
}

function acceptAll(store: Store, inputs: readonly LeaseInput[]): void {
  for (const input of inputs) accept(store, input)
}

function accept(store: Store, input: LeaseInput): void {
  if (store.requests.find(input.request) !== undefined) throw new Error('a fresh request is known already')
  const granted = grant(store, input)
  if (granted === undefined) throw new Error('the pool is full')
  store.requests.record({
    ...input.request,
    requester: input.wallet,
    nftContract: input.nftContract,
    state: 'leased',
    reason: undefined,
    publicKey: input.publicKey,
    serverPublicKey: `04${'0'.repeat(128)}`,
    previous: granted.previous,
    changedBlock: 1n,
  })
}

function timeUs(work: () => unknown): number {
  const start = performance.now()
  work()
  return (performance.now() - start) * 1000
}
