/** A chain with the host's contracts, buyers, and the engine on it: everything that tests of the engine share. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Address, bytesToHex, type Hex } from '@blockhost/chain/hex.ts'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from '@blockhost/contracts/abi/access-credential-nft.ts'
import {
  blockhostSubscriptionsAbi,
  blockhostSubscriptionsBytecode,
} from '@blockhost/contracts/abi/blockhost-subscriptions.ts'
import { testTokenAbi, testTokenBytecode } from '@blockhost/contracts/abi/test-token.ts'
import { encrypt } from '@blockhost/crypto/ecies.ts'
import { publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { type EngineConfig, readEngineConfig } from '@blockhost/engine/config.ts'
import { assemble } from '@blockhost/engine/daemon.ts'
import type { Engine } from '@blockhost/engine/engine.ts'
import { openStore, type Store } from '@blockhost/engine/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { type Anvil, type AnvilOptions, startAnvil } from '@blockhost/testkit/anvil.ts'
import { createFakeProvisioner, type FakeProvisioner } from '@blockhost/testkit/fake-provisioner.ts'
import { type RpcProxy, startRpcProxy } from '@blockhost/testkit/rpc-proxy.ts'
import { deployContract, fundWallets, sendTransaction, type TestWallet, testWallet } from '@blockhost/testkit/wallet.ts'
import { openVmDatabase, type VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { decodeResult, encodeData, fromAbi } from 'ox/AbiFunction'

/** Who is who. Buyers are wallets 100 and up. */
export const owner = testWallet(50)
/** Mints access tokens. */
export const minter = testWallet(51)
/** The host's own key, which buyers encrypt to. */
export const serverKey = testWallet(52).privateKey
/** A day of plan 1 costs a dollar. */
export const daySeconds = 86_400

/** The chain, its contracts, and a folder with the engine's configuration. */
export type EngineField = AsyncDisposable & {
  readonly anvil: Anvil
  /** The engine's way to the chain. */
  readonly proxy: RpcProxy
  readonly folder: string
  readonly subscriptions: Address
  readonly nft: Address
  readonly token: Address
  config(): EngineConfig
  /** Gives a buyer money and lets the contract take it. */
  equip(buyers: readonly TestWallet[]): Promise<void>
  buy(buyer: TestWallet, options?: { days?: number; plan?: number; data?: Hex }): Promise<void>
  extend(id: bigint, days: number): Promise<void>
  cancel(id: bigint): Promise<void>
  /** The chain's expiry of a subscription, Unix seconds. */
  expiryOf(id: bigint): Promise<number>
  totalTokens(): Promise<bigint>
  tokenOwner(tokenId: bigint): Promise<string>
  accessData(tokenId: bigint): Promise<{ userEncrypted: Hex; publicSecret: string }>
  transferToken(from: TestWallet, to: Address, tokenId: bigint): Promise<void>
  /** Moves the chain's clock and mines. */
  passTo(timestamp: number): Promise<void>
  /** Takes the chain back to where the last `keep` was, and gives a folder of its own; the chain itself is shared. */
  again(): Promise<EngineField>
  /** Makes this the state that `again` goes back to. */
  keep(): Promise<void>
}

/** Returns what a page of ours puts into a purchase: the buyer's signature, for the host alone. */
export function purchaseDataOf(buyer: TestWallet, nonce = '1'): Hex {
  const publicSecret = `libpam-web3:${buyer.address}:${nonce}`
  const signature = signMessage(publicSecret, buyer.privateKey)
  const text = JSON.stringify({ v: 1, signature, publicSecret })
  return bytesToHex(encrypt(publicKeyOf(serverKey), new TextEncoder().encode(text)))
}

/** Starts a field. @param engine - Lines of engine.yaml. */
export async function startEngineField(
  options: { anvil?: AnvilOptions; engine?: readonly string[] } = {},
): Promise<EngineField> {
  const anvil = await startAnvil(options.anvil)
  const { rpc } = anvil
  await fundWallets(rpc, [owner, minter])
  const abiOf = { subscriptions: blockhostSubscriptionsAbi, nft: accessCredentialNftAbi, token: testTokenAbi }
  const token = await deployContract(rpc, owner, {
    abi: testTokenAbi,
    bytecode: testTokenBytecode,
    args: ['Test dollar', 'USD', 6],
  })
  const subscriptions = await deployContract(rpc, owner, {
    abi: blockhostSubscriptionsAbi,
    bytecode: blockhostSubscriptionsBytecode,
  })
  const nft = await deployContract(rpc, owner, {
    abi: accessCredentialNftAbi,
    bytecode: accessCredentialNftBytecode,
    args: ['Host', 'HOST', ''],
  })
  const at = { subscriptions, nft, token }
  const send = async (from: TestWallet, to: keyof typeof at, name: string, args: readonly unknown[]) => {
    const data = encodeData(fromAbi(abiOf[to] as never, name as never) as never, args as never)
    await sendTransaction(rpc, from, { to: at[to], data })
  }
  const read = async (to: keyof typeof at, name: string, args: readonly unknown[] = []): Promise<unknown> => {
    const item = fromAbi(abiOf[to] as never, name as never) as never
    const data = encodeData(item, args as never)
    return decodeResult(item, (await rpc.call('eth_call', [{ to: at[to], data }, 'latest'])) as Hex)
  }
  await send(owner, 'subscriptions', 'setPrimaryStablecoin', [token])
  await send(owner, 'subscriptions', 'createPlan', ['small', 100n])
  await send(owner, 'nft', 'setMinter', [minter.address])
  const proxy = await startRpcProxy(anvil.url)
  const written = { url: proxy.url, chainId: anvil.chainId, subscriptions, nft, engine: options.engine ?? [] }
  let kept: Hex
  const field: EngineField = {
    ...{ anvil, proxy, subscriptions, nft, token, ...makeFolder(written) },
    async equip(buyers) {
      await fundWallets(rpc, buyers)
      for (const buyer of buyers) {
        await send(owner, 'token', 'mint', [buyer.address, 10n ** 12n])
        await send(buyer, 'token', 'approve', [subscriptions, 10n ** 12n])
      }
    },
    buy: (buyer, { days = 30, plan = 1, data = purchaseDataOf(buyer) } = {}) =>
      send(buyer, 'subscriptions', 'buySubscription', [BigInt(plan), BigInt(days), 1n, data]),
    extend: async (id, days) => {
      const [, subscriber] = (await read('subscriptions', 'getSubscription', [id])) as [bigint, string]
      const buyer = [...Array(50).keys()]
        .map(i => testWallet(100 + i))
        .find(wallet => wallet.address.toLowerCase() === subscriber.toLowerCase())
      await send(buyer ?? owner, 'subscriptions', 'extendSubscription', [id, BigInt(days), 1n])
    },
    cancel: id => send(owner, 'subscriptions', 'cancelSubscription', [id]),
    expiryOf: async id => Number(((await read('subscriptions', 'getSubscription', [id])) as [0, 0, bigint])[2]),
    totalTokens: async () => (await read('nft', 'totalSupply')) as bigint,
    tokenOwner: async tokenId => ((await read('nft', 'ownerOf', [tokenId])) as string).toLowerCase(),
    accessData: async tokenId => {
      const [userEncrypted, publicSecret] = (await read('nft', 'getAccessData', [tokenId])) as [Hex, string]
      return { userEncrypted, publicSecret }
    },
    transferToken: (from, to, tokenId) => send(from, 'nft', 'transferFrom', [from.address, to, tokenId]),
    async passTo(timestamp) {
      await anvil.setNextBlockTimestamp(timestamp)
      await anvil.mine()
    },
    async keep() {
      kept = await anvil.snapshot()
    },
    async again() {
      await anvil.revert(kept)
      kept = await anvil.snapshot()
      proxy.setFault()
      const own = makeFolder(written)
      return { ...field, ...own, [Symbol.asyncDispose]: async () => remove(own.folder) }
    },
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]()
      await anvil[Symbol.asyncDispose]()
      remove(field.folder)
    },
  }
  return field
}

function makeFolder(written: Written): Pick<EngineField, 'folder' | 'config'> {
  const folder = mkdtempSync(join(tmpdir(), `bh-engine-${process.pid}-`))
  writeConfig(folder, written)
  return { folder, config: () => readEngineConfig(folder) }
}

function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
}

type Written = { url: string; chainId: number; subscriptions: string; nft: string; engine: readonly string[] }

function writeConfig(folder: string, { url, chainId, subscriptions, nft, engine }: Written): void {
  const put = (name: string, lines: readonly string[], mode = 0o640) =>
    writeFileSync(join(folder, name), `${lines.join('\n')}\n`, { mode })
  put('web3-defaults.yaml', [
    'blockchain:',
    `  chain_id: ${chainId}`,
    `  rpc_url: ${url}`,
    `  nft_contract: "${nft}"`,
    `  subscription_contract: "${subscriptions}"`,
  ])
  put('blockhost.yaml', [
    'server:',
    `  key_file: ${folder}/server.key`,
    'plans:',
    '  1: { cpu: 2, memory: 1024, disk: 8 }',
  ])
  put('db.yaml', [
    `db_file: ${folder}/vms.json`,
    'vmid_range: { start: 100, end: 4000 }',
    'ip_pool: { network: 10.90.0.0/20, gateway: 10.90.0.1 }',
    'gc_grace_days: 7',
  ])
  put('broker-allocation.json', ['{"prefix": "2001:db8:1::/64"}'])
  put('engine.yaml', [
    `database: ${folder}/engine.db`,
    `socket: ${folder}/engine.sock`,
    'provisioner: fake',
    'confirmations: 0',
    'poll_interval_ms: 100',
    'busy_poll_interval_ms: 50',
    ...engine,
  ])
  put('minter.key', [minter.privateKeyHex], 0o600)
  put('server.key', [bytesToHex(serverKey)], 0o600)
}

/** An engine in this process. Disposing of it stops it as SIGTERM does; `crash` leaves it lying where it is. */
export type LivingEngine = AsyncDisposable & {
  readonly engine: Engine
  readonly store: Store
  readonly vms: VmDatabase
  readonly provisioner: FakeProvisioner
  /** Turns until `done`, at most so many. */
  until(what: string, done: () => boolean | Promise<boolean>): Promise<void>
}

/** Opens the databases and assembles the engine; it does nothing before it is turned. */
export function openEngine(field: EngineField, provisioner: FakeProvisioner = createFakeProvisioner()): LivingEngine {
  const config = field.config()
  const clock = systemClock
  const store = openStore(config.databasePath, clock)
  const vms = openVmDatabase(config.vmDatabasePath, config.pools, clock)
  const engine = assemble(config, { store, vms, provisioner, clock, log: silentLog })
  return {
    ...{ engine, store, vms, provisioner },
    async until(what, done) {
      const deadline = performance.now() + 30_000
      while (!(await done())) {
        if (performance.now() > deadline)
          throw new Error(`${what} did not come about: ${JSON.stringify(store.countByState())}`)
        await engine.turn()
        await clock.sleep(10)
      }
    },
    async [Symbol.asyncDispose]() {
      await engine.idle()
      store.close()
      vms.close()
    },
  }
}
