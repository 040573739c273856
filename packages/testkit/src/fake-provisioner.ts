/**
 * A hypervisor in memory, or in a file that outlives the process that uses it. It keeps the promises of `Provisioner`: each call may be
 * repeated, and does nothing when it is so already. Where it lies: nothing boots, no address is ever reachable, a create is one
 * step (what a real one leaves half-way it undoes), and a guest knows no other command than `bind`.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Provisioner, VmPower, VmSpec } from '@blockhost/provisioners/provisioner.ts'

/** What is known of one VM. */
export type FakeVm = {
  readonly spec: VmSpec
  power: Exclude<VmPower, 'absent'>
  /** Whether its route is there: `suspend` takes it away. */
  routed: boolean
  /** What the guest was told: Unix user and token. */
  readonly bindings: Record<string, string>
  /** How often it was made. */
  creates: number
}

/** A call that the hypervisor was asked for. */
export type FakeCall = { readonly method: keyof Provisioner; readonly name: string }

/** What goes wrong with, or delays, a call: decided once for each, at its beginning. */
export type FakeFault = (
  call: FakeCall,
) => undefined | { fail?: Error; delayMs?: number; after?: boolean } | Promise<void>

/** The hypervisor and what tests do to it. */
export type FakeProvisioner = Provisioner & {
  readonly vms: ReadonlyMap<string, FakeVm>
  readonly calls: readonly FakeCall[]
  /** Creates that are under way, and the most that ever were. */
  readonly creating: { readonly now: number; readonly most: number }
  /** Replaces the rule; absent: nothing goes wrong. A failure `after` the effect is one whose answer is lost. */
  setFault(rule?: FakeFault): void
  /** Switches a VM off behind everybody's back. */
  cutPower(name: string): void
  /** The state as a network engineer reads it: one VM a line, by name. */
  describe(): string
}

/**
 * Makes a hypervisor.
 *
 * @param options.file - Keeps the state there too, so that it outlives a kill; a file that exists is where it begins.
 */
export function createFakeProvisioner(options: { readonly file?: string } = {}): FakeProvisioner {
  const vms = new Map<string, FakeVm>(read(options.file))
  const calls: FakeCall[] = []
  const creating = { now: 0, most: 0 }
  let fault: FakeFault | undefined

  async function act<T>(method: keyof Provisioner, name: string, effect: () => T): Promise<T> {
    const call = { method, name }
    calls.push(call)
    const wrong = (await fault?.(call)) as { fail?: Error; delayMs?: number; after?: boolean } | undefined
    if (wrong?.delayMs !== undefined) await new Promise(resolve => setTimeout(resolve, wrong.delayMs))
    if (wrong?.fail !== undefined && wrong.after !== true) throw wrong.fail
    const result = effect()
    save(options.file, vms)
    if (wrong?.fail !== undefined) throw wrong.fail
    return result
  }

  function create(spec: VmSpec): Promise<void> {
    creating.now += 1
    creating.most = Math.max(creating.most, creating.now)
    return act('create', spec.name, () => {
      const known = vms.get(spec.name)
      if (known !== undefined) {
        known.power = 'running'
        known.routed = true
        return
      }
      refuseTaken(vms, spec)
      vms.set(spec.name, { spec, power: 'running', routed: true, bindings: {}, creates: 1 })
    }).finally(() => {
      creating.now -= 1
    })
  }

  const setPower = (method: 'start' | 'stop' | 'suspend' | 'resume', power: FakeVm['power'], routed?: boolean) => {
    return (name: string) =>
      act(method, name, () => {
        const vm = mustFind(vms, name)
        vm.power = power
        if (routed !== undefined) vm.routed = routed
      })
  }

  return {
    vms,
    calls,
    creating,
    setFault(rule) {
      fault = rule
    },
    cutPower(name) {
      mustFind(vms, name).power = 'stopped'
      save(options.file, vms)
    },
    describe: () =>
      [...vms]
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, vm]) => describeVm(name, vm))
        .join('\n'),
    create,
    destroy: name => act('destroy', name, () => void vms.delete(name)),
    start: setPower('start', 'running'),
    stop: setPower('stop', 'stopped'),
    suspend: setPower('suspend', 'stopped', false),
    resume: setPower('resume', 'running', true),
    status: name => act('status', name, () => vms.get(name)?.power ?? 'absent'),
    list: () => act('list', '', () => [...vms].map(([name, { power }]) => ({ name, power }))),
    guestExec: (name, argv) =>
      act('guestExec', name, () => {
        const vm = mustFind(vms, name)
        if (vm.power !== 'running') throw unreachable(name)
        const [, verb, user, token] = argv
        if (verb !== 'bind' || user === undefined || !/^\d+$/.test(token ?? ''))
          return { exitCode: 2, stdout: '', stderr: 'usage' }
        vm.bindings[user] = token!
        return { exitCode: 0, stdout: '', stderr: '' }
      }),
    metrics: name =>
      act('metrics', name, () => {
        const { power, spec } = mustFind(vms, name)
        const none = {
          cpuNanoseconds: 0n,
          diskReadBytes: 0n,
          diskWriteBytes: 0n,
          netReceivedBytes: 0n,
          netSentBytes: 0n,
        }
        return { power, vcpus: spec.vcpus, memoryMiB: spec.memoryMiB, ...none }
      }),
  }
}

function mustFind(vms: ReadonlyMap<string, FakeVm>, name: string): FakeVm {
  const vm = vms.get(name)
  if (vm !== undefined) return vm
  throw new BlockHostError({ code: 'BH_VM_ABSENT', message: `The hypervisor has no VM ${name}`, fields: { name } })
}

/** Two VMs with one address are what a host must never have. */
function refuseTaken(vms: ReadonlyMap<string, FakeVm>, spec: VmSpec): void {
  for (const [name, { spec: other }] of vms) {
    const isTaken =
      other.vmid === spec.vmid ||
      other.mac === spec.mac ||
      other.ipv4.address === spec.ipv4.address ||
      (spec.ipv6 !== undefined && other.ipv6?.address === spec.ipv6.address)
    if (isTaken)
      throw new BlockHostError({ code: 'BH_VM_NUMBER_TAKEN', message: `${spec.name} has numbers of ${name}` })
  }
}

function unreachable(name: string): BlockHostError {
  return new BlockHostError({ code: 'BH_GUEST_UNREACHABLE', message: `Nothing answers in ${name}`, retryable: true })
}

function describeVm(name: string, { power, routed, spec, bindings }: FakeVm): string {
  const bound = Object.entries(bindings).map(([user, token]) => `${user}=nft ${token}`)
  return [name, power, spec.ipv4.address, spec.ipv6?.address ?? '-', routed ? 'routed' : 'no route', ...bound].join(' ')
}

function read(file: string | undefined): [string, FakeVm][] {
  return file === undefined || !existsSync(file) ? [] : (JSON.parse(readFileSync(file, 'utf8')) as [string, FakeVm][])
}

function save(file: string | undefined, vms: ReadonlyMap<string, FakeVm>): void {
  if (file === undefined) return
  writeFileSync(`${file}.new`, JSON.stringify([...vms]))
  renameSync(`${file}.new`, file)
}
