/** A world for tests of the outbox: everything around it in memory and in the test's hands. */
import type { DatabaseSync } from 'node:sqlite'
import type { Hex } from '@blockhost/chain/hex.ts'
import { createOutbox, type Outbox, type OutboxIntent } from '@blockhost/chain/outbox.ts'
import type { OutboxOptions } from '@blockhost/chain/outbox-decide.ts'
import { outboxSchema } from '@blockhost/chain/outbox-store.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { openDatabase } from '@blockhost/kit/sqlite.ts'
import { createFakeTransactionPort, type FakeTransactionPort } from './fake-transaction-port.ts'

/** How the outboxes of the tests behave unless told otherwise. */
export const usual: OutboxOptions = { confirmations: 2, stuckAfterMs: 60_000, feeBumpPercent: 20, maxInFlight: 8 }

/** One account's world: fake chain, database, clock, and the outbox as the living process has it. */
export type OutboxWorld = {
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

/** Makes a world with an empty outbox; `tick` tells the changed rows as `key state problem`. */
export function setupOutbox(options: Partial<OutboxOptions> = {}, chain = createFakeTransactionPort()): OutboxWorld {
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

/** An intent whose data is its key. */
export function intent(key: string, more: Partial<OutboxIntent> = {}): OutboxIntent {
  return { key, to: `0x${'b2'.repeat(20)}`, data: dataOf(key), gasLimit: 50_000n, note: `test ${key}`, ...more }
}

/** The data of {@link intent}. */
export function dataOf(key: string): Hex {
  return `0x${Buffer.from(key).toString('hex')}`
}

/** Keys of the intents that the chain carried out, in order; transactions that do nothing show as ''. */
export function effectsOf(chain: FakeTransactionPort): string[] {
  return chain.effects().map(({ data }) => Buffer.from(data.slice(2), 'hex').toString())
}
