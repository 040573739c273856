import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { malformed, type Parsed, parsedOk } from './parsed.ts'
import { runTool } from './tool.ts'

/** One JSON object of `ip -j`. */
export type IpObject = Readonly<Record<string, unknown>>

/**
 * Asks ip(8) several questions with one process: `ip -6 -j -batch -`, a question a line on standard input.
 *
 * @param questions - e.g. `link show`, `neigh show proxy`; none that names a device, as a missing one would fail the others too.
 * @returns The objects of each answer, in the order of the questions.
 * @throws {BlockHostError} `BH_NETWORK_TOOL_FAILED`, `BH_NETWORK_TOOL_MISSING`, `BH_IP_ANSWER_MALFORMED`.
 */
export async function queryIp(exec: Exec, questions: readonly string[]): Promise<readonly IpObject[][]> {
  const text = await runTool(exec, 'ip', ['-6', '-j', '-batch', '-'], {
    input: toLines(questions),
    doing: 'read links, addresses and routes',
    timeoutMs: 10_000,
  })
  const parsed = parseAnswers(text, questions.length)
  if (parsed.ok) return parsed.value
  throw new BlockHostError({
    code: 'BH_IP_ANSWER_MALFORMED',
    message: `\`ip -j\` printed something unknown: ${parsed.problem}`,
    retryable: true,
  })
}

/**
 * Applies command lines with one process: `ip -6 -batch -`; none when there are no lines. Stops at the first line that fails.
 *
 * @param doing - What the lines do, for the message.
 */
export async function applyIp(exec: Exec, lines: readonly string[], doing: string): Promise<void> {
  if (lines.length > 0)
    await runTool(exec, 'ip', ['-6', '-batch', '-'], { input: toLines(lines), doing, timeoutMs: 120_000 })
}

/** Parses what `ip -j -batch` prints: a JSON array of objects on a line of its own for each question. */
export function parseAnswers(text: string, count: number): Parsed<IpObject[][]> {
  const answers: IpObject[][] = []
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue
    const answer = parseJson(line)
    if (!Array.isArray(answer) || !answer.every(isObject)) return malformed('a line is no JSON array of objects')
    answers.push(answer)
  }
  return answers.length === count ? parsedOk(answers) : malformed(`${answers.length} answers to ${count} questions`)
}

/** Parses JSON; `undefined` when it is not. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Returns whether a JSON value is an object. */
export function isObject(value: unknown): value is IpObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function toLines(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`
}
