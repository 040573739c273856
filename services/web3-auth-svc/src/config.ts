/** The two configuration files of signing in, read once, checked whole and frozen. Keys and defaults: README.md. */
import type { Address } from '@blockhost/chain/hex.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import type { LogLevel } from '@blockhost/kit/log.ts'
import { parse as parseToml } from 'smol-toml'
import {
  changed,
  flag,
  integer,
  listOf,
  oneOf,
  optional,
  type Shape,
  type Shaped,
  section,
  text,
  withDefault,
} from './shape.ts'

/** Everything that is configured. Paths are absolute; times are milliseconds. */
export type AuthConfig = {
  readonly machine: {
    /** Goes into the signed text. */
    readonly id: string
    /** Key of the codes, at least 16 bytes; absent: made at the first start. */
    readonly secret: Uint8Array | undefined
  }
  /** Who may sign in: the holder of the user's token, or the wallets of a file. */
  readonly mode: 'nft' | 'wallet'
  readonly otp: { readonly length: number; readonly ttlMs: number }
  /** Where people sign: shown to them. Absent: the address of this machine and the page's port. */
  readonly signingUrl: string | undefined
  readonly walletsPath: string
  readonly rescueWalletsPath: string
  readonly passwdPath: string
  readonly socketPath: string
  readonly stateFolder: string
  /** Without connections and open codes for so long, a socket-activated service ends. */
  readonly idleExitMs: number
  /** How long an answer of the page is waited for after Enter. */
  readonly graceMs: number
  /** How long the last known holder may sign in while no endpoint answers. 0 = never. */
  readonly lastKnownMs: number
  /** All reading of the chain for one sign-in ends after this. */
  readonly chainDeadlineMs: number
  /** Absent: signing in is by wallets only. */
  readonly chain: ChainConfig | undefined
  readonly page: { readonly enabled: boolean; readonly host: string; readonly port: number }
  /** Codes given out in a minute. */
  readonly limits: { readonly perSource: number; readonly perUser: number }
  readonly logLevel: LogLevel
}

/** How the chain is read. */
export type ChainConfig = {
  /** EIP-155 id that endpoints must be on. Absent: any. */
  readonly chainId: number | undefined
  /** Access token contract, lower case; clients of earlier generations may name another. */
  readonly contract: Address | undefined
  readonly backend:
    | { readonly kind: 'jsonrpc'; readonly urls: readonly string[]; readonly timeoutMs: number }
    | { readonly kind: 'etherscan'; readonly apiUrl: string; readonly apiKey: string; readonly timeoutMs: number }
}

/**
 * Reads both files.
 *
 * @throws {BlockHostError} `BH_CONFIG_INVALID`, `BH_FILE_READ_FAILED` (exit 78), naming file, key and what was expected.
 */
export function readConfig(paths: { service: string; login: string }): AuthConfig {
  const service = readFile(paths.service, serviceShape)
  const login = readFile(paths.login, loginShape)
  const chain = toChain(service, login, paths)
  if (login.auth.mode === 'nft' && chain?.contract === undefined)
    throw unusable(paths.login, 'blockchain.nft_contract is needed in the mode "nft"')
  const { login: own, page } = service
  return Object.freeze({
    machine: { id: login.machine.id, secret: toSecret(login.machine.secret_key) },
    mode: login.auth.mode,
    otp: { length: login.auth.otp_length, ttlMs: login.auth.otp_ttl_seconds * 1000 },
    signingUrl: login.auth.signing_url?.replace(/\/+$/, ''),
    walletsPath: login.wallet.wallets_path,
    rescueWalletsPath: own.rescue_wallets_path,
    passwdPath: own.passwd_path,
    socketPath: service.socket_path ?? login.blockchain.socket_path,
    stateFolder: service.state_dir,
    idleExitMs: service.idle_exit_seconds * 1000,
    graceMs: login.auth.callback_grace_seconds * 1000,
    lastKnownMs: own.last_known_ownership_seconds * 1000,
    chainDeadlineMs: login.blockchain.timeout_seconds * 1000,
    chain,
    page: { enabled: page.enabled, host: page.host, port: page.port },
    limits: { perSource: own.attempts_per_minute_per_source, perUser: own.attempts_per_minute_per_user },
    logLevel: service.log_level,
  })
}

/** Node's own permission model refuses, whether the file is there or not. */
const deniedHint =
  'The program may read /etc/web3-auth and /etc/pam_web3 only; for another folder start it with WEB3_AUTH_NODE_OPTIONS=--allow-fs-read=FOLDER.'

function readFile<T>(path: string, shape: Shape<T>): T {
  const source = readTextFile(path, { what: 'configuration', hints: { ERR_ACCESS_DENIED: deniedHint } })
  let table: unknown
  try {
    table = parseToml(source)
  } catch (cause) {
    throw unusable(path, 'the file is not valid TOML', cause)
  }
  const problems: string[] = []
  const read = shape(table, '', problems)
  if (problems.length > 0) throw unusable(path, problems.join('; '))
  return read
}

function toSecret(hex: string | undefined): Uint8Array | undefined {
  return hex === undefined ? undefined : Uint8Array.fromHex(hex.replace(/^0x/, ''))
}

function toChain(service: ServiceFile, login: LoginFile, paths: { service: string }): ChainConfig | undefined {
  const { backend, jsonrpc, etherscan } = service
  const contract = login.blockchain.nft_contract ?? service.default_contract
  const common = { chainId: login.blockchain.chain_id ?? service.default_chain_id, contract }
  if (backend === 'etherscan') {
    if (etherscan.api_url === undefined) throw unusable(paths.service, 'etherscan.api_url is needed by this backend')
    const timeoutMs = etherscan.timeout_seconds * 1000
    return {
      ...common,
      backend: { kind: 'etherscan', apiUrl: etherscan.api_url, apiKey: etherscan.api_key, timeoutMs },
    }
  }
  const urls = [...(jsonrpc.rpc_url === undefined ? [] : [jsonrpc.rpc_url]), ...jsonrpc.rpc_urls]
  if (urls.length > 0)
    return { ...common, backend: { kind: 'jsonrpc', urls, timeoutMs: jsonrpc.timeout_seconds * 1000 } }
  if (contract !== undefined) throw unusable(paths.service, 'jsonrpc.rpc_url is needed to read the contract')
  return undefined
}

function unusable(path: string, problem: string, cause?: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_CONFIG_INVALID',
    message: `${path} can't be used: ${problem}`,
    hint: `Correct ${path}; \`--check-config\` tries it without starting anything.`,
    exitCode: exitCodes.badConfig,
    cause,
  })
}

function seconds(min: number, max: number, fallback: number): Shape<number> {
  return withDefault(integer(min, max), fallback)
}

const path = text(/^\/[^\0-\x1f]*$/, 'expected an absolute path')
const address = changed(
  text(/^0x[0-9a-fA-F]{40}$/, 'expected an address: 0x and 40 hexadecimal digits'),
  digits => digits.toLowerCase() as Address,
)
const chainId = integer(1, Number.MAX_SAFE_INTEGER)
const anyText = text(/^/, 'expected text')
const httpUrl: Shape<string> = (value, at, problems) => {
  if (!isHttpUrl(value)) problems.push(`${at}: expected an http:// or https:// address`)
  return value as string
}

const serviceShape = section({
  socket_path: optional(path),
  backend: withDefault(oneOf('jsonrpc', 'etherscan'), 'jsonrpc'),
  default_chain_id: optional(chainId),
  default_contract: optional(address),
  state_dir: withDefault(path, '/var/lib/web3-auth'),
  idle_exit_seconds: seconds(5, 86_400, 60),
  log_level: withDefault<LogLevel>(oneOf('error', 'warn', 'info', 'debug'), 'info'),
  jsonrpc: section({
    rpc_url: optional(httpUrl),
    rpc_urls: withDefault(listOf(httpUrl), []),
    timeout_seconds: seconds(1, 60, 4),
  }),
  etherscan: section({
    api_url: optional(httpUrl),
    api_key: withDefault(anyText, ''),
    timeout_seconds: seconds(1, 60, 4),
  }),
  login: section({
    passwd_path: withDefault(path, '/etc/passwd'),
    rescue_wallets_path: withDefault(path, '/etc/web3-auth/rescue-wallets'),
    last_known_ownership_seconds: seconds(0, 30 * 86_400, 86_400),
    attempts_per_minute_per_source: seconds(1, 1000, 10),
    attempts_per_minute_per_user: seconds(1, 1000, 60),
  }),
  page: section({
    enabled: withDefault(flag, true),
    host: withDefault(anyText, '::'),
    port: withDefault(integer(0, 65_535), 8443),
  }),
})

const ldapRefusal = 'users are looked up in /etc/passwd only; LDAP is not supported. Set it to "passwd"'

const loginShape = section({
  machine: section({
    id: text(/^[\x21-\x7e]{1,128}$/, 'expected 1 to 128 printable characters without blanks'),
    secret_key: optional(
      text(/^(0x)?([0-9a-fA-F]{2}){16,64}$/, 'expected 16 to 64 bytes in hexadecimal; leave it out to have one made'),
    ),
  }),
  auth: section({
    mode: oneOf('wallet', 'nft'),
    signing_url: optional(httpUrl),
    otp_length: seconds(4, 19, 6),
    otp_ttl_seconds: seconds(30, 300, 300),
    nft_lookup: withDefault(text(/^passwd$/, ldapRefusal), 'passwd'),
    callback_enabled: optional(flag), // field's v0.6; the page is switched in the other file
    callback_grace_seconds: seconds(0, 30, 10),
  }),
  wallet: section({ wallets_path: withDefault(path, '/etc/pam_web3/wallets') }),
  blockchain: section({
    socket_path: withDefault(path, '/run/web3-auth/web3-auth.sock'),
    chain_id: optional(chainId),
    nft_contract: optional(address),
    timeout_seconds: seconds(1, 15, 10),
  }),
  ldap: value => value, // of no meaning while auth.nft_lookup is "passwd"
})

type ServiceFile = Shaped<typeof serviceShape>
type LoginFile = Shaped<typeof loginShape>

function isHttpUrl(value: unknown): boolean {
  const url = typeof value === 'string' ? URL.parse(value) : null
  return url !== null && (url.protocol === 'http:' || url.protocol === 'https:')
}
