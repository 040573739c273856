/** What both lenses, the broker's and the engine's, refuse with. */
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'

/** `BH_WRONG_CHAIN` (exit 78): the endpoint is on another chain than the configuration. Both are EIP-155 ids. */
export function wrongChain(actual: number, expected: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_WRONG_CHAIN',
    message: `The RPC endpoint is on chain ${actual}; the configuration says ${expected}`,
    hint: 'Correct `rpc_url` or `chain_id`.',
    fields: { chainId: actual, expected },
    exitCode: exitCodes.badConfig,
  })
}

/** `BH_RPC_GAS_LIMIT` (retryable): the endpoint's eth_call ends before one `what` is read. */
export function tooLittleGas(what: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_RPC_GAS_LIMIT',
    message: `The RPC endpoint gives eth_call too little gas to read one ${what}`,
    hint: 'Use an endpoint whose eth_call allows 30 million gas.',
    retryable: true,
  })
}
