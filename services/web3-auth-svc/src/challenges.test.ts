import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { createChallenges } from './challenges.ts'

const alice = { user: 'admin', service: 'sshd', rhost: '192.0.2.1' }

describe('open', () => {
  it('makes a code, the text for it, and a session nobody can guess', () => {
    const { challenges } = setUp()
    const one = challenges.open(alice, 'a')
    const two = challenges.open(alice, 'a')
    assert.match(one.code, /^[A-HJ-NP-Z2-9]{6}$/)
    assert.equal(one.text, `Authenticate to vm.12345678 with code: ${one.code}`)
    assert.match(one.session, /^[0-9a-f]{32}$/)
    assert.notEqual(one.session, two.session)
    assert.notEqual(one.code, two.code)
  })

  it('bounds what is open: the source with most codes loses its oldest', () => {
    const { challenges } = setUp({ max: 10 })
    const mine = challenges.open(alice, 'mine')
    const flood = Array.from({ length: 100 }, () => challenges.open(alice, 'flood'))
    assert.equal(challenges.count(), 10)
    assert.ok(challenges.find(mine.session))
    assert.equal(challenges.find(flood[0]!.session), undefined)
    assert.ok(challenges.find(flood.at(-1)!.session))
  })
})

describe('take', () => {
  it('gives a code out once', () => {
    const { challenges } = setUp()
    const { session } = challenges.open(alice, 'a')
    assert.equal(challenges.take(session)?.session, session)
    assert.equal(challenges.take(session), undefined)
    challenges.close(session)
    assert.equal(challenges.take(session), undefined)
    assert.equal(challenges.count(), 0)
  })

  it('gives nothing for a session that never was, and nothing after 300 s, whatever the wall clock does', () => {
    const { challenges, world } = setUp()
    assert.equal(challenges.take('0'.repeat(32)), undefined)
    const early = challenges.open(alice, 'a')
    const late = challenges.open(alice, 'a')
    world.wallMs += 86_400_000
    world.monotonicMs += 299_999
    assert.ok(challenges.take(early.session))
    world.monotonicMs += 1
    assert.equal(challenges.take(late.session), undefined)
    assert.equal(challenges.count(), 0)
    assert.equal(challenges.longestMs(), 0)
  })
})

describe('answer', () => {
  it('takes the last answer of the page, and none after the terminal took one', async () => {
    const { challenges } = setUp()
    const { session } = challenges.open(alice, 'a')
    assert.equal(challenges.find(session)?.answered, false)
    assert.equal(challenges.answer(session, 'of the wrong account'), 'taken')
    assert.equal(challenges.find(session)?.answered, true)
    assert.equal(challenges.answer(session, 'of the right one'), 'taken')
    challenges.take(session)
    assert.equal(challenges.answer(session, 'too late'), 'answered')
    assert.equal(await challenges.pageAnswer(session, 0), 'of the right one')
    assert.equal(challenges.answer('0'.repeat(32), 'x'), 'unknown')
  })

  it('wakes whoever waits for it', async () => {
    const { challenges } = setUp()
    const { session } = challenges.open(alice, 'a')
    challenges.take(session)
    const waiting = challenges.pageAnswer(session, 10_000)
    assert.equal(challenges.answer(session, 'signature'), 'taken')
    assert.equal(await waiting, 'signature')
  })

  it('is there at once for whoever comes later; without one the wait ends', async () => {
    const { challenges, world } = setUp()
    const answered = challenges.open(alice, 'a').session
    challenges.answer(answered, 'signature')
    challenges.take(answered)
    assert.equal(await challenges.pageAnswer(answered, 10_000), 'signature')
    const silent = challenges.open(alice, 'a').session
    challenges.take(silent)
    const waiting = challenges.pageAnswer(silent, 10_000)
    world.wake()
    assert.equal(await waiting, undefined)
  })
})

function setUp({ max }: { max?: number } = {}) {
  const world = { wallMs: 1_700_000_000_000, monotonicMs: 5, wake: (): void => undefined }
  const clock: Clock = {
    now: () => world.wallMs,
    monotonic: () => world.monotonicMs,
    sleep: (_ms, signal) =>
      new Promise(resolve => {
        world.wake = resolve
        signal?.addEventListener('abort', () => resolve())
      }),
  }
  const options = { machineId: 'vm.12345678', secret: new Uint8Array(32), codeLength: 6, ttlMs: 300_000 }
  return { challenges: createChallenges({ ...options, ...(max === undefined ? {} : { max }) }, clock), world }
}
