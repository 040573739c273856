/**
 * The subscriptions contract and the tokens in memory: blocks with what happened in them, replayed at every look, so that a
 * reorganization is nothing but other blocks. Tokens are what the transactions of the fake port did, block by block in step with it.
 * README.md says where it lies.
 */
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import type {
  PurchaseData,
  SubscriptionsReader,
  SubscriptionsSnapshot,
  SubscriptionView,
} from '@blockhost/chain/subscription-view.ts'
import type { UnsignedTransaction } from '@blockhost/chain/transaction.ts'
import { accessCredentialNftAbi } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { createFakeTransactionPort, type FakeTransactionPort } from '@blockhost/testkit/fake-transaction-port.ts'
import { decodeData, fromAbi } from 'ox/AbiFunction'

/** What somebody does on chain. Owner and buyers are lower-case addresses. */
export type Act =
  | { readonly kind: 'buy'; readonly buyer: Address; readonly seconds: number; readonly data: Uint8Array }
  | { readonly kind: 'extend'; readonly id: bigint; readonly seconds: number }
  | { readonly kind: 'cancel'; readonly id: bigint }
  | { readonly kind: 'transfer'; readonly tokenId: bigint; readonly to: Address }

/** A token as it was minted, and what it says since the last update. Its place in the list is its id. */
export type Token = {
  readonly to: Address
  readonly description: string
  readonly publicSecret: string
  readonly sealed: Hex
  readonly hash: Hex
}

/** The chain's state after a replay. */
export type ChainState = {
  readonly subscriptions: readonly SubscriptionView[]
  readonly purchases: readonly PurchaseData[]
  readonly tokens: readonly Token[]
  readonly owners: ReadonlyMap<bigint, Address>
}

/** What an endpoint sees: one block and everything up to it. */
export type View = { readonly height: bigint; readonly timestamp: number; readonly state: ChainState }

/** What is wrong with the endpoints at the moment. */
export type Endpoints = {
  down: boolean
  hidesLogs: boolean
  hidesReceipts: boolean
  /** The contract refuses mints. What was in a block once ends there the same way after a reorganization. */
  refusesMints: boolean
  /** Every other answer is of this view: an endpoint that stands still, perhaps on a branch that is gone. */
  frozen: View | undefined
}

/** Endpoints that do what they should. */
export const noTrouble: Endpoints = {
  ...{ down: false, hidesLogs: false, hidesReceipts: false, refusesMints: false },
  frozen: undefined,
}

/** The chain and the hands that move it. */
export type SimulatedChain = {
  readonly reader: SubscriptionsReader
  readonly port: FakeTransactionPort
  readonly endpoints: Endpoints
  /** The truth. */
  view(): View
  /** What the last snapshots were answered from, the latest last. */
  readonly served: readonly View[]
  /** Puts acts into the next block, so many seconds later. */
  mine(acts: readonly Act[], seconds: number): Promise<void>
  /** Whether a transaction of the minter that had counted as final waits again: then nothing takes its place. */
  hasFinalOnesWaiting(): boolean
  /** Another program mines a transaction with the minter's key. */
  useKeyElsewhere(): Promise<void>
  /** Takes blocks away, and returns what happened in them. @param options.forget - The minter's transactions are not waiting again, either. */
  reorg(depth: number, options: { forget: boolean; isDeep: boolean }): Promise<Act[]>
}

const contracts = { subscriptions: `0x${'51'.repeat(20)}`, nft: `0x${'52'.repeat(20)}` } as const
const servedViews = 12

/** Makes an empty chain. @param flip - Decides which endpoint answers when one stands still. */
export function simulateChain(flip: () => boolean): SimulatedChain {
  const port = createFakeTransactionPort()
  const acts = new Map<bigint, readonly Act[]>()
  const times = new Map<bigint, number>()
  const endpoints: Endpoints = { ...noTrouble }
  const served: View[] = []
  const calls = new WeakMap<UnsignedTransaction, Call>()
  const refused = new WeakMap<object, boolean>()
  const final = new WeakSet<object>()
  let tokens: readonly Token[] = []
  let clock = 1_800_000_000
  let known: View | undefined

  port.world.reverts = call => {
    if (!('nonce' in call)) return endpoints.refusesMints
    const isRefused = refused.get(call) ?? endpoints.refusesMints
    refused.set(call, isRefused)
    return isRefused
  }

  function view(): View {
    known ??= { height: port.height(), timestamp: clock, state: replay() }
    return known
  }

  function replay(): ChainState {
    const owners = new Map(tokens.map((token, at) => [BigInt(at), token.to]))
    const result = { subscriptions: [] as SubscriptionView[], purchases: [] as PurchaseData[], tokens, owners }
    for (const block of [...acts.keys()].toSorted((a, b) => Number(a - b)))
      for (const act of acts.get(block)!) apply(result, act, block, times.get(block)!)
    return result
  }

  /** Reads tokens off the fake port's chain; their ids follow the order of the blocks. */
  async function readTokens(): Promise<void> {
    const found: Token[] = []
    for (const transaction of port.effects()) {
      const call = calls.get(transaction) ?? { ...decode(transaction.data), ...(await port.port.sign(transaction)) }
      calls.set(transaction, call)
      if (call.kind === 'mint') found.push(call)
      else if (call.kind === 'update' && found[call.tokenId] !== undefined)
        found[call.tokenId] = { ...found[call.tokenId]!, sealed: call.sealed }
    }
    tokens = found
    known = undefined
  }

  function look<T>(read: (view: View) => T): Promise<T> {
    if (!endpoints.down) {
      const seen = endpoints.frozen !== undefined && flip() ? endpoints.frozen : view()
      return Promise.resolve().then(() => read(seen))
    }
    return Promise.reject(
      new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message: 'The network is down', retryable: true }),
    )
  }

  const reader: SubscriptionsReader = {
    snapshot: (query, newsSince) =>
      look(seen => {
        const { state, height, timestamp } = seen
        served.push(seen)
        if (served.length > servedViews) served.shift()
        const snapshot: SubscriptionsSnapshot = {
          ...{ blockNumber: height, timestamp, chainId: 31337, planCount: 1n, purchasesPaused: false },
          ...{ owner: contracts.nft, nftOwner: port.port.address, nftMinter: port.port.address },
          subscriptionCount: BigInt(state.subscriptions.length),
          tokenCount: BigInt(state.tokens.length),
          subscriptions: state.subscriptions.slice(Number(query.cursor), Number(query.cursor) + Math.min(query.max, 5)),
          watched: query.watchIds.map(id => state.subscriptions[Number(id) - 1]),
          tokens: query.tokenIds.map(id => ({ id, owner: state.owners.get(id), expiresAt: 0 })),
          plans: [],
          balances: query.wallets.map(() => 10n ** 18n),
        }
        const purchases = state.purchases.filter(({ blockNumber }) => blockNumber >= (newsSince ?? 0n))
        const news = { purchases, subscriptionIds: purchases.map(({ id }) => id), tokenIds: [] }
        const hasNews = newsSince !== undefined && !endpoints.hidesLogs
        return { snapshot, head: height, news: hasNews ? news : undefined }
      }),
    purchaseData: wanted =>
      look(({ state }) => {
        const isWanted = (data: PurchaseData) =>
          wanted.some(({ id, block }) => id === data.id && block === data.blockNumber)
        return endpoints.hidesLogs ? [] : state.purchases.filter(isWanted)
      }),
    scanPurchases: (ids, { fromBlock, toBlock }) =>
      look(({ state }) => {
        const isInside = ({ id, blockNumber }: PurchaseData) =>
          ids.includes(id) && blockNumber >= fromBlock && blockNumber <= toBlock
        return { found: endpoints.hidesLogs ? [] : state.purchases.filter(isInside), scannedTo: toBlock }
      }),
    mintedTokens: (_nft, hashes) =>
      look(({ state }) =>
        hashes.map(hash => {
          const at = state.tokens.findIndex(token => token.hash === hash)
          return at < 0 || endpoints.hidesReceipts ? undefined : { tokenId: BigInt(at), to: state.tokens[at]!.to }
        }),
      ),
  }

  return {
    ...{ reader, port, endpoints, view, served },
    async mine(next, seconds) {
      clock += seconds
      const block = port.mine()
      acts.set(block, next)
      times.set(block, clock)
      await readTokens()
    },
    hasFinalOnesWaiting: () => port.pool().some(transaction => final.has(transaction)),
    async useKeyElsewhere() {
      port.useNonceElsewhere()
      await readTokens()
    },
    async reorg(depth, options) {
      if (options.isDeep) for (const transaction of port.effects()) final.add(transaction)
      const gone: Act[] = []
      for (let block = port.height(); block > port.height() - BigInt(depth); block--) {
        gone.unshift(...(acts.get(block) ?? []))
        acts.delete(block)
      }
      port.reorg(depth, options)
      await readTokens()
      return gone
    },
  }
}

type Call =
  | (Token & { readonly kind: 'mint' })
  | { readonly kind: 'update'; readonly tokenId: number; readonly sealed: Hex }
  | { readonly kind: 'other' }

const items = {
  mint: fromAbi(accessCredentialNftAbi, 'mint'),
  update: fromAbi(accessCredentialNftAbi, 'updateUserEncrypted'),
}

/** What a transaction of the minter does; `other`: one that only fills a nonce. */
function decode(data: Hex): Omit<Extract<Call, { kind: 'mint' }>, 'hash'> | Exclude<Call, { kind: 'mint' }> {
  try {
    const [to, sealed, publicSecret, description] = decodeData(items.mint, data)
    return { kind: 'mint', to: to.toLowerCase() as Address, sealed, publicSecret, description }
  } catch {
    return decodeUpdate(data)
  }
}

function decodeUpdate(data: Hex): Exclude<Call, { kind: 'mint' }> {
  try {
    const [tokenId, sealed] = decodeData(items.update, data)
    return { kind: 'update', tokenId: Number(tokenId), sealed }
  } catch {
    return { kind: 'other' }
  }
}

type Replayed = { subscriptions: SubscriptionView[]; purchases: PurchaseData[]; owners: Map<bigint, Address> }

function apply(state: Replayed, act: Act, block: bigint, time: number): void {
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
