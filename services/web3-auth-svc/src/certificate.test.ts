import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { connect, createServer } from 'node:tls'
import { ensureCertificate, makeCertificate } from './certificate.ts'

const now = Date.parse('2026-11-20T00:00:00Z')
const names = ['2001:db8::1', '192.0.2.1', 'vm.example.org']

describe('makeCertificate', () => {
  it('RFC 5280: is for exactly the names given, signs nothing else, and is signed by itself', () => {
    const { cert, fingerprint } = makeCertificate(names, now)
    const parsed = new X509Certificate(cert)
    assert.equal(parsed.subjectAltName, 'IP Address:2001:DB8:0:0:0:0:0:1, IP Address:192.0.2.1, DNS:vm.example.org')
    assert.equal(parsed.ca, false)
    assert.deepEqual(parsed.keyUsage, ['1.3.6.1.5.5.7.3.1'])
    assert.ok(parsed.verify(parsed.publicKey))
    assert.equal(parsed.fingerprint256, fingerprint)
    assert.deepEqual([parsed.validFrom, parsed.validTo], ['Nov 19 00:00:00 2026 GMT', 'Feb 21 00:00:00 2029 GMT'])
  })

  it('is dated right past 2049, and two never share a serial number', () => {
    const late = () => new X509Certificate(makeCertificate(names, Date.parse('2049-06-01T00:00:00Z')).cert)
    assert.equal(late().validTo, 'Sep  3 00:00:00 2051 GMT')
    assert.notEqual(late().serialNumber, late().serialNumber)
  })

  it('serves TLS to a client that trusts it and checks the name', async () => {
    const { cert, key } = makeCertificate(['localhost', '127.0.0.1'], Date.now())
    const server = createServer({ cert, key }, socket => socket.end('hello'))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', ca: cert, servername: '' })
      socket.once('data', data => resolve(String(data))).once('error', reject)
    })
    assert.equal(answer, 'hello')
    server.close()
  })
})

describe('ensureCertificate', () => {
  it('keeps a good one, and its key to itself', () => {
    const folder = mkdtempSync(join(tmpdir(), 'certificate-'))
    const first = ensureCertificate(folder, names, now)
    assert.deepEqual(ensureCertificate(folder, names.slice(1), now + 790 * 86_400_000), first)
    assert.equal(statSync(join(folder, 'page.key')).mode & 0o777, 0o600)
    assert.equal(readFileSync(join(folder, 'page.crt'), 'utf8'), first.cert)
  })

  it('makes another when it ends soon, lacks a name, is of the future, or is damaged', () => {
    const folder = mkdtempSync(join(tmpdir(), 'certificate-'))
    let last = ensureCertificate(folder, names, now)
    const renewed = (wanted: readonly string[], nowMs: number) => {
      const next = ensureCertificate(folder, wanted, nowMs)
      assert.notEqual(next.fingerprint, last.fingerprint)
      last = next
    }
    renewed(names, now + 800 * 86_400_000)
    renewed(names, now)
    renewed([...names, '2001:db8::2'], now)
    writeFileSync(join(folder, 'page.crt'), last.cert.slice(0, 100))
    renewed(names, now)
    writeFileSync(join(folder, 'page.key'), makeCertificate(names, now).key)
    renewed(names, now)
  })
})
