import type { DataplaneChange } from './dataplane.ts'

/**
 * Folds changes that follow each other into one per prefix, from what the network has to what it must have. Pure.
 *
 * @param changes - In the order in which the database saw them.
 */
export function foldChanges(changes: readonly DataplaneChange[]): DataplaneChange[] {
  const byPrefix = new Map<string, { keyBefore: string | undefined; last: DataplaneChange }>()
  for (const change of changes) {
    const known = byPrefix.get(change.lease.prefix)
    if (known === undefined) byPrefix.set(change.lease.prefix, { keyBefore: keyBefore(change), last: change })
    else known.last = change
  }
  return [...byPrefix.values()].map(({ keyBefore, last }) => fold(keyBefore, last))
}

function keyBefore(change: DataplaneChange): string | undefined {
  return change.kind === 'remove' ? change.lease.publicKey : change.previousPublicKey
}

function fold(before: string | undefined, last: DataplaneChange): DataplaneChange {
  if (last.kind === 'remove')
    return { kind: 'remove', lease: { prefix: last.lease.prefix, publicKey: before ?? last.lease.publicKey } }
  return before === undefined || before === last.lease.publicKey
    ? { kind: 'set', lease: last.lease }
    : { kind: 'set', lease: last.lease, previousPublicKey: before }
}
