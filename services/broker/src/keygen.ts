import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { addressOf, generateKeyFile, publicKeyOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import { readTextFile, writeFileAtomic } from '@blockhost/kit/files.ts'
import { generateKeyPair, publicKeyOf as wireGuardPublicKeyOf } from '@blockhost/net/wireguard.ts'

/** The public side of a broker's keys; nothing in it is secret. */
export type PublicKeys = {
  /** The operator wallet's address, EIP-55 checksummed: what to send gas money to. */
  readonly operatorAddress: string
  /** What hosts encrypt requests to: 04 || X || Y, hex with `0x`. */
  readonly eciesPublicKey: `0x${string}`
  /** WireGuard public key, base64. */
  readonly wireguardPublicKey: string
  /** Files of this call, by name; `kept` ones were there before. */
  readonly files: Readonly<Record<KeyFileName, { readonly path: string; readonly made: boolean }>>
}

/** The private keys of a broker. */
export type KeyFileName = 'operator.key' | 'ecies.key' | 'wg-private.key'

/**
 * Makes the keys of a broker that do not exist yet: `operator.key`, `ecies.key`, `wg-private.key`, all mode 0600 from the first byte on,
 * and `wg-public.key` (0644). A key that exists is kept and only read.
 *
 * @param folder - Absolute; made when missing.
 * @param options.force - Replace keys that exist. What they decrypted, owned or connected is lost with them.
 * @throws {BlockHostError} `BH_FILE_WRITE_FAILED`, and `BH_KEY_FILE_INVALID` or `BH_WIREGUARD_KEY_INVALID` for a broken key that exists.
 */
export function generateKeys(folder: string, options: { force: boolean }): PublicKeys {
  const operator = ensureKey(join(folder, 'operator.key'), options.force)
  const ecies = ensureKey(join(folder, 'ecies.key'), options.force)
  const wireguard = ensureWireGuardKey(join(folder, 'wg-private.key'), options.force)
  writeFileAtomic(join(folder, 'wg-public.key'), `${wireguard.publicKey}\n`, { mode: 0o644 })
  return {
    operatorAddress: addressOf(operator.privateKey),
    eciesPublicKey: `0x${publicKeyOf(ecies.privateKey).toHex()}`,
    wireguardPublicKey: wireguard.publicKey,
    files: { 'operator.key': operator.file, 'ecies.key': ecies.file, 'wg-private.key': wireguard.file },
  }
}

/** Renders {@link PublicKeys} for a terminal. */
export function describeKeys(keys: PublicKeys): string {
  const files = Object.entries(keys.files).map(
    ([name, { path, made }]) => `${made ? 'made' : 'kept'}  ${name.padEnd(15)} ${path}`,
  )
  return [
    ...files,
    '',
    `operator wallet       ${keys.operatorAddress}`,
    `ECIES public key      ${keys.eciesPublicKey}`,
    `WireGuard public key  ${keys.wireguardPublicKey}`,
    '',
    'Copy the three private keys to a safe place. Then send gas money to the operator wallet and run `blockhost-broker deploy`.',
  ].join('\n')
}

/** Renders {@link PublicKeys} for `--json`. */
export function keysToJson(keys: PublicKeys): Record<string, unknown> {
  return {
    operator: keys.operatorAddress,
    ecies_public_key: keys.eciesPublicKey,
    wireguard_public_key: keys.wireguardPublicKey,
    files: keys.files,
  }
}

function ensureKey(path: string, force: boolean) {
  const made = force || !existsSync(path)
  const privateKey = made ? generateKeyFile(path, { force }) : readKeyFile(path)
  return { privateKey, file: { path, made } }
}

function ensureWireGuardKey(path: string, force: boolean) {
  const made = force || !existsSync(path)
  if (!made) {
    const text = readTextFile(path, { maxBytes: 1024, what: 'WireGuard key' }).trim()
    return { publicKey: wireGuardPublicKeyOf(text), file: { path, made } }
  }
  const { privateKey, publicKey } = generateKeyPair()
  writeFileAtomic(path, `${privateKey}\n`, { mode: 0o600, exclusive: !force })
  return { publicKey, file: { path, made } }
}
