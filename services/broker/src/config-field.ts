/** How one value of a configuration file is checked: every message says what was found and what was expected. */
import { isAbsolute, normalize } from 'node:path'
import { isInterfaceName } from '@blockhost/net/link.ts'
import { z } from 'zod'

/** A key's schema: takes the raw TOML value (or its absence) and gives a `T`. */
export type Field<T> = z.ZodType<T>

/** Returns the value, or `undefined` when it is none of this kind. */
type Parse<T> = (value: unknown) => T | undefined

type Options<T> = {
  /** Used when the key is absent; without it an absent key is an error. */
  fallback?: { value: T }
  /** The value may hold a password: messages do not repeat it. */
  secret?: boolean
}

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number, fallback?: number): Field<number> {
  return field(wholeNumber(min, max), inRange(min, max), optional(fallback))
}

/** A whole number from `min` to `max`, or `undefined` when the key is absent. */
export function maybeInteger(min: number, max: number): Field<number | undefined> {
  return field(wholeNumber(min, max), inRange(min, max), { fallback: { value: undefined } })
}

/** `true` or `false`; `false` when absent. */
export function flag(): Field<boolean> {
  return field('true or false', value => (typeof value === 'boolean' ? value : undefined), optional(false))
}

/** One of a few words. */
export function oneOf<const T extends string>(words: readonly T[], fallback: T): Field<T> {
  return field(
    `one of ${words.map(quote).join(', ')}`,
    value => words.find(word => word === value),
    optional<T>(fallback),
  )
}

/** An absolute path, normalized. */
export function absolutePath(fallback?: string): Field<string> {
  return field('an absolute path', toAbsolutePath, optional(fallback))
}

/** An absolute path, or nothing: absent and `""` mean the same. */
export function maybePath(): Field<string | undefined> {
  return maybe('an absolute path, or "" for none', toAbsolutePath)
}

/** A network interface's name as Linux and wg(8) both take it, or nothing: absent and `""` mean the same. */
export function maybeInterface(): Field<string | undefined> {
  return maybe(`${interfaceRule}, or "" for none`, toInterface)
}

/** A network interface's name as Linux (IFNAMSIZ) and wg(8) both take it. */
export function interfaceName(fallback: string): Field<string> {
  return field(interfaceRule, toInterface, optional(fallback))
}

/** Any non-empty text that `parse` understands. */
export function parsed<T>(expected: string, parse: (text: string) => T | undefined, fallback?: T): Field<T> {
  return field(expected, value => (typeof value === 'string' ? parse(value) : undefined), optional(fallback))
}

/** Like {@link parsed}, or `undefined` when the key is absent. */
export function maybeParsed<T>(expected: string, parse: (text: string) => T | undefined): Field<T | undefined> {
  return maybe(expected, value => (typeof value === 'string' ? parse(value) : undefined))
}

/** A list, empty when absent; `expected` describes one member. */
export function listOf<T>(expected: string, parse: (text: string) => T | undefined): Field<readonly T[]> {
  return field<readonly T[]>(
    `a list, each ${expected}`,
    value => {
      if (!Array.isArray(value)) return undefined
      const members = value.map(member => (typeof member === 'string' ? parse(member) : undefined))
      return members.every(member => member !== undefined) ? members : undefined
    },
    { fallback: { value: [] } },
  )
}

/** The address of an HTTP JSON-RPC endpoint. It may contain an access key, so messages never repeat it. */
export function maybeRpcUrl(): Field<string | undefined> {
  return maybe('an http:// or https:// address', value => (typeof value === 'string' ? toHttpUrl(value) : undefined), {
    secret: true,
  })
}

/** Same as {@link maybeRpcUrl} for several endpoints; empty when absent. */
export function rpcUrls(): Field<readonly string[]> {
  return field<readonly string[]>(
    'a list of http:// or https:// addresses',
    value => {
      if (!Array.isArray(value)) return undefined
      const urls = value.map(member => (typeof member === 'string' ? toHttpUrl(member) : undefined))
      return urls.every(url => url !== undefined) ? urls : undefined
    },
    { fallback: { value: [] }, secret: true },
  )
}

/**
 * An amount in a unit of `decimals` places, as a number or a text: `0.05`, `"0.05"`.
 *
 * @returns The amount in the smallest unit, e.g. wei for 18 decimals.
 */
export function amount(unit: string, decimals: number): Field<bigint | undefined> {
  return maybe(`an amount in ${unit}, e.g. 0.05, with at most ${decimals} decimals`, value => {
    const text = typeof value === 'number' ? String(value) : value
    const match = typeof text === 'string' ? /^(\d{1,12})(?:\.(\d+))?$/.exec(text) : null
    if (match === null || (match[2] ?? '').length > decimals) return undefined
    return BigInt(match[1]! + (match[2] ?? '').padEnd(decimals, '0'))
  })
}

/** Reads a 32-byte hash: `0x` and 64 digits. Returns it in lower case. */
export function toHash(text: string): `0x${string}` | undefined {
  return /^0x[0-9a-fA-F]{64}$/.test(text) ? (text.toLowerCase() as `0x${string}`) : undefined
}

/** Renders a value found in a configuration file for a message: one line, at most 60 characters. */
export function show(value: unknown): string {
  if (value instanceof Date) return value.toISOString()
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

function field<T>(expected: string, parse: Parse<T>, options: Options<T> = {}): Field<T> {
  return z
    .unknown()
    .optional()
    .transform((value, context) => {
      if (value === undefined) {
        if (options.fallback !== undefined) return options.fallback.value
        context.addIssue(`is missing, expected ${expected}`)
        return z.NEVER
      }
      const result = parse(value)
      if (result !== undefined) return result
      const found = options.secret ? `found a ${typeof value} that is not` : `found ${show(value)}, expected`
      context.addIssue(`${found} ${expected}`)
      return z.NEVER
    })
}

function maybe<T>(expected: string, parse: Parse<T>, options: { secret?: boolean } = {}): Field<T | undefined> {
  return z
    .unknown()
    .optional()
    .transform(value => (value === '' ? undefined : value))
    .pipe(field<T | undefined>(expected, parse, { fallback: { value: undefined }, ...options }))
}

function optional<T>(value: T | undefined): Options<T> {
  return value === undefined ? {} : { fallback: { value } }
}

function wholeNumber(min: number, max: number): string {
  return `a whole number from ${min} to ${max}`
}

function inRange(min: number, max: number): Parse<number> {
  return value =>
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max ? value : undefined
}

const interfaceRule = 'an interface name of 1 to 15 letters, digits, and . _ -'

function toInterface(value: unknown): string | undefined {
  return typeof value === 'string' && isInterfaceName(value) ? value : undefined
}

function toAbsolutePath(value: unknown): string | undefined {
  return typeof value === 'string' && isAbsolute(value) && !/\p{Cc}/u.test(value) ? normalize(value) : undefined
}

function toHttpUrl(text: string): string | undefined {
  const url = URL.parse(text)
  return url !== null && (url.protocol === 'http:' || url.protocol === 'https:') ? text : undefined
}

function quote(word: string): string {
  return `"${word}"`
}
