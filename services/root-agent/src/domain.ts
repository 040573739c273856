import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync, rmSync } from 'node:fs'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { ExecError } from '@blockhost/kit/exec.ts'
import { writeFileAtomic } from '@blockhost/kit/files.ts'
import { z } from 'zod'
import { type ActionContext, defineAction } from './action.ts'
import { renderDomain } from './domain-xml.ts'
import { refused } from './errors.ts'
import { int, mac, templateId, vmName } from './params.ts'
import { findTemplate, removeVmFiles, tapName, vmFiles, vmUuid } from './vm-files.ts'

const named = z.strictObject({ name: vmName })
const laneOf = ({ name }: { name: string }) => `vm:${name}`

/**
 * `vm-define {name, vcpus, memory_mib, mac, template}`: makes or changes the libvirt domain; disk and seed must be there. The agent
 * writes the XML itself. A domain of that name that the agent did not make is never replaced.
 */
export const vmDefine = defineAction({
  schema: z.strictObject({
    name: vmName,
    vcpus: int(1, 512),
    memory_mib: int(64, 16_777_216),
    mac,
    template: templateId,
  }),
  timeoutMs: 30_000,
  lane: laneOf,
  async run({ name, vcpus, memory_mib, mac, template }, context) {
    const { config, accelerator, architecture, qemuUser } = context.host
    if (vcpus > config.vm.max_vcpus) throw refused(`vcpus: at most ${config.vm.max_vcpus} (vm.max_vcpus)`)
    if (memory_mib > config.vm.max_memory_mib)
      throw refused(`memory_mib: at most ${config.vm.max_memory_mib} (vm.max_memory_mib)`)
    const files = vmFiles(context.host, name)
    for (const path of [files.disk, files.seed]) if (!existsSync(path)) throw refused(`name: ${path} is missing`)
    const { kernel } = findTemplate(context.host, template)
    const xml = renderDomain({
      name,
      uuid: vmUuid(name),
      vcpus,
      memoryMiB: memory_mib,
      mac,
      bridge: config.network.bridge,
      tap: tapName(name),
      disk: files.disk,
      diskCache: config.vm.disk_cache,
      seed: files.seed,
      console: files.console,
      accelerator,
      architecture,
      qemuUser,
      kernel: kernel === undefined ? undefined : { ...kernel, cmdline: readFileSync(kernel.cmdline, 'utf8').trim() },
    })
    writeFileAtomic(files.domain, xml, { mode: 0o600 })
    await virsh(context, ['define', '--validate', files.domain])
    return { uuid: vmUuid(name), tap: tapName(name), accelerator }
  },
})

/** `vm-undefine {name}`: forgets the domain, not its files; one that is not defined is fine. */
export const vmUndefine = defineAction({
  schema: named,
  timeoutMs: 30_000,
  lane: laneOf,
  async run({ name }, context) {
    await virshUnless(context, undefine(name), [notFound])
    rmSync(vmFiles(context.host, name).domain, { force: true })
    return {}
  },
})

/** `vm-start {name}`: one that runs is fine; one that is paused goes on. */
export const vmStart = defineAction({
  schema: named,
  timeoutMs: 60_000,
  lane: laneOf,
  async run({ name }, context) {
    if ((await readState(context, name)) === 'paused') await virsh(context, ['resume', vmUuid(name)])
    else await virshUnless(context, ['start', vmUuid(name)], [/already (?:active|running)/i])
    return {}
  },
})

/** `vm-stop {name}`: pulls the plug; one that does not run is fine. */
export const vmStop = defineAction({
  schema: named,
  timeoutMs: 60_000,
  lane: laneOf,
  async run({ name }, context) {
    await virshUnless(context, ['destroy', vmUuid(name)], [notRunning, notFound])
    return {}
  },
})

/**
 * `vm-shutdown {name, seconds?}`: asks the guest to shut down (ACPI) and waits, at most `seconds` (default 60).
 * Answers with `stopped`: whether it is off now. One that does not run is fine.
 */
export const vmShutdown = defineAction({
  schema: z.strictObject({ name: vmName, seconds: int(1, 300).default(60) }),
  timeoutMs: 320_000,
  lane: laneOf,
  async run({ name, seconds }, context) {
    const { clock } = context.host
    await virshUnless(context, ['shutdown', '--mode', 'acpi', vmUuid(name)], [notRunning, notFound])
    for (const end = clock.monotonic() + seconds * 1000; ; await clock.sleep(500)) {
      const state = await readState(context, name)
      if (state === 'stopped' || state === 'absent') return { stopped: true }
      if (clock.monotonic() >= end) return { stopped: false }
    }
  },
})

/** `vm-suspend {name}`: freezes the processors of a running VM; memory and address stay. One that is frozen or off is fine. */
export const vmSuspend = defineAction({
  schema: named,
  timeoutMs: 30_000,
  lane: laneOf,
  async run({ name }, context) {
    await virshUnless(context, ['suspend', vmUuid(name)], [notRunning, /already suspended|already paused/i])
    return {}
  },
})

/** `vm-resume {name}`: the other way; one that runs is fine. */
export const vmResume = defineAction({
  schema: named,
  timeoutMs: 30_000,
  lane: laneOf,
  async run({ name }, context) {
    await virshUnless(context, ['resume', vmUuid(name)], [/already running/i])
    return {}
  },
})

/** `vm-destroy {name}`: stops and forgets the domain and deletes its disk, seed and console output. One that is gone is fine. */
export const vmDestroy = defineAction({
  schema: named,
  timeoutMs: 90_000,
  lane: laneOf,
  async run({ name }, context) {
    await virshUnless(context, ['destroy', vmUuid(name)], [notRunning, notFound])
    await virshUnless(context, undefine(name), [notFound])
    removeVmFiles(context.host, name)
    return {}
  },
})

/** `vm-status {name}`: answers with `state`: running, paused, stopped, absent, or libvirt's own word for something rare. */
export const vmStatus = defineAction({
  schema: named,
  timeoutMs: 20_000,
  async run({ name }, context) {
    return { state: await readState(context, name) }
  },
})

/** `vm-list {}`: answers with `vms`: name and state of all domains that the agent made. */
export const vmList = defineAction({
  schema: z.strictObject({}),
  timeoutMs: 60_000,
  async run(_params, context) {
    const list = await virsh(context, ['list', '--all', '--uuid', '--name'])
    const states = parseStates(await virsh(context, ['domstats', '--state']))
    const vms = list
      .split('\n')
      .map(line => line.trim().split(/\s+/, 2))
      .flatMap(([uuid, name]) =>
        name !== undefined && vmUuid(name) === uuid ? [{ name, state: states.get(name) ?? 'absent' }] : [],
      )
    return { vms }
  },
})

/** `vm-metrics {name}`: answers with `stats`, the raw numbers of `virsh domstats`, e.g. `cpu.time` (ns), `balloon.rss` (KiB), `net.0.rx.bytes`. */
export const vmMetrics = defineAction({
  schema: named,
  timeoutMs: 20_000,
  async run({ name }, context) {
    const groups = ['--state', '--cpu-total', '--balloon', '--vcpu', '--interface', '--block']
    const out = await virsh(context, ['domstats', ...groups, vmUuid(name)])
    const lines = out.split('\n').map(line => /^\s+([\w.<>-]+)=(-?\d+)$/.exec(line))
    return { stats: Object.fromEntries(lines.flatMap(match => (match ? [[match[1], Number(match[2])]] : []))) }
  },
})

/** `vm-console {name}`: answers with `output`, the last 16 KiB of the serial console. */
export const vmConsole = defineAction({
  schema: named,
  timeoutMs: 5_000,
  run({ name }, { host }) {
    const path = vmFiles(host, name).console
    return { output: existsSync(path) ? readTail(path, 16 * 1024) : '' }
  },
})

/** Runs virsh and returns what it printed. */
export async function virsh(
  { host, exec }: Pick<ActionContext, 'host' | 'exec'>,
  args: readonly string[],
): Promise<string> {
  try {
    return (await exec('virsh', ['-c', host.config.vm.libvirt_uri, '-q', ...args])).stdout
  } catch (error) {
    throw error instanceof ExecError ? explained(error) : error
  }
}

/** With what libvirt keeps beside a domain: memory that was saved, firmware variables, snapshots. */
function undefine(name: string): string[] {
  return ['undefine', '--managed-save', '--nvram', '--snapshots-metadata', vmUuid(name)]
}

const notFound = /failed to get domain|Domain not found|no domain with matching/i
const notRunning = /domain (?:'[^']*' )?(?:is )?not running/i

async function virshUnless(context: ActionContext, args: readonly string[], fine: readonly RegExp[]): Promise<void> {
  try {
    await virsh(context, args)
  } catch (error) {
    if (!(error instanceof BlockHostError) || !fine.some(expression => expression.test(error.message))) throw error
  }
}

/** Parses `virsh domstats --state`: for each domain its name and a number (enum virDomainState). */
function parseStates(text: string): Map<string, string> {
  const words = ['no state', 'running', 'idle', 'paused', 'in shutdown', 'stopped', 'crashed', 'pmsuspended']
  const found = text.matchAll(/^Domain: '(.*)'\n {2}state\.state=(\d)$/gm)
  return new Map([...found].map(([, name, code]) => [name!, words[Number(code)] ?? 'no state']))
}

async function readState(context: ActionContext, name: string): Promise<string> {
  try {
    const word = (await virsh(context, ['domstate', vmUuid(name)])).trim()
    return { 'shut off': 'stopped', running: 'running', paused: 'paused' }[word] ?? word
  } catch (error) {
    if (error instanceof BlockHostError && notFound.test(error.message)) return 'absent'
    throw error
  }
}

function explained(error: ExecError): BlockHostError {
  const said = error.stderr
    .replace(/^error:\s*/gm, '')
    .trim()
    .replace(/\s*\n\s*/g, '; ')
  return new BlockHostError({
    code: notFound.test(said) ? 'BH_DOMAIN_NOT_FOUND' : 'BH_LIBVIRT_FAILED',
    message: `libvirt: ${said.slice(0, 500) || error.message}`,
    retryable: !notFound.test(said),
    cause: error,
  })
}

function readTail(path: string, bytes: number): string {
  const handle = openSync(path, 'r')
  try {
    const { size } = fstatSync(handle)
    const buffer = Buffer.alloc(Math.min(bytes, size))
    const length = readSync(handle, buffer, 0, buffer.length, Math.max(0, size - buffer.length))
    return buffer.toString('utf8', 0, length)
  } finally {
    closeSync(handle)
  }
}
