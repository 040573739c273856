/** The daemon's configuration file, read once, checked whole and frozen. Keys and defaults: `config.example.toml`. */
import { parseTomlConfig } from '@blockhost/kit/config.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { type LogLevel, logLevels } from '@blockhost/kit/log.ts'
import { type Endpoint, parseEndpoint } from '@blockhost/net/endpoint.ts'
import {
  capacity,
  contains,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  subPrefix,
} from '@blockhost/net/prefix.ts'
import { z } from 'zod'
import { toAddress } from './address.ts'
import {
  absolutePath,
  amount,
  flag,
  integer,
  interfaceName,
  listOf,
  maybeInteger,
  maybeInterface,
  maybeParsed,
  maybePath,
  maybeRpcUrl,
  oneOf,
  parsed,
  rpcUrls,
  toHash,
} from './config-field.ts'
import { checkConfigFiles } from './config-file.ts'
import { dropObsoleteKeys, explainIssues } from './config-key.ts'

type Address = `0x${string}`
type Hex = `0x${string}`

/** Where the file lies unless `--config` says otherwise. */
export const defaultConfigPath = '/etc/blockhost-broker/config.toml'

/** How solicitations on the upstream interface are answered; `auto` picks one of the others. */
export type NdpMode = 'auto' | 'routed' | 'kernel' | 'ndppd'

/** Everything an operator decides. Paths are absolute, prefixes and addresses canonical. */
export type BrokerConfig = {
  /** Space the broker leases from, RFC 5952 text, e.g. `2001:db8::/64`. */
  readonly upstreamPrefix: string
  /** Length of each lease in bits. */
  readonly allocationSize: number
  /** The broker's own IPv6 address, told to hosts as their gateway. */
  readonly brokerAddress: string
  /** Days a freed prefix waits for the NFT contract that held it. */
  readonly keepDays: number
  /** Days it then rests before anybody may get it. */
  readonly quarantineDays: number
  /** A lease without a handshake for so long after its answer is taken back. */
  readonly tunnelTimeoutMs: number
  readonly reconcileIntervalMs: number
  readonly wireguard: {
    readonly interface: string
    readonly listenPort: number
    readonly privateKeyFile: string
    /** `host:port` exactly as hosts are told. */
    readonly publicEndpoint: string
    readonly upstreamInterface: string | undefined
    readonly ndpMode: NdpMode
  }
  readonly api: {
    readonly host: string
    readonly port: number
    readonly tls: { readonly cert: string; readonly key: string } | undefined
    /** Whether other machines may read more than `/health`. */
    readonly allowRemote: boolean
  }
  readonly databasePath: string
  readonly logging: { readonly level: LogLevel; readonly file: string | undefined }
  /** `undefined` when requests from the chain are not served. */
  readonly onchain: OnchainConfig | undefined
  readonly limits: {
    /** EXTCODEHASH values of NFT contracts that may ask, lower case; empty = any. */
    readonly acceptedCodeHashes: readonly Hex[]
    /** 0 = no limit. */
    readonly maxLeasesPerWallet: number
    /** 0 = no limit. */
    readonly requestsPerWalletPerDay: number
  }
  /** What a person should know though the file can be used. */
  readonly warnings: readonly string[]
}

/** The part of {@link BrokerConfig} about the chain. */
export type OnchainConfig = {
  /** One or more JSON-RPC endpoints, the preferred one first. May contain access keys: never log them. */
  readonly rpcUrls: readonly string[]
  readonly chainId: number
  readonly operatorKeyFile: string
  readonly eciesKeyFile: string
  /** The live contract first, then the ones still answered from earlier. */
  readonly requestsContracts: readonly Address[]
  readonly pollIntervalMs: number
  /** Used instead while answers are under way. */
  readonly busyPollIntervalMs: number
  /** Blocks on top of a request's block before it is answered. */
  readonly confirmations: number
  /** Blocks for which an answered request is looked at again. */
  readonly reorgDepth: number
  readonly maxAnswersPerTransaction: number
  readonly maxFeePerGasWei: bigint | undefined
  /** A transaction that waits longer is sent again with a higher fee. */
  readonly stuckAfterMs: number
  /** Below this the operator's balance is a warning. */
  readonly lowBalanceWei: bigint
}

/** Where leases are kept unless the configuration says otherwise. */
export const defaultDatabasePath = '/var/lib/blockhost-broker/ipam.db'

/**
 * Reads and checks the configuration, and that the files it names are there.
 *
 * @param path - TOML, at most 1 MiB.
 * @throws {BlockHostError} `BH_CONFIG_INVALID`, `BH_FILE_READ_FAILED`, `BH_KEY_FILE_INVALID`: exit 78, naming file, key, what was found
 *   and what was expected; every wrong key at once.
 */
export function readConfig(path: string): BrokerConfig {
  const config = parseConfig(readTextFile(path, { what: 'configuration' }), path)
  const warnings = checkConfigFiles(config, path)
  return Object.freeze({ ...config, warnings: Object.freeze([...config.warnings, ...warnings]) })
}

/**
 * Checks configuration text without touching the disk: key names, types, ranges, and how the keys agree.
 *
 * @param path - Only named in messages.
 * @throws {BlockHostError} `BH_CONFIG_INVALID` (exit 78).
 */
export function parseConfig(text: string, path: string): BrokerConfig {
  return parseTomlConfig(text, configSchema, path)
}

/** A section that may be left out: every key of it is optional. */
function section<T extends z.ZodRawShape>(shape: T) {
  return z.strictObject(shape).prefault({} as never)
}

const fileSchema = z.strictObject({
  broker: z.strictObject({
    upstream_prefix: parsed('an IPv6 prefix such as "2001:db8::/64"', toPrefix),
    allocation_size: integer(1, 128, 120),
    broker_ipv6: maybeParsed('an IPv6 address such as "2001:db8::1"', parseAddress),
  }),
  leases: section({
    keep_days: integer(0, 3650, 30),
    quarantine_days: integer(0, 3650, 7),
    tunnel_timeout_s: integer(1, 86_400, 120),
  }),
  wireguard: z.strictObject({
    interface: interfaceName('wg-broker'),
    listen_port: integer(1, 65_535, 51_820),
    private_key_file: absolutePath('/etc/blockhost-broker/wg-private.key'),
    public_endpoint: parsed('host:port such as "198.51.100.1:51820" or "[2001:db8::1]:51820"', toPublicEndpoint),
    upstream_interface: maybeInterface(),
    ndp_mode: oneOf(['auto', 'routed', 'kernel', 'ndppd'], 'auto'),
    reconcile_interval_s: integer(1, 3600, 60),
  }),
  api: section({
    listen: maybeParsed('host:port such as "127.0.0.1:8080" or "[::1]:8080"', parseEndpoint),
    listen_host: maybeParsed('an address such as "127.0.0.1"', text => parseEndpoint(`${bracketed(text)}:1`)?.host),
    listen_port: integer(1, 65_535, 8080),
    allow_remote: flag(),
    tls_enabled: flag(),
    tls_cert: maybePath(),
    tls_key: maybePath(),
  }),
  database: section({ path: absolutePath(defaultDatabasePath) }),
  logging: section({ level: oneOf(logLevels, 'info'), file: maybePath() }),
  limits: section({
    accepted_code_hashes: listOf('a 32-byte hash: 0x and 64 hexadecimal digits', toHash),
    max_leases_per_wallet: integer(0, 1_000_000, 0),
    requests_per_wallet_per_day: integer(0, 1_000_000, 0),
  }),
  onchain: section({
    enabled: flag(),
    rpc_url: maybeRpcUrl(),
    rpc_urls: rpcUrls(),
    chain_id: maybeInteger(1, Number.MAX_SAFE_INTEGER),
    private_key_file: absolutePath('/etc/blockhost-broker/operator.key'),
    ecies_private_key_file: absolutePath('/etc/blockhost-broker/ecies.key'),
    requests_contract: maybeParsed('a contract address: 0x and 40 hexadecimal digits', toAddress),
    legacy_requests_contracts: listOf('a contract address: 0x and 40 hexadecimal digits', toAddress),
    poll_interval_ms: integer(1000, 60_000, 5000),
    busy_poll_interval_ms: integer(100, 60_000, 1000),
    confirmations: maybeInteger(0, 1000),
    reorg_depth: integer(1, 10_000, 64),
    max_answers_per_transaction: integer(1, 100, 40),
    max_fee_per_gas_gwei: amount('gwei', 9),
    stuck_after_ms: integer(5_000, 86_400_000, 90_000),
    low_balance_eth: amount('ETH', 18),
  }),
})

type ConfigFile = z.output<typeof fileSchema>

/** Tells one wrong key; `path` as in the file, e.g. `['broker', 'broker_ipv6']`. */
type Complain = (path: readonly string[], message: string) => void

const configSchema = z.unknown().transform((raw, context): BrokerConfig => {
  const { kept, warnings } = dropObsoleteKeys(raw)
  const file = fileSchema.safeParse(kept)
  let good = file.success
  const complain: Complain = (path, message) => {
    good = false
    context.addIssue({ code: 'custom', path: [...path], message })
  }
  if (!file.success) {
    for (const { path, message } of explainIssues(file.error.issues, kept, fileSchema)) complain(path, message)
    return z.NEVER
  }
  const config = assemble(file.data, warnings, complain)
  return good ? config : z.NEVER
})

function assemble(file: ConfigFile, warnings: string[], complain: Complain): BrokerConfig {
  const { broker, leases, wireguard, limits } = file
  const { prefix: upstream, hasHostBits } = broker.upstream_prefix
  if (hasHostBits) warnings.push(`broker.upstream_prefix has bits beyond its length; ${formatPrefix(upstream)} is used`)
  const brokerAddress = broker.broker_ipv6 ?? upstream.network + 1n
  checkPool(upstream, broker.allocation_size, brokerAddress, warnings, complain)
  checkInterfaces(wireguard, warnings, complain)
  const onchain = assembleOnchain(file.onchain, warnings, complain)
  if (onchain === undefined) warnings.push('onchain.enabled is not true: requests from the chain are not answered')
  return {
    upstreamPrefix: formatPrefix(upstream),
    allocationSize: broker.allocation_size,
    brokerAddress: formatAddress(brokerAddress),
    keepDays: leases.keep_days,
    quarantineDays: leases.quarantine_days,
    tunnelTimeoutMs: leases.tunnel_timeout_s * 1000,
    reconcileIntervalMs: wireguard.reconcile_interval_s * 1000,
    wireguard: {
      interface: wireguard.interface,
      listenPort: wireguard.listen_port,
      privateKeyFile: wireguard.private_key_file,
      publicEndpoint: wireguard.public_endpoint.text,
      upstreamInterface: wireguard.upstream_interface,
      ndpMode: wireguard.ndp_mode,
    },
    api: assembleApi(file.api, warnings, complain),
    databasePath: file.database.path,
    logging: { level: file.logging.level, file: file.logging.file },
    onchain,
    limits: {
      acceptedCodeHashes: limits.accepted_code_hashes,
      maxLeasesPerWallet: limits.max_leases_per_wallet,
      requestsPerWalletPerDay: limits.requests_per_wallet_per_day,
    },
    warnings,
  }
}

function checkPool(upstream: Prefix, size: number, address: bigint, warnings: string[], complain: Complain): void {
  if (size <= upstream.length) {
    const expected = `more than the ${upstream.length} bits of broker.upstream_prefix`
    complain(['broker', 'allocation_size'], `found ${size}, expected ${expected}: not a single lease would fit`)
    return
  }
  const path = ['broker', 'broker_ipv6']
  const own = subPrefix(upstream, 0n, size)
  if (!contains(upstream, address))
    warnings.push(
      `broker.broker_ipv6: ${formatAddress(address)} is outside ${formatPrefix(upstream)}; hosts get it as their gateway all the same`,
    )
  else if (!contains(own, address))
    complain(
      path,
      `found "${formatAddress(address)}", expected an address in ${formatPrefix(own)}, the part that is never leased`,
    )
  if (capacity(upstream, size) < 16n)
    warnings.push(`broker.allocation_size: only ${capacity(upstream, size)} leases of /${size} fit`)
}

function checkInterfaces(wireguard: ConfigFile['wireguard'], warnings: string[], complain: Complain): void {
  const { interface: own, upstream_interface: upstream, ndp_mode: mode, listen_port: port } = wireguard
  if (upstream === own)
    complain(['wireguard', 'upstream_interface'], `found "${own}", expected another interface than wireguard.interface`)
  if (upstream === undefined && (mode === 'kernel' || mode === 'ndppd'))
    complain(['wireguard', 'upstream_interface'], `is missing, expected the interface whose neighbours ${mode} answers`)
  const endpoint = wireguard.public_endpoint
  if (endpoint.port !== port)
    warnings.push(
      `wireguard.public_endpoint names port ${endpoint.port}, wireguard.listen_port is ${port}: right only behind a port forwarding`,
    )
  if (isLoopback(endpoint.host)) warnings.push(`wireguard.public_endpoint: no other machine can reach ${endpoint.text}`)
}

function assembleApi(api: ConfigFile['api'], warnings: string[], complain: Complain): BrokerConfig['api'] {
  if (api.listen !== undefined && api.listen_host !== undefined)
    complain(['api', 'listen_host'], 'says what api.listen says already; keep one of them')
  const { host, port } = api.listen ?? { host: api.listen_host ?? '127.0.0.1', port: api.listen_port }
  if (!isLoopback(host)) {
    const what = api.allow_remote ? 'anybody who reaches it can read all leases' : 'other machines get /health only'
    warnings.push(`api.listen: ${host} is open to other machines; ${what}`)
  }
  const { tls_enabled: enabled, tls_cert: cert, tls_key: key } = api
  if (enabled && cert === undefined)
    complain(['api', 'tls_cert'], 'is missing, expected a path when tls_enabled = true')
  if (enabled && key === undefined) complain(['api', 'tls_key'], 'is missing, expected a path when tls_enabled = true')
  const tls = enabled && cert !== undefined && key !== undefined ? { cert, key } : undefined
  return { host, port, tls, allowRemote: api.allow_remote }
}

function assembleOnchain(
  onchain: ConfigFile['onchain'],
  warnings: string[],
  complain: Complain,
): OnchainConfig | undefined {
  if (!onchain.enabled) return undefined
  const urls = [...new Set([onchain.rpc_url, ...onchain.rpc_urls].filter(url => url !== undefined))]
  if (urls.length === 0) complain(['onchain', 'rpc_url'], 'is missing, expected an http:// or https:// address')
  if (urls.some(isPlainRemote))
    warnings.push('onchain.rpc_url: plain http:// to another machine; anybody on the way can forge what the chain says')
  if (onchain.chain_id === undefined)
    complain(['onchain', 'chain_id'], 'is missing, expected a number such as 11155111')
  if (onchain.requests_contract === undefined)
    complain(['onchain', 'requests_contract'], 'is missing; `blockhost-broker deploy` makes one and prints its address')
  const chainId = onchain.chain_id ?? 0 // complained about above
  const live = onchain.requests_contract ?? '0x'
  const confirmations = onchain.confirmations ?? defaultConfirmations(chainId)
  if (confirmations > onchain.reorg_depth)
    complain(['onchain', 'reorg_depth'], `found ${onchain.reorg_depth}, expected at least onchain.confirmations`)
  return {
    rpcUrls: urls,
    chainId,
    operatorKeyFile: onchain.private_key_file,
    eciesKeyFile: onchain.ecies_private_key_file,
    requestsContracts: [...new Set([live, ...onchain.legacy_requests_contracts])],
    pollIntervalMs: onchain.poll_interval_ms,
    busyPollIntervalMs: Math.min(onchain.busy_poll_interval_ms, onchain.poll_interval_ms),
    confirmations,
    reorgDepth: onchain.reorg_depth,
    maxAnswersPerTransaction: onchain.max_answers_per_transaction,
    maxFeePerGasWei: onchain.max_fee_per_gas_gwei,
    stuckAfterMs: onchain.stuck_after_ms,
    lowBalanceWei: onchain.low_balance_eth ?? 50_000_000_000_000_000n,
  }
}

/** Local chains (anvil, hardhat, geth --dev) do not reorganize by themselves. */
function defaultConfirmations(chainId: number): number {
  return chainId === 31_337 || chainId === 1_337 ? 0 : 2
}

/** Returns whether only this machine can reach the host: `localhost`, 127.0.0.0/8 or ::1. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

function isPlainRemote(url: string): boolean {
  const { protocol, hostname } = new URL(url)
  return protocol === 'http:' && !isLoopback(hostname.replace(/^\[|\]$/g, ''))
}

function toPrefix(text: string): { prefix: Prefix; hasHostBits: boolean } | undefined {
  const prefix = parsePrefix(text, { allowHostBits: true })
  return prefix && { prefix, hasHostBits: parsePrefix(text) === undefined }
}

/** Hosts are told the text as it stands in the file, so it is kept beside what it means. */
function toPublicEndpoint(text: string): (Endpoint & { text: string }) | undefined {
  const endpoint = parseEndpoint(text)
  return endpoint === undefined || endpoint.host === '0.0.0.0' || endpoint.host === '::'
    ? undefined
    : { ...endpoint, text }
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}
