/** A chain with the host's contracts, buyers, and the engine on it: everything that tests of the engine share. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bytesToHex, type Hex } from '@blockhost/chain/hex.ts'
import { publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { type EngineConfig, readEngineConfig } from '@blockhost/engine/config.ts'
import { assemble } from '@blockhost/engine/daemon.ts'
import type { Engine } from '@blockhost/engine/engine.ts'
import { openStore, type Store } from '@blockhost/engine/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { type Anvil, type AnvilOptions, startAnvil } from '@blockhost/testkit/anvil.ts'
import { createFakeProvisioner, type FakeProvisioner } from '@blockhost/testkit/fake-provisioner.ts'
import { type RpcProxy, startRpcProxy } from '@blockhost/testkit/rpc-proxy.ts'
import { type TestWallet, testWallet } from '@blockhost/testkit/wallet.ts'
import { openVmDatabase, type VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { sealPurchase } from '../shop/buyer.ts'
import { deployHostContracts, type HostContracts } from '../shop/contracts.ts'

/** Who is who. Buyers are wallets 100 and up. */
export const owner = testWallet(50)
/** Mints access tokens. */
export const minter = testWallet(51)
/** The host's own key, which buyers encrypt to. */
export const serverKey = testWallet(52).privateKey
/** A day of plan 1 costs a dollar. */
export const daySeconds = 86_400

/** The chain, its contracts, and a folder with the engine's configuration. */
export type EngineField = AsyncDisposable &
  Omit<HostContracts, 'buy' | 'extend'> & {
    readonly anvil: Anvil
    /** The engine's way to the chain. */
    readonly proxy: RpcProxy
    readonly folder: string
    config(): EngineConfig
    buy(buyer: TestWallet, options?: { days?: number; plan?: number; data?: Hex }): Promise<bigint>
    /** Paid by the subscriber. */
    extend(id: bigint, days: number): Promise<void>
    /** Moves the chain's clock and mines. */
    passTo(timestamp: number): Promise<void>
    /** Takes the chain back to where the last `keep` was, and gives a folder of its own; the chain itself is shared. */
    again(): Promise<EngineField>
    /** Makes this the state that `again` goes back to. */
    keep(): Promise<void>
  }

/** Returns what a buyer's page puts into a purchase at this host. */
export function purchaseDataOf(buyer: TestWallet, nonce = '1'): Hex {
  return sealPurchase(buyer, publicKeyOf(serverKey), nonce)
}

/** Starts a field. @param engine - Lines of engine.yaml. */
export async function startEngineField(
  options: { anvil?: AnvilOptions; engine?: readonly string[] } = {},
): Promise<EngineField> {
  const anvil = await startAnvil(options.anvil)
  const contracts = await deployHostContracts(anvil.rpc, { owner, minter })
  const { subscriptions, nft } = contracts
  const proxy = await startRpcProxy(anvil.url)
  const written = { url: proxy.url, chainId: anvil.chainId, subscriptions, nft, engine: options.engine ?? [] }
  let kept: Hex
  const field: EngineField = {
    ...contracts,
    ...{ anvil, proxy, ...makeFolder(written) },
    buy: (buyer, { days = 30, plan = 1, data = purchaseDataOf(buyer) } = {}) =>
      contracts.buy(buyer, { days, plan, data }),
    extend: async (id, days) => {
      const subscriber = (await contracts.subscriberOf(id)).toLowerCase()
      const buyers = [...Array(50).keys()].map(i => testWallet(100 + i))
      const payer = buyers.find(wallet => wallet.address.toLowerCase() === subscriber) ?? owner
      await contracts.extend(payer, id, days)
    },
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
