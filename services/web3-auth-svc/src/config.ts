/** The two configuration files of signing in, read once, checked whole and frozen. Keys and defaults: README.md. */
import type { Address } from '@blockhost/chain/hex.ts'
import { readTomlConfig } from '@blockhost/kit/config.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { type LogLevel, logLevels } from '@blockhost/kit/log.ts'
import { z } from 'zod'

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
  const service = readTomlConfig(paths.service, serviceSchema)
  const login = readTomlConfig(paths.login, loginSchema)
  const chain = toChain(service, login, paths)
  if (login.auth.mode === 'nft' && chain?.contract === undefined)
    throw missing(paths.login, 'blockchain.nft_contract is needed in the mode "nft"')
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

function toSecret(hex: string | undefined): Uint8Array | undefined {
  return hex === undefined ? undefined : Uint8Array.fromHex(hex.replace(/^0x/, ''))
}

function toChain(service: ServiceFile, login: LoginFile, paths: { service: string }): ChainConfig | undefined {
  const { backend, jsonrpc, etherscan } = service
  const contract = login.blockchain.nft_contract ?? service.default_contract
  const common = { chainId: login.blockchain.chain_id ?? service.default_chain_id, contract }
  if (backend === 'etherscan') {
    if (etherscan.api_url === undefined) throw missing(paths.service, 'etherscan.api_url is needed by this backend')
    const timeoutMs = etherscan.timeout_seconds * 1000
    return {
      ...common,
      backend: { kind: 'etherscan', apiUrl: etherscan.api_url, apiKey: etherscan.api_key, timeoutMs },
    }
  }
  const urls = [...(jsonrpc.rpc_url === undefined ? [] : [jsonrpc.rpc_url]), ...jsonrpc.rpc_urls]
  if (urls.length > 0)
    return { ...common, backend: { kind: 'jsonrpc', urls, timeoutMs: jsonrpc.timeout_seconds * 1000 } }
  if (contract !== undefined) throw missing(paths.service, 'jsonrpc.rpc_url is needed to read the contract')
  return undefined
}

function missing(path: string, problem: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_CONFIG_INVALID',
    message: `${path} can't be used: ${problem}`,
    hint: `Correct ${path}; \`--check-config\` tries it without starting anything.`,
    exitCode: exitCodes.badConfig,
  })
}

/** A section that may be left out: every key of it is optional. */
function section<T extends z.ZodRawShape>(shape: T) {
  return z.strictObject(shape).prefault({} as never)
}

function seconds(min: number, max: number, fallback: number) {
  return z.number().int().min(min).max(max).default(fallback)
}

const path = z.string().regex(/^\/[^\0-\x1f]*$/, 'expected an absolute path')
const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, 'expected an address: 0x and 40 hexadecimal digits')
  .transform(text => text.toLowerCase() as Address)
const chainId = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER)
const httpUrl = z.string().refine(isHttpUrl, 'expected an http:// or https:// address')

const serviceSchema = z.strictObject({
  socket_path: path.optional(),
  backend: z.enum(['jsonrpc', 'etherscan']).default('jsonrpc'),
  default_chain_id: chainId.optional(),
  default_contract: address.optional(),
  state_dir: path.default('/var/lib/web3-auth'),
  idle_exit_seconds: seconds(5, 86_400, 60),
  log_level: z.enum(logLevels).default('info'),
  jsonrpc: section({
    rpc_url: httpUrl.optional(),
    rpc_urls: z.array(httpUrl).default([]),
    timeout_seconds: seconds(1, 60, 4),
  }),
  etherscan: section({
    api_url: httpUrl.optional(),
    api_key: z.string().default(''),
    timeout_seconds: seconds(1, 60, 4),
  }),
  login: section({
    passwd_path: path.default('/etc/passwd'),
    rescue_wallets_path: path.default('/etc/web3-auth/rescue-wallets'),
    last_known_ownership_seconds: seconds(0, 30 * 86_400, 86_400),
    attempts_per_minute_per_source: seconds(1, 1000, 10),
    attempts_per_minute_per_user: seconds(1, 1000, 60),
  }),
  page: section({
    enabled: z.boolean().default(true),
    host: z.string().default('::'),
    port: z.number().int().min(0).max(65_535).default(8443),
  }),
})

const ldapRefusal = 'users are looked up in /etc/passwd only; LDAP is not supported. Set it to "passwd"'

const loginSchema = z.strictObject({
  machine: z.strictObject({
    id: z.string().regex(/^[\x21-\x7e]{1,128}$/, 'expected 1 to 128 printable characters without blanks'),
    secret_key: z
      .string()
      .regex(/^(0x)?([0-9a-fA-F]{2}){16,64}$/, 'expected 16 to 64 bytes in hexadecimal; leave it out to have one made')
      .optional(),
  }),
  auth: z.strictObject({
    mode: z.enum(['wallet', 'nft']),
    signing_url: httpUrl.optional(),
    otp_length: seconds(4, 19, 6),
    otp_ttl_seconds: seconds(30, 300, 300),
    nft_lookup: z.literal('passwd', ldapRefusal).default('passwd'),
    callback_enabled: z.boolean().optional(), // field's v0.6; the page is switched in the other file
    callback_grace_seconds: seconds(0, 30, 10),
  }),
  wallet: section({ wallets_path: path.default('/etc/pam_web3/wallets') }),
  blockchain: section({
    socket_path: path.default('/run/web3-auth/web3-auth.sock'),
    chain_id: chainId.optional(),
    nft_contract: address.optional(),
    timeout_seconds: seconds(1, 15, 10),
  }),
  ldap: z.unknown().optional(), // of no meaning while auth.nft_lookup is "passwd"
})

type ServiceFile = z.output<typeof serviceSchema>
type LoginFile = z.output<typeof loginSchema>

function isHttpUrl(text: string): boolean {
  const url = URL.parse(text)
  return url !== null && (url.protocol === 'http:' || url.protocol === 'https:')
}
