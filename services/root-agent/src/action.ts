import type { Exec } from '@blockhost/kit/exec.ts'
import type { z } from 'zod'
import type { Host } from './host.ts'

/** What every action may use. Nothing else of the machine is touched. */
export type ActionContext = {
  readonly host: Host
  /** Runs a program; what is left of the action's time is the most it gets. */
  readonly exec: Exec
}

/** What an action answers with, beside `ok`. */
export type ActionResult = Readonly<Record<string, unknown>>

/** One closed verb. */
export type Action = {
  readonly schema: z.ZodType
  /** For all commands of one call together, milliseconds. */
  readonly timeoutMs: number
  /** Calls with the same lane run one after the other, in order; `undefined`: beside everything. */
  lane(params: unknown): string | undefined
  /** @param params - Has passed the schema. */
  run(params: unknown, context: ActionContext): Promise<ActionResult> | ActionResult
}

/** What {@link defineAction} is given; the parameters' type follows from the schema. */
export type ActionOptions<T extends z.ZodType> = {
  schema: T
  timeoutMs: number
  lane?: string | ((params: z.output<T>) => string)
  run(params: z.output<T>, context: ActionContext): Promise<ActionResult> | ActionResult
}

/** Makes an {@link Action}. */
export function defineAction<T extends z.ZodType>(options: ActionOptions<T>): Action {
  const { schema, timeoutMs, lane } = options
  return {
    schema,
    timeoutMs,
    lane: params => (typeof lane === 'function' ? lane(params as z.output<T>) : lane),
    run: (params, context) => options.run(params as z.output<T>, context),
  }
}
