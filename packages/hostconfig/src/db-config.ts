import {
  containsIpv4,
  formatIpv4Address,
  type Ipv4Prefix,
  parseIpv4Address,
  parseIpv4Prefix,
} from '@blockhost/net/ipv4.ts'
import type { VmPools } from '@blockhost/vmdb/pools.ts'
import { z } from 'zod'
import type { BrokerAllocation } from './broker-allocation.ts'
import { type ConfigFile, defineConfigFile } from './config-folder.ts'
import { absolutePath, wholeNumber } from './fields.ts'

const bound = z.union([wholeNumber(0, 2 ** 32), z.string()])

const ipPoolSchema = z
  .object({
    network: z.string().default('192.168.122.0/24'),
    start: bound.optional(),
    end: bound.optional(),
    gateway: z.string().optional(),
  })
  .transform((pool, context) => {
    const network = parseIpv4Prefix(pool.network)
    if (network === undefined) {
      context.addIssue({ code: 'custom', path: ['network'], message: 'expected a network like 192.168.122.0/24' })
      return z.NEVER
    }
    const addressOf = (key: 'start' | 'end' | 'gateway', fallback: number): string => {
      const address = pool[key] === undefined ? fallback : readBound(pool[key], network)
      if (address === undefined || !containsIpv4(network, address)) {
        const message = `expected an address in ${pool.network}${key === 'gateway' ? '' : ', or its last number'}`
        context.addIssue({ code: 'custom', path: [key], message })
        return ''
      }
      return formatIpv4Address(address)
    }
    const whole = network.length !== 24
    return {
      network: pool.network,
      gateway: addressOf('gateway', network.network + 1),
      first: addressOf('start', network.network + (whole ? 1 : 200)),
      last: addressOf('end', network.network + (whole ? 2 ** (32 - network.length) - 2 : 250)),
    }
  })

const range = z
  .object({ start: wholeNumber(1), end: wholeNumber(1) })
  .refine(({ start, end }) => start <= end, 'expected start to be at most end')
const ipv6Range = z
  .object({ start: wholeNumber(2), end: wholeNumber(2) })
  .refine(({ start, end }) => start <= end, 'expected start to be at most end')

const schema = z
  .looseObject({
    db_file: absolutePath.default('/var/lib/blockhost/vms.json'),
    terraform_dir: absolutePath.default('/var/lib/blockhost/terraform'),
    vmid_range: range.optional(),
    vmid_pool: range.optional(),
    ip_pool: ipPoolSchema.prefault({}),
    ipv6_pool: ipv6Range.default({ start: 2, end: 254 }),
    default_expiry_days: wholeNumber(1, 36_500).default(30),
    gc_grace_days: wholeNumber(0, 36_500).default(7),
    bridge: z
      .string()
      .regex(/^[a-z\d_][a-z\d_.-]{0,14}$/i, 'expected the name of an interface')
      .optional(),
    storage_pool: z.string().optional(),
    storage_path: absolutePath.optional(),
  })
  .transform(file => ({
    dbFile: file.db_file,
    terraformDir: file.terraform_dir,
    vmidRange: file.vmid_range ?? file.vmid_pool ?? { start: 100, end: 999 },
    ipPool: file.ip_pool,
    ipv6Pool: file.ipv6_pool,
    defaultExpiryDays: file.default_expiry_days,
    gcGraceDays: file.gc_grace_days,
    bridge: file.bridge,
    storagePool: file.storage_pool,
    storagePath: file.storage_path,
  }))

/** `db.yaml`: pools of VM ids and addresses, files, days. `vmid_pool` is the later spelling of `vmid_range`. */
export type DbConfig = Readonly<z.output<typeof schema>>

/** `db.yaml`. Pool bounds may be addresses or, as the first generation wrote them, the last number of one. */
export const dbConfigFile: ConfigFile<DbConfig> = defineConfigFile('db.yaml', schema)

/** Returns the pools of the VM database. @param allocation - The host's IPv6 prefix; without one VMs have IPv4 only. */
export function vmPools(db: DbConfig, allocation: Pick<BrokerAllocation, 'prefix'> | undefined): VmPools {
  const { network, gateway, first, last } = db.ipPool
  return {
    vmid: { first: db.vmidRange.start, last: db.vmidRange.end },
    ipv4: { network, gateway, first, last },
    ...(allocation === undefined
      ? {}
      : { ipv6: { prefix: allocation.prefix, first: db.ipv6Pool.start, last: db.ipv6Pool.end } }),
  }
}

/** Returns the path of the SQLite database, which lies beside the documented JSON file: `vms.json` gives `vms.db`. */
export function vmDatabasePath(db: DbConfig): string {
  return db.dbFile.replace(/\.json$/, '').concat('.db')
}

/** A bare number is the last octet; in networks larger than a /24, where that says too little, it counts from the network's start. */
function readBound(value: number | string, network: Ipv4Prefix): number | undefined {
  if (typeof value === 'string') return parseIpv4Address(value)
  if (network.length < 24) return network.network + value
  return value > 255 ? undefined : Math.floor(network.network / 256) * 256 + value
}
