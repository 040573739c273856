/** A chain that forks: blocks, a pool of transactions, reorganizations, and endpoints that lag. */
import type { Fees } from '@blockhost/chain/transaction.ts'
import type { Address, Hex } from 'viem'
import {
  type ContractCall,
  type ContractRequest,
  type ContractRules,
  type ContractState,
  emptyContract,
  execute,
} from './contract.ts'
import type { Random } from './random.ts'
import type { World } from './world.ts'

/** A transaction on its way or in a block. */
export type SimTransaction = {
  readonly hash: Hex
  readonly from: Address
  readonly call: ContractCall
  /** Only the operator's nonces are simulated: hosts are many wallets that wait for each transaction. */
  readonly nonce: number | undefined
  readonly fees: Fees | undefined
  /** Who sent it, for the trace. */
  readonly who: string
}

/** A transaction in a block. */
export type Mined = {
  readonly transaction: SimTransaction
  /** Name of the contract error; absent when it succeeded. */
  readonly error: string | undefined
  /** Answers in it that did not count. */
  readonly skipped: readonly bigint[]
}

/** A block; its state is the one after it. */
export type Block = {
  readonly number: bigint
  readonly hash: Hex
  readonly parent: Block | undefined
  /** Unix seconds, rising. */
  readonly timestamp: number
  readonly baseFeeWei: bigint
  readonly mined: readonly Mined[]
  readonly state: ContractState
}

/** One RPC endpoint: sees the chain as it is, or as it was. */
export type Endpoint = { readonly name: string; frozen: Block | undefined }

/** The simulated chain. */
export type SimChain = {
  readonly rules: ContractRules
  readonly endpoints: readonly Endpoint[]
  /** The canonical head. */
  head(): Block
  /** What an endpoint takes for the head. */
  headOf(endpoint: Endpoint): Block
  /** Takes a transaction of a host. */
  submit(from: Address, call: ContractCall, who: string): void
  /** Takes a transaction of the operator. */
  submitOperator(transaction: SimTransaction): void
  /** Transactions of the operator that wait, by nonce; several at one nonce are replacements. */
  waitingAt(nonce: number): readonly SimTransaction[]
  /** Whether a transaction waits. */
  isWaiting(hash: Hex): boolean
  readonly waitingCount: () => number
  /** Forgets one waiting transaction of the operator, if there is one. */
  dropWaiting(): void
  mine(): void
  /** Replaces the last `depth` blocks. */
  reorganize(depth: number): void
  setBaseFee(wei: bigint): void
  /** The operator's wallet: empty or not. */
  funds: { wei: bigint }
  /** Blocks that hold a transaction, canonical or not. */
  blocksOf(hash: Hex): readonly Block[]
  nextHash(): Hex
  /** Transactions of the operator that were ever mined, on any branch. */
  readonly operatorMined: ReadonlyMap<Hex, SimTransaction>
  /** Every request that was ever in a block, canonical or not. */
  readonly requestsByDigest: ReadonlyMap<Hex, ContractRequest>
  /** NFT contracts that changed hands in some block. */
  readonly givenAway: ReadonlySet<Address>
  /** Requests whose block was replaced at least once. */
  readonly orphaned: ReadonlySet<Hex>
}

/** What makes one chain different from another. */
export type ChainOptions = {
  readonly rules: ContractRules
  readonly genesisTimestamp: number
  readonly blockSeconds: number
  readonly endpoints: number
  /** Chance that a waiting transaction of a host is in the next block. */
  readonly inclusion: number
}

/** Makes a chain with one block in which the NFT contracts exist. */
export function createChain(
  world: World,
  random: Random,
  options: ChainOptions,
  nfts: ContractState['nfts'],
): SimChain {
  const { rules } = options
  const endpoints = Array.from(
    { length: options.endpoints },
    (_, i): Endpoint => ({ name: `rpc${i}`, frozen: undefined }),
  )
  const blocksByTransaction = new Map<Hex, Block[]>()
  const operatorMined = new Map<Hex, SimTransaction>()
  const requestsByDigest = new Map<Hex, ContractRequest>()
  const givenAway = new Set<Address>()
  const orphaned = new Set<Hex>()
  const funds = { wei: 10n ** 18n }
  let hostPool: SimTransaction[] = []
  let operatorPool: SimTransaction[] = []
  let hashes = 0
  let baseFeeWei = 10n ** 10n
  let head: Block = makeBlock(undefined, options.genesisTimestamp, [], { ...emptyContract, nfts })

  function makeBlock(
    parent: Block | undefined,
    timestamp: number,
    mined: readonly Mined[],
    state: ContractState,
  ): Block {
    const number = parent === undefined ? 100n : parent.number + 1n
    const block: Block = { number, hash: nextHash(), parent, timestamp, baseFeeWei, mined, state }
    for (const { transaction } of mined) {
      const blocks = blocksByTransaction.get(transaction.hash) ?? []
      blocksByTransaction.set(transaction.hash, [...blocks, block])
      if (transaction.nonce !== undefined) operatorMined.set(transaction.hash, transaction)
      if (transaction.call.kind === 'transferOwnership') givenAway.add(transaction.call.nftContract)
    }
    for (const request of state.requests.slice(parent?.state.requests.length ?? 0))
      requestsByDigest.set(request.digest, request)
    return block
  }

  function nextHash(): Hex {
    hashes += 1
    return `0x${hashes.toString(16).padStart(64, '0')}`
  }

  /** Builds a block of what is offered, on `parent`; returns what it did not take, too. */
  function build(
    parent: Block,
    hosts: readonly SimTransaction[],
    operators: readonly SimTransaction[],
    p: number,
  ): Block {
    const timestamp = parent.timestamp + Math.max(1, options.blockSeconds)
    const mined: Mined[] = []
    let state = parent.state
    const run = (transaction: SimTransaction): void => {
      const result = execute(state, transaction.call, { from: transaction.from, timestamp, rules })
      mined.push(
        result.ok
          ? { transaction, error: undefined, skipped: result.skipped }
          : { transaction, error: result.error, skipped: [] },
      )
      if (result.ok) state = result.state
      if (transaction.nonce !== undefined) state = { ...state, operatorNonce: transaction.nonce + 1 }
    }
    const hostsFirst = random.chance(0.5)
    const runHosts = (): void => {
      for (const transaction of hosts) if (random.chance(p)) run(transaction)
    }
    if (hostsFirst) runHosts()
    for (;;) {
      const next = pickOperator(operators, state.operatorNonce)
      if (next === undefined || !random.chance(0.85)) break
      run(next)
    }
    if (!hostsFirst) runHosts()
    return makeBlock(parent, timestamp, mined, state)
  }

  /** Mostly the one that pays most; sometimes a miner has not heard of it. */
  function pickOperator(operators: readonly SimTransaction[], nonce: number): SimTransaction | undefined {
    const offers = operators.filter(offer => offer.nonce === nonce && priceOf(offer) >= baseFeeWei)
    return random.chance(0.9) ? offers.at(-1) : offers[0]
  }

  function forgetMined(): void {
    const taken = new Set(head.mined.map(({ transaction }) => transaction.hash))
    hostPool = hostPool.filter(transaction => !taken.has(transaction.hash))
    operatorPool = operatorPool.filter(({ nonce }) => nonce! >= head.state.operatorNonce)
  }

  function mine(): void {
    head = build(head, hostPool, operatorPool, options.inclusion)
    forgetMined()
    noteBlock(head)
  }

  function noteBlock(block: Block): void {
    if (block.mined.length > 0) world.note('chain', `block ${block.number}: ${block.mined.map(renderMined).join('; ')}`)
  }

  function reorganize(depth: number): void {
    const orphans: Block[] = []
    let fork = head
    while (orphans.length < depth && fork.parent !== undefined) {
      orphans.unshift(fork)
      fork = fork.parent
    }
    const old = head
    for (const { digest } of old.state.requests.slice(fork.state.requests.length)) orphaned.add(digest)
    const gone = orphans.flatMap(block => block.mined.map(({ transaction }) => transaction))
    const orders = random.weighted({ same: 2, other: 3 })
    const hosts = gone.filter(({ nonce }) => nonce === undefined)
    let waitingHosts = orders === 'same' ? hosts : random.shuffle(hosts)
    let waitingOperators = gone.filter(({ nonce }) => nonce !== undefined)
    const lost = waitingHosts.filter(() => random.chance(0.25))
    waitingHosts = waitingHosts.filter(transaction => !lost.includes(transaction))
    if (random.chance(0.3)) waitingOperators = []
    world.note(
      'chain',
      `REORG of ${orphans.length} blocks after block ${fork.number}, ${gone.length} transactions gone`,
    )
    head = fork
    const length = Math.max(1, orphans.length + random.int(-1, 2))
    const inclusion = random.pick([0.3, 0.7, 1])
    for (let i = 0; i < length; i++) {
      head = build(head, waitingHosts, [...operatorPool, ...waitingOperators], inclusion)
      const taken = new Set(head.mined.map(({ transaction }) => transaction.hash))
      waitingHosts = waitingHosts.filter(({ hash }) => !taken.has(hash))
      noteBlock(head)
    }
    hostPool = [...waitingHosts, ...hostPool].filter(({ hash }) => !isCanonical(hash))
    operatorPool = [...waitingOperators, ...operatorPool]
    forgetMined()
    for (const endpoint of endpoints)
      if (endpoint.frozen === undefined && random.chance(0.3)) freeze(endpoint, old, random.int(0, 12_000))
  }

  function isCanonical(hash: Hex): boolean {
    return (blocksByTransaction.get(hash) ?? []).some(block => isAncestor(block, head))
  }

  function freeze(endpoint: Endpoint, block: Block, ms: number): void {
    endpoint.frozen = block
    world.after(ms, () => {
      if (endpoint.frozen === block) endpoint.frozen = undefined
    })
  }

  return {
    rules,
    endpoints,
    head: () => head,
    headOf: endpoint => endpoint.frozen ?? head,
    submit: (from, call, who) =>
      void hostPool.push({ hash: nextHash(), from, call, nonce: undefined, fees: undefined, who }),
    submitOperator: transaction => void operatorPool.push(transaction),
    waitingAt: nonce => operatorPool.filter(offer => offer.nonce === nonce),
    isWaiting: hash => operatorPool.some(offer => offer.hash === hash),
    waitingCount: () => hostPool.length + operatorPool.length,
    dropWaiting: () => {
      if (operatorPool.length > 0) operatorPool.splice(random.int(0, operatorPool.length - 1), 1)
    },
    mine,
    reorganize,
    setBaseFee: wei => {
      baseFeeWei = wei
    },
    funds,
    blocksOf: hash => blocksByTransaction.get(hash) ?? [],
    nextHash,
    operatorMined,
    requestsByDigest,
    givenAway,
    orphaned,
  }
}

/** Returns whether `block` is `head` or one of its ancestors. Cost O(blocks between). */
export function isAncestor(block: Block, head: Block): boolean {
  return ancestorAt(head, block.number) === block
}

/** Returns the ancestor of `head` (or itself) with that number. */
export function ancestorAt(head: Block, number: bigint): Block | undefined {
  let at: Block | undefined = head
  while (at !== undefined && at.number > number) at = at.parent
  return at?.number === number ? at : undefined
}

/** Returns what a transaction offers for a unit of gas at the most. */
export function priceOf(transaction: SimTransaction): bigint {
  const { fees } = transaction
  if (fees === undefined) return 0n
  return fees.type === 'legacy' ? fees.gasPriceWei : fees.maxFeePerGasWei
}

function renderMined({ transaction, error, skipped }: Mined): string {
  const outcome = error === undefined ? '' : ` reverted: ${error}`
  const lost = skipped.length === 0 ? '' : ` (skipped ${skipped.map(id => `#${id}`).join(' ')})`
  return `${transaction.who} ${renderCall(transaction.call)}${outcome}${lost}`
}

/** Returns a call as the trace shows it. */
export function renderCall(call: ContractCall): string {
  switch (call.kind) {
    case 'submitResponses':
      return `answers ${call.answers.map(({ id }) => `#${id}`).join(' ')}`
    case 'releaseRequest':
      return `releases #${call.id}`
    case 'markExpired':
      return `marks ${call.ids.map(id => `#${id}`).join(' ')} expired`
    case 'submitRequest':
      return `requests for nft ${call.nftContract.slice(-4)}`
    case 'releaseAllocation':
      return `releases nft ${call.nftContract.slice(-4)}`
    case 'transferOwnership':
      return `gives nft ${call.nftContract.slice(-4)} to ${call.to.slice(-4)}`
    case 'nothing':
      return 'uses up a nonce'
  }
}
