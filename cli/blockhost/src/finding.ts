import { BlockHostError, type ExitCode, exitCodes, messageOf } from '@blockhost/kit/errors.ts'

/** What one check of the doctor found. `todo` says what to do about it. */
export type Finding = {
  readonly what: string
  readonly verdict: 'good' | 'warning' | 'bad'
  readonly text: string
  readonly todo?: string
}

/** All is well. */
export function good(what: string, text: string): Finding {
  return { what, verdict: 'good', text }
}

/** It works, but a person should look. */
export function warning(what: string, text: string, todo: string): Finding {
  return { what, verdict: 'warning', text, todo }
}

/** It does not work. */
export function bad(what: string, text: string, todo: string): Finding {
  return { what, verdict: 'bad', text, todo }
}

/** The check that all others need; without it the exit code is another one. */
export const configurationCheck = 'configuration'

/**
 * It does not work, for the reason that an error and its causes tell.
 *
 * @param otherwise - What to do where the error does not say. Who may not read is told who may.
 */
export function failed(what: string, error: unknown, otherwise: string): Finding {
  const chain = causesOf(error)
  const isDenied = chain.some(cause => ['EACCES', 'EPERM'].includes((cause as NodeJS.ErrnoException).code ?? ''))
  const hint = isDenied ? 'Run this command as root or as the user blockhost.' : undefined
  const own = error instanceof BlockHostError ? error.hint : undefined
  // Node ends with the call and the path, which stands in front already.
  const texts = chain.map((cause, depth) =>
    depth === 0 ? messageOf(cause) : messageOf(cause).replace(/, \w+ '.*'$/, ''),
  )
  return bad(what, texts.join(': '), hint ?? own ?? otherwise)
}

/** Returns the exit code that findings ask for. */
export function exitCodeOf(findings: readonly Finding[]): ExitCode {
  const isBad = (finding: Finding) => finding.verdict === 'bad'
  if (findings.some(finding => isBad(finding) && finding.what === configurationCheck)) return exitCodes.badConfig
  return findings.some(isBad) ? exitCodes.failed : exitCodes.ok
}

/** Renders findings, one or two lines each, the bad ones last, where a terminal shows them. */
export function renderFindings(findings: readonly Finding[]): string {
  const order = { good: 0, warning: 1, bad: 2 }
  const marks = { good: 'ok  ', warning: 'look', bad: 'BAD ' }
  return findings
    .toSorted((a, b) => order[a.verdict] - order[b.verdict])
    .flatMap(({ what, verdict, text, todo }) => [
      `${marks[verdict]}  ${what}: ${text}`,
      ...(todo === undefined ? [] : [`      what to do: ${todo}`]),
    ])
    .join('\n')
}

function causesOf(error: unknown): unknown[] {
  const causes: unknown[] = []
  for (let at = error; at !== undefined && causes.length < 8; at = at instanceof Error ? at.cause : undefined)
    causes.push(at)
  return causes
}
