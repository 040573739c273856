/** The command line: what each subcommand takes, read into values that need no second look. Pure. */
import { type ParseArgsOptionDescriptor, parseArgs } from 'node:util'

/** An Ethereum address as typed: `0x` and 40 hex digits, any case. */
export type AddressText = `0x${string}`

/** What every subcommand is given. */
export type Globals = {
  /** One JSON value on standard output instead of text. */
  readonly json: boolean
  /** JSON-RPC endpoints, preferred first; at least one. */
  readonly rpcUrls: readonly string[]
  /** Chain the endpoints must serve; `undefined`: what `registry.json` names, else Sepolia. */
  readonly chainId: number | undefined
  readonly registryContract: AddressText | undefined
  /** Folder of `server.key`, `broker-allocation.json` and the others. */
  readonly configDir: string
}

/** How the broker is chosen. */
export type BrokerSelector =
  | { readonly kind: 'any'; readonly region: string | undefined }
  | { readonly kind: 'id'; readonly brokerId: bigint }
  | { readonly kind: 'direct'; readonly requestsContract: AddressText; readonly brokerPubkey: string }

/** Which WireGuard interface, and where its `wg-quick` file lies. */
export type TunnelOptions = { readonly wgInterface: string; readonly wgConfDir: string }

/** What `request` and `renew` share: who asks, for how long, how much it may cost, what the answer must be inside of. */
export type AskOptions = TunnelOptions & {
  readonly nftContract: AddressText
  /** File with the wallet's private key. */
  readonly walletKey: string
  readonly timeoutMs: number
  readonly pollIntervalMs: number
  readonly configureWg: boolean
  /** Most that may be paid to the broker for the request, beside gas. */
  readonly maxFeeWei: bigint
  /** CIDR text the leased prefix must lie in; `undefined`: what an earlier run was told, else not checked. */
  readonly expectUpstream: string | undefined
}

/** One invocation. */
export type Command =
  | { readonly name: 'help'; readonly text: string }
  | { readonly name: 'version' }
  | ({ readonly name: 'request'; readonly broker: BrokerSelector } & AskOptions)
  | ({ readonly name: 'renew' } & AskOptions)
  | ({
      readonly name: 'status'
      readonly nftContract: AddressText | undefined
      readonly requestsContract: AddressText | undefined
    } & TunnelOptions)
  | { readonly name: 'list-brokers' }
  | ({
      readonly name: 'configure' | 'install'
      readonly forwarding: boolean
      readonly defaultRoute: boolean
    } & TunnelOptions)
  | ({
      readonly name: 'release'
      readonly nftContract: AddressText | undefined
      readonly requestsContract: AddressText | undefined
      readonly walletKey: string | undefined
      readonly timeoutMs: number
      readonly pollIntervalMs: number
      readonly cleanupWg: boolean
      readonly force: boolean
    } & TunnelOptions)

/** Outcome of {@link parseArgv}. A failure is a usage error (exit 2); `json` says how to report it. */
export type ParsedArgv =
  | { readonly ok: true; readonly globals: Globals; readonly command: Command }
  | { readonly ok: false; readonly json: boolean; readonly message: string }

type Option = {
  readonly type: 'string' | 'boolean'
  readonly value?: string
  readonly help: string
  readonly short?: string
}

const globalOptions = {
  'rpc-url': { type: 'string', value: 'URL', help: 'JSON-RPC endpoints, comma separated (env ETH_RPC_URL)' },
  'chain-id': {
    type: 'string',
    value: 'N',
    help: 'chain they must serve (env ETH_CHAIN_ID; else registry.json; else 11155111)',
  },
  'registry-contract': {
    type: 'string',
    value: 'ADDRESS',
    help: 'BrokerRegistry (env BROKER_REGISTRY_CONTRACT; else registry.json)',
  },
  'config-dir': { type: 'string', value: 'DIR', help: 'where keys and answers lie (default /etc/blockhost)' },
  'chains-config': {
    type: 'string',
    value: 'FILE',
    help: 'accepted for older callers, without effect: only EVM chains are known',
  },
  json: { type: 'boolean', help: 'one JSON value on standard output' },
  version: { type: 'boolean', help: 'print the version' },
  help: { type: 'boolean', short: 'h', help: 'print this help' },
} satisfies Record<string, Option>

const tunnelOptions = {
  'wg-interface': { type: 'string', value: 'NAME', help: 'WireGuard interface (default wg-broker)' },
  'wg-conf-dir': { type: 'string', value: 'DIR', help: 'folder of its wg-quick file (default /etc/wireguard)' },
} satisfies Record<string, Option>

const waitOptions = {
  timeout: { type: 'string', value: 'SECONDS', help: 'how long to wait (default 300); run again to continue' },
  'poll-interval': {
    type: 'string',
    value: 'SECONDS',
    help: 'pause between two looks at the chain (default 2, at least 0.5)',
  },
} satisfies Record<string, Option>

const nftOption = {
  'nft-contract': { type: 'string', value: 'ADDRESS', help: 'NFT contract that the lease belongs to' },
} satisfies Record<string, Option>

const walletOption = {
  'wallet-key': { type: 'string', value: 'FILE', help: 'private key of the wallet that owns the NFT contract' },
} satisfies Record<string, Option>

const askOptions = {
  ...nftOption,
  ...walletOption,
  ...waitOptions,
  'max-fee-wei': {
    type: 'string',
    value: 'WEI',
    help: "most to pay as the broker's request fee, beside gas (default 0)",
  },
  'expect-upstream': {
    type: 'string',
    value: 'CIDR',
    help: 'refuse a prefix outside of this one; remembered for renewals',
  },
  'configure-wg': { type: 'boolean', help: 'bring the tunnel up when the answer is there' },
  ...tunnelOptions,
} satisfies Record<string, Option>

const tunnelSetupOptions = {
  ...tunnelOptions,
  'no-forwarding': {
    type: 'boolean',
    help: 'leave IPv6 forwarding as it is (VMs behind this host then get no traffic)',
  },
  'default-route': {
    type: 'boolean',
    help: "also send this host's own IPv6 traffic through the tunnel when it has no other way",
  },
} satisfies Record<string, Option>

const subcommands: Readonly<
  Record<string, { help: string; options: Readonly<Record<string, Option>>; required?: readonly string[] }>
> = {
  request: {
    help: 'ask a broker for an IPv6 prefix and wait for its answer',
    required: ['nft-contract', 'wallet-key'],
    options: {
      ...askOptions,
      'broker-id': { type: 'string', value: 'N', help: 'this broker of the registry' },
      'requests-contract': {
        type: 'string',
        value: 'ADDRESS',
        help: 'this broker, without registry (with --broker-pubkey)',
      },
      'broker-pubkey': { type: 'string', value: 'HEX', help: 'its encryption key (with --requests-contract)' },
      region: { type: 'string', value: 'TEXT', help: 'any broker of this region' },
    },
  },
  status: {
    help: 'show the saved lease, its state on chain and the tunnel',
    options: {
      ...nftOption,
      'requests-contract': { type: 'string', value: 'ADDRESS', help: 'contract the lease was asked for at' },
      ...tunnelOptions,
    },
  },
  'list-brokers': { help: 'list the active brokers of the registry', options: {} },
  install: {
    help: 'set up the tunnel for good: wg-quick file, up, enabled at boot, checked by ping',
    options: tunnelSetupOptions,
  },
  configure: { help: 'set up the tunnel until the next boot', options: tunnelSetupOptions },
  renew: {
    help: 'ask the same broker again with a new WireGuard key; the prefix stays',
    required: ['nft-contract', 'wallet-key'],
    options: askOptions,
  },
  release: {
    help: 'give the prefix back',
    options: {
      ...nftOption,
      ...walletOption,
      'requests-contract': { type: 'string', value: 'ADDRESS', help: 'contract the lease was asked for at' },
      'cleanup-wg': { type: 'boolean', help: 'also take the tunnel down and delete its wg-quick file' },
      force: { type: 'boolean', help: 'clean up here even when the broker can not be told' },
      ...waitOptions,
      ...tunnelOptions,
    },
  },
}

const everyOption: Readonly<Record<string, Option>> = Object.assign(
  {},
  globalOptions,
  ...Object.values(subcommands).map(subcommand => subcommand.options),
)

/** The endpoint of the documents' default chain (Sepolia), used when no other is named. */
const defaultRpcUrl = 'https://ethereum-sepolia-rpc.publicnode.com'

/**
 * Reads a command line. Options may stand before or after the subcommand, as `--name value` or `--name=value`.
 *
 * @param args - Without program and script.
 * @param env - `ETH_RPC_URL`, `ETH_CHAIN_ID`, `BROKER_REGISTRY_CONTRACT`; an option wins over its variable.
 */
export function parseArgv(args: readonly string[], env: Readonly<Record<string, string | undefined>>): ParsedArgv {
  const json = args.includes('--json')
  try {
    return { ok: true, ...parse(args, env) }
  } catch (error) {
    if (error instanceof UsageError || isParseArgsError(error)) return { ok: false, json, message: firstLine(error) }
    throw error
  }
}

class UsageError extends Error {}

type Values = Readonly<Record<string, string | boolean | undefined>>

function parse(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): { globals: Globals; command: Command } {
  const name = findSubcommand(args)
  if (name !== undefined && !Object.hasOwn(subcommands, name))
    throw new UsageError(`There is no subcommand \`${name}\`; try --help`)
  const subcommand = name === undefined ? undefined : subcommands[name]
  const values = parseArgs({
    args: [...args],
    options: toDescriptors({ ...globalOptions, ...subcommand?.options }),
    allowPositionals: true,
    strict: true,
  })
  if (values.positionals.length > 1) throw new UsageError(`Unexpected argument \`${values.positionals[1]}\``)
  const given = values.values as Values
  const globals = readGlobals(given, env)
  if (given.help === true) return { globals, command: { name: 'help', text: helpText(name) } }
  if (given.version === true) return { globals, command: { name: 'version' } }
  if (name === undefined || subcommand === undefined)
    throw new UsageError(`Name a subcommand: ${Object.keys(subcommands).join(', ')}`)
  for (const option of subcommand.required ?? [])
    if (given[option] === undefined) throw new UsageError(`\`${name}\` needs --${option}`)
  return { globals, command: readCommand(name, given) }
}

/** Finds the first word that is neither an option nor the value of one. */
function findSubcommand(args: readonly string[]): string | undefined {
  const { tokens } = parseArgs({
    args: [...args],
    options: toDescriptors(everyOption),
    allowPositionals: true,
    strict: false,
    tokens: true,
  })
  return tokens.find(token => token.kind === 'positional')?.value
}

function toDescriptors(options: Readonly<Record<string, Option>>): Record<string, ParseArgsOptionDescriptor> {
  return Object.fromEntries(
    Object.entries(options).map(([name, { type, short }]) => [name, short === undefined ? { type } : { type, short }]),
  )
}

function readGlobals(given: Values, env: Readonly<Record<string, string | undefined>>): Globals {
  const text = (option: string, variable: string) => textOf(given, option) ?? (env[variable] || undefined)
  const chainId = text('chain-id', 'ETH_CHAIN_ID')
  const registry = text('registry-contract', 'BROKER_REGISTRY_CONTRACT')
  return {
    json: given.json === true,
    rpcUrls: rpcUrls(text('rpc-url', 'ETH_RPC_URL') ?? defaultRpcUrl),
    chainId:
      chainId === undefined ? undefined : Number(whole(chainId, '--chain-id', 1n, BigInt(Number.MAX_SAFE_INTEGER))),
    registryContract: registry === undefined ? undefined : address(registry, '--registry-contract'),
    configDir: textOf(given, 'config-dir') ?? '/etc/blockhost',
  }
}

function readCommand(name: string, given: Values): Command {
  switch (name) {
    case 'request':
      return { name, ...readAsk(given), broker: readSelector(given) }
    case 'renew':
      return { name, ...readAsk(given) }
    case 'status':
      return {
        name,
        nftContract: optionalAddress(given, 'nft-contract'),
        requestsContract: optionalAddress(given, 'requests-contract'),
        ...readTunnel(given),
      }
    case 'install':
    case 'configure':
      return {
        name,
        forwarding: given['no-forwarding'] !== true,
        defaultRoute: given['default-route'] === true,
        ...readTunnel(given),
      }
    case 'release':
      return {
        name,
        nftContract: optionalAddress(given, 'nft-contract'),
        requestsContract: optionalAddress(given, 'requests-contract'),
        walletKey: textOf(given, 'wallet-key'),
        cleanupWg: given['cleanup-wg'] === true,
        force: given.force === true,
        ...readWait(given),
        ...readTunnel(given),
      }
    default:
      return { name: 'list-brokers' }
  }
}

function readAsk(given: Values): AskOptions {
  return {
    nftContract: address(textOf(given, 'nft-contract') ?? '', '--nft-contract'),
    walletKey: textOf(given, 'wallet-key') ?? '',
    maxFeeWei: whole(textOf(given, 'max-fee-wei') ?? '0', '--max-fee-wei', 0n, 2n ** 128n),
    expectUpstream: textOf(given, 'expect-upstream'),
    configureWg: given['configure-wg'] === true,
    ...readWait(given),
    ...readTunnel(given),
  }
}

function readSelector(given: Values): BrokerSelector {
  const requestsContract = optionalAddress(given, 'requests-contract')
  const brokerPubkey = textOf(given, 'broker-pubkey')
  const brokerId = textOf(given, 'broker-id')
  const region = textOf(given, 'region')
  if ((requestsContract === undefined) !== (brokerPubkey === undefined))
    throw new UsageError('--requests-contract and --broker-pubkey belong together')
  if (requestsContract !== undefined && brokerPubkey !== undefined) {
    if (brokerId !== undefined || region !== undefined)
      throw new UsageError('--requests-contract names the broker; leave out --broker-id and --region')
    return { kind: 'direct', requestsContract, brokerPubkey: publicKeyHex(brokerPubkey) }
  }
  if (brokerId === undefined) return { kind: 'any', region }
  if (region !== undefined) throw new UsageError('--broker-id names the broker; leave out --region')
  return { kind: 'id', brokerId: whole(brokerId, '--broker-id', 1n, 2n ** 256n - 1n) }
}

function readTunnel(given: Values): TunnelOptions {
  const wgInterface = textOf(given, 'wg-interface') ?? 'wg-broker'
  // What wg-quick(8) takes; a leading dash would read as an option, and the kernel refuses the two dot names.
  if (!/^[a-zA-Z0-9_=+.-]{1,15}$/.test(wgInterface) || /^(-|\.{1,2}$)/.test(wgInterface))
    throw new UsageError(
      `--wg-interface: \`${wgInterface}\` is not an interface name of at most 15 letters, digits or _=+.-`,
    )
  return { wgInterface, wgConfDir: textOf(given, 'wg-conf-dir') ?? '/etc/wireguard' }
}

function readWait(given: Values): { timeoutMs: number; pollIntervalMs: number } {
  return {
    timeoutMs: seconds(textOf(given, 'timeout') ?? '300', '--timeout', 1, 7 * 86_400),
    pollIntervalMs: seconds(textOf(given, 'poll-interval') ?? '2', '--poll-interval', 0.5, 3600),
  }
}

function textOf(given: Values, option: string): string | undefined {
  const value = given[option]
  if (value === '') throw new UsageError(`--${option} is empty`)
  return typeof value === 'string' ? value : undefined
}

function rpcUrls(text: string): readonly string[] {
  const urls = text
    .split(',')
    .map(url => url.trim())
    .filter(url => url !== '')
  if (urls.length === 0) throw new UsageError('--rpc-url is empty')
  for (const url of urls)
    if (!/^https?:$/.test(URL.parse(url)?.protocol ?? ''))
      throw new UsageError('--rpc-url: each must be an http or https URL')
  return urls
}

function optionalAddress(given: Values, option: string): AddressText | undefined {
  const text = textOf(given, option)
  return text === undefined ? undefined : address(text, `--${option}`)
}

function address(text: string, label: string): AddressText {
  if (!/^0x[0-9a-fA-F]{40}$/.test(text))
    throw new UsageError(`${label}: \`${text}\` is not an address (0x and 40 hex digits)`)
  return text as AddressText
}

function publicKeyHex(text: string): string {
  const digits = text.replace(/^0x/i, '').toLowerCase()
  if (!/^([0-9a-f]{66}|[0-9a-f]{128}|[0-9a-f]{130})$/.test(digits))
    throw new UsageError('--broker-pubkey must be a secp256k1 public key of 33, 64 or 65 bytes, in hex')
  return digits
}

function whole(text: string, label: string, min: bigint, max: bigint): bigint {
  const value = /^[0-9]{1,78}$/.test(text) ? BigInt(text) : undefined
  if (value === undefined || value < min || value > max)
    throw new UsageError(`${label}: \`${text}\` is not a whole number from ${min} to ${max}`)
  return value
}

function seconds(text: string, label: string, min: number, max: number): number {
  const value = /^[0-9]{1,9}(\.[0-9]{1,6})?$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= min && value <= max))
    throw new UsageError(`${label}: \`${text}\` is not a number of seconds from ${min} to ${max}`)
  return Math.round(value * 1000)
}

function isParseArgsError(error: unknown): error is Error {
  return error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')
}

function firstLine(error: Error): string {
  return error.message.split('\n')[0] ?? error.message
}

/** Returns the help of one subcommand, or the overview. Ends with a newline. */
export function helpText(name?: string): string {
  const subcommand = name === undefined ? undefined : subcommands[name]
  if (name === undefined || subcommand === undefined)
    return [
      'usage: broker-client [global options] SUBCOMMAND [options]',
      '',
      'Gets this host a public IPv6 prefix from a broker, on chain, and brings up the tunnel to it.',
      '',
      'subcommands (each has --help):',
      ...Object.entries(subcommands).map(([word, { help }]) => `  ${word.padEnd(14)}${help}`),
      '',
      'global options:',
      ...optionLines(globalOptions),
      '',
      'exit codes: 0 done, 1 failed, 2 usage, 75 not finished (run the same command again), 78 configuration',
      '',
    ].join('\n')
  return [
    `usage: broker-client [global options] ${name} [options]`,
    '',
    `${subcommand.help[0]?.toUpperCase()}${subcommand.help.slice(1)}.`,
    ...(Object.keys(subcommand.options).length === 0
      ? []
      : ['', 'options:', ...optionLines(subcommand.options, subcommand.required)]),
    '',
    'global options:',
    ...optionLines(globalOptions),
    '',
  ].join('\n')
}

function optionLines(options: Readonly<Record<string, Option>>, required: readonly string[] = []): string[] {
  return Object.entries(options).map(([name, { value, help }]) => {
    const flag = value === undefined ? `--${name}` : `--${name} ${value}`
    return `  ${flag.padEnd(30)}${required.includes(name) ? '(required) ' : ''}${help}`
  })
}
