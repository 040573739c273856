import type { Address } from '@blockhost/chain/hex.ts'
import { parseHex } from '@blockhost/chain/hex.ts'
import { type Rpc, type RpcOutcome, resultOf } from '@blockhost/chain/rpc.ts'
import {
  balanceCall,
  type CallAnswer,
  type ContractCall,
  decodeNumber,
  expiredCall,
  heldTokenCall,
  tokenIdHex,
} from './token-calls.ts'

/** What signing in reads from a chain. */
export type ChainBackend = {
  /**
   * Makes calls in the newest block, all in one round trip; answers are in the same order.
   *
   * @throws {BlockHostError} `BH_RPC_UNAVAILABLE`, `BH_RPC_ANSWER_INVALID` (retryable), `BH_WRONG_CHAIN`, `BH_RPC_REFUSED`.
   */
  call(calls: readonly ContractCall[]): Promise<readonly CallAnswer[]>
  /** Returns the ids of the tokens that `wallet` holds and whose access is not over, at most 256. Throws as `call` does. */
  heldTokens(contract: Address, wallet: Address): Promise<readonly string[]>
}

/** Most tokens of one wallet that are looked at. */
export const maxHeldTokens = 256

/** Asked for together with the balance: nearly every wallet holds fewer, so that one round trip is enough. */
const firstPage = 8

/** Makes the backend that speaks JSON-RPC; ids are 32-byte hex words, as earlier generations of this backend gave them. */
export function createRpcBackend(rpc: Rpc): ChainBackend {
  const call = async (calls: readonly ContractCall[]) => {
    const outcomes = await rpc.batch(calls.map(each => ({ method: 'eth_call', params: [each, 'latest'] })))
    return outcomes.map(toAnswer)
  }
  return {
    call,
    async heldTokens(contract, wallet) {
      const indexes = Array.from({ length: firstPage }, (_, index) => heldTokenCall(contract, wallet, index))
      const [balance, ...first] = await call([balanceCall(contract, wallet), ...indexes])
      const count = Math.min(Number(decodeNumber(balance!, 'balanceOf')), maxHeldTokens)
      const more = Array.from({ length: Math.max(0, count - firstPage) }, (_, i) => firstPage + i)
      const rest = await call(more.map(index => heldTokenCall(contract, wallet, index)))
      const ids = [...first.slice(0, count), ...rest].map(answer => decodeNumber(answer, 'tokenOfOwnerByIndex'))
      return (await dropExpired(ids, contract, call)).map(tokenIdHex)
    },
  }
}

/** Takes out tokens whose access is over; clients of earlier generations never ask. A contract that can't say keeps them all. */
export async function dropExpired(
  ids: readonly bigint[],
  contract: Address,
  call: ChainBackend['call'],
): Promise<readonly bigint[]> {
  if (ids.length === 0) return []
  const answers = await call(ids.map(id => expiredCall(contract, id)))
  return ids.filter((_, index) => {
    const answer = answers[index]!
    const lacksFunction = answer.kind === 'reverted' ? answer.empty : answer.data === '0x'
    return lacksFunction || decodeNumber(answer, 'isExpired') === 0n
  })
}

function toAnswer(outcome: RpcOutcome): CallAnswer {
  if (!outcome.ok && outcome.failure.kind === 'reverted')
    return { kind: 'reverted', empty: (outcome.failure.data ?? '0x') === '0x' }
  return { kind: 'returned', data: parseHex(resultOf(outcome, 'eth_call'), 'eth_call') }
}
