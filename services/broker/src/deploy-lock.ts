import { existsSync } from 'node:fs'
import type { Address } from '@blockhost/chain/hex.ts'
import { addressOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { takeLock } from '@blockhost/kit/lock.ts'
import { parse as parseToml } from 'smol-toml'
import { type BrokerConfig, defaultDatabasePath, parseConfig } from './config.ts'

/**
 * Keeps the daemon away as long as the result is not disposed of: it and `deploy` have an outbox each, and would race for the nonces
 * of one wallet. A daemon of another wallet or chain, or without a chain, may run.
 *
 * @param configPath - The daemon's; one that is missing or not filled in yet counts as one with the usual database.
 * @throws {BlockHostError} `BH_DAEMON_RUNS` (exit 75); `BH_LOCK_FAILED`.
 */
export function excludeDaemon(configPath: string, wallet: { operatorKeyFile: string; chainId: number }): Disposable {
  const text = attempt(() => readTextFile(configPath))
  const config = text === undefined ? undefined : attempt(() => parseConfig(text, configPath))
  const databasePath = config?.databasePath ?? databaseOf(text)
  const operator = addressOf(readKeyFile(wallet.operatorKeyFile))
  // Without that file no daemon ever ran there; making it here would make it this user's.
  if (!existsSync(`${databasePath}.lock`) || !mayShare(config, operator, wallet.chainId)) return nothing
  try {
    return takeLock(databasePath, 'blockhost-broker')
  } catch (error) {
    if (error instanceof BlockHostError && error.code === 'BH_ALREADY_RUNNING') throw daemonRuns(databasePath, operator)
    throw error
  }
}

const nothing: Disposable = { [Symbol.dispose]: () => undefined }

function databaseOf(text: string | undefined): string {
  const raw = text === undefined ? undefined : attempt(() => parseToml(text) as { database?: { path?: unknown } })
  const path = raw?.database?.path
  return typeof path === 'string' ? path : defaultDatabasePath
}

/** Whether the daemon may send with this wallet. What can't be known counts as yes. */
function mayShare(config: BrokerConfig | undefined, operator: Address, chainId: number): boolean {
  if (config === undefined) return true
  const { onchain } = config
  if (onchain === undefined || onchain.chainId !== chainId) return false
  const other = attempt(() => addressOf(readKeyFile(onchain.operatorKeyFile)))
  return other === undefined || other === operator
}

function daemonRuns(databasePath: string, operator: Address): BlockHostError {
  return new BlockHostError({
    code: 'BH_DAEMON_RUNS',
    message: `The daemon of ${databasePath} runs and sends with the same wallet ${operator}`,
    hint: 'Stop it for the time of the deployment: `systemctl stop blockhost-broker`. set-fee and set-capacity work while it runs.',
    fields: { databasePath, operator },
    retryable: true,
  })
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch {
    return undefined
  }
}
