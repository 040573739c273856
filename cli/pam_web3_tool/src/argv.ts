import { parseArgs } from 'node:util'
import { messageOf } from '@blockhost/kit/errors.ts'

/** Where a value is read from: a file, or `-` for standard input. */
export type Source = string

/** How a message to a key is encrypted; `auto` tries `noble`, then `ecies`. */
export type Scheme = 'noble' | 'ecies' | 'nacl' | 'auto'

/** One command line. */
export type Command =
  | {
      readonly kind: 'generate-keypair'
      readonly output: string | undefined
      readonly showPubkey: boolean
      readonly force: boolean
    }
  | { readonly kind: 'encrypt-symmetric'; readonly signature: Source; readonly plaintext: Source }
  | { readonly kind: 'decrypt-symmetric'; readonly signature: Source; readonly ciphertext: Ciphertext }
  | { readonly kind: 'derive-pubkey' | 'wallet-encryption-key'; readonly key: Source }
  | { readonly kind: 'decrypt'; readonly key: Source; readonly scheme: Scheme; readonly ciphertext: Ciphertext }
  /** Of one subcommand, or of all. */
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' }
  | { readonly kind: 'usage'; readonly problem: string }

/** A ciphertext may be seen by everybody: it may stand on the command line. */
export type Ciphertext = { readonly text: string } | { readonly source: Source }

const helpOf = {
  'generate-keypair': `  generate-keypair [-o|--output FILE] [--show-pubkey] [--force]
        Makes a secp256k1 key. With -o it goes into FILE (mode 0600), which is replaced
        only with --force; else it is printed. --show-pubkey prints the public key, last.`,
  'derive-pubkey': `  derive-pubkey -f|--private-key-file FILE
        Prints the public key of a key: 65 bytes, hex.`,
  'wallet-encryption-key': `  wallet-encryption-key -f|--private-key-file FILE
        Prints the X25519 public key of a wallet's key, base64, as wallets give it
        (eth_getEncryptionPublicKey).`,
  'encrypt-symmetric': `  encrypt-symmetric --signature-file FILE --plaintext-file FILE
        Encrypts the connection details for an access token: AES-256-GCM under Keccak-256
        of the signature. Prints 0x and hex.`,
  'decrypt-symmetric': `  decrypt-symmetric --signature-file FILE (-c|--ciphertext HEX | --ciphertext-file FILE)
        Decrypts the connection details of an access token.`,
  decrypt: `  decrypt [-s|--scheme SCHEME] -f|--private-key-file FILE
          (-c|--ciphertext HEX | --ciphertext-file FILE)
        Decrypts a message to a key. SCHEME: noble (default), ecies (also: secp256k1),
        nacl (also: x25519, eth_decrypt), auto (noble, then ecies).`,
} as const

const rules = `A FILE may be - for standard input, once. Secrets are never taken from the command line:
every user of the machine can read it. Prints the bare value and a line feed.
Exit codes: 0 done, 1 failed, 2 usage, 78 a file or value can't be used.`

/** What `help` prints. */
export const helpText = `pam_web3_tool: keys and messages of wallet sign-in

usage: pam_web3_tool SUBCOMMAND [options]

${Object.values(helpOf).join('\n')}
  help [SUBCOMMAND], --version

${rules}`

const schemes: Readonly<Record<string, Scheme>> = {
  noble: 'noble',
  'noble-secp256k1': 'noble',
  secp256k1: 'ecies',
  ecies: 'ecies',
  x25519: 'nacl',
  eth_decrypt: 'nacl',
  nacl: 'nacl',
  auto: 'auto',
}

const keyFlag = '-f FILE (--private-key-file)'

/** What earlier generations took on the command line, and where it goes. */
const secretFlags: Readonly<Record<string, string>> = {
  signature: '--signature-file',
  plaintext: '--plaintext-file',
  'private-key': '--private-key-file',
}

/** Reads a command line, without program and script. */
export function parseArgv(argv: readonly string[]): Command {
  try {
    return parse(argv)
  } catch (error) {
    return { kind: 'usage', problem: messageOf(error) }
  }
}

function parse([name, ...rest]: readonly string[]): Command {
  if (name === undefined) throw new Error(`a subcommand is needed: ${known.join(', ')}`)
  if (name === 'help' || name === '--help' || name === '-h') return help(rest[0])
  if (rest.includes('--help') || rest.includes('-h')) return help(name)
  switch (name) {
    case '--version':
      return { kind: 'version' }
    case 'generate-keypair': {
      const { values } = parseArgs({
        args: rest,
        options: {
          output: { type: 'string', short: 'o' },
          'show-pubkey': { type: 'boolean', default: false },
          force: { type: 'boolean', default: false },
        },
      })
      return { kind: name, output: values.output, showPubkey: values['show-pubkey'], force: values.force }
    }
    case 'encrypt-symmetric': {
      const values = parseSymmetric(rest)
      const signature = needed(values['signature-file'], '--signature-file FILE')
      return once({ kind: name, signature, plaintext: needed(values['plaintext-file'], '--plaintext-file FILE') })
    }
    case 'decrypt-symmetric': {
      const values = parseSymmetric(rest)
      const signature = needed(values['signature-file'], '--signature-file FILE')
      return once({ kind: name, signature, ciphertext: toCiphertext(values) })
    }
    case 'derive-pubkey':
    case 'wallet-encryption-key':
      return { kind: name, key: needed(parseKeyed(rest)['private-key-file'], keyFlag) }
    case 'decrypt': {
      const values = parseKeyed(rest)
      const scheme = Object.hasOwn(schemes, values.scheme) ? schemes[values.scheme]! : undefined
      if (scheme === undefined)
        throw new Error(`there is no scheme ${values.scheme}; there are ${Object.keys(schemes).join(', ')}`)
      const key = needed(values['private-key-file'], keyFlag)
      return once({ kind: name, key, scheme, ciphertext: toCiphertext(values) })
    }
    default:
      throw unknown(name)
  }
}

const known = Object.keys(helpOf)

function help(name: string | undefined): Command {
  if (name === undefined) return { kind: 'help', text: helpText }
  if (!Object.hasOwn(helpOf, name)) throw unknown(name)
  return { kind: 'help', text: `usage: pam_web3_tool ${helpOf[name as keyof typeof helpOf].trimStart()}\n\n${rules}` }
}

function unknown(name: string): Error {
  return new Error(`there is no subcommand ${name}; there are ${known.join(', ')}`)
}

function parseSymmetric(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      'signature-file': { type: 'string' },
      'plaintext-file': { type: 'string' },
      'ciphertext-file': { type: 'string' },
      ciphertext: { type: 'string', short: 'c' },
      signature: { type: 'string', short: 's' },
      plaintext: { type: 'string', short: 'p' },
    },
  })
  refuseSecrets(values)
  return values
}

function parseKeyed(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      'private-key-file': { type: 'string', short: 'f' },
      'ciphertext-file': { type: 'string' },
      ciphertext: { type: 'string', short: 'c' },
      scheme: { type: 'string', short: 's', default: 'noble' },
      'private-key': { type: 'string', short: 'k' },
    },
  })
  refuseSecrets(values)
  return values
}

function refuseSecrets(values: Readonly<Record<string, unknown>>): void {
  for (const [flag, instead] of Object.entries(secretFlags))
    if (values[flag] !== undefined)
      throw new Error(
        `--${flag} would show a secret to every user of this machine; put it into a file, or on standard input, and use ${instead}`,
      )
}

function toCiphertext(values: { ciphertext?: string | undefined; 'ciphertext-file'?: string | undefined }): Ciphertext {
  const { ciphertext: text, 'ciphertext-file': source } = values
  if ((text === undefined) === (source === undefined))
    throw new Error('one of -c HEX (--ciphertext) and --ciphertext-file FILE is needed, not both')
  return text === undefined ? { source: source! } : { text }
}

function needed(value: string | undefined, flag: string): string {
  if (value === undefined) throw new Error(`${flag} is needed`)
  return value
}

/** Standard input can be read only once. */
function once<T extends Command>(command: T): T {
  const sources = Object.values(command).flatMap(value => (typeof value === 'object' ? Object.values(value) : [value]))
  if (sources.filter(source => source === '-').length > 1)
    throw new Error('only one value can come from standard input')
  return command
}
