import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { decodeSnapshot, snapshotCall } from './broker-lens.ts'
import type { Rpc } from './rpc.ts'
import type { ChainReader } from './snapshot.ts'

/**
 * Makes the daemon's reader: one HTTP round trip for each snapshot.
 *
 * @param options.chainId - EIP-155 id every snapshot must be of.
 * @param options.blockTag - Which block to look at; default `latest`.
 */
export function createChainReader(
  rpc: Rpc,
  options: { readonly chainId: number; readonly blockTag?: 'latest' | 'safe' | 'finalized' },
): ChainReader {
  return {
    async snapshot(query) {
      const [outcome] = await rpc.batch([snapshotCall(query, options.blockTag)])
      const snapshot = decodeSnapshot(outcome!, query)
      if (snapshot.chainId !== options.chainId) throw wrongChain(snapshot.chainId, options.chainId)
      return snapshot
    },
  }
}

function wrongChain(actual: number, expected: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_WRONG_CHAIN',
    message: `The RPC endpoint is on chain ${actual}; the configuration says ${expected}`,
    hint: 'Correct `rpc_url` or `chain_id`.',
    fields: { chainId: actual, expected },
    exitCode: exitCodes.badConfig,
  })
}
