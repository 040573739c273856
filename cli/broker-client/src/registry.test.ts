import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Hex } from '@blockhost/chain/hex.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { encode } from 'ox/AbiParameters'
import { parseBroker } from './registry.ts'

const operator = '0x00000000000000000000000000000000000000d0'
const requestsContract = '0x00000000000000000000000000000000000000c0'
const key: Hex = `0x04${'ab'.repeat(64)}`

function encodeBroker(counters: readonly bigint[], over: { operator?: Hex; region?: string } = {}): Hex {
  const types = ['address', 'address', 'bytes', 'string', 'bool', ...counters.map(() => 'uint256'), 'uint256']
  const values = [over.operator ?? operator, requestsContract, key, over.region ?? 'eu', true, ...counters, 5n]
  const parameter = { type: 'tuple', components: types.map((type, index) => ({ name: `m${index}`, type })) }
  return encode([parameter], [Object.fromEntries(values.map((value, index) => [`m${index}`, value]))] as never)
}

const parse = (data: Hex) => parseBroker(3n, { ok: true, result: data })

describe('parseBroker', () => {
  it('reads the struct with and without load, told apart by its layout', () => {
    const common = { id: 3n, operator, requestsContract, encryptionPubkey: key.slice(2), region: 'eu', active: true }
    assert.deepEqual(parse(encodeBroker([10n, 4n])), { ...common, capacity: 10n, currentLoad: 4n })
    assert.deepEqual(parse(encodeBroker([])), { ...common, capacity: undefined, currentLoad: undefined })
  })

  it('takes a removed entry for inactive', () => {
    assert.equal(
      parse(encodeBroker([0n, 0n], { operator: '0x0000000000000000000000000000000000000000' })).active,
      false,
    )
  })

  it('lets nothing through that would act on a terminal', () => {
    assert.equal(parse(encodeBroker([0n, 0n], { region: 'e\u001b[2Ju\n\u202e\u2028' })).region, 'e?[2Ju???')
  })

  it('refuses other layouts, as something that may be the endpoint’s fault', () => {
    for (const data of [
      '0x',
      `0x${'00'.repeat(31)}`,
      `0x${'00'.repeat(320)}`,
      encodeBroker([1n]),
      encodeBroker([1n, 2n]).slice(0, 400) as Hex,
    ] as Hex[])
      assert.throws(
        () => parse(data),
        (error: unknown) => error instanceof BlockHostError && error.retryable,
      )
  })
})
