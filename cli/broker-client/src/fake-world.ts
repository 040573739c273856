/**
 * A chain with one requests contract, its broker and the disk of one host, in memory; state is kept over kills and restarts of the client.
 * Where it lies: payloads and answers are readable JSON in hex, a block is mined whenever the client sleeps, gas is never used, and the only revert
 * is the first generation's refusal of a second request.
 */
import { type Address, bytesToHex, type Hex } from '@blockhost/chain/hex.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { decodeData, fromAbi } from 'ox/AbiFunction'
import { keccak256 } from 'ox/Hash'
import type { Allocation, BrokerContract } from './allocation.ts'
import type { AskDeps, AskPlan } from './ask.ts'
import type { Answer, Generation } from './decide.ts'
import type { Intent } from './intent.ts'
import { type Lease, parseLease } from './lease.ts'
import type { ChainView, StoredRequest } from './requests-contract.ts'
import { createWallet, type WalletPort } from './wallet.ts'

/** Thrown where the process would have died. */
export class Killed extends Error {}

/** Somebody who owns another NFT contract. */
export const otherWallet: Address = '0x00000000000000000000000000000000000000bb'

const nftContract: Address = '0x00000000000000000000000000000000000000f7'
const wallet: Address = '0x00000000000000000000000000000000000000a1'
const expirationSeconds = 86_400

type Transaction = { nonce: number; data: Hex; valueWei: bigint; maxFeeWei: bigint }
type Request = { -readonly [K in keyof StoredRequest]: StoredRequest[K] } & { nftContract: Address }
type State = { requests: Request[]; mapping: Map<Address, bigint>; nonce: number; timestamp: number; paidWei: bigint }

/** Knobs of {@link createFakeWorld}. */
export type FakeWorldOptions = {
  generation: Generation
  requestFeeWei?: bigint
  balanceWei?: bigint
  /** How many blocks behind each look at the chain is, in turn; then 0. */
  lag?: number[]
  /** Offers below this are never mined. */
  minFeeWei?: bigint
  /** How often the contract refuses to be asked before it lets it pass. */
  refusals?: number
}

/** One chain, one broker, one disk. */
export type FakeWorld = ReturnType<typeof createFakeWorld>

const toJsonHex = (value: unknown): Hex => bytesToHex(Buffer.from(JSON.stringify(value)))
const fromJsonHex = (hex: Hex): Record<string, unknown> => JSON.parse(Buffer.from(hex.slice(2), 'hex').toString())

/** Makes a world in which nothing has happened yet. */
export function createFakeWorld(options: FakeWorldOptions) {
  const disk: { intent: Intent | undefined; allocation: Allocation | undefined; contract: BrokerContract | undefined } =
    {
      intent: undefined,
      allocation: undefined,
      contract: undefined,
    }
  const chain = createChain(options)
  const broker = createBroker(chain)
  let effects = 0
  let killAt = 0
  let calls = 0
  let failAt = 0
  let onMined: (() => void) | undefined
  const world = {
    disk,
    chain,
    broker,
    wallet,
    nftContract,
    options,
    savedWith: undefined as string | undefined,
    /** Dies just before or just after effect number `at` (two points for each effect). */
    killAt: (at: number) => {
      effects = 0
      killAt = at
    },
    failRpcAt: (at: number) => {
      failAt = at
    },
    /** Does something once, just after the first block that holds a transaction of ours. */
    at: (_when: 'after-mined', work: () => void) => {
      onMined = work
    },
    effect: <T>(work: () => T): T => {
      if (++effects === killAt) throw new Killed()
      const result = work()
      if (++effects === killAt) throw new Killed()
      return result
    },
    rpc: async <T>(work: () => T): Promise<T> => {
      if (++calls === failAt) throw lost()
      return world.effect(work)
    },
    /** Time passes: a block, then the broker. */
    tick: (ms: number) => {
      const mined = chain.mine(Math.max(1, Math.round(ms / 1000)))
      if (mined && onMined !== undefined) {
        const work = onMined
        onMined = undefined
        work()
      }
      broker.work()
    },
  }
  return world
}

function lost(): BlockHostError {
  return new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message: 'no endpoint answered', retryable: true })
}

function createChain(options: FakeWorldOptions) {
  let state: State = { requests: [], mapping: new Map(), nonce: 3, timestamp: 1_000_000, paidWei: 0n }
  const history: State[] = [structuredClone(state)]
  const mempool = new Map<number, Transaction>()
  const minedLast: Transaction[] = []
  const chain = {
    sends: 0,
    replacements: 0,
    reorgs: 0,
    get requests() {
      return state.requests
    },
    get paidWei() {
      return state.paidWei
    },
    nonceWithMempool: () => Math.max(state.nonce - 1, ...mempool.keys()) + 1,
    stateBehind: (blocks: number) => (blocks === 0 ? state : (history.at(-1 - blocks) ?? history[0]!)),
    blockNumber: () => history.length,
    submitFor: (requester: Address, nft: Address) =>
      void submit(requester, nft, toJsonHex({ wgPublicKey: generateKeyPair().publicKey, from: 'elsewhere' })),
    passSeconds: (seconds: number) => {
      state.timestamp += seconds
    },
    answer: (id: bigint, response: Hex) => {
      const request = state.requests[Number(id) - 1]!
      request.status = 'approved'
      request.response = response
    },
    release: (nft: Address) => {
      state.mapping.delete(nft)
    },
    liveRequests: () => state.requests.filter(request => state.mapping.get(request.nftContract) === request.id),
    send: (transaction: Transaction) => {
      chain.sends++
      if (transaction.nonce < state.nonce)
        return { ok: false, kind: 'nonce-too-low', message: 'nonce too low' } as const
      const present = mempool.get(transaction.nonce)
      if (present !== undefined && present.maxFeeWei >= transaction.maxFeeWei)
        return { ok: false, kind: 'known', message: 'already known' } as const
      if (present !== undefined) chain.replacements++
      mempool.set(transaction.nonce, transaction)
      return { ok: true } as const
    },
    mine: (seconds: number): boolean => {
      history.push(structuredClone(state))
      state.timestamp += seconds
      minedLast.length = 0
      for (
        let next = mempool.get(state.nonce);
        next !== undefined && next.maxFeeWei >= (options.minFeeWei ?? 0n);
        next = mempool.get(state.nonce)
      ) {
        mempool.delete(next.nonce)
        minedLast.push(next)
        state.nonce++
        run(next)
      }
      return minedLast.length > 0
    },
    reorg: ({ keepTransactions }: { keepTransactions: boolean }) => {
      chain.reorgs++
      state = structuredClone(history.at(-1)!)
      if (keepTransactions) for (const transaction of minedLast) mempool.set(transaction.nonce, transaction)
    },
  }

  function run({ data, valueWei }: Transaction): void {
    const call = fromAbi(brokerRequestsAbi, data.slice(0, 10) as Hex)
    const args = decodeData(call as never, data) as readonly unknown[]
    if (call.name === 'markExpired') {
      markExpired((args[0] as bigint[])[0]!)
      return
    }
    if (valueWei !== (options.requestFeeWei ?? 0n)) return
    state.paidWei += valueWei
    submit(wallet, (args[0] as string).toLowerCase() as Address, args[1] as Hex)
  }

  function submit(requester: Address, nft: Address, payload: Hex): void {
    const previous = state.mapping.get(nft)
    if (previous !== undefined && options.generation === 1) return // reverts
    if (previous !== undefined) state.requests[Number(previous) - 1]!.status = 'expired'
    const id = BigInt(state.requests.length + 1)
    state.requests.push({
      id,
      requester,
      nftContract: nft,
      payload,
      status: 'pending',
      response: '0x',
      submittedAt: state.timestamp,
    })
    state.mapping.set(nft, id)
  }

  function markExpired(id: bigint): void {
    const request = state.requests[Number(id) - 1]
    if (request?.status !== 'pending' || state.timestamp <= request.submittedAt + expirationSeconds) return
    request.status = 'expired'
    state.mapping.delete(request.nftContract)
  }

  return chain
}

type Mistake = 'other-id' | 'undecryptable' | 'invalid'

function createBroker(chain: ReturnType<typeof createChain>) {
  let blocks = 0
  let known: string | undefined
  const broker = {
    isAsleep: false,
    /** One is used up by each answer. */
    mistakes: [] as Mistake[],
    releaseAfterBlocks: 0,
    /** The WireGuard key it has set up for our NFT contract. */
    knownKey: () => known,
    work: () => {
      if (++blocks === broker.releaseAfterBlocks) chain.release(nftContract)
      if (broker.isAsleep) return
      for (const request of chain.liveRequests()) {
        const { wgPublicKey, from } = fromJsonHex(request.payload)
        if (request.status !== 'pending' || from === 'elsewhere') continue
        if (request.nftContract === nftContract) known = wgPublicKey as string
        chain.answer(request.id, answerTo(request.id, broker.mistakes.shift()))
      }
    },
  }
  return broker
}

function answerTo(id: bigint, mistake: Mistake | undefined): Hex {
  return toJsonHex({
    id: `${mistake === 'other-id' ? id + 1n : id}`,
    sealedFor: mistake === 'undecryptable' ? 'another key' : 'us',
    prefix: mistake === 'invalid' ? '::/0' : '2001:db8:1:2::100/120',
    gateway: '2001:db8:1:2::2',
    brokerPubkey: 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=',
    brokerEndpoint: '198.51.100.1:51820',
  })
}

function openAnswer(response: Hex, id: bigint): Answer<Lease> {
  const answer = fromJsonHex(response)
  if (answer.id !== `${id}`) return { kind: 'other-id', id: BigInt(answer.id as string) }
  if (answer.sealedFor !== 'us') return { kind: 'undecryptable' }
  const { prefix, gateway, brokerPubkey, brokerEndpoint } = answer
  const lease = parseLease({ prefix, gateway, brokerPubkey, brokerEndpoint }, { expectUpstream: undefined })
  return lease.ok ? { kind: 'good', lease: lease.value } : { kind: 'invalid', reason: lease.problem }
}

/** Makes one run of the client in the world; every call of its dependencies is a point where {@link FakeWorld.killAt} can strike. */
export function createFakeHost(
  world: FakeWorld,
  options: { purpose?: 'request' | 'renew'; timeoutMs?: number; maxFeeWei?: bigint } = {},
) {
  const interruption = new AbortController()
  const notes: string[] = []
  let nowMs = 0
  const plan: AskPlan = {
    purpose: options.purpose ?? 'request',
    nftContract,
    broker: {
      requestsContract: '0x00000000000000000000000000000000000000c0',
      brokerPubkey: '04',
      brokerId: 1n,
      expectUpstream: undefined,
    },
    facts: factsOf(world),
    brokerWallet: '0x00000000000000000000000000000000000000D0',
    maxFeeWei: options.maxFeeWei ?? 0n,
    timeoutMs: options.timeoutMs ?? 600_000,
    pollIntervalMs: 2000,
  }
  const deps: AskDeps = {
    wallet: createWallet(fakePort(world)),
    view: () => world.rpc(() => viewOf(world)),
    facts: () => world.rpc(() => factsOf(world)),
    openAnswer,
    newKeyPair: generateKeyPair,
    encryptRequest: wgPublicKey => toJsonHex({ wgPublicKey, nonce: crypto.randomUUID() }),
    intents: {
      find: () => world.disk.intent,
      save: intent =>
        world.effect(() => {
          world.disk.intent = intent
        }),
      remove: () =>
        world.effect(() => {
          world.disk.intent = undefined
        }),
    },
    allocations: {
      findAllocation: () =>
        world.disk.allocation === undefined ? undefined : { ok: true, value: world.disk.allocation },
      findContract: () => (world.disk.contract === undefined ? undefined : { ok: true, value: world.disk.contract }),
      saveAllocation: allocation =>
        world.effect(() => {
          world.disk.allocation = allocation
        }),
      saveContract: contract =>
        world.effect(() => {
          world.disk.contract = contract
        }),
      removeAllocation: () => {
        world.disk.allocation = undefined
      },
    },
    beforeSave: allocation =>
      world.effect(() => {
        world.savedWith = allocation.wgPublicKey
      }),
    clock: {
      now: () => nowMs + 1_700_000_000_000,
      monotonic: () => nowMs,
      sleep: async ms => {
        nowMs += ms
        world.tick(ms)
      },
    },
    progress: { step: () => undefined, note: text => void notes.push(text), end: () => undefined },
    signal: interruption.signal,
  }
  return { plan, deps, notes, interrupt: () => interruption.abort() }
}

function factsOf(world: FakeWorld): AskPlan['facts'] {
  const { generation, requestFeeWei = 0n } = world.options
  return {
    generation,
    owner: otherWallet,
    requestFeeWei,
    expirationSeconds,
    availableCapacity: undefined,
    liveRequests: undefined,
  }
}

function viewOf(world: FakeWorld): ChainView {
  const state = world.chain.stateBehind(world.options.lag?.shift() ?? 0)
  const id = state.mapping.get(nftContract)
  return {
    blockNumber: BigInt(world.chain.blockNumber()),
    timestamp: state.timestamp,
    minedNonce: state.nonce,
    mapped: id === undefined ? undefined : structuredClone(state.requests[Number(id) - 1]!),
  }
}

function fakePort(world: FakeWorld): WalletPort {
  const { options, chain } = world
  return {
    address: wallet,
    chainId: 31337,
    sign: async ({ nonce, data, valueWei, fees }) => {
      const maxFeeWei = fees.type === 'legacy' ? fees.gasPriceWei : fees.maxFeePerGasWei
      const raw = toJsonHex({ nonce, data, valueWei: `${valueWei}`, maxFeeWei: `${maxFeeWei}` })
      return { raw, hash: keccak256(raw) }
    },
    estimate: calls =>
      world.rpc(() =>
        calls.map(() => {
          if ((options.refusals ?? 0) === 0) return { ok: true, gas: 200_000n } as const
          options.refusals!--
          return { ok: false, kind: 'reverted', message: 'execution reverted' } as const
        }),
      ),
    send: raws =>
      world.rpc(() =>
        raws.map(raw => {
          const { nonce, data, valueWei, maxFeeWei } = fromJsonHex(raw)
          return chain.send({
            nonce: nonce as number,
            data: data as Hex,
            valueWei: BigInt(valueWei as string),
            maxFeeWei: BigInt(maxFeeWei as string),
          })
        }),
      ),
    market: () => world.rpc(() => ({ baseFeeWei: 10n, tipWei: 1n })),
    pendingNonce: () => world.rpc(() => chain.nonceWithMempool()),
    balanceWei: () => world.rpc(() => options.balanceWei ?? 10n ** 18n),
  }
}
