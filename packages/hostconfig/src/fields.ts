import { z } from 'zod'

/** An address as text, 0x and 40 hex digits, as written. YAML reads one without quotes as a number. */
export const address = z
  .string({ error: 'expected an address (0x and 40 hex digits) in quotes' })
  .regex(/^0x[\da-fA-F]{40}$/, 'expected an address (0x and 40 hex digits)')
  .transform(text => text as `0x${string}`)

/** An address that earlier writers left empty when there was none. */
export const optionalAddress = z
  .union([z.literal('').transform(() => undefined), z.null().transform(() => undefined), address])
  .optional()

/** An uncompressed secp256k1 public key, 0x04 and 128 hex digits. */
export const publicKey = z
  .string({ error: 'expected a public key (0x04 and 128 hex digits) in quotes' })
  .regex(/^0x04[\da-fA-F]{128}$/, 'expected a public key (0x04 and 128 hex digits)')

/** An absolute path without `..`. */
export const absolutePath = z
  .string()
  .refine(
    text => text.startsWith('/') && !text.split('/').includes('..') && !/[\0\n]/.test(text),
    'expected an absolute path',
  )

/** A whole number, also written as text: wizards stored what the form gave. */
export function wholeNumber(least: number, most: number = Number.MAX_SAFE_INTEGER): z.ZodType<number> {
  const expected = `expected a whole number from ${least}${most === Number.MAX_SAFE_INTEGER ? '' : ` to ${most}`}`
  return z
    .union(
      [
        z.number(),
        z
          .string()
          .regex(/^\d{1,15}$/)
          .transform(Number),
      ],
      { error: expected },
    )
    .pipe(
      z.number().refine(value => Number.isSafeInteger(value) && value >= least && value <= most, expected),
    ) as z.ZodType<number>
}

/** One http(s) or ws(s) address. */
export const rpcUrl = z.string().refine(text => {
  const url = URL.parse(text)
  return url !== null && ['http:', 'https:', 'ws:', 'wss:'].includes(url.protocol)
}, 'expected an http, https, ws or wss URL')

/** The name of a wallet in the address book. */
export const roleName = z.string().regex(/^[a-z\d][a-z\d-]{0,31}$/, 'expected up to 32 lower-case letters, digits, "-"')
