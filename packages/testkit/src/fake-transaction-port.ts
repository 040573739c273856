/**
 * A chain in memory behind the outbox's port: blocks, a pool, one account, reorgs, lagging endpoints, and death at any await.
 *
 * Where it lies: one node, one account; every transaction uses 21,000 gas; a block holds any number; fees only decide whether a
 * transaction is valid and may replace another (10 % more, as geth), never the order; signing is hashing; code does not run, a
 * predicate says which transactions revert.
 */
import { createHash } from 'node:crypto'
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import type { UnsignedTransaction } from '@blockhost/chain/transaction.ts'
import type { CallIntent, PortView, Receipt, SendOutcome, TransactionPort } from '@blockhost/chain/transaction-port.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'

/** The process died here; nothing after it ran. */
export class Killed extends Error {
  override readonly name = 'Killed'
}

/** One transaction in a block. */
type Inclusion = {
  readonly hash: Hex
  readonly transaction: UnsignedTransaction | 'foreign'
  readonly succeeded: boolean
}
type Block = { readonly hash: Hex; readonly inclusions: readonly Inclusion[] }

/** A {@link TransactionPort} and the hands that move its world. */
export type FakeTransactionPort = {
  readonly port: TransactionPort
  /** Round trips of each kind so far, and signatures. */
  readonly calls: { poll: number; estimate: number; send: number; sign: number }
  /** Mines everything that can be mined, then `empty` more blocks. Returns the height. */
  mine(empty?: number): bigint
  /** Takes the newest `depth` blocks away and puts as many empty ones in their place. Their transactions wait again, or are forgotten. */
  reorg(depth: number, options?: { forget?: boolean }): void
  /** The pool forgets what waits. */
  forgetPool(): void
  /** A transaction of another program with the same key is mined with the account's next nonce. */
  useNonceElsewhere(): void
  readonly height: () => bigint
  readonly nonce: () => number
  readonly pool: () => readonly UnsignedTransaction[]
  /** Transactions of ours on the chain, in order, without those that reverted. */
  readonly effects: () => readonly UnsignedTransaction[]
  /** What polls and estimates are answered from and how sends are taken; change at will. */
  readonly world: {
    /** Blocks the endpoint is behind in everything it says. */
    lag: number
    /** Shows blocks and nonces, but no receipts: its index is behind. */
    hideReceipts: boolean
    /** Absent: a chain without EIP-1559. */
    baseFeeWei: bigint | undefined
    tipWei: bigint
    isPoor: boolean
    /** Sends never arrive although the node says so. */
    swallowSends: boolean
    /** Answers every send so instead of taking it. */
    refuseSends: (SendOutcome & { ok: false }) | undefined
    /** The network is down: poll, estimate and send throw; `after`: a send arrives and its answer is lost. */
    down: false | 'before' | 'after'
    reverts(transaction: CallIntent): boolean
  }
  /** Dies at the `n`-th await from now (0: the next), counting two for each call: before it has effect, and after. */
  killAt(n: number): void
  /** The process starts again. Returns whether it had died. */
  revive(): boolean
}

const gasPerTransaction = 21_000n

/** Makes a fake chain of two blocks with an account that never sent anything. */
export function createFakeTransactionPort(
  options: { address?: Address; chainId?: number; nonce?: number } = {},
): FakeTransactionPort {
  const { address = `0x${'a1'.repeat(20)}`, chainId = 31337, nonce: firstNonce = 0 } = options
  let blockCount = 0
  const makeBlock = (inclusions: readonly Inclusion[]): Block => ({ hash: hashOf(`block ${blockCount++}`), inclusions })
  let blocks: Block[] = [makeBlock([]), makeBlock([])]
  let pool: { hash: Hex; transaction: UnsignedTransaction }[] = []
  let awaitsLeft = Number.POSITIVE_INFINITY
  let isDead = false
  const calls = { poll: 0, estimate: 0, send: 0, sign: 0 }
  const world: FakeTransactionPort['world'] = {
    lag: 0,
    hideReceipts: false,
    baseFeeWei: 10n ** 9n,
    tipWei: 10n ** 9n,
    isPoor: false,
    swallowSends: false,
    refuseSends: undefined,
    down: false,
    reverts: () => false,
  }

  /** One await: the process may die before the effect, or after it and before anybody hears of it. */
  async function awaited<T>(effect: () => T): Promise<T> {
    await Promise.resolve()
    dieIfDue()
    const result = effect()
    await Promise.resolve()
    dieIfDue()
    return result
  }

  function dieIfDue(): void {
    if (awaitsLeft-- <= 0) isDead = true
    if (isDead) throw new Killed()
  }

  function overNetwork<T>(effect: () => T): Promise<T> {
    return awaited(() => {
      if (world.down === 'before') throw unreachable()
      const result = effect()
      if (world.down === 'after') throw unreachable()
      return result
    })
  }

  function seen(): readonly Block[] {
    return blocks.slice(0, Math.max(1, blocks.length - world.lag))
  }

  function nonceAt(chain: readonly Block[]): number {
    return firstNonce + chain.reduce((count, block) => count + block.inclusions.length, 0)
  }

  function findReceipt(hash: Hex): Receipt | undefined {
    if (world.hideReceipts) return undefined
    for (const [height, block] of seen().entries()) {
      const found = block.inclusions.find(inclusion => inclusion.hash === hash)
      if (found === undefined) continue
      const { succeeded, transaction } = found
      const created = transaction !== 'foreign' && transaction.to === undefined
      const contractAddress: Address | undefined = created ? `0x${hash.slice(26)}` : undefined
      return {
        hash,
        blockNumber: BigInt(height),
        blockHash: block.hash,
        succeeded,
        gasUsed: gasPerTransaction,
        contractAddress,
      }
    }
    return undefined
  }

  function view(receiptsOf: readonly Hex[]): PortView {
    const { baseFeeWei, tipWei } = world
    const chain = seen()
    const receipts = receiptsOf.map(findReceipt)
    return { blockNumber: BigInt(chain.length - 1), latestNonce: nonceAt(chain), baseFeeWei, tipWei, receipts }
  }

  function take(raw: Hex): SendOutcome {
    if (world.refuseSends !== undefined) return world.refuseSends
    const { hash, transaction } = decode(raw)
    if (transaction.chainId !== chainId) return refused('permanent', 'invalid chain id')
    if (isMined(hash) || pool.some(waiting => waiting.hash === hash)) return refused('known', 'already known')
    if (transaction.nonce < nonceAt(blocks)) return refused('nonce-too-low', 'nonce too low')
    if (world.isPoor) return refused('insufficient-funds', 'insufficient funds for gas * price + value')
    const rival = pool.find(waiting => waiting.transaction.nonce === transaction.nonce)
    if (rival !== undefined && !mayReplace(rival.transaction, transaction))
      return refused('underpriced', 'replacement transaction underpriced')
    if (world.swallowSends) return { ok: true }
    pool = pool.filter(waiting => waiting !== rival)
    pool.push({ hash, transaction })
    return { ok: true }
  }

  function isMined(hash: Hex): boolean {
    return blocks.some(block => block.inclusions.some(inclusion => inclusion.hash === hash))
  }

  function minePool(): Inclusion[] {
    const inclusions: Inclusion[] = []
    for (let nonce = nonceAt(blocks); ; nonce++) {
      const next = pool.find(({ transaction }) => transaction.nonce === nonce && canPay(transaction, world.baseFeeWei))
      if (next === undefined) break
      inclusions.push({ ...next, succeeded: !world.reverts(next.transaction) })
    }
    pool = pool.filter(({ transaction }) => transaction.nonce >= nonceAt(blocks) + inclusions.length)
    return inclusions
  }

  return {
    calls,
    world,
    port: {
      address,
      chainId,
      sign: transaction =>
        awaited(() => {
          calls.sign++
          return encode(transaction)
        }),
      poll: ({ receiptsOf }) =>
        overNetwork(() => {
          calls.poll++
          return view(receiptsOf)
        }),
      estimate: intents =>
        overNetwork(() => {
          calls.estimate++
          return intents.map(intent =>
            world.reverts(intent)
              ? { ok: false, kind: 'reverted', message: 'execution reverted' }
              : { ok: true, gas: gasPerTransaction },
          )
        }),
      send: raws =>
        overNetwork(() => {
          calls.send++
          return raws.map(take)
        }),
    },
    mine(empty = 0) {
      blocks.push(makeBlock(minePool()))
      for (let i = 0; i < empty; i++) blocks.push(makeBlock([]))
      return BigInt(blocks.length - 1)
    },
    reorg(depth, { forget = false } = {}) {
      const gone = blocks.slice(-depth).flatMap(block => block.inclusions)
      blocks = [...blocks.slice(0, -depth), ...Array.from({ length: depth }, () => makeBlock([]))]
      for (const { hash, transaction } of forget ? [] : gone) {
        if (transaction !== 'foreign') pool.push({ hash, transaction })
      }
    },
    forgetPool() {
      pool = []
    },
    useNonceElsewhere() {
      const nonce = nonceAt(blocks)
      pool = pool.filter(({ transaction }) => transaction.nonce !== nonce)
      blocks.push(
        makeBlock([{ hash: hashOf(`foreign ${nonce} ${blocks.length}`), transaction: 'foreign', succeeded: true }]),
      )
    },
    height: () => BigInt(blocks.length - 1),
    nonce: () => nonceAt(blocks),
    pool: () => pool.map(({ transaction }) => transaction),
    effects: () =>
      blocks.flatMap(block =>
        block.inclusions.flatMap(({ transaction, succeeded }) =>
          transaction !== 'foreign' && succeeded ? [transaction] : [],
        ),
      ),
    killAt(n) {
      awaitsLeft = n
    },
    revive() {
      const wasDead = isDead
      isDead = false
      awaitsLeft = Number.POSITIVE_INFINITY
      return wasDead
    },
  }
}

function encode(transaction: UnsignedTransaction): { raw: Hex; hash: Hex } {
  const text = JSON.stringify(transaction, (_, value) => (typeof value === 'bigint' ? `${value}n` : value))
  return { raw: `0x${Buffer.from(text).toString('hex')}`, hash: hashOf(text) }
}

function decode(raw: Hex): { hash: Hex; transaction: UnsignedTransaction } {
  const text = Buffer.from(raw.slice(2), 'hex').toString()
  const isBigInt = (value: unknown): value is string => typeof value === 'string' && /^\d+n$/.test(value)
  const transaction = JSON.parse(text, (_, value) => (isBigInt(value) ? BigInt(value.slice(0, -1)) : value))
  return { hash: hashOf(text), transaction }
}

function hashOf(text: string): Hex {
  return `0x${createHash('sha256').update(text).digest('hex')}`
}

function canPay({ fees }: UnsignedTransaction, baseFeeWei: bigint | undefined): boolean {
  return (fees.type === 'legacy' ? fees.gasPriceWei : fees.maxFeePerGasWei) >= (baseFeeWei ?? 0n)
}

function mayReplace(old: UnsignedTransaction, replacement: UnsignedTransaction): boolean {
  const isMore = (a: bigint, b: bigint) => b * 10n >= a * 11n
  if (old.fees.type === 'legacy' || replacement.fees.type === 'legacy') return true
  return (
    isMore(old.fees.maxFeePerGasWei, replacement.fees.maxFeePerGasWei) &&
    isMore(old.fees.maxPriorityFeePerGasWei, replacement.fees.maxPriorityFeePerGasWei)
  )
}

function refused(kind: Exclude<SendOutcome, { ok: true }>['kind'], message: string): SendOutcome {
  return { ok: false, kind, message }
}

function unreachable(): BlockHostError {
  return new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message: 'No RPC endpoint answered', retryable: true })
}
