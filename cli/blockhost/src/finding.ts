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
