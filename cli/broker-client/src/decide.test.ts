import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type Action,
  type Answer,
  decide,
  type Generation,
  type MappedRequest,
  requestStatuses,
  type Situation,
} from './decide.ts'

type Lease = 'lease'
const answers: readonly Answer<Lease>[] = [
  { kind: 'none' },
  { kind: 'good', lease: 'lease' },
  { kind: 'other-id', id: 6n },
  { kind: 'undecryptable' },
  { kind: 'invalid', reason: 'brokerPubkey is 31 bytes' },
]

function request(over: Partial<MappedRequest<Lease>> = {}): MappedRequest<Lease> {
  return { id: 7n, isOurs: true, status: 'pending', expiresAt: 2000, answer: { kind: 'none' }, ...over }
}

function situation(over: Partial<Situation<Lease>> = {}): Situation<Lease> {
  return {
    purpose: 'request',
    generation: 3,
    now: 1000,
    minedNonce: 5,
    mapped: undefined,
    intent: undefined,
    savedKeyFits: false,
    retriesLeft: 1,
    ...over,
  }
}

const signed = { txNonce: 4, refusedId: undefined }

/** Every combination of facts, those that no chain shows included: 2 * 3 * 2 * 41 * 4 * 2 * 2 situations. */
function* everySituation(): Generator<Situation<Lease>> {
  const mappeds: (MappedRequest<Lease> | undefined)[] = [undefined]
  for (const isOurs of [true, false])
    for (const status of requestStatuses)
      for (const answer of answers) mappeds.push(request({ isOurs, status, answer }))
  for (const purpose of ['request', 'renew'] as const)
    for (const generation of [1, 2, 3] as Generation[])
      for (const now of [1000, 2001])
        for (const mapped of mappeds)
          for (const intent of [undefined, signed, { txNonce: 5, refusedId: undefined }, { txNonce: 4, refusedId: 7n }])
            for (const savedKeyFits of [true, false])
              for (const retriesLeft of [0, 1])
                yield situation({ purpose, generation, now, mapped, intent, savedKeyFits, retriesLeft })
}

const isSigned = (s: Situation<Lease>) => s.intent !== undefined
const sentMayLive = (s: Situation<Lease>) => s.intent !== undefined && s.minedNonce <= s.intent.txNonce

describe('decide, over every combination of facts', () => {
  it('never sends a second request while the first may still be mined', () => {
    for (const s of everySituation())
      if (sentMayLive(s) && !s.mapped?.isOurs) assert.deepEqual(decide(s), { do: 'resend' }, print(s))
  })

  it('never sends a second request while the first waits for its answer in time', () => {
    for (const s of everySituation())
      if (isSigned(s) && s.mapped?.isOurs && s.mapped.status === 'pending' && s.now <= s.mapped.expiresAt)
        assert.equal(decide(s).do, 'wait-answer', print(s))
  })

  it('never sends a request that a first-generation contract reverts', () => {
    for (const s of everySituation())
      if (s.generation === 1 && s.mapped !== undefined) assert.notEqual(decide(s).do, 'submit', print(s))
  })

  it('never waits for a release where asking again overwrites', () => {
    for (const s of everySituation())
      if (s.generation !== 1) assert.ok(!['wait-release', 'mark-expired'].includes(decide(s).do), print(s))
  })

  it('finishes only with an answer that was opened and found good, and with the key that belongs to it', () => {
    for (const s of everySituation()) {
      const action = decide(s)
      if (action.do !== 'finish') continue
      assert.ok(s.mapped?.status === 'approved' && s.mapped.answer.kind === 'good', print(s))
      assert.ok(action.key === 'intent' ? isSigned(s) && s.mapped.isOurs : s.savedKeyFits && !isSigned(s), print(s))
      assert.equal(action.id, s.mapped.id)
    }
  })

  it('asks again at most as often as allowed', () => {
    for (const s of everySituation())
      if (s.retriesLeft === 0 && isSigned(s)) assert.notEqual(decide(s).do, 'submit', print(s))
  })

  it('marks only what is pending and out of time', () => {
    for (const s of everySituation())
      if (decide(s).do === 'mark-expired')
        assert.ok(s.mapped?.status === 'pending' && s.now > s.mapped.expiresAt, print(s))
  })

  it('renews with a new key, never by finding the old one', () => {
    for (const s of everySituation()) {
      const action = decide(s)
      if (s.purpose === 'renew' && action.do === 'finish') assert.equal(action.key, 'intent', print(s))
    }
  })
})

const rows: readonly [string, Partial<Situation<Lease>>, Action<Lease>][] = [
  ['a free NFT contract: asks', {}, { do: 'submit', because: 'first' }],
  [
    'signed, nothing mined: sends the same transaction again',
    { intent: { txNonce: 5, refusedId: undefined } },
    { do: 'resend' },
  ],
  [
    'a reorg took our request back: sends the same transaction again',
    { intent: signed, minedNonce: 4 },
    { do: 'resend' },
  ],
  ['mined and waiting', { intent: signed, mapped: request() }, { do: 'wait-answer', id: 7n, expiresAt: 2000 }],
  [
    'answered',
    { intent: signed, mapped: request({ status: 'approved', answer: answers[1]! }) },
    { do: 'finish', id: 7n, lease: 'lease', key: 'intent' },
  ],
  [
    'answered for another id: asks again',
    { intent: signed, mapped: request({ status: 'approved', answer: answers[2]! }) },
    { do: 'submit', because: 'stale-answer' },
  ],
  [
    'answered to another server.key: asks again',
    { intent: signed, mapped: request({ status: 'approved', answer: answers[3]! }) },
    { do: 'submit', because: 'undecryptable-answer' },
  ],
  [
    'answered with a field that can not be: stops',
    { intent: signed, mapped: request({ status: 'approved', answer: answers[4]! }) },
    { do: 'fail', because: 'answer-invalid', id: 7n, detail: 'brokerPubkey is 31 bytes' },
  ],
  [
    'run again after such an answer: asks again',
    { intent: { txNonce: 4, refusedId: 7n }, mapped: request({ status: 'approved', answer: answers[4]! }) },
    { do: 'submit', because: 'refused-answer' },
  ],
  [
    'superseded by another machine: asks again',
    { intent: signed, mapped: request({ isOurs: false, id: 8n }) },
    { do: 'submit', because: 'superseded' },
  ],
  [
    'superseded a second time: stops',
    { intent: signed, retriesLeft: 0, mapped: request({ isOurs: false, id: 8n }) },
    { do: 'fail', because: 'kept-dying', id: 8n, detail: 'superseded' },
  ],
  ['mined, and not there: asks again', { intent: signed }, { do: 'submit', because: 'gone' }],
  [
    'not answered in time: asks again',
    { intent: signed, now: 2001, mapped: request() },
    { do: 'submit', because: 'out-of-time' },
  ],
  [
    'a live lease whose key is saved: keeps it',
    { savedKeyFits: true, mapped: request({ isOurs: false, status: 'approved', answer: answers[1]! }) },
    { do: 'finish', id: 7n, lease: 'lease', key: 'saved' },
  ],
  [
    'a live lease whose key is lost: overwrites it',
    { mapped: request({ isOurs: false, status: 'approved', answer: answers[1]! }) },
    { do: 'submit', because: 'unknown-key' },
  ],
  [
    'renew of a live lease',
    {
      purpose: 'renew',
      savedKeyFits: true,
      mapped: request({ isOurs: false, status: 'approved', answer: answers[1]! }),
    },
    { do: 'submit', because: 'renewal' },
  ],
  [
    'renew interrupted after sending',
    { purpose: 'renew', intent: signed, mapped: request() },
    { do: 'wait-answer', id: 7n, expiresAt: 2000 },
  ],
]

const firstGenerationRows: typeof rows = [
  [
    'pending with a key nobody here has',
    { mapped: request({ isOurs: false }) },
    { do: 'wait-release', id: 7n, because: 'pending-unknown-key', expiresAt: 2000 },
  ],
  ['the same past its expiry', { now: 2001, mapped: request({ isOurs: false }) }, { do: 'mark-expired', id: 7n }],
  [
    'answered, key lost',
    { mapped: request({ isOurs: false, status: 'approved', answer: answers[1]! }) },
    { do: 'wait-release', id: 7n, because: 'answered-unknown-key', expiresAt: 2000 },
  ],
  [
    'answered, key saved',
    { savedKeyFits: true, mapped: request({ isOurs: false, status: 'approved', answer: answers[1]! }) },
    { do: 'finish', id: 7n, lease: 'lease', key: 'saved' },
  ],
  [
    'answered to another server.key',
    { mapped: request({ isOurs: false, status: 'approved', answer: answers[3]! }) },
    { do: 'wait-release', id: 7n, because: 'answer-unusable', expiresAt: 2000 },
  ],
  ['ours, out of time', { intent: signed, now: 2001, mapped: request() }, { do: 'mark-expired', id: 7n }],
  [
    'ours, answered to another server.key',
    { intent: signed, mapped: request({ status: 'approved', answer: answers[3]! }) },
    { do: 'wait-release', id: 7n, because: 'answer-unusable', expiresAt: 2000 },
  ],
  [
    'ours reverted as another was there',
    { intent: signed, mapped: request({ isOurs: false, id: 3n }) },
    { do: 'wait-release', id: 3n, because: 'pending-unknown-key', expiresAt: 2000 },
  ],
  ['released: asks again', { intent: signed }, { do: 'submit', because: 'gone' }],
  [
    'renew of a live lease',
    { purpose: 'renew', mapped: request({ isOurs: false, status: 'approved', answer: answers[1]! }) },
    { do: 'fail', because: 'renew-blocked', id: 7n, detail: 'first-generation contracts take no second request' },
  ],
]

describe('decide, generations 2 and 3', () => {
  for (const [name, over, action] of rows)
    it(name, () => {
      for (const generation of [2, 3] as Generation[])
        assert.deepEqual(decide(situation({ ...over, generation })), action)
    })
})

describe('decide, generation 1', () => {
  for (const [name, over, action] of firstGenerationRows)
    it(name, () => assert.deepEqual(decide(situation({ ...over, generation: 1 })), action))
})

function print(s: Situation<Lease>): string {
  return JSON.stringify(s, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}` : value))
}
