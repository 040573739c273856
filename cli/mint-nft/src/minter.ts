import { createOutbox } from '@blockhost/chain/outbox.ts'
import { createRpc } from '@blockhost/chain/rpc.ts'
import { createSubscriptionsReader } from '@blockhost/chain/subscriptions-lens.ts'
import { createTransactionPort } from '@blockhost/chain/transaction-port.ts'
import { addressOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import type { EngineConfig } from '@blockhost/engine/config.ts'
import { openStore } from '@blockhost/engine/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { takeLock } from '@blockhost/kit/lock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import type { MintDeps } from './mint.ts'

/** The minter's key and its outbox, held until disposed of. */
export type Minter = MintDeps & Disposable

/**
 * Takes the minter's outbox, which is the engine's: one queue for the key, so no two processes use a nonce twice.
 *
 * @throws {BlockHostError} `BH_MINTER_BUSY` (retryable) while the engine or another command has it.
 */
export function openMinter(config: EngineConfig): Minter {
  const lock = takeOutbox(config.databasePath)
  try {
    const { chainId, rpcUrls, rules } = config
    const deps = { clock: systemClock, log: silentLog }
    const rpc = createRpc({ urls: rpcUrls, chainId }, deps)
    const privateKey = readKeyFile(config.minterKeyFile)
    const port = createTransactionPort(rpc, { privateKey, address: addressOf(privateKey), chainId })
    const store = openStore(config.databasePath, systemClock)
    const reader = createSubscriptionsReader(rpc, { subscriptions: rules.subscriptions, chainId })
    return {
      nft: rules.nft,
      outbox: createOutbox(store.db, port, config.outbox, deps),
      head: async () => (await port.poll({ receiptsOf: [] })).blockNumber,
      mintedTokens: reader.mintedTokens,
      clock: systemClock,
      [Symbol.dispose]: () => {
        store.close()
        lock[Symbol.dispose]()
      },
    }
  } catch (error) {
    lock[Symbol.dispose]()
    throw error
  }
}

function takeOutbox(databasePath: string): Disposable {
  try {
    return takeLock(databasePath, 'blockhost-engine')
  } catch (cause) {
    throw new BlockHostError({
      code: 'BH_MINTER_BUSY',
      message: 'The minter’s key is in use by the engine, or by another command',
      hint: 'The engine mints by itself for every purchase. To mint by hand: systemctl stop blockhost-engine, then again.',
      retryable: true,
      cause,
    })
  }
}
