/**
 * Checks of configuration values: what a value has to look like, and the sentence for when it doesn't. Not zod: loading that is a third
 * of the time in which this service has to start, and somebody waits for it.
 */

/** Returns what `value` stands for; when it is not as expected, adds `<at>: <what was expected>` to `problems` (the result is void then). */
export type Shape<T> = (value: unknown, at: string, problems: string[]) => T

/** What a {@link Shape} returns. */
export type Shaped<S> = S extends Shape<infer T> ? T : never

/** Text that matches. */
export function text(pattern: RegExp, expected: string): Shape<string> {
  return checked(value => typeof value === 'string' && pattern.test(value), expected)
}

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number): Shape<number> {
  const fits = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max
  return checked(fits, `expected a whole number from ${min} to ${max}`)
}

/** `true` or `false`. */
export const flag: Shape<boolean> = checked(value => typeof value === 'boolean', 'expected true or false')

/** One of some words. */
export function oneOf<const T extends string>(...words: readonly T[]): Shape<T> {
  return checked(value => words.includes(value as T), `expected ${words.map(word => `"${word}"`).join(' or ')}`)
}

/** A list, each entry of which has the shape. */
export function listOf<T>(shape: Shape<T>): Shape<readonly T[]> {
  return (value, at, problems) => {
    if (Array.isArray(value)) return value.map((entry, index) => shape(entry, `${at}.${index}`, problems))
    problems.push(`${at}: expected a list`)
    return []
  }
}

/** The shape, or nothing. */
export function optional<T>(shape: Shape<T>): Shape<T | undefined> {
  return (value, at, problems) => (value === undefined ? undefined : shape(value, at, problems))
}

/** The shape; `fallback` when it is left out. */
export function withDefault<T>(shape: Shape<T>, fallback: T): Shape<T> {
  return (value, at, problems) => (value === undefined ? fallback : shape(value, at, problems))
}

/** The shape, made into something else. `change` sees only what has the shape. */
export function changed<T, U>(shape: Shape<T>, change: (value: T) => U): Shape<U> {
  return (value, at, problems) => {
    const before = problems.length
    const shaped = shape(value, at, problems)
    return problems.length === before ? change(shaped) : (undefined as U)
  }
}

/** A table with these keys and no others; left out, it is as if it were empty. */
export function section<S extends Readonly<Record<string, Shape<unknown>>>>(
  shapes: S,
): Shape<{ readonly [K in keyof S]: Shaped<S[K]> }> {
  return (value, at, problems) => {
    const table = (isTable(value) ? value : {}) as Readonly<Record<string, unknown>>
    if (value !== undefined && !isTable(value)) problems.push(`${at}: expected a table`)
    const inside = (key: string) => (at === '' ? key : `${at}.${key}`)
    for (const key of Object.keys(table))
      if (!Object.hasOwn(shapes, key)) problems.push(`${inside(key)}: there is no such key`)
    const entries = Object.entries(shapes).map(([key, shape]) => [key, shape(table[key], inside(key), problems)])
    return Object.fromEntries(entries)
  }
}

function checked<T>(fits: (value: unknown) => boolean, expected: string): Shape<T> {
  return (value, at, problems) => {
    if (!fits(value)) problems.push(`${at}: ${value === undefined ? 'is missing; ' : ''}${expected}`)
    return value as T
  }
}

function isTable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}
