import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import { brokerRegistryAbi } from '@blockhost/contracts/abi/broker-registry.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { decodeData, fromAbi } from 'ox/AbiFunction'
import {
  diffRegistration,
  type Registration,
  type RegistrationFacts,
  setCapacity,
  setRequestFee,
  withdrawFees,
} from './registration.ts'

const registry = address('aa')
const requests = address('bb')
const operator = address('cc')
const other = address('dd')
const wanted: Registration = {
  registry,
  requests,
  operator,
  encryptionPubkey: `0x04${'11'.repeat(64)}`,
  region: 'eu-west',
  capacity: 200n,
  requestFeeWei: 1_000n,
}
const fresh: RegistrationFacts = {
  requestsOwner: operator,
  totalCapacity: 0n,
  requestFeeWei: 0n,
  registryOwner: operator,
  entry: undefined,
}
const done: RegistrationFacts = {
  ...fresh,
  totalCapacity: 200n,
  requestFeeWei: 1_000n,
  entry: {
    brokerId: 4n,
    operator,
    encryptionPubkey: wanted.encryptionPubkey,
    region: 'eu-west',
    active: true,
    capacity: 200n,
  },
}

test('diffRegistration: a fresh pair of contracts is set up and registered', () => {
  const { calls, blocked } = diffRegistration(wanted, fresh)
  assert.deepEqual(
    calls.map(call => [call.to, call.note]),
    [
      [requests, 'accept 200 leases at a time'],
      [requests, 'ask 1000 wei for each request'],
      [registry, `register the broker in ${registry}`],
    ],
  )
  assert.deepEqual(decode(calls[2]!.data), [
    'registerBroker',
    [operator, requests, wanted.encryptionPubkey, 'eu-west', 200n],
  ])
  assert.deepEqual(blocked, [])
})

test('diffRegistration: nothing is left to do afterwards, whatever the case of addresses and keys', () => {
  const upper = { ...done, entry: { ...done.entry!, operator: operator.toUpperCase().replace('0X', '0x') as Address } }
  assert.deepEqual(diffRegistration(wanted, upper), { calls: [], blocked: [] })
})

test('diffRegistration: what was not asked for stays as it is, and has a default in a new entry', () => {
  const modest = { ...wanted, region: undefined, capacity: undefined, requestFeeWei: undefined }
  assert.deepEqual(diffRegistration(modest, done).calls, [])
  const { calls } = diffRegistration(modest, { ...fresh, totalCapacity: 7n })
  assert.deepEqual(
    calls.map(call => decode(call.data)),
    [['registerBroker', [operator, requests, wanted.encryptionPubkey, 'default', 7n]]],
  )
})

test('diffRegistration: in somebody else’s registry, registering is theirs', () => {
  const { calls, blocked } = diffRegistration(wanted, { ...fresh, registryOwner: other })
  assert.equal(calls.length, 2)
  assert.deepEqual(
    blocked.map(call => [call.by, call.to, decode(call.data)[0]]),
    [[other, registry, 'registerBroker']],
  )
})

test('diffRegistration: an entry that says something else is brought up to date', () => {
  const entry = {
    ...done.entry!,
    encryptionPubkey: `0x04${'22'.repeat(64)}` as Hex,
    region: 'moon',
    active: false,
    capacity: 1n,
  }
  const { calls } = diffRegistration(wanted, { ...done, entry })
  assert.deepEqual(
    calls.map(call => decode(call.data)),
    [
      ['updateEncryptionPubkey', [wanted.encryptionPubkey]],
      ['updateRegion', ['eu-west']],
      ['updateCapacity', [200n]],
      ['activate', undefined],
    ],
  )
})

test('diffRegistration: an entry that another wallet runs is not ours to change', () => {
  const { calls, blocked } = diffRegistration(wanted, {
    ...done,
    entry: { ...done.entry!, operator: other, region: 'moon' },
  })
  assert.deepEqual(calls, [])
  assert.deepEqual(
    blocked.map(call => [call.by, decode(call.data)]),
    [[other, ['updateRegion', ['eu-west']]]],
  )
})

test('calls of the operator: each says what it does', () => {
  const calls = [setCapacity(requests, 0n), setRequestFee(requests, 5n), withdrawFees(requests, other)]
  assert.deepEqual(
    calls.map(call => [call.note, decode(call.data)]),
    [
      ['accept any number of leases', ['setTotalCapacity', [0n]]],
      ['ask 5 wei for each request', ['setRequestFee', [5n]]],
      [`send the collected fees to ${other}`, ['withdraw', [other]]],
    ],
  )
})

function decode(data: Hex): [string, unknown] {
  const item = fromAbi([...brokerRegistryAbi, ...brokerRequestsAbi], data.slice(0, 10) as Hex)
  return [item.name, decodeData(item, data)]
}

function address(byte: string): Address {
  return `0x${byte.repeat(20)}`
}
