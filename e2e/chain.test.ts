/** packages/chain and the testkit's chain tools against a real EVM. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { createChainReader } from '@blockhost/chain/chain-reader.ts'
import { decodeContractError } from '@blockhost/chain/contract-error.ts'
import { type Address, bytesToHex, type Hex, hexToBytes } from '@blockhost/chain/hex.ts'
import { createOutbox, type Outbox } from '@blockhost/chain/outbox.ts'
import type { OutboxOptions } from '@blockhost/chain/outbox-decide.ts'
import { outboxSchema } from '@blockhost/chain/outbox-store.ts'
import { requestDigest } from '@blockhost/chain/request-digest.ts'
import { createRpc } from '@blockhost/chain/rpc.ts'
import type { SnapshotQuery } from '@blockhost/chain/snapshot.ts'
import { signTransaction } from '@blockhost/chain/transaction.ts'
import type { TransactionPort } from '@blockhost/chain/transaction-port.ts'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { brokerRequestsAbi, brokerRequestsBytecode } from '@blockhost/contracts/abi/broker-requests.ts'
import { brokerRequestsV1Abi, brokerRequestsV1Bytecode } from '@blockhost/contracts/abi/legacy/broker-requests-v1.ts'
import { brokerRequestsV2Abi, brokerRequestsV2Bytecode } from '@blockhost/contracts/abi/legacy/broker-requests-v2.ts'
import { type Clock, systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { openDatabase } from '@blockhost/kit/sqlite.ts'
import { type Anvil, startAnvil } from '@blockhost/testkit/anvil.ts'
import { type RpcProxy, startRpcProxy } from '@blockhost/testkit/rpc-proxy.ts'
import {
  deployContract,
  fundWallets,
  sendTransaction,
  submitTransaction,
  testWallet,
  waitForReceipt,
  walletPort,
} from '@blockhost/testkit/wallet.ts'
import { encodeData, fromAbi } from 'ox/AbiFunction'

const operator = testWallet(0)
const host = testWallet(1)
const chainId = 31337

let anvil: Anvil
let proxy: RpcProxy

before(async () => {
  anvil = await startAnvil()
  proxy = await startRpcProxy(anvil.url)
  await fundWallets(anvil.rpc, [operator, host])
})
after(async () => {
  await proxy[Symbol.asyncDispose]()
  await anvil[Symbol.asyncDispose]()
})

/** An RPC client through the proxy, which counts from zero. */
function viaProxy() {
  proxy.setFault()
  proxy.pinBlock()
  proxy.reset()
  return createRpc({ urls: [proxy.url], chainId }, { clock: systemClock, log: silentLog })
}

describe('anvil', () => {
  it('mines by hand, drops, goes back and forth in time', async () => {
    const id = await anvil.snapshot()
    const start = await anvil.height()
    await anvil.mine(3)
    assert.equal(await anvil.height(), start + 3n)
    await anvil.setAutomine(false)
    const hash = await submitTransaction(anvil.rpc, host, { to: operator.address, valueWei: 1n })
    await anvil.dropTransaction(hash)
    const later = Math.floor(Date.now() / 1000) + 86_400
    await anvil.setNextBlockTimestamp(later)
    await anvil.mine()
    const block = (await anvil.rpc.call('eth_getBlockByNumber', ['latest', false])) as Record<string, unknown>
    assert.deepEqual([Number(block.timestamp), block.transactions], [later, []])
    await anvil.setAutomine(true)
    await anvil.revert(id)
    assert.equal(await anvil.height(), start)
  })

  it('replaces blocks, with or without what was in them', async () => {
    const id = await anvil.snapshot()
    const receipt = await sendTransaction(anvil.rpc, host, { to: operator.address, valueWei: 5n })
    const raw = (await anvil.rpc.call('eth_getRawTransactionByHash', [receipt.hash])) as Hex
    await anvil.mine()
    await anvil.reorg(2, [[raw, 1]])
    const again = await waitForReceipt(anvil.rpc, host, receipt.hash)
    assert.equal(again.blockNumber, receipt.blockNumber + 1n)
    assert.notEqual(again.blockHash, receipt.blockHash)
    await anvil.reorg(2)
    const [gone] = (await walletPort(anvil.rpc, host).poll({ receiptsOf: [receipt.hash] })).receipts
    assert.equal(gone, undefined)
    await anvil.revert(id)
  })

  it('ends when it is disposed of', async () => {
    const other = await startAnvil({ chainId: 7, timestamp: 1_800_000_000 })
    assert.equal(await other.rpc.call('eth_chainId', []), '0x7')
    await other[Symbol.asyncDispose]()
    assert.throws(() => process.kill(other.pid, 0))
  })
})

describe('the snapshot of a requests contract', () => {
  const generations = [
    { generation: 1, contract: { abi: brokerRequestsV1Abi, bytecode: brokerRequestsV1Bytecode as Hex } },
    { generation: 2, contract: { abi: brokerRequestsV2Abi, bytecode: brokerRequestsV2Bytecode as Hex } },
    { generation: 3, contract: { abi: brokerRequestsAbi, bytecode: brokerRequestsBytecode as Hex } },
  ] as const
  const nftContract = {
    abi: accessCredentialNftAbi,
    bytecode: accessCredentialNftBytecode as Hex,
    args: ['BlockHost Access', 'BHAC', ''],
  }

  for (const { generation, contract } of generations) {
    it(`of generation ${generation} is read in one round trip, and its digests are ours`, async () => {
      const rpc = viaProxy()
      const requests = await deployContract(anvil.rpc, operator, contract)
      const nfts: Address[] = []
      const payloads = [1, 300, 4096].map(length => new Uint8Array(length).fill(length))
      for (const payload of payloads) {
        const nft = await deployContract(anvil.rpc, host, nftContract)
        nfts.push(nft)
        const data = encodeData(fromAbi(brokerRequestsAbi, 'submitRequest'), [nft, bytesToHex(payload)])
        await sendTransaction(anvil.rpc, host, { to: requests, data })
      }
      const answer = encodeData(fromAbi(brokerRequestsAbi, 'submitResponse'), [1n, '0x0102'])
      await sendTransaction(anvil.rpc, operator, { to: requests, data: answer })

      const reader = createChainReader(rpc, { chainId })
      const query: SnapshotQuery = { requests, cursor: 1n, max: 50, watchIds: [1n, 99n], operator: operator.address }
      proxy.reset()
      const snapshot = await reader.snapshot(query)
      assert.equal(proxy.roundTrips(), 1)

      assert.deepEqual(
        [snapshot.generation, snapshot.chainId, snapshot.requestCount, snapshot.expirationSeconds, snapshot.owner],
        [generation, chainId, 3n, 86_400, operator.address.toLowerCase()],
      )
      assert.equal(snapshot.blockNumber, await anvil.height())
      assert.equal(
        snapshot.operatorBalanceWei,
        BigInt((await anvil.rpc.call('eth_getBalance', [operator.address, 'latest'])) as string),
      )
      const requester = host.address.toLowerCase() as Address
      const digestOf = (index: number) =>
        requestDigest({
          chainId,
          requests,
          id: BigInt(index + 1),
          requester,
          nftContract: nfts[index]!,
          payload: payloads[index]!,
        })
      for (const [index, view] of snapshot.requests.entries()) {
        const at = index + 1
        assert.deepEqual(
          [
            view.id,
            view.requester,
            view.nftContract,
            view.status,
            view.mapped,
            view.isErc721,
            view.nftOwner,
            view.digest,
          ],
          [BigInt(at + 1), requester, nfts[at], 0, true, true, requester, digestOf(at)],
        )
        assert.deepEqual(view.payload, payloads[at])
      }
      assert.equal(snapshot.requests.length, 2)
      const [answered, missing] = snapshot.watched
      assert.deepEqual(
        [answered?.exists, answered?.status, answered?.digest, answered?.mappedId],
        [true, 1, digestOf(0), 1n],
      )
      assert.deepEqual([missing?.id, missing?.exists, missing?.status], [99n, false, 0])
      if (generation !== 3) return
      const call = { to: requests, data: encodeData(fromAbi(brokerRequestsAbi, 'requestDigest'), [2n]) }
      assert.equal(await anvil.rpc.call('eth_call', [call, 'latest']), digestOf(1))
    })
  }

  it('comes in pages when the answer is full', async () => {
    const rpc = viaProxy()
    const requests = await deployContract(anvil.rpc, operator, generations[2].contract)
    const nft = await deployContract(anvil.rpc, host, nftContract)
    const data = encodeData(fromAbi(brokerRequestsAbi, 'submitRequest'), [nft, bytesToHex(new Uint8Array(368).fill(4))])
    await anvil.setAutomine(false)
    for (let i = 0; i < 60; i++) await submitTransaction(anvil.rpc, host, { to: requests, data, gasLimit: 400_000n })
    await anvil.setAutomine(true)
    await anvil.mine(3)
    const reader = createChainReader(rpc, { chainId })
    const ids: bigint[] = []
    for (let pages = 0; ids.length < 60; pages++) {
      assert.ok(pages < 4, `${ids.length} requests after ${pages} pages`)
      const query = { requests, cursor: ids.at(-1) ?? 0n, max: 100, watchIds: [], operator: operator.address }
      ids.push(...(await reader.snapshot(query)).requests.map(({ id }) => id))
    }
    assert.deepEqual(
      ids,
      Array.from({ length: 60 }, (_, i) => BigInt(i + 1)),
    )
  })

  it('of nothing, or of another contract, says so', async () => {
    const reader = createChainReader(viaProxy(), { chainId })
    const query = { cursor: 0n, max: 5, watchIds: [], operator: operator.address }
    const nowhere = reader.snapshot({ ...query, requests: `0x${'99'.repeat(20)}` })
    await assert.rejects(nowhere, code('BH_REQUESTS_CONTRACT_MISSING'))
    const requests = await deployContract(anvil.rpc, host, nftContract)
    await assert.rejects(reader.snapshot({ ...query, requests }), code('BH_REQUESTS_CONTRACT_UNSUPPORTED'))
  })

  it("carries a contract's own words", async () => {
    const requests = await deployContract(anvil.rpc, operator, generations[2].contract)
    const data = encodeData(fromAbi(brokerRequestsAbi, 'submitRequest'), [operator.address, '0x01'])
    const [outcome] = await walletPort(anvil.rpc, host).estimate([{ to: requests, data, valueWei: 0n }])
    assert.ok(outcome !== undefined && !outcome.ok && outcome.kind === 'reverted')
    assert.equal(decodeContractError(brokerRequestsAbi, outcome.data)?.name, 'NotErc721')
  })
})

describe('what anvil says to transactions', () => {
  it('is understood', async () => {
    const wallet = testWallet(20)
    await fundWallets(anvil.rpc, [wallet])
    const port = walletPort(anvil.rpc, wallet)
    const { baseFeeWei, tipWei } = await port.poll({ receiptsOf: [] })
    const sign = (change: { nonce: number; maxFeePerGasWei?: bigint; chainId?: number; valueWei?: bigint }) => {
      const { nonce, maxFeePerGasWei = 2n * baseFeeWei! + tipWei, chainId: id = chainId, valueWei = 0n } = change
      const fees = { type: 'eip1559', maxFeePerGasWei, maxPriorityFeePerGasWei: 1n } as const
      const call = { to: operator.address, data: '0x', valueWei, gasLimit: 21_000n } as const
      return signTransaction({ ...call, chainId: id, nonce, fees }, wallet.privateKey).raw
    }
    await anvil.setAutomine(false)
    const said = async (raw: Hex) => {
      const [outcome] = await port.send([raw])
      return outcome!.ok ? 'ok' : outcome!.kind
    }
    assert.equal(await said(sign({ nonce: 0 })), 'ok')
    assert.equal(await said(sign({ nonce: 0 })), 'known')
    assert.equal(await said(sign({ nonce: 0, valueWei: 1n })), 'underpriced')
    assert.equal(await said(sign({ nonce: 1, valueWei: 10n ** 24n })), 'insufficient-funds')
    assert.equal(await said(sign({ nonce: 1, chainId: 5 })), 'permanent')
    await anvil.setAutomine(true)
    await anvil.mine()
    assert.equal(await said(sign({ nonce: 0, valueWei: 2n })), 'nonce-too-low')
  })
})

describe('the outbox on a real chain', () => {
  const options: OutboxOptions = { confirmations: 1, stuckAfterMs: 30_000, feeBumpPercent: 12.5, maxInFlight: 40 }
  let account = 100

  /** An outbox of a fresh wallet, talking through the proxy, on a clock that the test moves. */
  async function open(change: Partial<OutboxOptions> = {}) {
    const wallet = testWallet(account++)
    await fundWallets(anvil.rpc, [wallet])
    const db = openDatabase(':memory:', [database => database.exec(outboxSchema)])
    let movedMs = 0
    const clock: Clock = {
      ...systemClock,
      now: () => Date.now() + movedMs,
      monotonic: () => performance.now() + movedMs,
    }
    const rpc = viaProxy()
    await rpc.call('eth_chainId', [])
    const make = (): Outbox =>
      createOutbox(db, walletPort(rpc, wallet), { ...options, ...change }, { clock, log: silentLog })
    let outbox = make()
    const payee = (key: string): Address => payeeOf(`${wallet.address} ${key}`)
    return {
      wallet,
      rpc,
      outbox: () => outbox,
      restart() {
        outbox = make()
      },
      advance(ms: number) {
        movedMs += ms
      },
      /** Pays 1 wei to an address of its own, so that twice would show. */
      pay(key: string) {
        outbox.enqueue({ key, to: payee(key), data: '0x', valueWei: 1n, gasLimit: 21_000n, note: `pay ${key}` })
      },
      tick: async () => outbox.tick({ blockNumber: await anvil.height() }),
      async paid(keys: readonly string[]): Promise<bigint[]> {
        const outcomes = await anvil.rpc.batch(
          keys.map(key => ({ method: 'eth_getBalance', params: [payee(key), 'latest'] })),
        )
        return outcomes.map(outcome => BigInt(outcome.ok ? (outcome.result as string) : -1))
      },
      async finish() {
        for (let turn = 0; turn < 40 && outbox.pending() > 0; turn++) {
          await outbox.tick({ blockNumber: await anvil.height() }).catch(ignoreRetryable)
          await anvil.mine()
          movedMs += 11_000
        }
        assert.equal(outbox.pending(), 0)
      },
    }
  }

  const keysOf = (count: number) => Array.from({ length: count }, (_, i) => `p${i}`)
  const ones = (count: number) => new Array<bigint>(count).fill(1n)

  it('sends forty transactions in two round trips and knows them final in one more', async () => {
    const { pay, tick, paid, outbox } = await open()
    const keys = keysOf(40)
    for (const key of keys) pay(key)
    await anvil.setAutomine(false)
    proxy.reset()
    await tick()
    assert.equal(proxy.roundTrips(), 2)
    await anvil.setAutomine(true)
    await anvil.mine(2)
    const rows = await tick()
    assert.equal(proxy.roundTrips(), 3)
    assert.deepEqual(new Set(rows.map(row => row.state)), new Set(['final']))
    assert.deepEqual(await paid(keys), ones(40))
    assert.equal(outbox().pending(), 0)
    await tick()
    assert.equal(proxy.roundTrips(), 3)
  })

  it('pays once whatever the endpoint does to its answers, across restarts', async () => {
    const { pay, paid, finish, restart, tick } = await open({ maxInFlight: 3 })
    const keys = keysOf(8)
    for (const key of keys) pay(key)
    const faults = ['drop-after', 'drop', 'drop-after'] as const
    for (const kind of faults) {
      proxy.setFault(methods => (methods.includes('eth_sendRawTransaction') ? { kind } : undefined))
      await tick().catch(ignoreRetryable)
      restart()
      proxy.setFault(methods =>
        methods.includes('eth_getTransactionReceipt') ? { kind: 'status', status: 503 } : undefined,
      )
      await tick().catch(ignoreRetryable)
      restart()
    }
    proxy.setFault()
    await finish()
    assert.deepEqual(await paid(keys), ones(8))
  })

  it('pays once when an endpoint keeps telling of old blocks', async () => {
    const { pay, paid, finish, tick } = await open({ confirmations: 0 })
    pay('p0')
    await finish()
    const old = await anvil.height()
    pay('p1')
    await tick()
    proxy.pinBlock(old)
    pay('p2')
    for (let i = 0; i < 4; i++) {
      await tick()
      await anvil.mine()
    }
    proxy.pinBlock()
    await finish()
    assert.deepEqual(await paid(['p0', 'p1', 'p2']), ones(3))
  })

  it('pays once when the block is replaced without it', async () => {
    const { pay, paid, finish, tick, outbox } = await open({ confirmations: 3 })
    pay('p0')
    await tick()
    await anvil.mine()
    assert.deepEqual(
      (await tick()).map(row => row.state),
      ['mined'],
    )
    await anvil.reorg(2)
    assert.deepEqual(await paid(['p0']), [0n])
    await anvil.mine()
    assert.deepEqual(
      (await tick()).map(row => row.state),
      ['sent'],
    )
    await finish()
    assert.deepEqual(await paid(['p0']), ones(1))
    assert.equal(outbox().find('p0')?.attempts, 1)
  })

  it('replaces what the base fee left behind', async () => {
    const { pay, paid, finish, tick, advance, outbox, rpc } = await open()
    await anvil.setAutomine(false)
    pay('p0')
    await tick()
    const first = outbox().find('p0')?.hash
    const { baseFeeWei } = await walletPort(rpc, operator).poll({ receiptsOf: [] })
    await anvil.rpc.call('anvil_setNextBlockBaseFeePerGas', [`0x${(baseFeeWei! * 3n + 4n * 10n ** 9n).toString(16)}`])
    await anvil.mine()
    assert.deepEqual(await paid(['p0']), [0n])
    advance(options.stuckAfterMs)
    await tick()
    assert.notEqual(outbox().find('p0')?.hash, first)
    await anvil.setAutomine(true)
    await finish()
    assert.deepEqual(await paid(['p0']), ones(1))
    assert.equal(outbox().find('p0')?.attempts, 2)
  })

  it('sends again what the pool dropped', async () => {
    const { pay, paid, finish, tick, outbox } = await open()
    await anvil.setAutomine(false)
    pay('p0')
    await tick()
    await anvil.dropTransaction(outbox().find('p0')!.hash!)
    await anvil.setAutomine(true)
    await finish()
    assert.deepEqual(await paid(['p0']), ones(1))
    assert.equal(outbox().find('p0')?.attempts, 1)
  })

  it('gets another nonce when somebody else with the key was faster', async () => {
    const { pay, paid, finish, tick, wallet, outbox } = await open()
    await anvil.setAutomine(false)
    pay('p0')
    await tick()
    await anvil.dropTransaction(outbox().find('p0')!.hash!)
    await submitTransaction(anvil.rpc, wallet, { to: operator.address, valueWei: 7n, gasLimit: 21_000n })
    await anvil.setAutomine(true)
    await finish()
    assert.deepEqual(await paid(['p0']), ones(1))
    assert.equal(outbox().find('p0')?.nonce, 1)
  })

  it('creates a contract and tells where', async () => {
    const { outbox, finish } = await open()
    const data = brokerRequestsBytecode as Hex
    outbox().enqueue({ key: 'deploy', to: undefined, data, note: 'deploy' })
    await finish()
    const address = outbox().find('deploy')?.contractAddress
    const deployed = (await anvil.rpc.call('eth_getCode', [address, 'latest'])) as Hex
    assert.ok(hexToBytes(deployed).length > 1000)
  })

  it('tells a call that would revert, with nothing spent', async () => {
    const { outbox, finish, wallet } = await open()
    const requests = await deployContract(anvil.rpc, operator, {
      abi: brokerRequestsAbi,
      bytecode: brokerRequestsBytecode as Hex,
    })
    const data = encodeData(fromAbi(brokerRequestsAbi, 'setRequestFee'), [1n])
    outbox().enqueue({ key: 'fee', to: requests, data, note: 'not the owner' })
    await finish()
    assert.equal(outbox().find('fee')?.state, 'reverted')
    assert.equal(await anvil.rpc.call('eth_getTransactionCount', [wallet.address, 'latest']), '0x0')
  })

  it('waits for money', async () => {
    const { pay, paid, finish, tick, wallet, outbox } = await open()
    await anvil.setBalance(wallet.address, 0n)
    pay('p0')
    await tick()
    assert.deepEqual([outbox().find('p0')?.state, outbox().find('p0')?.problem], ['queued', 'insufficient-funds'])
    await anvil.setBalance(wallet.address, 10n ** 18n)
    await finish()
    assert.deepEqual(await paid(['p0']), ones(1))
  })

  it('kills at each await of a whole life, pays once', async () => {
    for (let at = 0; at < 12; at++) {
      const life = await open({ confirmations: 0 })
      const keys = keysOf(2)
      let left = at
      const dying = dieAfter(walletPort(life.rpc, life.wallet), () => left-- <= 0)
      const db = openDatabase(':memory:', [database => database.exec(outboxSchema)])
      const make = (port: TransactionPort) =>
        createOutbox(db, port, { ...options, confirmations: 0 }, { clock: systemClock, log: silentLog })
      const first = make(dying)
      for (const key of keys)
        first.enqueue({
          key,
          to: payeeOf(`${at} ${key}`),
          data: '0x',
          valueWei: 1n,
          gasLimit: 21_000n,
          note: key,
        })
      for (let turn = 0; turn < 4; turn++) {
        await first.tick({ blockNumber: await anvil.height() }).catch(() => undefined)
        await anvil.mine()
      }
      const second = make(walletPort(life.rpc, life.wallet))
      for (let turn = 0; turn < 10 && second.pending() > 0; turn++) {
        await second.tick({ blockNumber: await anvil.height() })
        await anvil.mine()
      }
      assert.deepEqual(
        keys.map(key => second.find(key)?.state),
        ['final', 'final'],
        `killed at ${at}`,
      )
      assert.equal(Number(await anvil.rpc.call('eth_getTransactionCount', [life.wallet.address, 'latest'])), 2)
    }
  })
})

/** An address that nobody else pays. */
function payeeOf(name: string): Address {
  return `0x${createHash('sha256').update(name).digest('hex').slice(24)}`
}

/** A port whose process dies: from then on every call throws, after its effect the first time. */
function dieAfter(port: TransactionPort, isOver: () => boolean): TransactionPort {
  let isDead = false
  const mortal =
    <A extends readonly unknown[], R>(method: (...args: A) => Promise<R>) =>
    async (...args: A) => {
      if (isDead) throw new Error('dead')
      const result = await method(...args)
      isDead = isOver()
      if (isDead) throw new Error('dead')
      return result
    }
  return {
    address: port.address,
    chainId: port.chainId,
    sign: mortal(port.sign),
    poll: mortal(port.poll),
    estimate: mortal(port.estimate),
    send: mortal(port.send),
  }
}

function ignoreRetryable(error: unknown): void {
  if (!(error instanceof BlockHostError && error.retryable)) throw error
}

function code(expected: string): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === expected
}
