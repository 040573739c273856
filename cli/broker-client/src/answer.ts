import { type Hex, hexToBytes } from '@blockhost/chain/hex.ts'
import { openResponse, unwrapResponse } from '@blockhost/crypto/broker-messages.ts'
import type { Decryptor } from '@blockhost/crypto/ecies.ts'
import type { Answer, Generation } from './decide.ts'
import { type Lease, type LeaseRules, parseLease } from './lease.ts'

/** How answers are opened. */
export type AnswerOpener = {
  /** Of `server.key`. */
  readonly decrypt: Decryptor
  readonly generation: Generation
  /** The host's own WireGuard keys: a broker that gives one of them back as its own would be talking to itself. */
  readonly ownKeys: () => readonly string[]
  readonly rules: LeaseRules
}

/**
 * Opens and checks the answer stored for request `id`. Only brokers on second-generation contracts may leave out the id in front: some of them
 * predate it.
 */
export function openAnswer(opener: AnswerOpener, response: Hex, id: bigint): Answer<Lease> {
  const bytes = hexToBytes(response)
  const named = unwrapResponse(bytes).requestId
  if (opener.generation !== 2 && named !== id) return { kind: 'other-id', id: named }
  const opened = openResponse(opener.decrypt, bytes, id)
  if (opened.kind !== 'good') return opened
  const lease = parseLease(opened.response, opener.rules)
  if (!lease.ok) return { kind: 'invalid', reason: lease.problem }
  if (opener.ownKeys().includes(lease.value.brokerPubkey))
    return { kind: 'invalid', reason: "brokerPubkey is this host's own key" }
  return { kind: 'good', lease: lease.value }
}
