/** Suspends VMs whose time is over, and takes them away after the grace. What is decided is re-read in the transaction that marks it. */
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, messageOf } from '@blockhost/kit/errors.ts'
import type { Provisioner } from '@blockhost/provisioners/provisioner.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import type { VmDatabase } from '@blockhost/vmdb/vm-database.ts'

/** What the chain says at one moment. */
export type ChainLook = {
  /** Block time, Unix seconds. */
  readonly timestamp: number
  /** Absolute expiry of each subscription that there is, Unix seconds, by VM name. */
  readonly expiries: ReadonlyMap<string, number>
}

/** What {@link collect} needs. */
export type CollectDeps = {
  readonly vms: VmDatabase
  readonly provisioner: Provisioner
  readonly clock: Clock
  /** Looks at the subscriptions of VMs. Every round of decisions begins with one look. @throws {BlockHostError} retryable. */
  look(names: readonly string[]): Promise<ChainLook>
}

/** What to do. */
export type CollectOptions = {
  /** `false`: only say what would be done. */
  readonly execute: boolean
  readonly suspend: boolean
  readonly destroy: boolean
  readonly graceDays: number
}

/** What was done; with `execute: false`, what would be. Names. */
export type CollectReport = {
  readonly suspended: readonly string[]
  readonly destroyed: readonly string[]
  /** Paid on chain beyond what the database knew. */
  readonly extended: readonly string[]
  readonly failed: readonly { readonly name: string; readonly error: string }[]
}

/**
 * Goes through the VMs once. May be interrupted anywhere and run again, also beside another one: what was begun is finished, nothing is
 * done twice. No VM is touched before it has expired by this machine's clock *and* by the chain's, so a clock that jumped ahead
 * takes nobody's VM, and an extension that nobody has told the database counts.
 *
 * @throws {BlockHostError} retryable, when the chain can't be read: then nothing is known for sure, and nothing was done.
 */
export async function collect(deps: CollectDeps, options: CollectOptions): Promise<CollectReport> {
  const { vms, clock } = deps
  const report = {
    suspended: [] as string[],
    destroyed: [] as string[],
    extended: [] as string[],
    failed: [] as Failure[],
  }
  const wall = Math.floor(clock.now() / 1000)
  const mayBeDue = due(vms, wall, options)
  const all = [...mayBeDue.suspend, ...mayBeDue.destroy]
  const chain = await deps.look(all.map(({ name }) => name))
  const now = Math.min(wall, chain.timestamp)
  const round: Round = { ...deps, ...options, now, chain, report, powers: await readPowers(deps) }
  for (const vm of all) noteExtension(round, vm)
  const isDue = due(vms, now, options)
  for (const vm of isDue.suspend) await attempt(round, vm.name, () => suspend(round, vm))
  for (const vm of isDue.destroy) await attempt(round, vm.name, () => destroy(round, vm))
  return report
}

type Failure = { readonly name: string; readonly error: string }
type Report = { suspended: string[]; destroyed: string[]; extended: string[]; failed: Failure[] }
type Round = CollectDeps &
  CollectOptions & {
    readonly now: number
    readonly chain: ChainLook
    readonly report: Report
    readonly powers: ReadonlyMap<string, 'running' | 'stopped'>
  }

/**
 * Returns what is due at a time. To be suspended: what has expired, and what an earlier run marked and may not have finished. To be
 * destroyed: what has had its grace, and what is half gone.
 */
function due(vms: VmDatabase, now: number, options: CollectOptions): { suspend: Vm[]; destroy: Vm[] } {
  const ended = [...vms.vmsToDestroy(now, options.graceDays), ...vms.listVms({ state: 'destroying' })]
  const destroy = options.destroy ? ended : []
  const names = new Set(destroy.map(({ name }) => name))
  const marked = vms.listVms({ state: 'suspended' }).filter(vm => vm.expiresAt < now && !names.has(vm.name))
  return { suspend: options.suspend ? [...vms.vmsToSuspend(now), ...marked] : [], destroy }
}

async function readPowers({ provisioner }: CollectDeps): Promise<Map<string, 'running' | 'stopped'>> {
  return new Map((await provisioner.list()).map(({ name, power }) => [name, power]))
}

/** A VM that is paid longer than the database knows is told to it, and is due no more. */
function noteExtension({ vms, chain, execute, report }: Round, vm: Vm): void {
  const expiresAt = chain.expiries.get(vm.name)
  if (expiresAt === undefined || expiresAt <= vm.expiresAt || vm.state === 'destroying') return
  if (report.extended.includes(vm.name)) return
  report.extended.push(vm.name)
  if (execute) vms.setExpiry(vm.name, expiresAt)
}

async function suspend({ vms, provisioner, execute, now, report, powers }: Round, vm: Vm): Promise<void> {
  if (report.extended.includes(vm.name)) return
  if (execute) {
    vms.markSuspended(vm.name, { expiredAt: now })
    await provisioner.suspend(vm.name)
  }
  // One that was suspended before, and off: an earlier run may have been interrupted before its route was gone.
  const wasDone = vm.state === 'suspended' && powers.get(vm.name) !== 'running'
  if (!wasDone) report.suspended.push(vm.name)
}

async function destroy({ vms, provisioner, execute, now, graceDays, report }: Round, vm: Vm): Promise<void> {
  if (report.extended.includes(vm.name)) return
  if (execute) {
    vms.markDestroying(vm.name, { expiredAt: now - graceDays * secondsPerDay })
    await provisioner.destroy(vm.name)
    vms.markDestroyed(vm.name)
  }
  report.destroyed.push(vm.name)
}

const secondsPerDay = 86_400

/**
 * One VM that fails does not keep the others. One that was paid for in the last moment is no failure, nor is one that another process is
 * taking away, or has.
 */
async function attempt({ report, vms }: Round, name: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    const code = error instanceof BlockHostError ? error.code : undefined
    if (code === 'BH_VM_NOT_EXPIRED') report.extended.push(name)
    else if (code !== 'BH_VM_BUSY' && vms.findVm(name)?.state !== 'destroyed')
      report.failed.push({ name, error: messageOf(error) })
  }
}
