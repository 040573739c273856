import { join } from 'node:path'
import type { Address } from '@blockhost/chain/hex.ts'
import { blockhostConfigFile, type PlanSize, planSize } from '@blockhost/hostconfig/blockhost-config.ts'
import { brokerAllocationFile } from '@blockhost/hostconfig/broker-allocation.ts'
import {
  type ConfigFile,
  defineConfigFile,
  findConfigFile,
  readConfigFile,
} from '@blockhost/hostconfig/config-folder.ts'
import { dbConfigFile, vmDatabasePath, vmPools } from '@blockhost/hostconfig/db-config.ts'
import { absolutePath, rpcUrl, wholeNumber } from '@blockhost/hostconfig/fields.ts'
import { type Web3Config, web3ConfigFile } from '@blockhost/hostconfig/web3-config.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { logLevels } from '@blockhost/kit/log.ts'
import type { VmPools } from '@blockhost/vmdb/pools.ts'
import { z } from 'zod'
import type { EngineRules } from './engine.ts'

const amount = z
  .union([z.string(), z.number()], { error: 'expected an amount like 0.01' })
  .transform(value => String(value))
  .refine(text => /^\d{1,9}(\.\d{1,18})?$/.test(text), 'expected an amount like 0.01')
const planKey = z.string().regex(/^(?:default|\d{1,15})$/, 'expected the id of a plan, or "default"')

const schema = z
  .looseObject({
    database: absolutePath.default('/var/lib/blockhost/engine.db'),
    socket: absolutePath.default('/run/blockhost-engine/engine.sock'),
    log_level: z.enum(logLevels).default('info'),
    minter_key_file: absolutePath.optional(),
    confirmations: wholeNumber(0, 1_000).default(2),
    reorg_depth: wholeNumber(1, 10_000).default(64),
    poll_interval_ms: wholeNumber(50, 600_000).default(5_000),
    busy_poll_interval_ms: wholeNumber(50, 600_000).default(1_000),
    parallel_creates: wholeNumber(1, 64).default(3),
    power_check_seconds: wholeNumber(1, 86_400).default(60),
    low_balance_eth: amount.default('0.005'),
    max_fee_per_gas_gwei: amount.optional(),
    stuck_after_seconds: wholeNumber(1, 86_400).default(60),
    max_transactions_in_flight: wholeNumber(1, 512).default(64),
    username: z
      .string()
      .regex(/^[a-z_][a-z\d_-]{0,31}$/, 'expected a Unix user name')
      .default('admin'),
    ssh_port: wholeNumber(1, 65_535).default(22),
    nameservers: z.array(z.string()).default(['2606:4700:4700::1111', '1.1.1.1']),
    guest_rpc_urls: z.array(rpcUrl).min(1, 'expected at least one URL').optional(),
    root_agent_socket: absolutePath.default('/run/blockhost/root-agent.sock'),
    provisioner: z.enum(['libvirt', 'fake']).default('libvirt'),
    vm_template: z.string().min(1).optional(),
    cloud_init: z.record(planKey, z.string().min(1)).default({}),
  })
  .prefault({})

/** `engine.yaml`: how the engine works. Every key has a default, so there need not be such a file. */
export const engineConfigFile: ConfigFile<Readonly<z.output<typeof schema>>> = defineConfigFile('engine.yaml', schema)

/** Everything that the engine is told. */
export type EngineConfig = {
  readonly folder: string
  readonly databasePath: string
  readonly vmDatabasePath: string
  readonly socketPath: string
  readonly logLevel: (typeof logLevels)[number]
  readonly chainId: number
  readonly rpcUrls: readonly string[]
  readonly guestRpcUrls: readonly string[]
  readonly minterKeyFile: string
  readonly serverKeyFile: string
  readonly legacySecret: string
  readonly rules: EngineRules
  readonly outbox: {
    readonly confirmations: number
    readonly stuckAfterMs: number
    readonly takenAfterMs: number
    readonly maxFeePerGasWei: bigint | undefined
    readonly feeBumpPercent: number
    readonly maxInFlight: number
  }
  readonly pools: VmPools
  readonly hostIpv6: string | undefined
  readonly provisioner: 'libvirt' | 'fake'
  readonly rootAgentSocket: string
  readonly vmTemplate: string | undefined
  readonly nameservers: readonly string[]
  readonly web3: Web3Config
  sizeOf(planId: number): PlanSize
  /** Name of the plan's cloud-init template. */
  cloudInitOf(planId: number): string
}

/** A token must never be minted twice, so an endpoint may hide the receipt of a mint for so long. */
const takenAfterMs = 3_600_000

/**
 * Reads the configuration of a folder: `web3-defaults.yaml`, `blockhost.yaml`, `db.yaml`, and where there are `engine.yaml` and
 * `broker-allocation.json`.
 *
 * @throws {BlockHostError} `BH_CONFIG_INVALID`, `BH_FILE_READ_FAILED` (exit 78) naming file, key and what was expected.
 */
export function readEngineConfig(folder: string): EngineConfig {
  const web3 = readConfigFile(web3ConfigFile, folder)
  const host = readConfigFile(blockhostConfigFile, folder)
  const db = readConfigFile(dbConfigFile, folder)
  const allocation = findConfigFile(brokerAllocationFile, folder)
  const engine = findConfigFile(engineConfigFile, folder) ?? engineConfigFile.parse('{}', 'engine.yaml')
  const subscriptions = mustHave(
    web3.subscriptionContract ?? host.subscriptionContract,
    folder,
    'subscription_contract',
  )
  const nft = mustHave(web3.nftContract ?? host.nftContract, folder, 'nft_contract')
  return {
    folder,
    databasePath: engine.database,
    vmDatabasePath: vmDatabasePath(db),
    socketPath: engine.socket,
    logLevel: engine.log_level,
    chainId: web3.chainId,
    rpcUrls: web3.rpcUrls,
    guestRpcUrls: engine.guest_rpc_urls ?? web3.rpcUrls,
    minterKeyFile: engine.minter_key_file ?? join(folder, 'minter.key'),
    serverKeyFile: host.serverKeyFile,
    legacySecret: web3.publicSecret ?? host.publicSecret,
    rules: {
      subscriptions: subscriptions.toLowerCase() as Address,
      nft: nft.toLowerCase() as Address,
      confirmations: engine.confirmations,
      reorgDepth: engine.reorg_depth,
      graceDays: db.gcGraceDays,
      pollIntervalMs: engine.poll_interval_ms,
      busyPollIntervalMs: engine.busy_poll_interval_ms,
      parallel: { creates: engine.parallel_creates, others: 8 },
      powerIntervalMs: engine.power_check_seconds * 1000,
      lowBalanceWei: toUnits(engine.low_balance_eth, 18),
      username: engine.username,
      sshPort: engine.ssh_port,
    },
    outbox: {
      confirmations: engine.confirmations,
      stuckAfterMs: engine.stuck_after_seconds * 1000,
      takenAfterMs,
      maxFeePerGasWei: engine.max_fee_per_gas_gwei === undefined ? undefined : toUnits(engine.max_fee_per_gas_gwei, 9),
      feeBumpPercent: 20,
      maxInFlight: engine.max_transactions_in_flight,
    },
    pools: vmPools(db, allocation),
    hostIpv6: allocation?.hostAddress,
    provisioner: engine.provisioner,
    rootAgentSocket: engine.root_agent_socket,
    vmTemplate: engine.vm_template,
    nameservers: engine.nameservers,
    web3,
    sizeOf: planId => planSize(host, planId),
    cloudInitOf: planId => engine.cloud_init[String(planId)] ?? engine.cloud_init.default ?? 'nft-auth',
  }
}

/** Reads a decimal amount of a unit with so many decimals. */
function toUnits(text: string, decimals: number): bigint {
  const [whole, fraction = ''] = text.split('.')
  return BigInt(whole!) * 10n ** BigInt(decimals) + BigInt(fraction.slice(0, decimals).padEnd(decimals, '0') || '0')
}

function mustHave(address: Address | undefined, folder: string, key: string): Address {
  if (address !== undefined) return address
  const path = join(folder, web3ConfigFile.name)
  throw new BlockHostError({
    code: 'BH_CONFIG_INVALID',
    message: `${path} can't be used: blockchain.${key} is missing`,
    hint: 'Deploy the contracts, and put their addresses there.',
    fields: { path },
    exitCode: exitCodes.badConfig,
  })
}
