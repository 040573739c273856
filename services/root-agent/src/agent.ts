import { BlockHostError, messageOf } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { z } from 'zod'
import type { Action, ActionContext, ActionResult } from './action.ts'
import { refused, withMissingPrograms } from './errors.ts'
import type { Host } from './host.ts'
import { createLanes, type LaneLimits } from './lanes.ts'

/** The answer of the documented protocol; failures carry our code beside the documented text. */
export type Answer =
  | ({ readonly ok: true } & ActionResult)
  | {
      readonly ok: false
      readonly error: string
      readonly code: string
      readonly retryable: boolean
      readonly hint?: string
    }

/** Decides on requests and carries them out. */
export type Agent = {
  /** Never rejects. Runs to its end whether anybody waits for it or not. */
  handle(request: unknown): Promise<Answer>
  /** Calls that run or wait. */
  busy(): number
}

/** What {@link createAgent} needs. */
export type AgentDeps = { host: Host; exec: Exec; limits?: LaneLimits }

/** Makes the agent of an action table. */
export function createAgent(actions: ReadonlyMap<string, Action>, deps: AgentDeps): Agent {
  const { host } = deps
  const exec = withMissingPrograms(deps.exec)
  const lanes = createLanes(deps.limits ?? defaultLimits(host.config.socket.max_connections))

  const carryOut = async (name: string, action: Action, params: unknown): Promise<Answer> => {
    const start = host.clock.monotonic()
    const context: ActionContext = { host, exec: limitTime(exec, host, start + action.timeoutMs) }
    const result = await action.run(params, context)
    host.log.info({ action: name, ms: Math.round(host.clock.monotonic() - start) }, 'done')
    return limitSize({ ok: true, ...result })
  }
  return {
    async handle(request) {
      let name = '?'
      try {
        const call = parseRequest(request)
        name = call.action
        const action = actions.get(name)
        if (action === undefined) throw refused(`Unknown action: ${name}`)
        const params = parseParams(action, call.params)
        const options = { lane: action.lane(params), isLong: action.timeoutMs > longMs }
        return await lanes.run(options, () => carryOut(name, action, params))
      } catch (error) {
        host.log.warn({ action: name, error: messageOf(error) }, 'refused or failed')
        return toAnswer(error)
      }
    },
    busy: () => lanes.count(),
  }
}

/** An action that may take longer is a long one: those that wait for a guest, copy disks or customize images. */
const longMs = 60_000

/** Calls hold their connection until they are answered: long ones leave half of them to the others. */
function defaultLimits(maxConnections: number): LaneLimits {
  return { running: 16, waiting: 32, total: 256, long: { running: 16, total: Math.max(1, maxConnections >> 1) } }
}

/** Longest answer, bytes of JSON; older clients read no more than 1 MiB. */
const maxAnswerBytes = 1024 * 1024 - 1024

const requestSchema = z.strictObject({
  action: z.string().regex(/^[a-z\d-]{1,40}$/, 'expected the name of an action'),
  params: z.record(z.string(), z.unknown()).default({}),
})

function parseRequest(request: unknown): z.output<typeof requestSchema> {
  checkShape(request, 8)
  const parsed = requestSchema.safeParse(request)
  if (parsed.success) return parsed.data
  throw refused(`invalid request: ${problems(parsed.error)}`)
}

/** Before the schemas: they leave out a key `__proto__` in silence, and go as deep as they are given. */
function checkShape(value: unknown, depth: number): void {
  if (typeof value !== 'object' || value === null) return
  if (depth === 0) throw refused('invalid request: it is nested too deeply')
  for (const [key, inner] of Object.entries(value)) {
    if (key === '__proto__') throw refused('invalid request: a key is not allowed')
    checkShape(inner, depth - 1)
  }
}

function parseParams(action: Action, params: unknown): unknown {
  const parsed = action.schema.safeParse(params)
  if (parsed.success) return parsed.data
  throw refused(`invalid params: ${problems(parsed.error)}`)
}

/** Says which key and what was expected; never what was given, which may be long, secret or meant to harm. */
function problems(error: z.ZodError): string {
  return error.issues
    .slice(0, 5)
    .map(({ path, message, code }) => {
      const where =
        path
          .map(key =>
            String(key)
              .replace(/[^\w.-]/g, '?')
              .slice(0, 40),
          )
          .join('.') || '(top level)'
      return `${where}: ${code === 'unrecognized_keys' ? 'there is a key that is not known' : message.slice(0, 120)}`
    })
    .join('; ')
}

function limitTime(exec: Exec, { clock }: Host, deadline: number): Exec {
  return (command, args, options) => {
    const left = Math.ceil(deadline - clock.monotonic())
    if (left <= 0)
      throw new BlockHostError({ code: 'BH_ACTION_TIMEOUT', message: 'The action ran out of time', retryable: true })
    return exec(command, args, { ...options, timeoutMs: Math.min(options?.timeoutMs ?? left, left) })
  }
}

function limitSize(answer: Answer): Answer {
  if (Buffer.byteLength(JSON.stringify(answer)) <= maxAnswerBytes) return answer
  return { ok: false, error: 'the answer is too long', code: 'BH_ANSWER_TOO_LONG', retryable: false }
}

function toAnswer(error: unknown): Answer {
  const message = error instanceof Error ? error.message.slice(0, 1000) : 'failed'
  if (!(error instanceof BlockHostError)) return { ok: false, error: message, code: 'BH_UNEXPECTED', retryable: false }
  const hint = error.hint === undefined ? {} : { hint: error.hint }
  return { ok: false, error: message, code: error.code, retryable: error.retryable, ...hint }
}
