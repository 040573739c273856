/** What a parser of foreign text returns: the value, or one clause that says what is wrong with the text. */
export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string }

/** Wraps a parsed value. */
export function parsedOk<T>(value: T): Parsed<T> {
  return { ok: true, value }
}

/** Says why a text can't be parsed; `problem` must be safe to print. */
export function malformed(problem: string): Parsed<never> {
  return { ok: false, problem }
}
