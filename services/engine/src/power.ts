import type { Log } from '@blockhost/kit/log.ts'
import type { Provisioner } from '@blockhost/provisioners/provisioner.ts'
import type { VmState } from '@blockhost/vmdb/vm.ts'
import type { Store } from './store.ts'
import { type Subscription, subscriptionIdOf, vmNameOf } from './subscription.ts'

/** What comparing with the hypervisor needs. */
export type PowerDeps = {
  readonly store: Store
  readonly provisioner: Provisioner
  readonly log: Log
  isBusy(id: bigint): boolean
  /** What the VM database says; `undefined`: it has no VM of the subscription, or took it away. */
  vmState(id: bigint): VmState | undefined
}

const lost = 'BH_VM_LOST'
/** Error codes without an error, of `resuming`: nobody paid again, this is why. */
export const wasOff = 'BH_VM_OFF'
/** See {@link wasOff}. */
export const wasRemoved = 'BH_VM_REMOVED'
const cleared = { attempts: 0, error: undefined, errorCode: undefined }

/**
 * Compares what runs with what should: after a restart of the host, or another program's doing. A paid VM that is off is
 * started, one that is not paid and runs is suspended. One that is gone is told: its data are somebody's, so nothing is made anew,
 * unless the VM database says that it was taken away.
 *
 * @returns How many subscriptions were put to work.
 */
export async function comparePower({ store, provisioner, log, isBusy, vmState }: PowerDeps): Promise<number> {
  const seen = new Map((await provisioner.list()).map(({ name, power }) => [name, power]))
  let changes = 0
  for (const [name, power] of seen) {
    const id = subscriptionIdOf(name)
    const row = id === undefined || isBusy(id) ? undefined : store.find(id)
    if (row === undefined) continue
    const state = row.state
    if (power === 'stopped' && isRunning(row))
      store.change(row.id, { ...cleared, state: 'resuming', errorCode: wasOff })
    else if (power === 'running' && state === 'suspended') store.change(row.id, { state: 'suspending' })
    else continue
    changes += 1
    log.warn({ subscription: row.id, power, state }, 'the hypervisor differs from what is paid for')
  }
  for (let after = 0n; ; ) {
    const rows = store.after(after, 1000)
    for (const row of rows) {
      if (isBusy(row.id)) continue
      const exists = seen.has(vmNameOf(row.id))
      if (!exists && hadVm(row) && vmState(row.id) === undefined) changes += noteRemoval(store, row)
      else noteLoss(store, row, exists)
    }
    if (rows.length < 1000) return changes
    after = rows.at(-1)!.id
  }
}

/** A mint under way is taken up again after the resume: its key stays the same. */
function isRunning({ state }: Subscription): boolean {
  return state === 'created' || state === 'minting' || state === 'minted' || state === 'live'
}

function hadVm(row: Subscription): boolean {
  return isRunning(row) || row.state === 'suspended'
}

/** Somebody who knows the VM database took it away (vm-gc, a person): what is paid is made anew, the rest is over. */
function noteRemoval(store: Store, row: Subscription): number {
  if (row.state !== 'suspended') store.change(row.id, { ...cleared, state: 'resuming', errorCode: wasRemoved })
  else store.change(row.id, { ...cleared, state: 'ending', reason: row.reason ?? 'expired' })
  return 1
}

function noteLoss(store: Store, row: Subscription, exists: boolean): void {
  const isLost = !exists && (row.state === 'live' || row.state === 'suspended')
  if (isLost && row.errorCode === undefined)
    store.change(row.id, { error: `The hypervisor has no VM ${vmNameOf(row.id)}`, errorCode: lost })
  else if (!isLost && row.errorCode === lost) store.change(row.id, { error: undefined, errorCode: undefined })
}
