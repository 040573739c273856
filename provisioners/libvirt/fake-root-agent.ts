/**
 * A root agent in memory, with the VM verbs of the real one and a hypervisor behind it.
 *
 * Where it lies: nothing is checked beyond presence of parameters (the real agent's schemas are tested there); guests boot in no time
 * or in the number of looks they are told, and know `guest ready|bind|unbind|binding` and `echo`; a shutdown takes no time; disks,
 * seeds, routes and firewall entries are names in a set.
 */
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { RootAgent } from './root-agent.ts'

/** A {@link RootAgent} and the hands that move its world. */
export type FakeRootAgent = RootAgent & {
  /** Actions called so far, in order. */
  readonly calls: readonly string[]
  /** Everything there is, as text. */
  snapshot(): string
  /** What carries a name: `disk`, `seed`, `domain`, `network`. */
  leftovers(name: string): string[]
  /** The token bound to a user of a VM; `undefined` when there is none. */
  bindingOf(name: string, user: string): string | undefined
  /** The call of an action throws, before or after its work, until told otherwise with `undefined`. */
  failOn(action: string, failure: { error: Error; when: 'before' | 'after' } | undefined): void
  /** The host was restarted: nothing runs, routes and firewall are gone. */
  restartHost(): void
}

/** Options of {@link createFakeRootAgent}. */
export type FakeRootAgentOptions = {
  /** So many questions are not answered by a guest that boots. Default 0. */
  readonly bootLooks?: number
  /** Guests ignore the power button. Default `false`. */
  readonly deafToShutdown?: boolean
}

type FakeVm = {
  hasDisk: boolean
  hasSeed: boolean
  isDefined: boolean
  hasNetwork: boolean
  power: 'running' | 'stopped'
  looksUntilReady: number
  gecos: Map<string, string>
}

/** Makes the fake. */
export function createFakeRootAgent(options: FakeRootAgentOptions = {}): FakeRootAgent {
  const vms = new Map<string, FakeVm>()
  const calls: string[] = []
  const failures = new Map<string, { error: Error; when: 'before' | 'after' }>()
  const world: World = { vms, options, calls }
  return {
    calls,
    async call(action, params) {
      calls.push(action)
      const failure = failures.get(action)
      if (failure?.when === 'before') throw failure.error
      const verb = verbs[action]
      if (verb === undefined) throw refusal(`there is no action ${action}`)
      const answer = { ok: true, ...verb(world, params) }
      if (failure?.when === 'after') throw failure.error
      return answer
    },
    snapshot: () =>
      [...vms]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, vm]) => `${name}: ${[...partsOf(vm), vm.power].join(' ')}`)
        .join('\n'),
    leftovers: name => partsOf(vms.get(name)),
    bindingOf: (name, user) => vms.get(name)?.gecos.get(user),
    failOn: (action, failure) => void (failure ? failures.set(action, failure) : failures.delete(action)),
    restartHost: () => {
      for (const vm of vms.values()) Object.assign(vm, { power: 'stopped', hasNetwork: false })
    },
  }
}

type World = {
  readonly vms: Map<string, FakeVm>
  readonly options: FakeRootAgentOptions
  readonly calls: readonly string[]
}
type Params = Readonly<Record<string, unknown>>
type Verb = (world: World, params: Params) => Record<string, unknown> | undefined

const verbs: Readonly<Record<string, Verb>> = {
  'bridge-ensure': () => undefined,
  'vm-disk-create': (world, params) => {
    require(params, ['name', 'template', 'disk_gib'])
    const vm = vmOf(world, params)
    const created = !vm.hasDisk
    vm.hasDisk = true
    return { created }
  },
  'vm-seed-write': (world, params) => {
    require(params, ['name', 'user_data', 'network'])
    const vm = vmOf(world, params)
    vm.hasSeed = true
    return undefined
  },
  'vm-define': (world, params) => {
    require(params, ['name', 'vcpus', 'memory_mib', 'mac', 'template'])
    const vm = vmOf(world, params)
    if (!vm.hasDisk || !vm.hasSeed) throw refusal(`${params.name} has no disk or no seed`)
    vm.isDefined = true
    return undefined
  },
  'vm-network-add': (world, params) => {
    require(params, ['name', 'mac', 'ipv4'])
    vmOf(world, params).hasNetwork = true
    return undefined
  },
  'vm-network-del': (world, params) => change(world, params, { hasNetwork: false }),
  'vm-start': (world, params) => {
    const vm = world.vms.get(nameOf(params))
    if (vm === undefined || !vm.isDefined) throw refusal(`there is no VM ${params.name}`)
    if (vm.power !== 'running') vm.looksUntilReady = world.options.bootLooks ?? 0
    vm.power = 'running'
    return undefined
  },
  'vm-shutdown': (world, params) => {
    const vm = world.vms.get(nameOf(params))
    if (vm?.power === 'running' && world.options.deafToShutdown !== true) vm.power = 'stopped'
    return { stopped: vm?.power !== 'running' }
  },
  'vm-stop': (world, params) => change(world, params, { power: 'stopped' }),
  'vm-destroy': (world, params) =>
    change(world, params, { power: 'stopped', isDefined: false, hasDisk: false, hasSeed: false }),
  'vm-status': (world, params) => ({ state: stateOf(world.vms.get(nameOf(params))) }),
  'vm-list': world => ({
    vms: [...world.vms].filter(([, vm]) => vm.isDefined).map(([name, vm]) => ({ name, state: stateOf(vm) })),
  }),
  'vm-metrics': (world, params) => {
    const state = stateOf(world.vms.get(nameOf(params)))
    if (state === 'absent')
      throw new BlockHostError({ code: 'BH_DOMAIN_NOT_FOUND', message: 'libvirt: no such domain' })
    return { stats: { 'state.state': state === 'running' ? 1 : 5, 'vcpu.current': 1, 'cpu.time': world.calls.length } }
  },
  'vm-guest-exec': (world, params) => {
    const vm = world.vms.get(nameOf(params))
    const { argv } = params as { argv: readonly string[] }
    if (vm?.power !== 'running' || vm.looksUntilReady > 0) {
      if (vm !== undefined) vm.looksUntilReady--
      throw new BlockHostError({
        code: 'BH_LIBVIRT_FAILED',
        message: 'libvirt: agent is not connected',
        retryable: true,
      })
    }
    return runInGuest(vm, argv)
  },
}

function runInGuest(vm: FakeVm, argv: readonly string[]): Record<string, unknown> {
  const [program, verb, user = '', token = ''] = argv
  const said = (exitcode: number, stdout = '') => ({ exitcode, stdout, stderr: '' })
  if (program === '/bin/echo') return said(0, `${argv.slice(1).join(' ')}\n`)
  if (program === '/bin/false') return said(1)
  if (program !== '/usr/lib/blockhost/guest') return said(127)
  if (verb === 'ready') return said(0)
  if (verb === 'bind' && /^\d+$/.test(token)) vm.gecos.set(user, token)
  else if (verb === 'unbind') vm.gecos.delete(user)
  else if (verb === 'binding') return said(0, vm.gecos.has(user) ? `${vm.gecos.get(user)}\n` : '')
  else return said(2)
  return said(0)
}

function stateOf(vm: FakeVm | undefined): string {
  return vm?.isDefined === true ? vm.power : 'absent'
}

function change(world: World, params: Params, to: Partial<FakeVm>): undefined {
  const name = nameOf(params)
  const vm = world.vms.get(name)
  if (vm === undefined) return
  Object.assign(vm, to)
  if (partsOf(vm).length === 0) world.vms.delete(name)
}

function vmOf(world: World, params: Params): FakeVm {
  const name = nameOf(params)
  const vm = world.vms.get(name) ?? {
    hasDisk: false,
    hasSeed: false,
    isDefined: false,
    hasNetwork: false,
    power: 'stopped' as const,
    looksUntilReady: 0,
    gecos: new Map<string, string>(),
  }
  world.vms.set(name, vm)
  return vm
}

function partsOf(vm: FakeVm | undefined): string[] {
  if (vm === undefined) return []
  const parts = { disk: vm.hasDisk, seed: vm.hasSeed, domain: vm.isDefined, network: vm.hasNetwork }
  return Object.entries(parts).flatMap(([part, isThere]) => (isThere ? [part] : []))
}

function nameOf(params: Params): string {
  require(params, ['name'])
  return String(params.name)
}

function require(params: Params, names: readonly string[]): void {
  for (const name of names) if (params[name] === undefined) throw refusal(`${name} is missing`)
}

function refusal(why: string): BlockHostError {
  return new BlockHostError({ code: 'BH_ROOT_AGENT_REFUSED', message: `The root agent refused: ${why}` })
}
