/** Renders what a VM is told at its first boot. Values are put into a parsed document, so no value can change its shape. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { stringify as stringifyToml } from 'smol-toml'
import { parse as parseYaml } from 'yaml'

/** What a VM is told. */
export type GuestSettings = {
  readonly name: string
  /** Unix user of the owner. */
  readonly username: string
  /** What the owner signs for. */
  readonly machineId: string
  /** Key of the sign-in codes: 32 bytes, of this VM alone. */
  readonly otpSecret: Uint8Array
  readonly otpLength: number
  readonly otpTtlSeconds: number
  readonly chainId: number
  /** AccessCredentialNFT. */
  readonly nftContract: string
  /** As reached from the VM; at least one. */
  readonly rpcUrls: readonly string[]
  /** Port of the signing page. */
  readonly pagePort: number
  /** Known only when a VM is made anew for a token that was minted before. */
  readonly nftTokenId?: bigint
  readonly nameservers: readonly string[]
  /** Keys for a rescue login; sign-in by wallet does not use them. */
  readonly sshKeys?: readonly string[]
}

/** Names of the templates in `image/cloud-init`. */
export const cloudInitTemplates = ['nft-auth', 'webserver', 'devbox'] as const

/**
 * Reads a template.
 *
 * @param name - One of {@link cloudInitTemplates}, or the absolute path of an operator's own.
 * @throws {BlockHostError} `BH_CLOUD_INIT_UNKNOWN` (exit 78), `BH_FILE_READ_FAILED`.
 */
export function readCloudInitTemplate(name: string): string {
  if (name.startsWith('/')) return readTextFile(name, { what: 'cloud-init template' })
  const path = join(fileURLToPath(new URL('cloud-init', import.meta.url)), `${name}.yaml`)
  if ((cloudInitTemplates as readonly string[]).includes(name) && existsSync(path)) return readTextFile(path)
  throw new BlockHostError({
    code: 'BH_CLOUD_INIT_UNKNOWN',
    message: `There is no cloud-init template ${name}`,
    hint: `Use one of ${cloudInitTemplates.join(', ')}, or the absolute path of your own.`,
    exitCode: exitCodes.badConfig,
  })
}

/**
 * Renders a template: `${NAME}` inside a value is replaced, a value that is nothing but `${SSH_KEYS}` becomes the list. Names that are
 * not ours stay as they are, so shell variables survive. Pure.
 *
 * @param template - YAML, see `image/cloud-init/*.yaml`.
 * @returns `#cloud-config` text.
 * @throws {BlockHostError} `BH_CLOUD_INIT_INVALID` (exit 78) when the template is no YAML mapping.
 */
export function renderCloudInit(template: string, settings: GuestSettings): string {
  const document = substitute(parseTemplate(template), variablesOf(settings))
  // JSON is YAML, and what blockhost-first-boot in the VM reads without cloud-init.
  return `#cloud-config\n${JSON.stringify(document, undefined, 2)}\n`
}

type Variables = Readonly<Record<string, string | readonly string[]>>

function variablesOf(settings: GuestSettings): Variables {
  return {
    VM_NAME: settings.name,
    USERNAME: settings.username,
    GECOS: settings.nftTokenId === undefined ? '' : `nft=${settings.nftTokenId}`,
    NFT_TOKEN_ID: settings.nftTokenId === undefined ? '' : String(settings.nftTokenId),
    MACHINE_ID: settings.machineId,
    CHAIN_ID: String(settings.chainId),
    NFT_CONTRACT: settings.nftContract,
    RPC_URL: settings.rpcUrls[0] ?? '',
    OTP_LENGTH: String(settings.otpLength),
    OTP_TTL: String(settings.otpTtlSeconds),
    SSH_KEYS: settings.sshKeys ?? [],
    RESOLV_CONF: settings.nameservers.map(address => `nameserver ${address}\n`).join(''),
    PAM_WEB3_CONFIG: loginConfig(settings),
    WEB3_AUTH_CONFIG: serviceConfig(settings),
  }
}

/** /etc/pam_web3/config.toml, with the field's names. */
function loginConfig(settings: GuestSettings): string {
  return stringifyToml({
    machine: { id: settings.machineId, secret_key: settings.otpSecret.toHex() },
    auth: { mode: 'nft', otp_length: settings.otpLength, otp_ttl_seconds: settings.otpTtlSeconds },
    blockchain: { chain_id: settings.chainId, nft_contract: settings.nftContract },
  })
}

/** /etc/web3-auth/config.toml. */
function serviceConfig(settings: GuestSettings): string {
  return stringifyToml({ jsonrpc: { rpc_urls: [...settings.rpcUrls] }, page: { port: settings.pagePort } })
}

function parseTemplate(text: string): unknown {
  let document: unknown
  let cause: unknown
  try {
    document = parseYaml(text, { uniqueKeys: true, maxAliasCount: 10, logLevel: 'error' })
  } catch (error) {
    cause = error
  }
  if (typeof document === 'object' && document !== null && !Array.isArray(document)) return document
  throw new BlockHostError({
    code: 'BH_CLOUD_INIT_INVALID',
    message: 'The cloud-init template is no YAML mapping',
    hint: 'Compare it with image/cloud-init/nft-auth.yaml.',
    exitCode: exitCodes.badConfig,
    cause,
  })
}

function substitute(value: unknown, variables: Variables): unknown {
  if (typeof value === 'string') return substituteText(value, variables)
  if (Array.isArray(value)) return value.map(item => substitute(item, variables))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, substitute(inner, variables)]))
}

function substituteText(text: string, variables: Variables): unknown {
  const whole = /^\$\{(\w+)\}$/.exec(text)?.[1]
  if (whole !== undefined && Object.hasOwn(variables, whole)) return variables[whole]
  return text.replace(/\$\{(\w+)\}/g, (found, name: string) => {
    const value = Object.hasOwn(variables, name) ? variables[name] : undefined
    return typeof value === 'string' ? value : found
  })
}
