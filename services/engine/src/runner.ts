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
  /** Milliseconds until the next queued job is due; `undefined` when none waits. */
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

/** Makes the runner. */
export function createRunner(deps: RunnerDeps): Runner {
  const { store, clock, log } = deps
  const running = new Map<bigint, { lane: keyof Limits; ended: Promise<void> }>()
  const counters = { done: 0, failed: 0 }
  const stopping = new AbortController()

  function start(limits: Limits): void {
    if (stopping.signal.aborted) return
    const rows = (Object.keys(lanes) as (keyof Limits)[]).flatMap(lane => startLane(lane, limits[lane]))
    if (rows.length === 0) return
    const begun = rows.filter(({ row }) => row.state === 'paid')
    if (begun.length > 0)
      store.transaction(() => {
        for (const { row } of begun) store.change(row.id, { state: 'creating', retryAt: row.retryAt })
      })
    for (const { row, lane } of rows) {
      const current = row.state === 'paid' ? { ...row, state: 'creating' as const } : row
      running.set(row.id, { lane, ended: runOne(current) })
    }
  }

  function startLane(lane: keyof Limits, limit: number): { row: Subscription; lane: keyof Limits }[] {
    const busy = [...running.values()].filter(job => job.lane === lane).length
    const room = limit - busy
    if (room <= 0) return []
    // Rows of running jobs are in the queue too, so that many more are read.
    const rows = store.jobs(lanes[lane], room + running.size).filter(row => !running.has(row.id))
    return rows.slice(0, room).map(row => ({ row, lane }))
  }

  async function runOne(row: Subscription): Promise<void> {
    try {
      const result = await deps.run(row, stopping.signal)
      store.transaction(() => finish(row, result))
      counters.done += 1
    } catch (error) {
      fail(row, error)
    } finally {
      running.delete(row.id)
      deps.onEnd()
    }
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
    log.info({ subscription: row.id, from: row.state, to: isWanted ? state : current.state }, 'step done')
  }

  function fail(row: Subscription, error: unknown): void {
    const current = store.find(row.id)
    if (current?.state !== row.state) return
    if (stopping.signal.aborted) return
    counters.failed += 1
    const text = messageOf(error)
    const attempts = current.attempts + 1
    const retryAt = clock.now() + backoffMs(current.attempts, isRetryable(error) ? retry.passing : retry.lasting)
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
