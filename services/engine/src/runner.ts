import { backoffMs, type Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, isRetryable, messageOf } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { JobResult } from './jobs.ts'
import type { Store } from './store.ts'
import { runningState, type State, type Subscription, type SubscriptionChange } from './subscription.ts'

/** What running jobs needs. */
export type RunnerDeps = {
  readonly store: Store
  readonly clock: Clock
  readonly log: Log
  /** Chance for the pauses after failures, in [0, 1); default `Math.random`. */
  readonly random?: () => number
  /** Does the next step of a subscription. */
  run(row: Subscription, signal: AbortSignal): Promise<JobResult>
  /** Called inside the transaction that forgets a subscription. */
  onForget(id: bigint): void
  /** Called when a job ended. */
  onEnd(): void
}

/** Jobs that run beside each other, so many at a time, one for a subscription. */
export type Runner = {
  /** Starts what is due, in the order of the queue, as far as there is room. */
  start(limits: Limits): void
  isBusy(id: bigint): boolean
  busy(): number
  readonly counters: { readonly done: number; readonly failed: number }
  /** Ends waiting jobs and waits for all of them. */
  stop(): Promise<void>
}

/** How many jobs may run at a time: creates, and the short ones, which creates never hold up. */
export type Limits = { readonly creates: number; readonly others: number }

const lanes: Readonly<Record<keyof Limits, readonly State[]>> = {
  creates: ['paid', 'creating'],
  others: ['minted', 'suspending', 'resuming', 'ending'],
}
const retry = {
  passing: { baseMs: 2_000, maxMs: 300_000 },
  /** Somebody has to change something first. */
  lasting: { baseMs: 30_000, maxMs: 1_800_000 },
}

type Job = { readonly lane: keyof Limits; readonly ended: Promise<void> }

/** Makes the runner. Jobs that end together are noted, and the next ones begun, in one database transaction. */
export function createRunner(deps: RunnerDeps): Runner {
  const { store, clock, log } = deps
  const running = new Map<bigint, Job>()
  const counters = { done: 0, failed: 0 }
  const stopping = new AbortController()
  let outcomes: { row: Subscription; note: () => void; release: () => void }[] = []
  let limits: Limits = { creates: 0, others: 0 }

  function start(next: Limits): void {
    limits = next
    // What just ended is noted first, and the next ones begin with that.
    if (outcomes.length === 0) launch(store.transaction(begin))
  }

  /** Chooses what is due and marks it, inside the caller's transaction, in which what `outcomes` hold is noted already. */
  function begin(): { row: Subscription; lane: keyof Limits }[] {
    if (stopping.signal.aborted) return []
    const chosen = (Object.keys(lanes) as (keyof Limits)[]).flatMap(lane => choose(lane, limits[lane]))
    return chosen.map(({ row, lane }) => {
      if (row.state !== 'paid') return { row, lane }
      store.change(row.id, { state: 'creating', retryAt: row.retryAt })
      return { row: { ...row, state: 'creating' }, lane }
    })
  }

  function choose(lane: keyof Limits, limit: number): { row: Subscription; lane: keyof Limits }[] {
    const ending = new Set(outcomes.map(({ row }) => row.id))
    const busy = [...running].filter(([id, job]) => job.lane === lane && !ending.has(id)).length
    const room = limit - busy
    if (room <= 0) return []
    // Rows of running jobs are in the queue too, so that many more are read.
    const rows = store.jobs(lanes[lane], room + running.size)
    return rows
      .filter(row => !running.has(row.id) || ending.has(row.id))
      .slice(0, room)
      .map(row => ({ row, lane }))
  }

  function launch(jobs: readonly { row: Subscription; lane: keyof Limits }[]): void {
    for (const { row, lane } of jobs) {
      const { promise: ended, resolve: release } = Promise.withResolvers<void>()
      running.set(row.id, { lane, ended })
      deps.run(row, stopping.signal).then(
        result => settle({ row, note: () => finish(row, result), release }),
        (error: unknown) => settle({ row, note: () => fail(row, error), release }),
      )
    }
  }

  function settle(outcome: (typeof outcomes)[number]): void {
    outcomes.push(outcome)
    if (outcomes.length === 1) setImmediate(flush)
  }

  function flush(): void {
    const over = outcomes
    let next: { row: Subscription; lane: keyof Limits }[] = []
    try {
      next = store.transaction(() => {
        for (const { note } of over) note()
        return begin()
      })
    } catch (error) {
      log.error({ error: messageOf(error) }, 'what steps came to could not be noted; they are taken again')
    }
    outcomes = []
    for (const { row } of over) running.delete(row.id)
    launch(next)
    for (const { release } of over) release()
    deps.onEnd()
  }

  function finish(row: Subscription, result: JobResult): void {
    const current = store.find(row.id)
    if (current === undefined) return
    // The chain may have changed its mind meanwhile; then its wish stands, and only facts are noted.
    const isWanted = current.state === row.state
    if (result.kind === 'forget') {
      if (!isWanted) return
      store.forget(row.id)
      deps.onForget(row.id)
      return
    }
    const after = { ...current, ...result.facts } as Subscription
    const state = result.state === 'running' ? runningState(after) : result.state
    store.change(row.id, { ...result.facts, ...(isWanted ? { ...fresh, state } : {}) })
    counters.done += 1
    log.info({ subscription: row.id, from: row.state, to: isWanted ? state : current.state }, 'step done')
  }

  function fail(row: Subscription, error: unknown): void {
    const current = store.find(row.id)
    if (current?.state !== row.state) return
    if (stopping.signal.aborted) return
    counters.failed += 1
    const text = messageOf(error)
    const attempts = current.attempts + 1
    const pauses = isRetryable(error) ? retry.passing : retry.lasting
    const retryAt = clock.now() + backoffMs(current.attempts, pauses, deps.random)
    const errorCode = error instanceof BlockHostError ? error.code : 'BH_UNEXPECTED'
    const fields = { subscription: row.id, state: row.state, attempts, code: errorCode, error: text, retryAt }
    log[current.error === text ? 'info' : 'warn'](fields, 'a step failed and is tried again')
    store.change(row.id, { attempts, retryAt, error: text, errorCode })
  }

  return {
    start,
    isBusy: id => running.has(id),
    busy: () => running.size,
    counters,
    async stop() {
      stopping.abort()
      await Promise.all([...running.values()].map(job => job.ended))
    },
  }
}

const fresh: SubscriptionChange = { attempts: 0, error: undefined, errorCode: undefined }
