/** Files that hold one secp256k1 private key as 64 hexadecimal digits: `operator.key`, `ecies.key`, `server.key`, `deployer.key`. */
import { randomBytes } from 'node:crypto'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { readTextFile, writeFileAtomic } from '@blockhost/kit/files.ts'
import { checksum } from 'ox/Address'
import { keccak256 } from 'ox/Hash'
import { isPrivate, pointFromScalar } from 'tiny-secp256k1'

const maxKeyFileBytes = 1024

/** Outcome of {@link parsePrivateKey}; `reason` never repeats what was read. */
export type ParsedPrivateKey =
  | { readonly ok: true; readonly privateKey: Uint8Array }
  | { readonly ok: false; readonly reason: string }

/**
 * Reads a private key from a file of at most 1024 bytes: 64 hex digits, `0x` before and blanks around them allowed.
 *
 * @returns 32 bytes, in 1..n-1.
 * @throws {BlockHostError} `BH_KEY_FILE_INVALID`, `BH_FILE_READ_FAILED`, `BH_FILE_TOO_LARGE`: all exit 78, none shows the content.
 */
export function readKeyFile(path: string): Uint8Array {
  const parsed = parsePrivateKey(readTextFile(path, { maxBytes: maxKeyFileBytes, what: 'key file' }))
  if (parsed.ok) return parsed.privateKey
  throw new BlockHostError({
    code: 'BH_KEY_FILE_INVALID',
    message: `The key file ${path} can't be used: ${parsed.reason}`,
    hint: 'It must hold one private key as 64 hexadecimal digits; `0x` in front is allowed.',
    fields: { path },
    exitCode: exitCodes.badConfig,
  })
}

/** Reads a private key from text in the form that {@link readKeyFile} documents. */
export function parsePrivateKey(text: string): ParsedPrivateKey {
  const digits = text.trim().replace(/^0x/i, '')
  if (digits.length !== 64) return { ok: false, reason: `it holds ${digits.length} characters where 64 are expected` }
  if (!/^[0-9a-f]+$/i.test(digits)) return { ok: false, reason: 'it holds a character that is not a hexadecimal digit' }
  const privateKey = Uint8Array.fromHex(digits)
  if (!isPrivate(privateKey)) return { ok: false, reason: 'the number is outside the range of secp256k1 private keys' }
  return { ok: true, privateKey }
}

/**
 * Makes a new random private key and writes it as 64 hex digits and a newline, mode 0600 from the first byte on.
 *
 * @param options.force - Replace an existing file. Default `false`: `BH_FILE_EXISTS`.
 * @returns The key, 32 bytes; it is on disk when this returns.
 * @throws {BlockHostError} `BH_FILE_EXISTS`, `BH_FILE_WRITE_FAILED`.
 */
export function generateKeyFile(path: string, options: { force?: boolean } = {}): Uint8Array {
  const privateKey = generatePrivateKey()
  writeFileAtomic(path, `${privateKey.toHex()}\n`, { mode: 0o600, exclusive: options.force !== true })
  return privateKey
}

/** Draws a secp256k1 private key: 32 bytes, uniform in 1..n-1. */
export function generatePrivateKey(): Uint8Array {
  for (;;) {
    const privateKey = new Uint8Array(randomBytes(32))
    if (isPrivate(privateKey)) return privateKey // fails once in 2^128 draws
  }
}

/** Returns the public key of `privateKey` as the registry and the request payload hold it: `04 || X || Y`, 65 bytes. */
export function publicKeyOf(privateKey: Uint8Array): Uint8Array {
  const publicKey = isPrivate(privateKey) ? pointFromScalar(privateKey, false) : null
  if (publicKey === null)
    throw new BlockHostError({ code: 'BH_ECIES_KEY_INVALID', message: 'The private key is not in the range 1..n-1' })
  return publicKey
}

/** Returns the Ethereum address of `privateKey`, EIP-55 checksummed. */
export function addressOf(privateKey: Uint8Array): `0x${string}` {
  const digest = keccak256(publicKeyOf(privateKey).subarray(1), { as: 'Bytes' })
  return checksum(`0x${digest.subarray(12).toHex()}`)
}
