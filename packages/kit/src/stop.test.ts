import assert from 'node:assert/strict'
import { EventEmitter, getEventListeners } from 'node:events'
import { describe, test } from 'node:test'
import type { Clock } from './clock.ts'
import { aborted, stopSignal, untilStopped } from './stop.ts'

/** A clock whose sleeps end when told. */
function handClock() {
  const sleeps: { ms: number; end: () => void }[] = []
  const clock: Clock = {
    now: () => 0,
    monotonic: () => 0,
    sleep: (ms, signal) =>
      new Promise(resolve => {
        sleeps.push({ ms, end: resolve })
        signal?.addEventListener('abort', () => resolve(), { once: true })
      }),
  }
  return { clock, sleeps }
}

/** Lets everything go on that waits for nothing else. */
const settle = () => new Promise(resolve => setImmediate(resolve))

describe('stopSignal', () => {
  test('aborts on SIGTERM and SIGINT, and leaves the second of a name to the system', () => {
    for (const name of ['SIGTERM', 'SIGINT']) {
      const process = new EventEmitter()
      const signal = stopSignal(process)
      assert.equal(signal.aborted, false)
      process.emit(name)
      assert.equal(signal.aborted, true)
      assert.equal(process.listenerCount(name), 0)
    }
  })
})

describe('aborted', () => {
  test('waits for the signal; one that is aborted is waited for no longer', async () => {
    const stop = new AbortController()
    let isOver = false
    const waiting = aborted(stop.signal).then(() => {
      isOver = true
    })
    await settle()
    assert.equal(isOver, false)
    stop.abort()
    await waiting
    await aborted(stop.signal)
  })
})

describe('untilStopped', () => {
  test('returns what the work returns, and waits for nothing more', async () => {
    const { clock } = handClock()
    const { signal } = new AbortController()
    assert.equal(await untilStopped(Promise.resolve(7), { signal, clock, graceMs: 5 }), 7)
    await settle()
    assert.equal(getEventListeners(signal, 'abort').length, 0, 'nothing is left on the signal')
  })

  test('throws what the work throws', async () => {
    const { clock } = handClock()
    const failure = new Error('no')
    const { signal } = new AbortController()
    await assert.rejects(untilStopped(Promise.reject(failure), { signal, clock, graceMs: 5 }), failure)
  })

  test('after the signal, work that ends within its grace still counts', async () => {
    const { clock, sleeps } = handClock()
    const stop = new AbortController()
    const { promise: work, resolve: finish } = Promise.withResolvers<string>()
    const ended = untilStopped(work, { signal: stop.signal, clock, graceMs: 5_000 })
    stop.abort()
    await settle()
    assert.deepEqual(
      sleeps.map(({ ms }) => ms),
      [5_000],
    )
    finish('done')
    assert.equal(await ended, 'done')
  })

  test('work that outlives its grace is left, and its failure disturbs nobody', async () => {
    const { clock, sleeps } = handClock()
    const { promise: work, reject: fail } = Promise.withResolvers<string>()
    const ended = untilStopped(work, { signal: AbortSignal.abort(), clock, graceMs: 5_000 })
    await settle()
    sleeps[0]!.end()
    assert.equal(await ended, 'stopped')
    fail(new Error('too late'))
    await settle()
  })
})
