import { parseArgs } from 'node:util'
import { toAddress } from './address.ts'

/** What a command line asks for. */
export type Command =
  | { readonly kind: 'run'; readonly configPath: string | undefined }
  | { readonly kind: 'check-config'; readonly configPath: string | undefined; readonly json: boolean }
  | { readonly kind: 'keygen'; readonly folder: string; readonly force: boolean; readonly json: boolean }
  | { readonly kind: 'generate-key'; readonly path: string; readonly force: boolean; readonly json: boolean }
  | ({ readonly kind: 'deploy'; readonly configPath: string | undefined; readonly json: boolean } & DeployArguments)
  | {
      readonly kind: 'set-fee' | 'set-capacity'
      readonly configPath: string | undefined
      readonly value: bigint
      readonly json: boolean
    }
  | {
      readonly kind: 'withdraw-fees'
      readonly configPath: string | undefined
      readonly to: `0x${string}` | undefined
      readonly json: boolean
    }
  | { readonly kind: 'down'; readonly configPath: string | undefined; readonly json: boolean }
  | { readonly kind: 'version' }
  | { readonly kind: 'help' }
  /** Exit 2: the line can't be understood. */
  | { readonly kind: 'usage'; readonly problem: string }

/** Arguments of `deploy`. */
export type DeployArguments = {
  readonly rpcUrls: readonly string[]
  readonly chainId: number
  readonly operatorKeyFile: string
  readonly eciesKeyFile: string
  readonly region: string | undefined
  readonly capacity: bigint | undefined
  readonly requestFeeWei: bigint | undefined
  readonly registry: `0x${string}` | undefined
  readonly requests: `0x${string}` | undefined
  readonly writeConfig: boolean
}

/** What `--help` prints. */
export const helpText = `blockhost-broker leases IPv6 prefixes to hosts that ask on chain, and carries them through WireGuard.

Usage: blockhost-broker [command] [options]

Commands:
  run                 Serve (the default)
  check-config        Read the configuration and say what is wrong with it; also --check-config
  keygen              Make the keys that do not exist yet
  deploy              Deploy the contracts and register the broker; safe to repeat, with the daemon stopped
                      (also: deploy-contracts)
  set-fee WEI         Set what a request costs its sender, in wei
  set-capacity N      Set how many leases are accepted at a time; 0 = any number
  down                Remove the interface, firewall and NDP that a stopped daemon leaves in force
  withdraw-fees       Send the collected fees to the operator, or to --to ADDRESS; sends nothing where there are none

Options:
  -c, --config PATH   Configuration [/etc/blockhost-broker/config.toml]
      --json          Print the result as JSON (all commands but run)
      --version       Print the version
  -h, --help          Print this

keygen:
      --dir PATH      Where the keys go [/etc/blockhost-broker]
      --force         Replace keys that exist; what they opened is lost

deploy:
      --rpc-url URL   JSON-RPC endpoint; may be given several times
      --chain-id N    Chain the endpoint must be on
      --operator-key PATH      [/etc/blockhost-broker/operator.key]
      --ecies-key PATH         [/etc/blockhost-broker/ecies.key]
      --region TEXT            Shown to hosts that choose a broker [default]
      --capacity N             Leases accepted at a time; 0 = any number
      --request-fee-wei N      What a request costs its sender
      --registry ADDRESS       Use this registry instead of deploying one
      --requests ADDRESS       Use this requests contract of yours instead of deploying one
      --write-config           Put the result into the configuration file

Exit codes: 0 done, 1 failed, 2 usage, 75 try again, 78 correct the configuration.`

const common = {
  config: { type: 'string', short: 'c' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
  'check-config': { type: 'boolean' },
} as const

const ofDeploy = {
  'rpc-url': { type: 'string', multiple: true },
  'chain-id': { type: 'string' },
  'operator-key': { type: 'string' },
  'ecies-key': { type: 'string' },
  region: { type: 'string' },
  capacity: { type: 'string' },
  'request-fee-wei': { type: 'string' },
  registry: { type: 'string' },
  requests: { type: 'string' },
  'write-config': { type: 'boolean' },
} as const

/** Options that each command takes beside the common ones. `generate-key` and `deploy-contracts` are earlier generations' names. */
const optionsOf = {
  run: {},
  'check-config': {},
  keygen: { dir: { type: 'string' }, force: { type: 'boolean' } },
  'generate-key': { output: { type: 'string', short: 'o' }, force: { type: 'boolean' } },
  deploy: ofDeploy,
  'deploy-contracts': ofDeploy,
  'set-fee': {},
  'set-capacity': {},
  'withdraw-fees': { to: { type: 'string' } },
  down: {},
} as const

type Name = keyof typeof optionsOf
type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>

/**
 * Reads a command line (without program and script). Pure; unknown options and commands come back as `usage`.
 *
 * Options may stand before and after the command, as in earlier generations.
 */
export function parseArgv(argv: readonly string[]): Command {
  try {
    const { name, rest } = findCommand(argv)
    const { values, positionals } = parseArgs({
      args: rest,
      options: { ...common, ...optionsOf[name] },
      allowPositionals: true,
    })
    return toCommand(name, values as Values, positionals)
  } catch (error) {
    return { kind: 'usage', problem: (error as Error).message }
  }
}

class UsageError extends Error {}

/** The first word that is neither an option nor the value of `--config`. */
function findCommand(argv: readonly string[]): { name: Name; rest: string[] } {
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]!
    if (word === '-c' || word === '--config') at++
    else if (!word.startsWith('-')) {
      if (!Object.hasOwn(optionsOf, word)) throw new UsageError(`There is no command "${word}"`)
      return { name: word as Name, rest: argv.toSpliced(at, 1) }
    }
  }
  return { name: 'run', rest: [...argv] }
}

function toCommand(name: Name, values: Values, positionals: readonly string[]): Command {
  if (values.help === true) return { kind: 'help' }
  if (values.version === true) return { kind: 'version' }
  const configPath = text(values, 'config')
  const json = values.json === true
  const takesValue = name === 'set-fee' || name === 'set-capacity'
  if (positionals.length > (takesValue ? 1 : 0)) throw new UsageError(`"${positionals.at(-1)}" is one word too many`)
  switch (name) {
    case 'run':
      return values['check-config'] === true ? { kind: 'check-config', configPath, json } : { kind: 'run', configPath }
    case 'check-config':
    case 'down':
      return { kind: name, configPath, json }
    case 'keygen':
      return { kind: name, folder: text(values, 'dir') ?? configFolder, force: values.force === true, json }
    case 'generate-key':
      return { kind: name, path: required(text(values, 'output'), '--output PATH'), force: values.force === true, json }
    case 'deploy':
    case 'deploy-contracts':
      return { kind: 'deploy', configPath, json, ...deployArguments(values) }
    case 'set-fee':
    case 'set-capacity':
      return { kind: name, configPath, value: wholeNumber(required(positionals[0], 'a number'), name), json }
    case 'withdraw-fees':
      return { kind: name, configPath, to: address(values, 'to'), json }
  }
}

const configFolder = '/etc/blockhost-broker'

function deployArguments(values: Values): DeployArguments {
  const rpcUrls = (values['rpc-url'] ?? []) as string[]
  if (rpcUrls.length === 0) throw new UsageError('Expected --rpc-url URL')
  return {
    rpcUrls,
    chainId: Number(wholeNumber(required(text(values, 'chain-id'), '--chain-id N'), '--chain-id')),
    operatorKeyFile: text(values, 'operator-key') ?? `${configFolder}/operator.key`,
    eciesKeyFile: text(values, 'ecies-key') ?? `${configFolder}/ecies.key`,
    region: text(values, 'region'),
    capacity: maybeWholeNumber(values, 'capacity'),
    requestFeeWei: maybeWholeNumber(values, 'request-fee-wei'),
    registry: address(values, 'registry'),
    requests: address(values, 'requests'),
    writeConfig: values['write-config'] === true,
  }
}

function text(values: Values, name: string): string | undefined {
  const value = values[name]
  if (value === '') throw new UsageError(`--${name} is empty`)
  return typeof value === 'string' ? value : undefined
}

function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new UsageError(`Expected ${what}`)
  return value
}

function maybeWholeNumber(values: Values, name: string): bigint | undefined {
  const value = text(values, name)
  return value === undefined ? undefined : wholeNumber(value, `--${name}`)
}

function wholeNumber(value: string, name: string): bigint {
  if (!/^\d{1,30}$/.test(value)) throw new UsageError(`${name}: found "${value}", expected a whole number`)
  return BigInt(value)
}

function address(values: Values, name: string): `0x${string}` | undefined {
  const value = text(values, name)
  if (value === undefined) return undefined
  const parsed = toAddress(value)
  if (parsed === undefined) throw new UsageError(`--${name}: found "${value}", expected 0x and 40 hexadecimal digits`)
  return parsed
}
