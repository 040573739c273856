import { type Address, bytesToHex, type Hex } from '@blockhost/chain/hex.ts'
import type { Outbox, OutboxIntent } from '@blockhost/chain/outbox.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { encodeResponse, wrapResponse } from '@blockhost/crypto/broker-messages.ts'
import { encrypt } from '@blockhost/crypto/ecies.ts'
import { encodeData } from 'ox/AbiFunction'
import { isBasis } from './effects.ts'
import type { RequestRow } from './requests.ts'
import type { Lease, RequestRef, Store } from './store.ts'

/** What every answer says beside the prefix. */
export type Offer = {
  /** The broker's own IPv6 address, the hosts' gateway. */
  readonly gateway: string
  /** WireGuard public key of the broker, base64. */
  readonly brokerPublicKey: string
  /** `host:port` that hosts connect to. */
  readonly brokerEndpoint: string
}

/**
 * Answers what is leased but not answered: encrypts, and puts the transactions into the outbox in the same database
 * transaction that marks the requests. Call it only when the network carries these leases.
 *
 * Generation 3 takes many answers in one transaction and each is bound to the content of its request, so that a
 * reorg can't make it answer another one; earlier generations take one each.
 *
 * @param limit - Requests at the most; each costs one encryption (about half a millisecond).
 * @returns How many were answered.
 */
export function answerOpen(
  store: Store,
  outbox: Outbox,
  contract: string,
  options: { generation: 1 | 2 | 3; perTransaction: number; limit: number; offer: Offer },
): number {
  const rows = store.requests.unanswered(contract, options.limit)
  const size = options.generation === 3 ? options.perTransaction : 1
  for (let at = 0; at < rows.length; at += size) {
    const batch = rows.slice(at, at + size)
    store.transaction(() => enqueueAnswers(store, outbox, contract, batch, options))
  }
  return rows.length
}

/**
 * Asks the chain to forget a lease that was taken back here. Bound to the request where the contract can, so that a newer
 * request of the same NFT contract is left alone.
 */
export function releaseOnChain(
  store: Store,
  outbox: Outbox,
  ref: RequestRow,
  generation: 1 | 2 | 3,
  reason: string,
): void {
  const key = `release:${ref.contract}:${ref.id}:${ref.digest}:${ref.attempts}`
  const data =
    generation === 3
      ? encodeData(brokerRequestsAbi, 'releaseRequest', [ref.id])
      : encodeData(brokerRequestsAbi, 'releaseAllocation', [ref.nftContract as Address])
  outbox.enqueue({ key, to: ref.contract as Address, data, note: `release of request ${ref.id}` })
  store.requests.setReleasing(ref, key, reason)
}

function enqueueAnswers(
  store: Store,
  outbox: Outbox,
  contract: string,
  rows: readonly RequestRow[],
  options: { generation: 1 | 2 | 3; offer: Offer },
): void {
  const answers = rows.flatMap(row => {
    const lease = store.findLease({ nftContract: row.nftContract })
    if (lease === undefined || !isBasis(lease, row) || row.serverPublicKey === undefined) {
      store.requests.setState(row, 'superseded', 'lease-moved-on')
      return []
    }
    return [{ row, payload: seal(row, row.serverPublicKey, lease, options.offer) }]
  })
  const first = answers[0]
  if (first === undefined) return
  const key = `answer:${contract}:${answers.map(({ row }) => `${row.id}.${row.attempts}`).join(',')}:${first.row.digest}`
  outbox.enqueue(answerIntent(key, contract, answers, options.generation))
  for (const { row } of answers) store.requests.setAnswering(row, key)
}

function seal(ref: RequestRef, serverPublicKey: string, lease: Lease, offer: Offer): Hex {
  const text = encodeResponse({
    prefix: lease.prefix,
    gateway: offer.gateway,
    brokerPubkey: offer.brokerPublicKey,
    brokerEndpoint: offer.brokerEndpoint,
  })
  return bytesToHex(wrapResponse(ref.id, encrypt(Buffer.from(serverPublicKey, 'hex'), text)))
}

function answerIntent(
  key: string,
  contract: string,
  answers: readonly { row: RequestRow; payload: Hex }[],
  generation: 1 | 2 | 3,
): OutboxIntent {
  const first = answers[0]!
  const note = answers.length === 1 ? `answer to request ${first.row.id}` : `answers to ${answers.length} requests`
  const data =
    generation === 3
      ? encodeData(brokerRequestsAbi, 'submitResponses', [
          answers.map(({ row }) => row.id),
          answers.map(({ row }) => row.digest as Hex),
          answers.map(({ payload }) => payload),
        ])
      : encodeData(brokerRequestsAbi, 'submitResponse', [first.row.id, first.payload])
  return { key, to: contract as Address, data, note }
}
