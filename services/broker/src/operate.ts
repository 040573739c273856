import type { Address } from '@blockhost/chain/hex.ts'
import { createOutbox, type OutboxRow } from '@blockhost/chain/outbox.ts'
import { createRpc, type Rpc } from '@blockhost/chain/rpc.ts'
import { createTransactionPort } from '@blockhost/chain/transaction-port.ts'
import { addressOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { takeLock } from '@blockhost/kit/lock.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { BrokerConfig, OnchainConfig } from './config.ts'
import { runIntents } from './outbox-run.ts'
import type { ContractCall } from './registration.ts'
import { openStore } from './store.ts'

/** What {@link operate} needs from outside. */
export type OperateDeps = {
  readonly clock: Clock
  readonly log: Log
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

const timeoutMs = 5 * 60_000

/**
 * Sends one call of the operator to its live requests contract and waits until the chain has carried it out. While the daemon runs,
 * the call goes into the daemon's outbox and the daemon sends it, so that two processes never race for a nonce; otherwise this
 * process sends it.
 *
 * @param makeCall - Gets the requests contract and the operator's address; `undefined`: there is nothing to send.
 * @returns What became of the call; `undefined` when there was none.
 * @throws {BlockHostError} `BH_ONCHAIN_OFF` (exit 78), `BH_TRANSACTION_FAILED`, `BH_TRANSACTION_PENDING` (exit 75: it stays queued).
 */
export async function operate(
  config: BrokerConfig,
  makeCall: (requests: Address, operator: Address, rpc: Rpc) => Promise<ContractCall | undefined>,
  deps: OperateDeps,
): Promise<OutboxRow | undefined> {
  const onchain = config.onchain ?? refuseOffline()
  const privateKey = readKeyFile(onchain.operatorKeyFile)
  const operator = addressOf(privateKey)
  const { chainId } = onchain
  const rpc = createRpc({ urls: onchain.rpcUrls, chainId }, deps)
  const call = await makeCall(onchain.requestsContracts[0]!, operator, rpc)
  if (call === undefined) return undefined
  using lock = lockUnlessDaemonRuns(config.databasePath)
  using store = openStore(config.databasePath, config, deps.clock)
  const port = createTransactionPort(rpc, { privateKey, address: operator, chainId })
  const outbox = createOutbox(
    store.db,
    port,
    outboxOptions(() => onchain),
    deps,
  )
  if (lock.taken === undefined) deps.say('The daemon is running and sends it.')
  const run = { ...deps, outbox, rpc, sends: lock.taken !== undefined }
  return (await runIntents([call], { chainId, timeoutMs }, run))[0]
}

/**
 * Returns the outbox's settings, read anew whenever the outbox looks at them.
 *
 * @param current - The configuration in force.
 */
export function outboxOptions(current: () => OnchainConfig) {
  return {
    get confirmations() {
      return current().confirmations
    },
    get stuckAfterMs() {
      return current().stuckAfterMs
    },
    get maxFeePerGasWei() {
      return current().maxFeePerGasWei
    },
    feeBumpPercent: 20,
    maxInFlight: 16,
  }
}

function lockUnlessDaemonRuns(databasePath: string): Disposable & { taken: Disposable | undefined } {
  let taken: Disposable | undefined
  try {
    taken = takeLock(databasePath, 'blockhost-broker')
  } catch (error) {
    if (!(error instanceof BlockHostError && error.code === 'BH_ALREADY_RUNNING')) throw error
  }
  return { taken, [Symbol.dispose]: () => taken?.[Symbol.dispose]() }
}

function refuseOffline(): never {
  throw new BlockHostError({
    code: 'BH_ONCHAIN_OFF',
    message: 'onchain.enabled is not true, so there is no contract to send this to',
    exitCode: exitCodes.badConfig,
  })
}
