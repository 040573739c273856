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
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  | { readonly kind: 'usage'; readonly problem: string }

/** A ciphertext may be seen by everybody: it may stand on the command line. */
export type Ciphertext = { readonly text: string } | { readonly source: Source }

/** What `help` prints. */
export const helpText = `pam_web3_tool: keys and messages of wallet sign-in

usage: pam_web3_tool <subcommand> [options]

  generate-keypair [-o FILE] [--show-pubkey] [--force]
        makes a secp256k1 key; FILE is made with mode 0600. Without -o the key is printed
  derive-pubkey -f FILE                  prints the public key, 65 bytes
  wallet-encryption-key -f FILE          prints the X25519 key of a wallet, base64
  encrypt-symmetric --signature-file FILE --plaintext-file FILE
  decrypt-symmetric --signature-file FILE (-c HEX | --ciphertext-file FILE)
        connection details of an access token: AES-256-GCM under Keccak-256 of the signature
  decrypt [-s SCHEME] -f FILE (-c HEX | --ciphertext-file FILE)
        SCHEME: noble (default), secp256k1 = ecies, x25519 = eth_decrypt = nacl, auto
  help, --version

Every FILE may be - for standard input, once. Secrets are never taken from the command line: any user of the machine can read it.
Prints the bare value and a line feed. Exit codes: 0 done, 1 failed, 2 usage, 78 a file can't be used.`

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

function parse([name = 'help', ...rest]: readonly string[]): Command {
  switch (name) {
    case 'help':
    case '--help':
    case '-h':
      return { kind: 'help' }
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
      const signature = needed(values['signature-file'], '--signature-file')
      return once({ kind: name, signature, plaintext: needed(values['plaintext-file'], '--plaintext-file') })
    }
    case 'decrypt-symmetric': {
      const values = parseSymmetric(rest)
      const signature = needed(values['signature-file'], '--signature-file')
      return once({ kind: name, signature, ciphertext: toCiphertext(values) })
    }
    case 'derive-pubkey':
    case 'wallet-encryption-key':
      return { kind: name, key: needed(parseKeyed(rest)['private-key-file'], '-f') }
    case 'decrypt': {
      const values = parseKeyed(rest)
      const scheme = Object.hasOwn(schemes, values.scheme) ? schemes[values.scheme]! : undefined
      if (scheme === undefined) throw new Error(`there is no scheme ${values.scheme}`)
      const key = needed(values['private-key-file'], '-f')
      return once({ kind: name, key, scheme, ciphertext: toCiphertext(values) })
    }
    default:
      throw new Error(`there is no subcommand ${name}`)
  }
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
  if ((text === undefined) === (source === undefined)) throw new Error('one of -c and --ciphertext-file is needed')
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
