import { BlockHostError } from '@blockhost/kit/errors.ts'
import { z } from 'zod'
import { type ActionContext, defineAction } from './action.ts'
import { virsh } from './domain.ts'
import { int, vmName } from './params.ts'
import { vmUuid } from './vm-files.ts'

const argument = z
  .string()
  .max(4000)
  .refine(text => !text.includes('\0'), 'expected text')

/**
 * `vm-guest-exec {name, argv, seconds?}`: runs a program as root inside the VM through QEMU's guest agent and waits, at most `seconds`
 * (default 60). Answers with `exitcode`, `stdout`, `stderr` (64 KiB each at most). Programs of the host are never run.
 * The argv can be seen on the host while it is handed over, so no secret belongs there.
 */
export const vmGuestExec = defineAction({
  schema: z.strictObject({
    name: vmName,
    argv: z
      .array(argument)
      .min(1)
      .max(64)
      .refine(argv => argv.join('').length <= 16_000, 'expected at most 16000 characters'),
    seconds: int(1, 300).default(60),
  }),
  timeoutMs: 320_000,
  async run({ name, argv, seconds }, context) {
    const { clock } = context.host
    const [path, ...arg] = argv
    const started = await ask(context, name, 'guest-exec', { path, arg, 'capture-output': true })
    const { pid } = pidSchema.parse(started)
    for (const end = clock.monotonic() + seconds * 1000; ; await clock.sleep(200)) {
      const status = statusSchema.parse(await ask(context, name, 'guest-exec-status', { pid }))
      if (status.exited) return toResult(status)
      if (clock.monotonic() >= end) throw tooSlow(name, seconds)
    }
  },
})

/** `vm-guest-ping {name}`: answers with `alive`: whether the guest agent of the VM answers. */
export const vmGuestPing = defineAction({
  schema: z.strictObject({ name: vmName }),
  timeoutMs: 15_000,
  async run({ name }, context) {
    try {
      await ask(context, name, 'guest-ping', undefined, 3)
      return { alive: true }
    } catch (error) {
      if (error instanceof BlockHostError && isSilent.test(error.message)) return { alive: false }
      throw error
    }
  },
})

const isSilent =
  /agent.*(?:not connected|not responding|unresponsive|not configured|unavailable)|domain is not running|not available/i

const pidSchema = z.looseObject({ pid: z.int() })
const statusSchema = z.looseObject({
  exited: z.boolean(),
  exitcode: z.int().optional(),
  signal: z.int().optional(),
  'out-data': z.string().optional(),
  'err-data': z.string().optional(),
})

async function ask(
  context: ActionContext,
  name: string,
  execute: string,
  args: Readonly<Record<string, unknown>> | undefined,
  seconds = 10,
): Promise<unknown> {
  const command = JSON.stringify({ execute, ...(args === undefined ? {} : { arguments: args }) })
  const out = await virsh(context, ['qemu-agent-command', '--timeout', String(seconds), vmUuid(name), command])
  try {
    return z.looseObject({ return: z.unknown() }).parse(JSON.parse(out)).return
  } catch {
    throw new BlockHostError({
      code: 'BH_GUEST_AGENT_FAILED',
      message: `The guest agent of ${name} answered something unknown`,
      retryable: true,
    })
  }
}

function toResult(status: z.output<typeof statusSchema>) {
  const decode = (data: string | undefined) =>
    Buffer.from(data ?? '', 'base64')
      .subarray(0, 64 * 1024)
      .toString('utf8')
  return {
    // As a shell says it: 128 and the signal.
    exitcode: status.exitcode ?? 128 + (status.signal ?? 0),
    stdout: decode(status['out-data']),
    stderr: decode(status['err-data']),
  }
}

function tooSlow(name: string, seconds: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_GUEST_EXEC_TIMEOUT',
    message: `The program in ${name} did not end within ${seconds} s; it goes on there`,
    retryable: true,
  })
}
