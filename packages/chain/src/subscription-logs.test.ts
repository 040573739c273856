import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { blockhostSubscriptionsAbi } from '@blockhost/contracts/abi/blockhost-subscriptions.ts'
import { encode as encodeTopics, fromAbi } from 'ox/AbiEvent'
import { encode } from 'ox/AbiParameters'
import { type Address, type Hex, toQuantity } from './hex.ts'
import type { Rpc, RpcCall, RpcOutcome } from './rpc.ts'
import { mintedTokens, parseNews, purchaseData, scanPurchases } from './subscription-logs.ts'

const contract: Address = `0x${'11'.repeat(20)}`
const buyer: Address = `0x${'ab'.repeat(20)}`
const created = fromAbi(blockhostSubscriptionsAbi, 'SubscriptionCreated')
const limited: RpcOutcome = {
  ok: false,
  failure: { kind: 'transient', code: -32005, message: 'query returned more than 10000 results' },
}

function createdLog(id: bigint, block: bigint, address = contract) {
  const { topics } = encodeTopics(created, { subscriptionId: id, planId: 1n, subscriber: buyer })
  const data = encode(
    [{ type: 'uint256' }, { type: 'uint256' }, { type: 'address' }, { type: 'bytes' }],
    [1n, 2n, buyer, `0x0${id % 10n}`],
  )
  return { address, topics, data, blockNumber: toQuantity(block) }
}

type Filter = { topics: [Hex, Hex[]]; fromBlock: Hex; toBlock: Hex }

/** A provider with limits: so many blocks and ids a call. */
function provider(logs: ReturnType<typeof createdLog>[], limits: { blocks: bigint; ids: number }) {
  const trips: number[] = []
  const filters: Filter[] = []
  const answer = (call: RpcCall): RpcOutcome => {
    const filter = call.params[0] as Filter
    filters.push(filter)
    const from = BigInt(filter.fromBlock)
    const to = BigInt(filter.toBlock)
    if (to - from >= limits.blocks || filter.topics[1].length > limits.ids) return limited
    const result = logs.filter(log => {
      const block = BigInt(log.blockNumber)
      return block >= from && block <= to && filter.topics[1].includes(log.topics[1] as Hex)
    })
    return { ok: true, result }
  }
  const rpc: Rpc = {
    batch: async calls => {
      trips.push(calls.length)
      return calls.map(answer)
    },
    call: async () => assert.fail('single calls are not expected'),
  }
  return { rpc, trips, filters }
}

describe('purchaseData', () => {
  const logs = [createdLog(1n, 10n), createdLog(2n, 10n), createdLog(3n, 1_500n), createdLog(4n, 90_000n)]
  const wanted = [
    { id: 4n, block: 90_000n },
    { id: 1n, block: 10n },
    { id: 3n, block: 1_500n },
    { id: 2n, block: 10n },
  ]

  it('joins neighbours and asks for nothing in between', async () => {
    const { rpc, trips, filters } = provider(logs, { blocks: 2_000n, ids: 200 })
    const found = await purchaseData(rpc, contract, wanted)
    assert.deepEqual(
      found.map(({ id }) => id).toSorted((a, b) => Number(a - b)),
      [1n, 2n, 3n, 4n],
    )
    assert.deepEqual(found[0], { id: 1n, subscriber: buyer, userEncrypted: Uint8Array.of(1), blockNumber: 10n })
    assert.deepEqual(trips, [2])
    assert.deepEqual(
      filters.map(filter => [BigInt(filter.fromBlock), BigInt(filter.toBlock)]),
      [
        [10n, 1_500n],
        [90_000n, 90_000n],
      ],
    )
  })

  it('halves what is refused, down to one block and one id', async () => {
    const { rpc } = provider(logs, { blocks: 100n, ids: 1 })
    assert.equal((await purchaseData(rpc, contract, wanted)).length, 4)
  })

  it('gives up on what stays refused, and only on that', async () => {
    const { rpc } = provider(logs, { blocks: 0n, ids: 1 })
    assert.deepEqual(await purchaseData(rpc, contract, wanted), [])
  })

  it('leaves out logs of other contracts', async () => {
    const { rpc } = provider([createdLog(1n, 10n, `0x${'99'.repeat(20)}`)], { blocks: 2_000n, ids: 200 })
    assert.deepEqual(await purchaseData(rpc, contract, wanted), [])
  })
})

describe('scanPurchases', () => {
  it('looks at the whole range in pieces and says how far it came', async () => {
    const { rpc, filters } = provider([createdLog(7n, 4_321n)], { blocks: 2_000n, ids: 200 })
    const { found, scannedTo } = await scanPurchases(rpc, contract, [7n], { fromBlock: 0n, toBlock: 4_999n })
    assert.equal(found[0]?.id, 7n)
    assert.equal(scannedTo, 4_999n)
    assert.equal(filters.length, 3)
  })

  it('does not go past what was refused', async () => {
    const { rpc } = provider([], { blocks: 0n, ids: 1 })
    const { scannedTo } = await scanPurchases(rpc, contract, [7n], { fromBlock: 5n, toBlock: 6n })
    assert.equal(scannedTo, 4n)
  })
})

describe('parseNews', () => {
  it('tells who bought what', () => {
    const news = parseNews([createdLog(9n, 3n), { ...createdLog(8n, 3n), removed: true }], contract, undefined)
    assert.deepEqual([news.subscriptionIds, news.tokenIds, news.purchases.length], [[9n], [], 1])
  })
})

describe('mintedTokens', () => {
  const nft: Address = `0x${'22'.repeat(20)}`
  const hash: Hex = `0x${'cd'.repeat(32)}`
  const topic = '0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef'
  const pad = (value: bigint) => `0x${value.toString(16).padStart(64, '0')}`
  const transfer = (from: bigint, id: bigint, address = nft) => ({
    address,
    topics: [topic, pad(from), pad(BigInt(buyer)), pad(id)],
    data: '0x',
    blockNumber: '0x1',
  })
  const reading = (logs: unknown[]) => {
    const result = { transactionHash: hash, logs }
    return mintedTokens({ batch: async () => [{ ok: true, result }], call: async () => undefined }, nft, [hash])
  }

  it('reads the token of the mint, not of any other transfer', async () => {
    const logs = [transfer(0n, 1n, contract), transfer(5n, 2n), transfer(0n, 3n)]
    assert.deepEqual(await reading(logs), [{ tokenId: 3n, to: buyer }])
  })

  it('says when nothing was minted', async () => {
    assert.deepEqual(await reading([transfer(5n, 2n)]), [undefined])
  })
})
