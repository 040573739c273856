import type { OutboxRow } from '@blockhost/chain/outbox.ts'
import { requestStatus, type WatchView } from '@blockhost/chain/snapshot.ts'
import type { RequestRow } from './requests.ts'

/**
 * What the chain says of a request that the broker decided on earlier.
 *
 * - `same`: nothing to do.
 * - `answered`: the chain has the answer.
 * - `unanswered`: a reorg dropped the answer; the outbox sends it again.
 * - `retry`: the answer's transaction is over and did not count; a new one is due.
 * - `overtaken`: no answer can count any more (`superseded` by a newer request, or `released`); its effects are undone.
 * - `released`: the lease was released on chain.
 * - `lingering`: taken back here, but the chain still shows the lease and no transaction is under way.
 * - `gone`: taken back here, and the chain agrees.
 * - `dropped`: a reorg took the request away, or put another in its place.
 * - `landing`: ended here, but a reorg took its end away, and an answer on its way may still count: look again until that is over.
 * - `revived`: a reorg took away what had ended this one: a newer request, or its release.
 */
export type Observation =
  | {
      readonly kind:
        | 'same'
        | 'answered'
        | 'unanswered'
        | 'retry'
        | 'released'
        | 'lingering'
        | 'gone'
        | 'dropped'
        | 'landing'
        | 'revived'
    }
  | { readonly kind: 'overtaken'; readonly reason: 'superseded' | 'released' }

/**
 * Compares a request with the chain. Pure.
 *
 * @param transaction - State of the outbox row that carries its answer (or its release); `undefined` if there is none.
 * @param isNewer - Whether this block is higher than every block read before. Only then may anything be taken back:
 *   a lagging endpoint shows an older chain, which looks like a reorg (design.md, "Lying RPCs").
 */
export function observe(
  row: RequestRow,
  view: WatchView,
  transaction: OutboxRow['state'] | undefined,
  isNewer: boolean,
): Observation {
  if (!view.exists || view.digest !== row.digest) return { kind: isNewer ? 'dropped' : 'same' }
  switch (row.state) {
    case 'leased':
    case 'answering':
      return observeOpen(row, view, transaction)
    case 'answered':
      return observeAnswered(view, isNewer)
    case 'releasing':
      if (!isHeld(view)) return { kind: 'gone' }
      return { kind: isUnderWay(transaction) ? 'same' : 'lingering' }
    case 'released':
      if (isNewer && isHeld(view)) return { kind: 'lingering' }
      if (!isNewer || !isWaiting(view)) return { kind: 'same' }
      return { kind: isUnderWay(transaction) ? 'landing' : 'revived' }
    case 'superseded':
      return { kind: isNewer && (isWaiting(view) || isHeld(view)) ? 'revived' : 'same' }
    case 'refused':
      // Given up after its answer had failed too often: the last one counts after all.
      return { kind: isNewer && row.publicKey !== undefined && isHeld(view) ? 'revived' : 'same' }
    default:
      return { kind: 'same' }
  }
}

function observeOpen(row: RequestRow, view: WatchView, transaction: OutboxRow['state'] | undefined): Observation {
  if (view.status === requestStatus.approved) return { kind: 'answered' }
  if (view.status !== requestStatus.pending || view.mappedId !== view.id)
    return { kind: 'overtaken', reason: view.mappedId === 0n ? 'released' : 'superseded' }
  const isOver = row.state === 'answering' && !isUnderWay(transaction)
  return { kind: isOver ? 'retry' : 'same' }
}

function observeAnswered(view: WatchView, isNewer: boolean): Observation {
  if (!isNewer) return { kind: 'same' }
  if (view.mappedId === 0n) return { kind: 'released' }
  // Where mappedId is a newer request of the same NFT contract, that one is judged on its own and takes the lease over.
  return { kind: isWaiting(view) ? 'unanswered' : 'same' }
}

function isWaiting(view: WatchView): boolean {
  return view.status === requestStatus.pending && view.mappedId === view.id
}

function isHeld(view: WatchView): boolean {
  return view.status === requestStatus.approved && view.mappedId === view.id
}

// `mined` may still be reorganized away and sent again; an effect that is missing then is not missing for good.
function isUnderWay(state: OutboxRow['state'] | undefined): boolean {
  return state === 'queued' || state === 'sent' || state === 'mined'
}
