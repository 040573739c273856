/** Codes for signing in over SSH: shown, signed, used once. Their job is freshness: nobody has to guess what is displayed. */
import { createHmac } from 'node:crypto'

/** Letters and digits that are not taken for one another: no I, O, 0, 1. Thirty-two, so that five bits make one without bias. */
export const otpAlphabet = 'ABCDEFGHJKLMNPQRSTUVWXYZ23456789'

/** Fewest and most characters of a code. */
export const otpLengths = { least: 4, most: 19, usual: 6 } as const

/** What a code is made from. */
export type OtpInput = {
  /** Known to this machine only; at least 16 bytes. */
  readonly secret: Uint8Array
  readonly machineId: string
  /** Unix seconds. */
  readonly timeSeconds: number
  /** Random, 16 bytes: no two codes have the same. */
  readonly session: Uint8Array
  /** Characters. Default 6. */
  readonly length?: number
}

/**
 * Returns a code: the first bits of HMAC-SHA3-256 (RFC 2104 with FIPS 202) under the secret over
 * `machine id || 0x00 || time (u64 big-endian) || session`, five bits a character of {@link otpAlphabet}.
 *
 * @throws {RangeError} when the secret is shorter than 16 bytes or the length is out of range.
 */
export function makeOtp({ secret, machineId, timeSeconds, session, length = otpLengths.usual }: OtpInput): string {
  if (secret.length < 16) throw new RangeError('a secret for codes has at least 16 bytes')
  if (!(length >= otpLengths.least && length <= otpLengths.most))
    throw new RangeError(`a code has ${otpLengths.least} to ${otpLengths.most} characters`)
  const time = Buffer.alloc(9) // the zero byte ends the machine id, which has none
  time.writeBigUInt64BE(BigInt(timeSeconds), 1)
  const mac = createHmac('sha3-256', secret).update(machineId, 'utf8').update(time).update(session).digest()
  let bits = BigInt(`0x${mac.toString('hex')}`)
  return Array.from({ length }, () => {
    const character = otpAlphabet[Number(bits >> 251n)]!
    bits = BigInt.asUintN(256, bits << 5n)
    return character
  }).join('')
}

/** Returns the text an SSH user signs: `Authenticate to {machine_id} with code: {code}`, exactly. */
export function signInText(machineId: string, code: string): string {
  return `Authenticate to ${machineId} with code: ${code}`
}
