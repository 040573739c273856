import type { BrokerConfig } from './config.ts'

/** What a reload comes to. */
export type Reload = {
  /** The configuration in force from here on: new where that needs no restart, old elsewhere. */
  readonly config: BrokerConfig
  /** Keys that changed and are in force. */
  readonly applied: readonly string[]
  /** Keys that changed and wait for a restart. */
  readonly waiting: readonly string[]
}

/** Names in the file of what takes effect at once. */
const liveKeys: Readonly<Record<string, string>> = {
  keepDays: 'leases.keep_days',
  quarantineDays: 'leases.quarantine_days',
  tunnelTimeoutMs: 'leases.tunnel_timeout_s',
  reconcileIntervalMs: 'wireguard.reconcile_interval_s',
  'api.allowRemote': 'api.allow_remote',
  'logging.level': 'logging.level',
  'limits.acceptedCodeHashes': 'limits.accepted_code_hashes',
  'limits.maxLeasesPerWallet': 'limits.max_leases_per_wallet',
  'limits.requestsPerWalletPerDay': 'limits.requests_per_wallet_per_day',
  'onchain.pollIntervalMs': 'onchain.poll_interval_ms',
  'onchain.busyPollIntervalMs': 'onchain.busy_poll_interval_ms',
  'onchain.confirmations': 'onchain.confirmations',
  'onchain.reorgDepth': 'onchain.reorg_depth',
  'onchain.maxAnswersPerTransaction': 'onchain.max_answers_per_transaction',
  'onchain.maxFeePerGasWei': 'onchain.max_fee_per_gas_gwei',
  'onchain.stuckAfterMs': 'onchain.stuck_after_ms',
  'onchain.lowBalanceWei': 'onchain.low_balance_eth',
}

/** Names in the file of what is built into a running daemon: its pool, interface, sockets, database, keys and contracts. */
const restartKeys: Readonly<Record<string, string>> = {
  upstreamPrefix: 'broker.upstream_prefix',
  allocationSize: 'broker.allocation_size',
  brokerAddress: 'broker.broker_ipv6',
  'wireguard.interface': 'wireguard.interface',
  'wireguard.listenPort': 'wireguard.listen_port',
  'wireguard.privateKeyFile': 'wireguard.private_key_file',
  'wireguard.publicEndpoint': 'wireguard.public_endpoint',
  'wireguard.upstreamInterface': 'wireguard.upstream_interface',
  'wireguard.ndpMode': 'wireguard.ndp_mode',
  'api.host': 'api.listen',
  'api.port': 'api.listen',
  'api.tls': 'api.tls_enabled, api.tls_cert, api.tls_key',
  databasePath: 'database.path',
  'logging.file': 'logging.file',
  'onchain.rpcUrls': 'onchain.rpc_url',
  'onchain.chainId': 'onchain.chain_id',
  'onchain.operatorKeyFile': 'onchain.private_key_file',
  'onchain.eciesKeyFile': 'onchain.ecies_private_key_file',
  'onchain.requestsContracts': 'onchain.requests_contract, onchain.legacy_requests_contracts',
}

/** Works out what a newly read configuration changes in a running daemon. Pure. */
export function reloadConfig(old: BrokerConfig, read: BrokerConfig): Reload {
  if ((old.onchain === undefined) !== (read.onchain === undefined)) {
    const rest = reloadConfig({ ...old, onchain: undefined }, { ...read, onchain: undefined })
    return { ...rest, config: { ...rest.config, onchain: old.onchain }, waiting: [...rest.waiting, 'onchain.enabled'] }
  }
  const differing = (table: Readonly<Record<string, string>>) =>
    Object.keys(table).filter(path => !isEqual(at(old, path), at(read, path)))
  const waiting = differing(restartKeys)
  let config: BrokerConfig = read
  for (const path of waiting) config = put(config, path, at(old, path)) as BrokerConfig
  return {
    config,
    applied: differing(liveKeys).map(path => liveKeys[path]!),
    waiting: [...new Set(waiting.map(path => restartKeys[path]!))],
  }
}

/** Every path of a configuration that a reload knows; a test holds it against the type. */
export const reloadPaths: readonly string[] = [...Object.keys(liveKeys), ...Object.keys(restartKeys)]

function at(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((inner, key) => (inner as Record<string, unknown> | undefined)?.[key], value)
}

function put(value: unknown, path: string, leaf: unknown): unknown {
  const [key, ...rest] = path.split('.') as [string, ...string[]]
  const inner = (value as Record<string, unknown>)[key]
  return { ...(value as object), [key]: rest.length === 0 ? leaf : put(inner, rest.join('.'), leaf) }
}

/** Settings are plain values, lists and tables of them; big integers have no JSON. */
function isEqual(a: unknown, b: unknown): boolean {
  const text = (value: unknown) =>
    JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? `${inner}n` : inner))
  return text(a) === text(b)
}
