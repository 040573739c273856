/**
 * A self-signed certificate for the signing page (RFC 5280, P-256), written here in 80 lines of DER: node:crypto makes keys and
 * signatures but no certificates, and this service may start no other program.
 */
import { createHash, createPrivateKey, generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { readTextFile } from '@blockhost/kit/files.ts'
import { parseAddress } from '@blockhost/net/prefix.ts'
import { ipVersion } from './ip-version.ts'
import { writeStateFile } from './state-file.ts'

/** A certificate with its key, PEM, as node:tls takes them. */
export type Certificate = {
  readonly cert: string
  readonly key: string
  /** SHA-256 of the certificate, upper-case hex in pairs, as browsers show it. */
  readonly fingerprint: string
}

const dayMs = 86_400_000
const lifeDays = 825 // the longest that every browser takes, also from those a person trusts by hand
const renewDays = 30

/**
 * Returns the certificate in `folder` (`page.crt`, `page.key`), making a new one when there is none, when it ends within 30 days,
 * or when it is not for all of `names`.
 *
 * @param names - DNS names and IP addresses, at least one.
 * @throws {BlockHostError} `BH_FILE_WRITE_FAILED`.
 */
export function ensureCertificate(folder: string, names: readonly string[], nowMs: number): Certificate {
  const paths = { cert: join(folder, 'page.crt'), key: join(folder, 'page.key') }
  const kept = readKept(paths)
  if (kept !== undefined && isGood(new X509Certificate(kept.cert), names, nowMs)) return kept
  const made = makeCertificate(names, nowMs)
  writeStateFile(paths.key, made.key)
  writeStateFile(paths.cert, made.cert)
  return made
}

/** Makes a key and a certificate for `names` that begins a day before `nowMs` (clocks differ) and lasts 825 days. */
export function makeCertificate(names: readonly string[], nowMs: number): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const subject = sequence(set(sequence(oid.commonName, der(0x0c, Buffer.from('BlockHost sign-in')))))
  const body = sequence(
    der(0xa0, der(0x02, Buffer.of(2))), // version 3
    der(0x02, Buffer.concat([Buffer.of(1), randomBytes(15)])),
    sequence(oid.ecdsaWithSha256),
    subject,
    sequence(time(nowMs - dayMs), time(nowMs + (lifeDays - 1) * dayMs)),
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions(names))),
  )
  const signature = sign('sha256', body, privateKey)
  const whole = sequence(body, sequence(oid.ecdsaWithSha256), der(0x03, Buffer.concat([Buffer.of(0), signature])))
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  return { cert: pem('CERTIFICATE', whole), key, fingerprint: fingerprintOf(whole) }
}

function readKept(paths: { cert: string; key: string }): Certificate | undefined {
  if (!existsSync(paths.cert) || !existsSync(paths.key)) return undefined
  try {
    const cert = readTextFile(paths.cert)
    const key = readTextFile(paths.key)
    const parsed = new X509Certificate(cert)
    return parsed.checkPrivateKey(createPrivateKey(key))
      ? { cert, key, fingerprint: fingerprintOf(parsed.raw) }
      : undefined
  } catch {
    return undefined // cut off or foreign: a new one takes its place
  }
}

function isGood(certificate: X509Certificate, names: readonly string[], nowMs: number): boolean {
  const isFor = (name: string) =>
    (ipVersion(name) !== 0 ? certificate.checkIP(name) : certificate.checkHost(name)) !== undefined
  const begins = Date.parse(certificate.validFrom)
  return begins <= nowMs && Date.parse(certificate.validTo) > nowMs + renewDays * dayMs && names.every(isFor)
}

function extensions(names: readonly string[]): Buffer[] {
  const alternative = names.map(name =>
    ipVersion(name) !== 0 ? der(0x87, ipBytes(name)) : der(0x82, Buffer.from(name, 'ascii')),
  )
  return [
    extension(oid.subjectAltName, sequence(...alternative)),
    extension(oid.basicConstraints, sequence(), true), // it may sign nothing else
    extension(oid.extendedKeyUsage, sequence(oid.serverAuth)),
  ]
}

function extension(id: Buffer, value: Buffer, critical = false): Buffer {
  return sequence(id, ...(critical ? [der(0x01, Buffer.of(0xff))] : []), der(0x04, value))
}

function ipBytes(address: string): Buffer {
  if (ipVersion(address) === 4) return Buffer.from(address.split('.').map(Number))
  return Buffer.from(parseAddress(address)!.toString(16).padStart(32, '0'), 'hex')
}

/** RFC 5280 §4.1.2.5: two digits of the year until 2049, four from then on. */
function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/\.\d+|[-:T]/g, '')
  const isLong = new Date(ms).getUTCFullYear() >= 2050
  return der(isLong ? 0x18 : 0x17, Buffer.from(isLong ? digits : digits.slice(2), 'ascii'))
}

/** One DER element: tag, length, content (X.690 §8.1). */
function der(tag: number, content: Buffer): Buffer {
  const length = content.length
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content])
  const digits = length.toString(16)
  const bytes = Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex')
  return Buffer.concat([Buffer.of(tag, 0x80 | bytes.length), bytes, content])
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts))
}

function set(...parts: readonly Buffer[]): Buffer {
  return der(0x31, Buffer.concat(parts))
}

/** Object identifiers, encoded. */
const oid = {
  commonName: Buffer.from('0603550403', 'hex'), // 2.5.4.3
  ecdsaWithSha256: Buffer.from('06082a8648ce3d040302', 'hex'), // 1.2.840.10045.4.3.2
  subjectAltName: Buffer.from('0603551d11', 'hex'), // 2.5.29.17
  basicConstraints: Buffer.from('0603551d13', 'hex'), // 2.5.29.19
  extendedKeyUsage: Buffer.from('0603551d25', 'hex'), // 2.5.29.37
  serverAuth: Buffer.from('06082b06010505070301', 'hex'), // 1.3.6.1.5.5.7.3.1
} as const

function pem(label: string, content: Buffer): string {
  const lines = content.toString('base64').match(/.{1,64}/g)!
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

function fingerprintOf(content: Buffer): string {
  const digits = createHash('sha256').update(content).digest('hex').toUpperCase()
  return digits.match(/../g)!.join(':')
}
