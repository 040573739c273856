/** VMs of the libvirt on this machine (qemu:///system), every privileged step done by the root agent. */
import { type Clock, systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError, isRetryable } from '@blockhost/kit/errors.ts'
import { memoryJournal, runSteps, type Step } from '@blockhost/kit/steps.ts'
import { type GuestResult, guestProgram, type Provisioner, type VmMetrics, type VmSpec } from '../provisioner.ts'
import { parseGuestResult, parseList, parseMetrics, parsePower } from './answers.ts'
import type { RootAgent } from './root-agent.ts'

/** What {@link createLibvirtProvisioner} is told. */
export type LibvirtConfig = {
  /** Template that new VMs start from: `id` of `build-template`. */
  readonly template: string
  /** Addresses of resolvers that guests ask. */
  readonly nameservers: readonly string[]
  /** How long a VM may take until it can be logged in to. Default 180 s. */
  readonly readyTimeoutMs?: number
  /** How long a guest may take to shut down before its power is cut. Default 60 s. */
  readonly shutdownSeconds?: number
}

/** The addresses of a VM, as the VM database has them. */
export type VmAddresses = Pick<VmSpec, 'mac'> & { readonly ipv4: string; readonly ipv6: string | undefined }

/** What {@link createLibvirtProvisioner} needs. */
export type LibvirtDeps = {
  readonly agent: RootAgent
  /** Returns the addresses of a VM that exists; the hypervisor forgets routes and firewall at a restart. */
  addressesOf(name: string): VmAddresses | undefined
  readonly clock?: Clock
}

/** Makes the {@link Provisioner} of this machine's libvirt. Starts nothing. */
export function createLibvirtProvisioner(config: LibvirtConfig, deps: LibvirtDeps): Provisioner {
  const { agent } = deps
  const host: Host = { ...deps, config, clock: deps.clock ?? systemClock }
  return {
    create: (spec, signal) => runSteps(createSteps(host, signal), spec, memoryJournal()),
    destroy: name => runSteps(destroySteps(host), name, memoryJournal()),
    start: name => runSteps(startSteps(host), name, memoryJournal()),
    stop: name => stop(host, name),
    suspend: name => runSteps(suspendSteps(host), name, memoryJournal()),
    resume: (name, signal) => runSteps(resumeSteps(host, signal), name, memoryJournal()),
    status: async name => parsePower(await agent.call('vm-status', { name })),
    list: async () => parseList(await agent.call('vm-list', {})),
    guestExec: (name, argv) => guestExec(host, name, argv),
    metrics: name => metrics(host, name),
  }
}

/** What the steps work with. */
export type Host = Omit<LibvirtDeps, 'clock'> & { readonly config: LibvirtConfig; readonly clock: Clock }

/**
 * Returns the steps that make a VM, for one run. Route and firewall come before the start: a guest must not send one unchecked packet.
 * Whoever makes VMs reserves addresses before, and registers after.
 *
 * Undoing takes away only a VM whose disk these steps made: a disk that was there before may hold somebody's data.
 */
export function createSteps(host: Host, signal?: AbortSignal): Step<VmSpec>[] {
  const { agent, config } = host
  let isMade = false
  const ifMade =
    (action: string) =>
    async ({ name }: VmSpec) => {
      if (isMade) await agent.call(action, { name }, 100_000)
    }
  return [
    { name: 'bridge', do: async () => void (await agent.call('bridge-ensure', {})) },
    {
      name: 'disk',
      do: async ({ name, diskGiB }) => {
        // An answer that is lost says nothing: then the disk stays for the next run, which finds it empty and its own.
        const params = { name, template: config.template, disk_gib: diskGiB }
        const { created } = await agent.call('vm-disk-create', params)
        isMade ||= created === true
      },
      undo: ifMade('vm-destroy'),
    },
    {
      name: 'seed',
      do: async spec => void (await agent.call('vm-seed-write', seedParams(spec, config))),
      undo: ifMade('vm-destroy'),
    },
    {
      name: 'define',
      do: async ({ name, vcpus, memoryMiB, mac }) =>
        void (await agent.call('vm-define', { name, vcpus, memory_mib: memoryMiB, mac, template: config.template })),
      undo: ifMade('vm-destroy'),
    },
    {
      name: 'network',
      do: async ({ name, mac, ipv4, ipv6 }) =>
        void (await agent.call(
          'vm-network-add',
          networkParams(name, { mac, ipv4: ipv4.address, ipv6: ipv6?.address }),
        )),
      undo: ifMade('vm-network-del'),
    },
    {
      name: 'start',
      do: async ({ name }) => void (await agent.call('vm-start', { name })),
      undo: ifMade('vm-stop'),
    },
    { name: 'ready', do: ({ name }) => untilReady(host, name, signal) },
  ]
}

/** Returns the steps that take a VM away. Each is fine with nothing there, so a removal goes on wherever it was interrupted. */
export function destroySteps({ agent }: Host): Step<string>[] {
  return [
    { name: 'power', do: async name => void (await agent.call('vm-stop', { name })) },
    { name: 'network', do: async name => void (await agent.call('vm-network-del', { name })) },
    { name: 'domain, disk and seed', do: async name => void (await agent.call('vm-destroy', { name }, 100_000)) },
  ]
}

/** Returns the steps that start a VM that exists; also after a restart of the host, which forgot route and firewall. */
export function startSteps(host: Host): Step<string>[] {
  const { agent } = host
  return [
    { name: 'bridge', do: async () => void (await agent.call('bridge-ensure', {})) },
    {
      name: 'network',
      do: async name => void (await agent.call('vm-network-add', networkParams(name, knownAddresses(host, name)))),
    },
    { name: 'start', do: async name => void (await agent.call('vm-start', { name })) },
  ]
}

/** Returns the steps of a suspension: the guest goes down in good order, then nothing leads to it. */
export function suspendSteps(host: Host): Step<string>[] {
  return [
    { name: 'shutdown', do: name => stop(host, name) },
    { name: 'network', do: async name => void (await host.agent.call('vm-network-del', { name })) },
  ]
}

/** Returns the steps that undo a suspension. */
export function resumeSteps(host: Host, signal?: AbortSignal): Step<string>[] {
  return [...startSteps(host), { name: 'ready', do: name => untilReady(host, name, signal) }]
}

function seedParams({ name, mac, ipv4, ipv6, userData }: VmSpec, { nameservers }: LibvirtConfig): Params {
  const { address, prefixLength, gateway } = ipv4
  const network = {
    mac,
    ipv4: { address, prefix_length: prefixLength, gateway },
    ...(ipv6 === undefined ? {} : { ipv6: { address: ipv6.address } }),
    nameservers,
  }
  return { name, user_data: userData, network }
}

type Params = Readonly<Record<string, unknown>>

function networkParams(name: string, { mac, ipv4, ipv6 }: VmAddresses): Params {
  return { name, mac, ipv4, ...(ipv6 === undefined ? {} : { ipv6 }) }
}

function knownAddresses(host: Host, name: string): VmAddresses {
  const addresses = host.addressesOf(name)
  if (addresses !== undefined) return addresses
  throw absent(name)
}

/**
 * A guest that does not heed the power button within its time has its power cut. The button is pressed again and again: one that is
 * still booting does not feel the first.
 */
async function stop({ agent, config }: Host, name: string): Promise<void> {
  if (parsePower(await agent.call('vm-status', { name })) !== 'running') return
  for (let left = config.shutdownSeconds ?? 60; left > 0; left -= pressSeconds) {
    const seconds = Math.min(left, pressSeconds)
    const { stopped } = await agent.call('vm-shutdown', { name, seconds }, (seconds + 30) * 1000)
    if (stopped === true) return
  }
  await agent.call('vm-stop', { name })
}

const pressSeconds = 5

/** Each look starts two programs, which beside several booting guests is worth counting. */
const readyPollMs = 1000

async function untilReady(host: Host, name: string, signal?: AbortSignal): Promise<void> {
  const { clock, config } = host
  const timeoutMs = config.readyTimeoutMs ?? 180_000
  for (const deadline = clock.monotonic() + timeoutMs; ; await clock.sleep(readyPollMs, signal)) {
    if (signal?.aborted === true) throw interrupted(name)
    if (await isReady(host, name)) return
    if (clock.monotonic() >= deadline) throw notReady(name, timeoutMs)
  }
}

async function isReady(host: Host, name: string): Promise<boolean> {
  try {
    return (await guestExec(host, name, [guestProgram, 'ready'])).exitCode === 0
  } catch (error) {
    if (!isRetryable(error)) throw error
    const power = parsePower(await host.agent.call('vm-status', { name }))
    if (power === 'running') return false
    throw error
  }
}

async function guestExec({ agent }: Host, name: string, argv: readonly [string, ...string[]]): Promise<GuestResult> {
  try {
    return parseGuestResult(await agent.call('vm-guest-exec', { name, argv }, 90_000))
  } catch (cause) {
    throw isRetryable(cause) ? unreachable(name, cause) : isNotFound(cause) ? absent(name) : cause
  }
}

async function metrics({ agent }: Host, name: string): Promise<VmMetrics> {
  try {
    return parseMetrics(await agent.call('vm-metrics', { name }))
  } catch (cause) {
    throw isNotFound(cause) ? absent(name) : cause
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof BlockHostError && error.code === 'BH_DOMAIN_NOT_FOUND'
}

function unreachable(name: string, cause: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_GUEST_UNREACHABLE',
    message: `Nothing answers in ${name}`,
    hint: `Look at its console: virsh console ${name}`,
    fields: { name },
    retryable: true,
    cause,
  })
}

function absent(name: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_VM_ABSENT',
    message: `The hypervisor has no VM ${name}`,
    hint: '`vm-generator` makes one.',
    fields: { name },
  })
}

function notReady(name: string, timeoutMs: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_VM_NOT_READY',
    message: `${name} could not be logged in to within ${Math.round(timeoutMs / 1000)} s of its start`,
    hint: `Look at its console: virsh console ${name}`,
    fields: { name },
    retryable: true,
  })
}

function interrupted(name: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_INTERRUPTED',
    message: `Told to stop while waiting for ${name}`,
    fields: { name },
    retryable: true,
  })
}
