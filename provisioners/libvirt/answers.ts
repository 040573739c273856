/** The root agent's answers about VMs, read into values. Pure. */
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { z } from 'zod'
import type { GuestResult, VmListEntry, VmMetrics, VmPower } from '../provisioner.ts'

const power = z.enum(['running', 'stopped', 'absent'])
const counter = z.union([z.number().int().nonnegative(), z.string().regex(/^\d{1,20}$/)]).transform(BigInt)

const statusSchema = z.looseObject({ state: power })
const listSchema = z.looseObject({
  vms: z.array(z.looseObject({ name: z.string(), state: z.enum(['running', 'stopped']) })),
})
const guestSchema = z.looseObject({ exitCode: z.number().int(), stdout: z.string(), stderr: z.string() })
const metricsSchema = z.looseObject({
  state: power,
  vcpus: z.number().int().default(0),
  memoryMiB: z.number().default(0),
  cpuNanoseconds: counter.default(0n),
  diskReadBytes: counter.default(0n),
  diskWriteBytes: counter.default(0n),
  netReceivedBytes: counter.default(0n),
  netSentBytes: counter.default(0n),
})

/** Reads the answer of vm-status. */
export function parsePower(answer: unknown): VmPower {
  return read(statusSchema, answer, 'vm-status').state
}

/** Reads the answer of vm-list. */
export function parseList(answer: unknown): VmListEntry[] {
  return read(listSchema, answer, 'vm-list').vms.map(({ name, state }) => ({ name, power: state }))
}

/** Reads the answer of vm-guest-exec. */
export function parseGuestResult(answer: unknown): GuestResult {
  const { exitCode, stdout, stderr } = read(guestSchema, answer, 'vm-guest-exec')
  return { exitCode, stdout, stderr }
}

/** Reads the counters of vm-status; `undefined` when there is no such VM. */
export function parseMetrics(answer: unknown): VmMetrics | undefined {
  const { state, vcpus, memoryMiB, cpuNanoseconds, ...rest } = read(metricsSchema, answer, 'vm-status')
  if (state === 'absent') return undefined
  const { diskReadBytes, diskWriteBytes, netReceivedBytes, netSentBytes } = rest
  const traffic = { diskReadBytes, diskWriteBytes, netReceivedBytes, netSentBytes }
  return { power: state, cpuNanoseconds, vcpus, memoryMiB, ...traffic }
}

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
