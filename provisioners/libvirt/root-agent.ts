import { BlockHostError } from '@blockhost/kit/errors.ts'
import { callFrame } from '@blockhost/kit/frame.ts'

/** The root agent: one closed verb a call. Everything privileged about VMs happens behind it. */
export type RootAgent = {
  /**
   * @param timeoutMs - For the whole call. Default 60 s.
   * @throws {BlockHostError} `BH_SOCKET_UNREACHABLE`, `BH_SOCKET_TIMEOUT`; else the agent's own code, or `BH_ROOT_AGENT_REFUSED`.
   */
  call(
    action: string,
    params: Readonly<Record<string, unknown>>,
    timeoutMs?: number,
  ): Promise<Readonly<Record<string, unknown>>>
}

/** Talks to the root agent. @param path - Its socket, `/run/blockhost/root-agent.sock`. */
export function connectRootAgent(path: string): RootAgent {
  return {
    async call(action, params, timeoutMs = 60_000) {
      const answer = await callFrame(path, { action, params }, { timeoutMs, maxBytes: 2 ** 21 })
      return readAnswer(action, answer)
    },
  }
}

/** Returns what a positive answer says. @throws {BlockHostError} when it is a refusal, or no answer at all. */
export function readAnswer(action: string, answer: unknown): Readonly<Record<string, unknown>> {
  if (typeof answer === 'object' && answer !== null && !Array.isArray(answer)) {
    const fields = answer as Record<string, unknown>
    if (fields.ok === true) return fields
    if (fields.ok === false) throw refusal(action, fields)
  }
  throw new BlockHostError({
    code: 'BH_SOCKET_ANSWER_INVALID',
    message: `The root agent's answer to ${action} can't be read`,
  })
}

function refusal(action: string, fields: Readonly<Record<string, unknown>>): BlockHostError {
  const { error, code, hint, retryable } = fields
  return new BlockHostError({
    code: typeof code === 'string' && /^BH_[A-Z\d_]+$/.test(code) ? (code as `BH_${string}`) : 'BH_ROOT_AGENT_REFUSED',
    message: `The root agent did not do ${action}: ${typeof error === 'string' ? error.slice(0, 400) : 'no reason given'}`,
    ...(typeof hint === 'string' ? { hint } : {}),
    retryable: retryable === true,
    fields: { action },
  })
}
