import { accessSync, constants, statSync } from 'node:fs'
import { readKeyFile } from '@blockhost/crypto/key-file.ts'
import { BlockHostError, exitCodes, messageOf } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { publicKeyOf } from '@blockhost/net/wireguard.ts'
import type { BrokerConfig } from './config.ts'

/**
 * Checks that the files a configuration names can be read and hold what they should. Changes nothing.
 *
 * @param path - The configuration file, for messages.
 * @returns Warnings: key files that other users may read.
 * @throws {BlockHostError} `BH_CONFIG_INVALID` (exit 78) naming every key whose file is missing, unreadable or no key.
 */
export function checkConfigFiles(config: BrokerConfig, path: string): string[] {
  const problems: string[] = []
  const warnings: string[] = []
  for (const { key, file, check } of filesOf(config)) {
    try {
      accessSync(file, constants.R_OK)
      check(file)
      if (check !== isReadable && (statSync(file).mode & 0o077) !== 0)
        warnings.push(`${key}: other users can read ${file}; \`chmod 600 ${file}\``)
    } catch (error) {
      problems.push(`${key}: ${explain(file, error)}`)
    }
  }
  if (problems.length === 0) return warnings
  throw new BlockHostError({
    code: 'BH_CONFIG_INVALID',
    message: `${path} can't be used: ${problems.join('; ')}`,
    hint: '`blockhost-broker keygen` makes the keys that are missing and leaves the others alone.',
    fields: { path, problems },
    exitCode: exitCodes.badConfig,
  })
}

type NamedFile = { readonly key: string; readonly file: string; readonly check: (file: string) => void }

function filesOf({ wireguard, api, onchain }: BrokerConfig): NamedFile[] {
  const files: NamedFile[] = [
    { key: 'wireguard.private_key_file', file: wireguard.privateKeyFile, check: isWireGuardKey },
  ]
  if (api.tls !== undefined) {
    files.push({ key: 'api.tls_cert', file: api.tls.cert, check: isReadable })
    files.push({ key: 'api.tls_key', file: api.tls.key, check: isReadable })
  }
  if (onchain !== undefined) {
    files.push({ key: 'onchain.private_key_file', file: onchain.operatorKeyFile, check: readKeyFile })
    files.push({ key: 'onchain.ecies_private_key_file', file: onchain.eciesKeyFile, check: readKeyFile })
  }
  return files
}

function isReadable(): void {
  // accessSync has said so.
}

function isWireGuardKey(file: string): void {
  publicKeyOf(readTextFile(file, { maxBytes: 1024, what: 'WireGuard key' }).trim())
}

function explain(file: string, error: unknown): string {
  const reason = (error as NodeJS.ErrnoException).code
  if (reason === 'ENOENT') return `found no file ${file}`
  if (reason === 'EACCES') return `found ${file}, which this user may not read`
  return messageOf(error)
}
