/** Wallets that are the same in every run, and the little that tests do with them. */
import { createHash, randomBytes } from 'node:crypto'
import { type Address, bytesToHex, type Hex, toQuantity } from '@blockhost/chain/hex.ts'
import { type Rpc, resultOf } from '@blockhost/chain/rpc.ts'
import { signTransaction } from '@blockhost/chain/transaction.ts'
import { createTransactionPort, type Receipt, type TransactionPort } from '@blockhost/chain/transaction-port.ts'
import { addressOf } from '@blockhost/crypto/key-file.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Abi } from 'ox/Abi'
import { fromAbi as constructorOf, encode as encodeConstructor } from 'ox/AbiConstructor'

/** A wallet of the tests; holds nothing of worth. */
export type TestWallet = {
  readonly privateKey: Uint8Array
  /** The same with `0x`, as tools take it. */
  readonly privateKeyHex: Hex
  /** EIP-55 checksummed. */
  readonly address: Address
}

/** What a wallet sends. */
export type TestCall = {
  /** Absent: `data` creates a contract. */
  readonly to?: Address | undefined
  readonly data?: Hex
  readonly valueWei?: bigint
  /** Default: estimated, and a quarter more. */
  readonly gasLimit?: bigint
}

/** Returns wallet number `index`, always the same. */
export function testWallet(index: number): TestWallet {
  return walletOf(new Uint8Array(createHash('sha256').update(`blockhost test wallet ${index}`).digest()))
}

/** Makes a wallet that nobody had before. */
export function freshWallet(): TestWallet {
  return walletOf(new Uint8Array(randomBytes(32)))
}

function walletOf(privateKey: Uint8Array): TestWallet {
  return { privateKey, privateKeyHex: bytesToHex(privateKey), address: addressOf(privateKey) }
}

/** Gives wallets of anvil money, all in one round trip. Default 100 ether each. */
export async function fundWallets(rpc: Rpc, wallets: readonly TestWallet[], wei = 100n * 10n ** 18n): Promise<void> {
  const outcomes = await rpc.batch(
    wallets.map(({ address }) => ({ method: 'anvil_setBalance', params: [address, toQuantity(wei)] })),
  )
  for (const outcome of outcomes) resultOf(outcome, 'anvil_setBalance')
}

/** Returns the outbox's port of a wallet. */
export function walletPort(rpc: Rpc, wallet: TestWallet, chainId = 31337): TransactionPort {
  return createTransactionPort(rpc, { privateKey: wallet.privateKey, address: wallet.address, chainId })
}

/**
 * Signs and sends a transaction and waits until it is in a block; on a chain that mines by hand somebody else must do so.
 *
 * @throws {BlockHostError} `BH_TEST_TRANSACTION_FAILED` when it would revert, did, or was not taken.
 */
export async function sendTransaction(rpc: Rpc, wallet: TestWallet, call: TestCall, chainId = 31337): Promise<Receipt> {
  const hash = await submitTransaction(rpc, wallet, call, chainId)
  const receipt = await waitForReceipt(rpc, wallet, hash, chainId)
  if (!receipt.succeeded) throw failed(wallet, `reverted in block ${receipt.blockNumber}`)
  return receipt
}

/** Signs and sends a transaction with the wallet's next nonce, those in the pool counted. Returns its hash. Throws as {@link sendTransaction}. */
export async function submitTransaction(rpc: Rpc, wallet: TestWallet, call: TestCall, chainId = 31337): Promise<Hex> {
  const port = walletPort(rpc, wallet, chainId)
  const { to, data = '0x', valueWei = 0n } = call
  const [nonce, view] = await Promise.all([
    rpc.call('eth_getTransactionCount', [wallet.address, 'pending']),
    port.poll({ receiptsOf: [] }),
  ])
  const gasLimit = call.gasLimit ?? (await estimate(port, wallet, { to, data, valueWei }))
  const price = 2n * (view.baseFeeWei ?? 0n) + view.tipWei
  const fees = { type: 'eip1559', maxFeePerGasWei: price, maxPriorityFeePerGasWei: view.tipWei } as const
  const { raw, hash } = signTransaction(
    { chainId, nonce: Number(nonce), to, data, valueWei, gasLimit, fees },
    wallet.privateKey,
  )
  const [outcome] = await port.send([raw])
  if (!outcome!.ok) throw failed(wallet, `was refused: ${outcome!.message}`)
  return hash
}

/** Waits until a transaction is in a block, 60 s at most. */
export async function waitForReceipt(rpc: Rpc, wallet: TestWallet, hash: Hex, chainId = 31337): Promise<Receipt> {
  const port = walletPort(rpc, wallet, chainId)
  for (const start = systemClock.monotonic(); systemClock.monotonic() - start < 60_000; await systemClock.sleep(25)) {
    const { receipts } = await port.poll({ receiptsOf: [hash] })
    if (receipts[0] !== undefined) return receipts[0]
  }
  throw failed(wallet, 'was not mined within a minute')
}

/**
 * Deploys a contract and returns its address.
 *
 * @param contract - As `contracts/abi/*.ts` exports it; `args` are the constructor's.
 */
export async function deployContract(
  rpc: Rpc,
  wallet: TestWallet,
  contract: { readonly abi: Abi; readonly bytecode: Hex; readonly args?: readonly unknown[] },
  chainId = 31337,
): Promise<Address> {
  const { abi, bytecode, args = [] } = contract
  const data = args.length === 0 ? bytecode : encodeConstructor(constructorOf(abi), { bytecode, args } as never)
  const receipt = await sendTransaction(rpc, wallet, { data }, chainId)
  if (receipt.contractAddress === undefined) throw failed(wallet, 'created no contract')
  return receipt.contractAddress
}

async function estimate(port: TransactionPort, wallet: TestWallet, call: Required<Omit<TestCall, 'gasLimit'>>) {
  const [outcome] = await port.estimate([{ ...call, to: call.to }])
  if (!outcome!.ok) throw failed(wallet, `would fail: ${outcome!.message} ${outcome!.data ?? ''}`)
  return (outcome!.gas * 5n) / 4n
}

function failed(wallet: TestWallet, why: string): BlockHostError {
  const message = `A transaction of test wallet ${wallet.address} ${why}`
  return new BlockHostError({ code: 'BH_TEST_TRANSACTION_FAILED', message })
}
