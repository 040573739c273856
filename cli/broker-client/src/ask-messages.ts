/** What `request` and `renew` say to the person. */
import { isoTime } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Action, SubmitReason } from './decide.ts'

/** Names of the steps, for progress. */
export const waitingFor = {
  sending: 'preparing the request',
  mining: (hash: string) => `waiting for transaction ${hash} to be mined`,
  answer: (id: bigint) => `waiting for the broker to answer request ${id}`,
  release: (id: bigint) => `waiting for the broker to release request ${id}`,
  expiry: (id: bigint) => `clearing request ${id}, which nobody answered in time`,
  saving: 'saving the lease',
} as const

/** Said before a request is sent that is not simply the first one. */
export const submitNotes: Readonly<Record<SubmitReason, string | undefined>> = {
  first: undefined,
  renewal: undefined,
  'unknown-key':
    'this NFT contract has a live request whose WireGuard key is not on this machine; asking anew, the prefix stays',
  'stale-answer': 'the stored answer belongs to another request; asking again',
  'undecryptable-answer': 'the answer was encrypted to another server.key; asking again with the present one',
  'refused-answer': 'the last answer was refused for what it said; asking again',
  'out-of-time': 'the request was not answered in time; asking again',
  superseded:
    'another request of the same NFT contract took the place of ours (is another machine using the same NFT contract?); asking again',
  gone: 'our earlier request is no longer live (released, expired or never included); asking again',
}

/** The error for a wait that took too long; retryable. `what` says what did not happen. */
export function timedOut(what: string, timeoutMs: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_TIMEOUT',
    message: `After ${Math.round(timeoutMs / 1000)} s ${what}`,
    hint: 'Run the same command again: it continues where it stopped, with the same key and the same request.',
    retryable: true,
  })
}

/** The error for Ctrl-C and SIGTERM; retryable. */
export function interrupted(): BlockHostError {
  return new BlockHostError({
    code: 'BH_INTERRUPTED',
    message: 'Stopped before the broker answered',
    hint: 'Run the same command again: it continues where it stopped.',
    retryable: true,
  })
}

/** The error when a first-generation contract holds the NFT contract for another request; retryable. */
export function blockedBy(action: Action<unknown> & { do: 'wait-release' }): BlockHostError {
  const { id, because } = action
  const expires = isoTime(action.expiresAt * 1000)
  const hints = {
    'pending-unknown-key': `If it is answered and no tunnel comes up, the broker frees it after about two minutes; if not, it can be cleared after ${expires}. Run this again then, or ask the broker's operator to release it.`,
    'answered-unknown-key':
      "The broker frees it by itself only if its tunnel never came up. Restore broker-allocation.json with the key, or ask the broker's operator to release it, then run this again.",
    'answer-unusable':
      "The broker frees it by itself only if its tunnel never came up. Restore the server.key it was asked with, or ask the broker's operator to release it, then run this again.",
    rejected: "Ask the broker's operator to release it, then run this again.",
  } as const
  const whats = {
    'pending-unknown-key': 'waits for its answer, with a WireGuard key that is not on this machine',
    'answered-unknown-key': 'is answered, for a WireGuard key that is not on this machine',
    'answer-unusable': "is answered with something this machine's server.key can't open",
    rejected: 'was rejected by the broker',
  } as const
  return new BlockHostError({
    code: 'BH_NFT_CONTRACT_OCCUPIED',
    message: `Request ${id} of this NFT contract ${whats[because]}; this first-generation contract takes no other until it is released`,
    hint: hints[because],
    fields: { requestId: `${id}`, reason: because, expiresAt: action.expiresAt },
    retryable: true,
  })
}

/** The error when there is nothing more to do in this run. */
export function askFailed(action: Action<unknown> & { do: 'fail' }, blockNumber: bigint): BlockHostError {
  const fields = { ...(action.id === undefined ? {} : { requestId: `${action.id}` }), blockNumber: `${blockNumber}` }
  switch (action.because) {
    case 'answer-invalid':
      return new BlockHostError({
        code: 'BH_ANSWER_INVALID',
        message: `The broker's answer to request ${action.id} is not acceptable: ${action.detail}`,
        hint: "Nothing was written. Tell the broker's operator, or choose another broker with --broker-id; run again to ask anew.",
        fields: { ...fields, problem: action.detail },
      })
    case 'rejected':
      return new BlockHostError({
        code: 'BH_REQUEST_REJECTED',
        message: `Request ${action.id} failed: ${action.detail}`,
        hint: 'Choose another broker with --broker-id, or run again to ask anew.',
        fields,
      })
    case 'renew-blocked':
      return new BlockHostError({
        code: 'BH_RENEW_IMPOSSIBLE',
        message: `The lease (request ${action.id}) can't get a new key: ${action.detail}`,
        hint: "Ask the broker's operator to release it, then run `broker-client request`.",
        fields,
      })
    case 'kept-dying':
      return new BlockHostError({
        code: 'BH_REQUEST_KEPT_DYING',
        message: `The request was sent twice and is not live any more (${action.detail.replace('-', ' ')})`,
        hint:
          action.detail === 'superseded'
            ? 'Another machine seems to ask with the same NFT contract; stop one of them.'
            : "Ask the broker's operator why it takes requests back, or choose another broker with --broker-id.",
        fields: { ...fields, reason: action.detail },
      })
  }
}
