import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Address, type Hex, toQuantity } from '@blockhost/chain/hex.ts'
import { type Rpc, type RpcCall, type RpcOutcome, resultOf } from '@blockhost/chain/rpc.ts'
import { createSubscriptionsReader } from '@blockhost/chain/subscriptions-lens.ts'
import { signTransaction } from '@blockhost/chain/transaction.ts'
import { blockhostSubscriptionsAbi } from '@blockhost/contracts/abi/blockhost-subscriptions.ts'
import { subscriptionsLensAbi, subscriptionsLensBytecode } from '@blockhost/contracts/abi/subscriptions-lens.ts'
import { createFollower } from '@blockhost/engine/follow.ts'
import { fetchPurchases } from '@blockhost/engine/purchases.ts'
import { openStore } from '@blockhost/engine/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { type TestWallet, testWallet } from '@blockhost/testkit/wallet.ts'
import { encode as encodeTopics, fromAbi as eventOf } from 'ox/AbiEvent'
import { encodeData, encodeResult, fromAbi } from 'ox/AbiFunction'
import { decode, encode } from 'ox/AbiParameters'
import { type EngineField, openEngine, purchaseDataOf, startEngineField } from '../e2e/engine/field.ts'
import type { BenchGroup } from './figure.ts'
import { round } from './statistics.ts'

/** The engine with a hypervisor that takes no time, and the engine that was away for long. */
export const engine: BenchGroup = {
  keys: ['engine.purchasesPerSecond', 'engine.catchUpBlocksPerSecond'],
  async run({ folder, note }) {
    const served = await measurePurchases()
    note(`${purchaseCount} purchases served in ${round(served.seconds)} s`)
    const caughtUp = await measureCatchUp(join(folder, 'catch-up.db'))
    return {
      'engine.purchasesPerSecond': {
        value: round(purchaseCount / served.seconds),
        unit: '/s',
        limit: 100,
        comparedWith: `${purchaseCount} purchases, each a VM (fake hypervisor), a token on chain and a bound guest; 1 s blocks of 60 million gas; ${served.roundTrips} round trips`,
      },
      'engine.catchUpBlocksPerSecond': {
        value: round(blockCount / caughtUp.seconds),
        unit: '/s',
        limit: 20_000,
        comparedWith: `${blockCount} blocks with ${lateCount} purchases read in ${round(caughtUp.seconds)} s from a simulated provider: ${caughtUp.calls} calls of 50 ms, 2,000 blocks and 10,000 results at most`,
      },
    }
  },
}

const purchaseCount = 1_000
const buyerCount = 20

// --- purchases --------------------------------------------------------------------------------------------------------

async function measurePurchases(): Promise<{ seconds: number; roundTrips: number }> {
  await using field = await startEngineField({
    anvil: { args: ['--gas-limit', '60000000'] },
    engine: ['max_transactions_in_flight: 256'],
  })
  const buyers = Array.from({ length: buyerCount }, (_, i) => testWallet(100 + i))
  await field.equip(buyers)
  await buyAll(field, buyers)
  await field.anvil.rpc.call('evm_setIntervalMining', [1])
  await using living = openEngine(field)
  field.proxy.reset()
  const stop = new AbortController()
  const start = performance.now()
  const running = living.engine.run(stop.signal)
  while ((living.store.countByState().live ?? 0) < purchaseCount) {
    await sleep(20)
    if (performance.now() - start > 120_000)
      throw new Error(`not served: ${JSON.stringify(living.store.countByState())}`)
  }
  const seconds = (performance.now() - start) / 1000
  stop.abort()
  await running
  return { seconds, roundTrips: field.proxy.roundTrips() }
}

/** Buys without waiting for each: all are in the pool, then blocks are mined until it is empty. */
async function buyAll({ anvil, subscriptions }: EngineField, buyers: readonly TestWallet[]): Promise<void> {
  const { rpc, chainId } = anvil
  await anvil.setAutomine(false)
  for (const buyer of buyers) {
    const first = Number(await rpc.call('eth_getTransactionCount', [buyer.address, 'latest']))
    const data = encodeData(blockhostSubscriptionsAbi, 'buySubscription', [1n, 30n, 1n, purchaseDataOf(buyer)])
    const fees = { type: 'eip1559', maxFeePerGasWei: 10n ** 11n, maxPriorityFeePerGasWei: 1n } as const
    const calls = Array.from({ length: purchaseCount / buyers.length }, (_, i): RpcCall => {
      const transaction = { chainId, nonce: first + i, to: subscriptions, data, valueWei: 0n, gasLimit: 250_000n, fees }
      return { method: 'eth_sendRawTransaction', params: [signTransaction(transaction, buyer.privateKey).raw] }
    })
    for (const outcome of await rpc.batch(calls)) resultOf(outcome, 'eth_sendRawTransaction')
  }
  for (;;) {
    const pool = (await rpc.call('txpool_status', [])) as { pending: Hex }
    if (Number(pool.pending) === 0) return
    await anvil.mine()
  }
}

// --- catching up ------------------------------------------------------------------------------------------------------

const blockCount = 100_000
const lateCount = 1_000
const subscriptions: Address = `0x${'51'.repeat(20)}`
const nft: Address = `0x${'52'.repeat(20)}`
const buyer: Address = `0x${'ab'.repeat(20)}`

/** Follows a chain that is only its answers until every purchase is known with what its buyer wrote. */
async function measureCatchUp(path: string): Promise<{ seconds: number; calls: number }> {
  using store = openStore(path, systemClock)
  const provider = simulateProvider()
  const chain = createSubscriptionsReader(provider.rpc, { subscriptions, chainId: 1 })
  const deps = { store, chain, clock: systemClock, log: silentLog }
  const unbusy = { isBusy: () => false, vmState: () => undefined }
  const follower = createFollower({ ...deps, ...unbusy, subscriptions, nft, minter: buyer })
  const start = performance.now()
  for (let more = true; more; ) {
    const result = await follower.poll({ confirmations: 2, reorgDepth: 64, graceDays: 7 })
    if (result === undefined) throw new Error('the simulated provider went back')
    const rest = await fetchPurchases(deps, { head: result.head, blockNumber: result.snapshot.blockNumber })
    more = result.more || rest
  }
  const seconds = (performance.now() - start) / 1000
  const known = store.after(0n, lateCount + 1).filter(row => row.data !== undefined && row.state === 'paid')
  if (known.length !== lateCount) throw new Error(`${known.length} purchases are known`)
  return { seconds, calls: provider.calls() }
}

function blockOf(id: bigint): bigint {
  return (id * BigInt(blockCount)) / BigInt(lateCount) - 10n
}

function simulateProvider(): { rpc: Rpc; calls(): number } {
  let count = 0
  const answer = (call: RpcCall): unknown => {
    if (call.method === 'eth_blockNumber') return toQuantity(blockCount)
    return call.method === 'eth_call' ? answerLens(call) : answerLogs(call)
  }
  const batch = async (calls: readonly RpcCall[]): Promise<RpcOutcome[]> => {
    count += calls.length
    await sleep(50 * calls.length)
    return calls.map(call => {
      const result = answer(call)
      const failure = { kind: 'transient', code: -32005, message: 'range or result limit exceeded' } as const
      return result === undefined ? { ok: false, failure } : { ok: true, result }
    })
  }
  const call = async (method: string, params: readonly unknown[]) =>
    resultOf((await batch([{ method, params }]))[0]!, method)
  return { rpc: { batch, call }, calls: () => count }
}

function answerLens({ params }: RpcCall): Hex {
  const { data } = params[0] as { data: string }
  const inputs = fromAbi(subscriptionsLensAbi, 'snapshot').inputs
  const args = decode(inputs, `0x${data.slice(subscriptionsLensBytecode.length)}`)
  const [, , cursor, max, watchIds, tokenIds, wallets] = args
  const left = Math.min(
    Number(max),
    lateCount - Number(cursor),
    680 - watchIds.length - tokenIds.length - wallets.length,
  )
  const word = (id: bigint) =>
    BigInt(buyer) | (4_000_000_000n << 160n) | (1n << 200n) | (blockOf(id) << 216n) | (3n << 249n)
  return encodeResult(fromAbi(subscriptionsLensAbi, 'snapshot'), {
    ...{
      blockNumber: BigInt(blockCount),
      timestamp: 1_800_000_000n,
      chainId: 1n,
      subscriptionCount: BigInt(lateCount),
    },
    ...{ planCount: 1n, owner: buyer, purchasesPaused: false, nftOwner: buyer, nftMinter: buyer, tokenCount: 0n },
    subscriptions: Array.from({ length: Math.max(0, left) }, (_, i) => word(cursor + BigInt(i) + 1n)),
    watched: watchIds.map(word),
    tokens: tokenIds.map(() => 0n),
    plans: [100n | (3n << 96n)],
    balances: wallets.map(() => 10n ** 18n),
  })
}

const created = eventOf(blockhostSubscriptionsAbi, 'SubscriptionCreated')
const createdTypes = [{ type: 'uint256' }, { type: 'uint256' }, { type: 'address' }, { type: 'bytes' }] as const
const createdData = encode(createdTypes, [4_000_000_000n, 1n, buyer, `0x${'5a'.repeat(300)}`])

function answerLogs({ params }: RpcCall): unknown {
  const filter = params[0] as { topics: [Hex, Hex[]]; fromBlock: Hex; toBlock: Hex | 'latest' }
  if (filter.toBlock === 'latest') return [] // what is new since the head: nothing happens while it is measured
  const [from, to] = [BigInt(filter.fromBlock), BigInt(filter.toBlock)]
  const ids = filter.topics[1].map(BigInt).filter(id => blockOf(id) >= from && blockOf(id) <= to)
  if (to - from >= 2_000n || ids.length > 10_000) return undefined
  return ids.map(id => ({
    address: subscriptions,
    topics: encodeTopics(created, { subscriptionId: id, planId: 1n, subscriber: buyer }).topics,
    data: createdData,
    blockNumber: toQuantity(blockOf(id)),
  }))
}
