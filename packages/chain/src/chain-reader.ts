import { decodeSnapshot, snapshotCall } from './broker-lens.ts'
import { wrongChain } from './lens-errors.ts'
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
