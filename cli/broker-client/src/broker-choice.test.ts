import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { brokerPublicKeyHex } from '@blockhost/crypto/broker-vectors.ts'
import { type Candidate, checkBroker, chooseBroker } from './broker-choice.ts'
import type { RegisteredBroker } from './registry.ts'
import type { ContractFacts } from './requests-contract.ts'

const operator = '0x00000000000000000000000000000000000000d0'

function candidate(
  id: bigint,
  broker: Partial<RegisteredBroker> = {},
  facts: Partial<ContractFacts> = {},
  hasLive = false,
): Candidate {
  return {
    hasLive,
    broker: {
      id,
      operator,
      requestsContract: '0x00000000000000000000000000000000000000c0',
      encryptionPubkey: brokerPublicKeyHex,
      region: 'eu-west',
      active: true,
      capacity: 0n,
      currentLoad: 0n,
      ...broker,
    },
    probe: {
      ok: true,
      facts: {
        generation: 3,
        owner: operator,
        requestFeeWei: 0n,
        expirationSeconds: 86_400,
        availableCapacity: 5n,
        liveRequests: 0n,
        ...facts,
      },
    },
  }
}

function chosen(candidates: readonly Candidate[], region?: string): bigint | undefined {
  const choice = chooseBroker(candidates, region)
  return choice.ok ? choice.chosen.broker.id : undefined
}

describe('chooseBroker', () => {
  it('takes the one with the fewest leases, then the lowest id', () => {
    assert.equal(
      chosen([
        candidate(1n, {}, { liveRequests: 3n }),
        candidate(2n, {}, { liveRequests: 1n }),
        candidate(3n, {}, { liveRequests: 1n }),
      ]),
      2n,
    )
    assert.equal(chosen([candidate(2n), candidate(1n)]), 1n)
  })

  it('goes by what operators report where the contract does not count', () => {
    assert.equal(
      chosen([
        candidate(1n, { currentLoad: 9n }, { liveRequests: undefined }),
        candidate(2n, { currentLoad: 2n }, { liveRequests: undefined }),
      ]),
      2n,
    )
  })

  it('goes back to the broker that has a live request of the NFT contract, even a full one', () => {
    assert.equal(chosen([candidate(1n), candidate(2n, {}, { liveRequests: 9n, availableCapacity: 0n }, true)]), 2n)
    assert.equal(chosen([candidate(1n), candidate(2n, { active: false }, {}, true)]), 1n)
  })

  it('takes only the region asked for, by its exact name', () => {
    const both = [candidate(1n), candidate(2n, { region: 'us-east' })]
    assert.equal(chosen(both, 'us-east'), 2n)
    assert.equal(chosen(both, 'US-EAST'), undefined)
  })

  it('says what is wrong with each when none will do', () => {
    const choice = chooseBroker(
      [candidate(1n, { active: false }), candidate(2n, {}, { availableCapacity: 0n })],
      undefined,
    )
    assert.deepEqual(choice, { ok: false, problems: ['broker 1: it is not active', 'broker 2: it is full'] })
    assert.deepEqual(chooseBroker([], undefined), { ok: false, problems: [] })
  })
})

describe('checkBroker', () => {
  const problem = (one: Candidate) => {
    const check = checkBroker(one)
    return check.ok ? 'usable' : check.problem
  }

  it('wants the registered operator to own the requests contract', () => {
    assert.equal(problem(candidate(1n)), 'usable')
    assert.match(
      problem(candidate(1n, {}, { owner: '0x00000000000000000000000000000000000000ee' })),
      /owned by 0x0+ee, not by its operator/,
    )
  })

  it('wants a key on the curve', () => {
    for (const encryptionPubkey of ['', '04', `04${'11'.repeat(64)}`, brokerPublicKeyHex.slice(0, -2)])
      assert.match(problem(candidate(1n, { encryptionPubkey })), /encryption key/)
  })

  it('wants a requests contract that answers; a missing count is no obstacle', () => {
    assert.match(
      problem({ ...candidate(1n), probe: { ok: false, problem: 'there is no contract' } }),
      /there is no contract/,
    )
    assert.equal(problem(candidate(1n, {}, { availableCapacity: undefined })), 'usable')
  })
})
