/**
 * The subscriptions contract and the tokens in memory: blocks with what happened in them, replayed at every look, so that a
 * reorganization is nothing but other blocks. Mints are the transactions of the fake port, block by block in step with it. Where it
 * lies: prices, plans and payments do not exist, logs are as old as their block, and an endpoint is never two machines.
 */
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import type {
  PurchaseData,
  SubscriptionsReader,
  SubscriptionsSnapshot,
  SubscriptionView,
} from '@blockhost/chain/subscription-view.ts'
import { accessCredentialNftAbi } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { createFakeTransactionPort, type FakeTransactionPort } from '@blockhost/testkit/fake-transaction-port.ts'
import { decodeData } from 'ox/AbiFunction'

/** What somebody does on chain. Owner and buyers are lower-case addresses. */
export type Act =
  | { readonly kind: 'buy'; readonly buyer: Address; readonly seconds: number; readonly data: Uint8Array }
  | { readonly kind: 'extend'; readonly id: bigint; readonly seconds: number }
  | { readonly kind: 'cancel'; readonly id: bigint }
  | { readonly kind: 'transfer'; readonly tokenId: bigint; readonly to: Address }

/** A mint that is on the chain. Its place is the token's id. */
export type Mint = { readonly to: Address; readonly description: string; readonly hash: Hex }

/** The chain's state after a replay. */
export type ChainState = {
  readonly subscriptions: SubscriptionView[]
  readonly purchases: PurchaseData[]
  readonly mints: readonly Mint[]
  readonly owners: Map<bigint, Address>
}

/** The chain and the hands that move it. */
export type SimulatedChain = {
  readonly reader: SubscriptionsReader
  readonly port: FakeTransactionPort
  /** Endpoint trouble: reads fail, or purchase data is not found. */
  readonly world: { down: boolean; hidesLogs: boolean; hidesReceipts: boolean }
  now(): number
  height(): bigint
  /** Puts acts into the next block, and time, seconds. */
  mine(acts: readonly Act[], seconds: number): Promise<void>
  /** Takes blocks away; what happened in them happens again in the next block, except for the acts that `forget` names. */
  reorg(depth: number, forget: (act: Act) => boolean): Promise<Act[]>
  state(): ChainState
}

const contracts = { subscriptions: `0x${'51'.repeat(20)}`, nft: `0x${'52'.repeat(20)}` } as const

/** Makes an empty chain. */
export function simulateChain(): SimulatedChain {
  const port = createFakeTransactionPort()
  const acts = new Map<bigint, readonly Act[]>()
  const times = new Map<bigint, number>()
  const world = { down: false, hidesLogs: false, hidesReceipts: false }
  let mints: Mint[] = []
  let clock = 1_800_000_000

  const height = () => port.height()
  const now = () => clock

  /** Reads mints off the fake port's chain; token ids follow the order of the blocks. */
  async function readMints(): Promise<void> {
    const found: Mint[] = []
    for (const transaction of port.effects()) {
      const { hash } = await port.port.sign(transaction)
      const call = tryDecode(transaction.data)
      if (call !== undefined) found.push({ ...call, hash })
    }
    mints = found
  }

  function state(): ChainState {
    const result: ChainState = { subscriptions: [], purchases: [], mints, owners: new Map() }
    for (const [at, mint] of mints.entries()) result.owners.set(BigInt(at), mint.to)
    for (const block of [...acts.keys()].toSorted((a, b) => Number(a - b)))
      for (const act of acts.get(block)!) apply(result, act, block, times.get(block)!)
    return result
  }

  function look<T>(read: (state: ChainState) => T): Promise<T> {
    if (!world.down) return Promise.resolve().then(() => read(state()))
    return Promise.reject(
      new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message: 'The network is down', retryable: true }),
    )
  }

  const reader: SubscriptionsReader = {
    snapshot: (query, newsSince) =>
      look(found => {
        const snapshot: SubscriptionsSnapshot = {
          ...{ blockNumber: height(), timestamp: clock, chainId: 31337, planCount: 1n, purchasesPaused: false },
          ...{ owner: contracts.nft, nftOwner: port.port.address, nftMinter: port.port.address },
          subscriptionCount: BigInt(found.subscriptions.length),
          tokenCount: BigInt(found.mints.length),
          subscriptions: found.subscriptions.slice(Number(query.cursor), Number(query.cursor) + Math.min(query.max, 5)),
          watched: query.watchIds.map(id => found.subscriptions[Number(id) - 1]),
          tokens: query.tokenIds.map(id => ({ id, owner: found.owners.get(id), expiresAt: 0 })),
          plans: [],
          balances: query.wallets.map(() => 10n ** 18n),
        }
        const purchases = found.purchases.filter(({ blockNumber }) => blockNumber >= (newsSince ?? 0n))
        const news = { purchases, subscriptionIds: purchases.map(({ id }) => id), tokenIds: [] }
        return { snapshot, head: height(), news: newsSince === undefined || world.hidesLogs ? undefined : news }
      }),
    purchaseData: wanted =>
      look(found => {
        const isWanted = (data: PurchaseData) =>
          wanted.some(({ id, block }) => id === data.id && block === data.blockNumber)
        return world.hidesLogs ? [] : found.purchases.filter(isWanted)
      }),
    scanPurchases: (ids, { fromBlock, toBlock }) =>
      look(({ purchases }) => {
        const isInside = ({ id, blockNumber }: PurchaseData) =>
          ids.includes(id) && blockNumber >= fromBlock && blockNumber <= toBlock
        return { found: world.hidesLogs ? [] : purchases.filter(isInside), scannedTo: toBlock }
      }),
    mintedTokens: (_nft, hashes) =>
      look(found =>
        hashes.map(hash => {
          const at = found.mints.findIndex(mint => mint.hash === hash)
          return at < 0 || world.hidesReceipts ? undefined : { tokenId: BigInt(at), to: found.mints[at]!.to }
        }),
      ),
  }

  return {
    ...{ reader, port, world, now, height, state },
    async mine(next, seconds) {
      clock += seconds
      const block = port.mine()
      acts.set(block, next)
      times.set(block, clock)
      await readMints()
    },
    async reorg(depth, forget) {
      const gone: Act[] = []
      for (let block = height(); block > height() - BigInt(depth); block--) {
        gone.unshift(...(acts.get(block) ?? []).filter(act => !forget(act)))
        acts.delete(block)
      }
      port.reorg(depth)
      await readMints()
      return gone
    },
  }
}

function tryDecode(data: Hex): Omit<Mint, 'hash'> | undefined {
  try {
    const { to, description } = namedArguments(data)
    return { to: to.toLowerCase() as Address, description }
  } catch {
    return undefined // an update of a token, or a transaction that fills a nonce
  }
}

function namedArguments(data: Hex): { to: Address; description: string } {
  const item = accessCredentialNftAbi.find(entry => entry.type === 'function' && entry.name === 'mint')
  const args = decodeData(item as never, data) as unknown as readonly [Address, Hex, string, string]
  return { to: args[0], description: args[3] }
}

function apply(state: ChainState, act: Act, block: bigint, time: number): void {
  if (act.kind === 'buy') {
    const id = BigInt(state.subscriptions.length + 1)
    state.subscriptions.push({
      ...{ id, subscriber: act.buyer, planId: 1, expiresAt: time + act.seconds, purchaseBlock: block },
      ...{ cancelled: false, planActive: true, planRenewable: true },
    })
    state.purchases.push({ id, subscriber: act.buyer, userEncrypted: act.data, blockNumber: block })
    return
  }
  if (act.kind === 'transfer') {
    if (state.owners.has(act.tokenId)) state.owners.set(act.tokenId, act.to)
    return
  }
  const at = Number(act.id) - 1
  const view = state.subscriptions[at]
  if (view === undefined || view.cancelled) return
  const expiresAt = act.kind === 'cancel' ? time : Math.max(view.expiresAt, time) + act.seconds
  state.subscriptions[at] = { ...view, expiresAt, cancelled: act.kind === 'cancel' }
}
