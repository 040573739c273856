import { existsSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { decryptAccessData, encryptAccessData } from '@blockhost/crypto/access-data.ts'
import { decrypt } from '@blockhost/crypto/ecies.ts'
import { decryptNoble } from '@blockhost/crypto/ecies-noble.ts'
import { generateKeyFile, generatePrivateKey, parsePrivateKey, publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import type { Ciphertext, Command, Scheme, Source } from './argv.ts'
import { ethDecrypt, walletEncryptionKey } from './eth-decrypt.ts'

type Work = Exclude<Command, { kind: 'help' | 'version' | 'usage' }>

/** Reads a file, or standard input for `-`. */
export type ReadSource = (source: Source) => Buffer

/**
 * Does the work of a subcommand.
 *
 * @returns What is printed: lines without the last line feed, empty when there is nothing to say.
 * @throws {BlockHostError} `BH_TOOL_INPUT_INVALID` (exit 78), `BH_ACCESS_DATA_INVALID`, `BH_ECIES_MESSAGE_INVALID`,
 *   `BH_ETH_DECRYPT_FAILED`, `BH_FILE_EXISTS`.
 */
export function runTool(command: Work, read: ReadSource = readSource): string | Uint8Array {
  switch (command.kind) {
    case 'generate-keypair':
      return generate(command)
    case 'derive-pubkey':
      return publicKeyOf(readKey(command.key, read)).toHex()
    case 'wallet-encryption-key':
      return walletEncryptionKey(readKey(command.key, read))
    case 'encrypt-symmetric':
      return `0x${encryptAccessData(readSignature(command.signature, read), read(command.plaintext)).toHex()}`
    case 'decrypt-symmetric': {
      const signature = readSignature(command.signature, read)
      return decryptAccessData(signature, toBytes(readCiphertext(command.ciphertext, read), 'ciphertext'))
    }
    case 'decrypt':
      return decryptWith(command.scheme, readKey(command.key, read), readCiphertext(command.ciphertext, read))
  }
}

function generate({ output, showPubkey, force }: Extract<Work, { kind: 'generate-keypair' }>): string {
  const key = output === undefined ? generatePrivateKey() : generateFile(output, force)
  const lines = [...(output === undefined ? [key.toHex()] : []), ...(showPubkey ? [publicKeyOf(key).toHex()] : [])]
  return lines.join('\n')
}

function generateFile(path: string, force: boolean): Uint8Array {
  // A mistyped path would become a new folder with a key in it that nobody finds.
  if (!existsSync(dirname(path))) throw unusable(path, `there is no folder ${dirname(path)}`)
  try {
    return generateKeyFile(path, { force })
  } catch (error) {
    if (!(error instanceof BlockHostError) || error.code !== 'BH_FILE_EXISTS') throw error
    throw new BlockHostError({
      code: error.code,
      message: `${path} exists already`,
      hint: 'Choose another path, or replace it with --force: what was encrypted to the old key is lost then.',
    })
  }
}

function decryptWith(scheme: Scheme, key: Uint8Array, ciphertext: string): Uint8Array {
  if (scheme === 'nacl') return ethDecrypt(key, ciphertext)
  const blob = toBytes(ciphertext, 'ciphertext')
  const ways = { noble: [decryptNoble], ecies: [decrypt], auto: [decryptNoble, decrypt] }[scheme]
  // Nothing in a message says which scheme it is of; the tag does.
  for (const way of ways.slice(0, -1)) {
    try {
      return way(key, blob)
    } catch {
      // Perhaps the next one.
    }
  }
  try {
    return ways.at(-1)!(key, blob)
  } catch (error) {
    throw withHint(error, scheme)
  }
}

function withHint(error: unknown, scheme: Scheme): unknown {
  if (!(error instanceof BlockHostError)) return error
  const { code, message } = error
  const hint =
    scheme === 'auto'
      ? 'It is of neither scheme, or for another key.'
      : `It is not of the scheme ${scheme}, or for another key. Try \`-s auto\`.`
  return new BlockHostError({ code, message, hint, cause: error.cause })
}

/** Reads a file, or standard input for `-`. @throws {BlockHostError} `BH_TOOL_INPUT_INVALID`. */
export function readSource(source: Source): Buffer {
  try {
    return readFileSync(source === '-' ? 0 : source)
  } catch (cause) {
    throw unusable(source === '-' ? 'Standard input' : source, 'it could not be read', cause)
  }
}

function readKey(source: Source, read: ReadSource): Uint8Array {
  const parsed = parsePrivateKey(read(source).toString('latin1'))
  if (parsed.ok) return parsed.privateKey
  throw unusable(source === '-' ? 'The key on standard input' : `The key file ${source}`, parsed.reason)
}

function readSignature(source: Source, read: ReadSource): Uint8Array {
  return toBytes(read(source).toString('latin1'), 'signature')
}

function readCiphertext(ciphertext: Ciphertext, read: ReadSource): string {
  return 'text' in ciphertext ? ciphertext.text : read(ciphertext.source).toString('latin1')
}

function toBytes(text: string, what: string): Uint8Array {
  const digits = text.trim().replace(/^0x/i, '')
  if (/^(?:[0-9a-f]{2})+$/i.test(digits)) return Uint8Array.fromHex(digits)
  throw unusable(`The ${what}`, digits === '' ? 'it is empty' : 'it is not hexadecimal')
}

function unusable(what: string, why: string, cause?: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_TOOL_INPUT_INVALID',
    message: `${what} can't be used: ${why}`,
    exitCode: exitCodes.badConfig,
    cause,
  })
}
