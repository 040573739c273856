import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Hex } from './hex.ts'
import type { Rpc, RpcCall, RpcOutcome } from './rpc.ts'
import { createTransactionPort } from './transaction-port.ts'

const privateKey = new Uint8Array(32).fill(1)
const address = `0x${'A1'.repeat(20)}` as const
const hash: Hex = `0x${'bb'.repeat(32)}`
const receipt = {
  transactionHash: hash,
  blockNumber: '0x10',
  blockHash: `0x${'cc'.repeat(32)}`,
  status: '0x1',
  gasUsed: '0x5208',
  contractAddress: null,
}
const chain: Record<string, unknown> = {
  eth_getBlockByNumber: { number: '0x12', baseFeePerGas: '0x64' },
  eth_getTransactionCount: '0x5',
  eth_gasPrice: '0x6e',
  eth_maxPriorityFeePerGas: '0x3',
  eth_getTransactionReceipt: receipt,
  eth_estimateGas: '0x5208',
  eth_sendRawTransaction: hash,
}

/** A port on an RPC that answers each method by `chain`, changed by `changes`; an Error stands for a refusal with its text. */
function setup(changes: Record<string, unknown> = {}) {
  const batches: (readonly RpcCall[])[] = []
  const rpc: Rpc = {
    batch: async calls => {
      batches.push(calls)
      return calls.map(({ method }) => outcomeOf({ ...chain, ...changes }[method]))
    },
    call: async () => assert.fail('the port makes batches only'),
  }
  return { port: createTransactionPort(rpc, { privateKey, address, chainId: 1 }), batches }
}

function outcomeOf(value: unknown): RpcOutcome {
  if (!(value instanceof Error)) return { ok: true, result: value }
  const kind = value.name as 'transient'
  return { ok: false, failure: { kind, code: -32000, message: value.message } }
}

function refusal(kind: string, message = 'no'): Error {
  return Object.assign(new Error(message), { name: kind })
}

describe('poll', () => {
  it('reads block, nonce, fees and receipts in one batch', async () => {
    const { port, batches } = setup()
    assert.deepEqual(await port.poll({ receiptsOf: [hash] }), {
      blockNumber: 18n,
      latestNonce: 5,
      baseFeeWei: 100n,
      tipWei: 3n,
      receipts: [
        {
          hash,
          blockNumber: 16n,
          blockHash: receipt.blockHash,
          succeeded: true,
          gasUsed: 21_000n,
          contractAddress: undefined,
        },
      ],
    })
    assert.equal(batches.length, 1)
    assert.equal(batches[0]!.length, 5)
  })

  it('takes gas price less base fee where the tip is not known', async () => {
    const { port } = setup({ eth_maxPriorityFeePerGas: refusal('permanent') })
    assert.equal((await port.poll({ receiptsOf: [] })).tipWei, 10n)
  })

  it('takes the gas price where there is no base fee', async () => {
    const { port } = setup({ eth_getBlockByNumber: { number: '0x12' } })
    const { baseFeeWei, tipWei } = await port.poll({ receiptsOf: [] })
    assert.deepEqual([baseFeeWei, tipWei], [undefined, 110n])
  })

  it('tells unknown and waiting transactions as undefined', async () => {
    for (const value of [null, { ...receipt, blockHash: null, blockNumber: null }]) {
      const { port } = setup({ eth_getTransactionReceipt: value })
      assert.deepEqual((await port.poll({ receiptsOf: [hash] })).receipts, [undefined])
    }
  })

  it('throws when a receipt can not be had: that is not the same as none', async () => {
    for (const value of [refusal('transient', 'transaction indexing is in progress'), { ...receipt, status: 'x' }, 7]) {
      const { port } = setup({ eth_getTransactionReceipt: value })
      await assert.rejects(
        port.poll({ receiptsOf: [hash] }),
        error => error instanceof BlockHostError && error.retryable,
      )
    }
  })

  it('refuses the receipt of another transaction', async () => {
    const { port } = setup({ eth_getTransactionReceipt: { ...receipt, transactionHash: `0x${'dd'.repeat(32)}` } })
    await assert.rejects(port.poll({ receiptsOf: [hash] }), error => error instanceof BlockHostError && error.retryable)
  })
})

describe('estimate', () => {
  it('tells gas and refusals, each in its place', async () => {
    const call = { to: undefined, data: '0x00', valueWei: 0n } as const
    assert.deepEqual(await setup().port.estimate([call, call]), [
      { ok: true, gas: 21_000n },
      { ok: true, gas: 21_000n },
    ])
    for (const [kind, expected] of [
      ['reverted', 'reverted'],
      ['insufficient-funds', 'insufficient-funds'],
      ['underpriced', 'transient'],
    ]) {
      const [outcome] = await setup({ eth_estimateGas: refusal(kind!) }).port.estimate([call])
      assert.deepEqual(outcome, { ok: false, kind: expected, message: 'no' })
    }
  })
})

describe('send', () => {
  it('hands over all in one batch and tells what was said to each', async () => {
    const { port, batches } = setup()
    assert.deepEqual(await port.send(['0x01', '0x02']), [{ ok: true }, { ok: true }])
    assert.equal(batches.length, 1)
    for (const [kind, expected] of [
      ['known', 'known'],
      ['reverted', 'permanent'],
      ['transient', 'transient'],
    ]) {
      const [outcome] = await setup({ eth_sendRawTransaction: refusal(kind!) }).port.send(['0x01'])
      assert.deepEqual(outcome, { ok: false, kind: expected, message: 'no' })
    }
  })
})

describe('address', () => {
  it('is lower case', () => assert.equal(setup().port.address, address.toLowerCase()))
})
