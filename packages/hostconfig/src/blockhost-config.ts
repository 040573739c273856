import { z } from 'zod'
import { type ConfigFile, defineConfigFile } from './config-folder.ts'
import { absolutePath, address, optionalAddress, publicKey, wholeNumber } from './fields.ts'

const amount = (byDefault: number) => z.number().min(0, 'expected 0 or more').default(byDefault)

const fundManager = z
  .looseObject({
    fund_cycle_interval_hours: amount(24),
    gas_check_interval_minutes: amount(30),
    min_withdrawal_usd: amount(50),
    gas_low_threshold_usd: amount(5),
    gas_swap_amount_usd: amount(20),
    server_stablecoin_buffer_usd: amount(50),
    hot_wallet_gas_eth: amount(0.01),
  })
  .transform(section => ({
    fundCycleIntervalHours: section.fund_cycle_interval_hours,
    gasCheckIntervalMinutes: section.gas_check_interval_minutes,
    minWithdrawalUsd: section.min_withdrawal_usd,
    gasLowThresholdUsd: section.gas_low_threshold_usd,
    gasSwapAmountUsd: section.gas_swap_amount_usd,
    serverStablecoinBufferUsd: section.server_stablecoin_buffer_usd,
    hotWalletGasEth: section.hot_wallet_gas_eth,
  }))

const admin = z
  .looseObject({
    wallet_address: address,
    max_command_age: wholeNumber(1, 86_400).default(300),
    destination_mode: z.enum(['any', 'self', 'server', 'null', 'external']).default('any'),
    destination_address: optionalAddress,
    credential_nft_id: wholeNumber(0).nullish(),
  })
  .transform(section => ({
    walletAddress: section.wallet_address,
    maxCommandAgeSeconds: section.max_command_age,
    destinationMode: section.destination_mode,
    destinationAddress: section.destination_address,
    credentialNftId: section.credential_nft_id ?? undefined,
  }))

/** What a VM of a plan gets: `cpu` (cores), `memory` (MiB), `disk` (GiB). */
const size = z
  .object({
    cpu: wholeNumber(1, 64).default(1),
    memory: wholeNumber(256, 1_048_576).default(2048),
    disk: wholeNumber(4, 16_384).default(20),
  })
  .transform(({ cpu, memory, disk }) => ({ vcpus: cpu, memoryMiB: memory, diskGiB: disk }))
const planId = z.string().regex(/^(?:default|\d{1,15})$/, 'expected the id of a plan, or "default"')

const schema = z
  .looseObject({
    server: z
      .looseObject({ address: optionalAddress, key_file: absolutePath.default('/etc/blockhost/server.key') })
      .prefault({}),
    deployer: z.looseObject({ key_file: absolutePath.default('/etc/blockhost/deployer.key') }).prefault({}),
    proxmox: z
      .looseObject({ node: z.string().optional(), storage: z.string().optional(), bridge: z.string().optional() })
      .optional(),
    server_public_key: publicKey.optional(),
    deployer_address: optionalAddress,
    contract_address: optionalAddress,
    nft_contract: optionalAddress,
    public_secret: z.string().min(1).default('blockhost-access'),
    admin: admin.optional(),
    fund_manager: fundManager.prefault({}),
    plans: z.record(planId, size).default({}),
    page_title: z.string().optional(),
    primary_color: z.string().optional(),
  })
  .transform(file => ({
    serverAddress: file.server.address,
    serverKeyFile: file.server.key_file,
    deployerKeyFile: file.deployer.key_file,
    proxmox: file.proxmox,
    serverPublicKey: file.server_public_key,
    subscriptionContract: file.contract_address,
    nftContract: file.nft_contract,
    publicSecret: file.public_secret,
    admin: file.admin,
    fundManager: file.fund_manager,
    plans: file.plans,
    pageTitle: file.page_title,
    primaryColor: file.primary_color,
  }))

/** `blockhost.yaml`: keys, admin, money, and the size of each plan's VMs. */
export type BlockhostConfig = Readonly<z.output<typeof schema>>

/** `blockhost.yaml`. `contract_address` and `nft_contract` are later spellings of what web3-defaults.yaml has. */
export const blockhostConfigFile: ConfigFile<BlockhostConfig> = defineConfigFile('blockhost.yaml', schema)

/** What a VM gets. */
export type PlanSize = { readonly vcpus: number; readonly memoryMiB: number; readonly diskGiB: number }

/** Returns the size of a plan's VMs: `plans.<id>`, else `plans.default`, else 1 core, 2048 MiB, 20 GiB. */
export function planSize(config: Pick<BlockhostConfig, 'plans'>, planId: bigint | number): PlanSize {
  const own = Object.hasOwn(config.plans, String(planId)) ? config.plans[String(planId)] : undefined
  return own ?? config.plans.default ?? { vcpus: 1, memoryMiB: 2048, diskGiB: 20 }
}
