/** The root agent's answers about VMs, read into values. Pure. */
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { z } from 'zod'
import type { GuestResult, VmListEntry, VmMetrics, VmPower } from '../provisioner.ts'

const statusSchema = z.looseObject({ state: z.string() })
const listSchema = z.looseObject({ vms: z.array(z.looseObject({ name: z.string(), state: z.string() })) })
const guestSchema = z.looseObject({ exitcode: z.number().int(), stdout: z.string(), stderr: z.string() })
const metricsSchema = z.looseObject({ stats: z.record(z.string(), z.number()) })

/** Reads the answer of vm-status. */
export function parsePower(answer: unknown): VmPower {
  const { state } = read(statusSchema, answer, 'vm-status')
  return state === 'absent' ? 'absent' : toPower(state)
}

/** Reads the answer of vm-list. */
export function parseList(answer: unknown): VmListEntry[] {
  return read(listSchema, answer, 'vm-list').vms.map(({ name, state }) => ({ name, power: toPower(state) }))
}

/** A VM that is paused, or about to go down, still has its memory and its address. */
function toPower(state: string): 'running' | 'stopped' {
  return ['stopped', 'crashed'].includes(state) ? 'stopped' : 'running'
}

/** Reads the answer of vm-guest-exec. */
export function parseGuestResult(answer: unknown): GuestResult {
  const { exitcode, stdout, stderr } = read(guestSchema, answer, 'vm-guest-exec')
  return { exitCode: exitcode, stdout, stderr }
}

/** Reads the answer of vm-metrics: fields of `virsh domstats` (virsh(1)). What it does not say is 0. */
export function parseMetrics(answer: unknown): VmMetrics {
  const { stats } = read(metricsSchema, answer, 'vm-metrics')
  const number = (name: string) => stats[name] ?? 0
  const counter = (name: string) => BigInt(Math.max(0, Math.trunc(number(name))))
  return {
    power: number('state.state') === domainShutOff ? 'stopped' : 'running',
    cpuNanoseconds: counter('cpu.time'),
    vcpus: number('vcpu.current'),
    memoryMiB: Math.round(number('balloon.current') / 1024),
    diskReadBytes: counter('block.0.rd.bytes'),
    diskWriteBytes: counter('block.0.wr.bytes'),
    netReceivedBytes: counter('net.0.rx.bytes'),
    netSentBytes: counter('net.0.tx.bytes'),
  }
}

/** VIR_DOMAIN_SHUTOFF (libvirt-domain.h). */
const domainShutOff = 5

function read<T extends z.ZodType>(schema: T, answer: unknown, action: string): z.output<T> {
  const parsed = schema.safeParse(answer)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`).join('; ')
  throw new BlockHostError({
    code: 'BH_SOCKET_ANSWER_INVALID',
    message: `The root agent's answer to ${action} can't be read: ${problems}`,
    fields: { action },
  })
}
