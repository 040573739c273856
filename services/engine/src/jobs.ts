import type { Outbox } from '@blockhost/chain/outbox.ts'
import { bindToken as bindGuest } from '@blockhost/provisioners/bind-token.ts'
import type { Provisioner, VmSpec } from '@blockhost/provisioners/provisioner.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import type { VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { type State, type Subscription, type SubscriptionChange, vmNameOf } from './subscription.ts'

/** What jobs work with. */
export type JobDeps = {
  readonly vms: VmDatabase
  readonly provisioner: Provisioner
  readonly outbox: Outbox
  /** Everything a subscription's VM is made of. @throws {BlockHostError} when the plan has no size. */
  specOf(subscription: Subscription, vm: Vm): VmSpec
  /** Unique per operator and VM. */
  machineIdOf(name: string): string
  /** Marks the VMs that are ours, so that no other VM of the name is touched. */
  purposeOf(id: bigint): string
  readonly username: string
  /** Chain time, Unix seconds. */
  chainNow(): number
}

/**
 * What a job came to: the state that follows (`running`: what the owner still lacks says which), and facts that hold even if the
 * chain wanted something else meanwhile. `forget`: the row goes.
 */
export type JobResult =
  | { readonly kind: 'done'; readonly state: State | 'running'; readonly facts: SubscriptionChange }
  | { readonly kind: 'forget' }

/**
 * Takes the next step of a subscription. Every step may be repeated after any interruption: the VM database says what is
 * intended before the hypervisor is told, and the hypervisor does nothing that is done already.
 *
 * @param signal - Ends waiting; the step is taken up later.
 */
export async function runJob(deps: JobDeps, row: Subscription, signal: AbortSignal): Promise<JobResult> {
  switch (row.state) {
    case 'paid':
    case 'creating':
      return createVm(deps, row, signal)
    case 'minted':
      return bindToken(deps, row)
    case 'suspending':
      return suspendVm(deps, row)
    case 'resuming':
      return resumeVm(deps, row, signal)
    case 'ending':
      return destroyVm(deps, row)
    default:
      throw new RangeError(`a subscription that is ${row.state} waits for no job`)
  }
}

async function createVm(deps: JobDeps, row: Subscription, signal: AbortSignal): Promise<JobResult> {
  const { vms, provisioner } = deps
  const name = vmNameOf(row.id)
  const found = vms.findVm(name)
  if (found?.state === 'destroying' && isOurs(deps, row, found)) await finishDestroy(deps, name)
  const isMade = (found?.state === 'active' || found?.state === 'suspended') && isOurs(deps, row, found)
  const vm = isMade ? found : reserve(deps, row, name)
  if (!isMade) await provisioner.create(deps.specOf(row, vm), signal)
  else if (found.state === 'suspended') await provisioner.resume(name, signal)
  vms.markActive(name, { expiresAt: row.expiresAt })
  const facts = { vmExpiresAt: row.expiresAt, vmOwner: row.subscriber, boundToken: undefined }
  return { kind: 'done', state: 'created', facts }
}

function reserve({ vms, username, machineIdOf, purposeOf }: JobDeps, row: Subscription, name: string): Vm {
  const { subscriber: ownerWallet, expiresAt } = row
  const purpose = purposeOf(row.id)
  return vms.reserveVm({ name, ownerWallet, expiresAt, purpose, username, machineId: machineIdOf(name) })
}

async function bindToken(deps: JobDeps, row: Subscription): Promise<JobResult> {
  const { vms, provisioner } = deps
  const name = vmNameOf(row.id)
  if (await isGone(deps, row)) return makeAnew
  const tokenId = row.tokenId!
  const { username } = vms.markNftMinted(name, tokenId, row.tokenOwner ?? row.subscriber)
  await bindGuest(provisioner, { name, username, tokenId })
  return { kind: 'done', state: 'running', facts: { boundToken: tokenId } }
}

async function suspendVm(deps: JobDeps, row: Subscription): Promise<JobResult> {
  const { vms, provisioner, chainNow } = deps
  const name = vmNameOf(row.id)
  if (await isGone(deps, row)) return { kind: 'done', state: 'suspended', facts: {} }
  vms.setExpiry(name, row.expiresAt)
  vms.markSuspended(name, { expiredAt: chainNow() + 1 })
  await provisioner.suspend(name)
  return { kind: 'done', state: 'suspended', facts: { vmExpiresAt: row.expiresAt } }
}

async function resumeVm(deps: JobDeps, row: Subscription, signal: AbortSignal): Promise<JobResult> {
  const { vms, provisioner } = deps
  const name = vmNameOf(row.id)
  if (await isGone(deps, row)) return makeAnew
  await provisioner.resume(name, signal)
  vms.markActive(name, { expiresAt: row.expiresAt })
  return { kind: 'done', state: 'running', facts: { vmExpiresAt: row.expiresAt } }
}

async function destroyVm(deps: JobDeps, row: Subscription): Promise<JobResult> {
  const { vms, outbox, chainNow } = deps
  const name = vmNameOf(row.id)
  if (row.txKey !== undefined) outbox.cancelQueued(row.txKey)
  const vm = vms.findVm(name)
  if (vm !== undefined && vm.state !== 'destroyed' && isOurs(deps, row, vm)) {
    vms.setExpiry(name, row.expiresAt)
    await finishDestroy(deps, name, row.reason === 'expired' ? { expiredAt: chainNow() + 1 } : {})
  }
  if (row.reason === 'reorg') return { kind: 'forget' }
  const facts = { vmExpiresAt: undefined, vmOwner: undefined, boundToken: undefined }
  return { kind: 'done', state: 'ended', facts }
}

async function finishDestroy({ vms, provisioner }: JobDeps, name: string, unless = {}): Promise<void> {
  vms.markDestroying(name, unless)
  await provisioner.destroy(name)
  vms.markDestroyed(name)
}

/** Its VM was taken away by somebody who knows the VM database (vm-gc, a person), but it is paid for. */
const makeAnew: JobResult = {
  kind: 'done',
  state: 'paid',
  facts: { vmExpiresAt: undefined, vmOwner: undefined, boundToken: undefined },
}

/** Whether the VM database says that the VM is gone, or another one has its name; a removal that was begun is ended. */
async function isGone(deps: JobDeps, row: Subscription): Promise<boolean> {
  const name = vmNameOf(row.id)
  const vm = deps.vms.findVm(name)
  if (vm === undefined || !isOurs(deps, row, vm)) return true
  if (vm.state === 'destroying') await finishDestroy(deps, name)
  return vm.state === 'destroying' || vm.state === 'destroyed'
}

/** A VM of that name may be somebody else's: of an earlier contract, or made by hand. */
function isOurs({ purposeOf }: JobDeps, row: Subscription, vm: Vm): boolean {
  return vm.purpose === purposeOf(row.id)
}
