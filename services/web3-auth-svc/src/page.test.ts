import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { request } from 'node:https'
import { after, before, describe, it } from 'node:test'
import { connect } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { makeCertificate } from './certificate.ts'
import { createChallenges } from './challenges.ts'
import { createPage, type PageServer, servePage } from './page.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const alice = { user: 'admin', service: 'sshd', rhost: '' }
const signature = 'ab'.repeat(65)

describe('the signing page’s server', () => {
  const options = { machineId: 'vm.12345678', secret: new Uint8Array(32), codeLength: 6, ttlMs: 300_000 }
  const challenges = createChallenges(options, systemClock)
  let server: PageServer
  before(async () => {
    const handler = createPage({ challenges, machineId: options.machineId, clock: systemClock, log: silentLog })
    const certificate = makeCertificate(['localhost'], Date.now())
    const patience = { requestTimeout: 2000, headersTimeout: 2000, connectionsCheckingInterval: 50 }
    server = await servePage(handler, certificate, { host: '127.0.0.1', port: 0 }, patience)
  })
  after(() => server.close())

  it('serves the page and its files, and nothing else of the disk', async () => {
    for (const [path, type] of [
      ['/', 'text/html; charset=utf-8'],
      ['/?session=x', 'text/html; charset=utf-8'],
      ['/sign.js', 'text/javascript; charset=utf-8'],
      ['/sign.css', 'text/css; charset=utf-8'],
      ['/theme.css', 'text/css; charset=utf-8'],
      ['/theme.js', 'text/javascript; charset=utf-8'],
    ] as const) {
      const answer = await ask('GET', path)
      assert.deepEqual([answer.status, answer.headers['content-type']], [200, type], path)
    }
    assert.equal((await ask('HEAD', '/')).body, '')
    for (const path of [
      '/index.html',
      '/../package.json',
      '/%2e%2e/main.ts',
      '/auth/pending',
      '/auth/callback/',
      '/constructor',
    ])
      assert.equal((await ask('GET', path)).status, path.startsWith('/auth/callback') ? 405 : 404, path)
  })

  it('allows no foreign origin, no frame, no inline code, and nothing is kept', async () => {
    for (const path of ['/', '/nothing', `/auth/pending/${'0'.repeat(32)}`]) {
      const { headers } = await ask('GET', path)
      const policy = String(headers['content-security-policy'])
      for (const rule of ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"])
        assert.ok(policy.includes(rule), `${path}: ${rule}`)
      assert.doesNotMatch(policy, /unsafe|https?:|\*/)
      assert.deepEqual([headers['cache-control'], headers['x-content-type-options']], ['no-store', 'nosniff'])
    }
    const page = (await ask('GET', '/')).body
    assert.doesNotMatch(page, /style=|onclick=|<script>|https?:\/\//)
  })

  it('the page’s script passes the type checker', () => {
    const tsc = spawnSync(`${root}/node_modules/.bin/tsc`, ['-p', `${root}/services/web3-auth-svc/page`], {
      encoding: 'utf8',
    })
    assert.deepEqual([tsc.status, tsc.stdout], [0, ''])
  })

  it('tells what a session is for, under the documented names', async () => {
    const { session, code, text } = challenges.open(alice, '')
    const { expires_in_seconds, ...rest } = JSON.parse((await ask('GET', `/auth/pending/${session}`)).body)
    const documented = { otp: code, machine_id: 'vm.12345678', session_id: session }
    assert.deepEqual(rest, { ...documented, user: 'admin', from: '', message: text, answered: false })
    assert.ok(expires_in_seconds > 290 && expires_in_seconds <= 300)
    for (const other of ['0'.repeat(32), session.toUpperCase(), `${session}0`, 'x'])
      assert.equal((await ask('GET', `/auth/pending/${other}`)).status, 404)
  })

  it('takes a signature in any documented form and normalises it; none after the terminal took it', async () => {
    for (const form of [signature, `0x${signature.toUpperCase()}`, ` 0x${signature}\n`]) {
      const { session } = challenges.open(alice, '')
      const { status, body } = await ask('POST', `/auth/callback/${session}`, form)
      assert.deepEqual([status, body], [200, 'OK'])
      challenges.take(session)
      assert.equal(await challenges.pageAnswer(session, 0), `0x${signature}`)
      assert.equal((await ask('POST', `/auth/callback/${session}`, form)).status, 409)
    }
  })

  it('refuses what is none, with the documented status, and the right one is taken afterwards', async () => {
    const { session } = challenges.open(alice, '')
    const status = async (body: string, headers = {}, method = 'POST', path = `/auth/callback/${session}`) =>
      (await ask(method, path, body, headers)).status
    for (const body of ['', '0x', 'no signature', 'ab'.repeat(63), `${signature}a`, `{"s":"${signature}"}`])
      assert.equal(await status(body), 400, body)
    assert.equal(await status('a'.repeat(100_000)), 413)
    assert.equal(await status(signature, {}, 'POST', `/auth/callback/${'0'.repeat(32)}`), 404)
    assert.equal(await status(signature, {}, 'PUT'), 405)
    assert.equal(await status(signature, { 'sec-fetch-site': 'cross-site' }), 403)
    assert.equal(await status(signature, { 'sec-fetch-site': 'same-origin' }), 200)
  })

  it('is gone for a code that was used', async () => {
    const { session } = challenges.open(alice, '')
    challenges.take(session)
    challenges.close(session)
    assert.equal((await ask('POST', `/auth/callback/${session}`, signature)).status, 404)
  })

  it('a request that fails is answered with 500 and logged without its session; the page goes on', async () => {
    const lines: object[] = []
    const log = { ...silentLog, error: (fields: object) => lines.push(fields) }
    const broken = {
      ...challenges,
      find: () => {
        throw new Error('no such file')
      },
    }
    const handler = createPage({ challenges: broken, machineId: options.machineId, clock: systemClock, log })
    const certificate = makeCertificate(['localhost'], Date.now())
    const other = await servePage(handler, certificate, { host: '127.0.0.1', port: 0 })
    try {
      assert.equal((await ask('GET', `/auth/pending/${'0'.repeat(32)}`, '', {}, other.port)).status, 500)
      assert.equal((await ask('GET', '/', '', {}, other.port)).status, 200)
      assert.deepEqual(lines, [{ path: '/auth/pending/…', problem: 'no such file' }])
    } finally {
      await other.close()
    }
  })

  it('cuts off who sends half a body', async () => {
    const { session } = challenges.open(alice, '')
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect({ port: server.port, host: '127.0.0.1', rejectUnauthorized: false })
      let text = ''
      socket.on('data', chunk => {
        text += chunk
      })
      socket.on('close', () => resolve(text)).on('error', reject)
      socket.write(`POST /auth/callback/${session} HTTP/1.1\r\nhost: x\r\ncontent-length: 130\r\n\r\nab`)
    })
    assert.match(answer, /^HTTP\/1\.1 408 /)
  })

  type Got = { status: number; body: string; headers: Record<string, unknown> }

  function ask(method: string, path: string, body = '', headers = {}, port = server.port): Promise<Got> {
    return new Promise((resolve, reject) => {
      const options = { port, host: '127.0.0.1', method, path, headers, rejectUnauthorized: false }
      const sent = request(options, response => {
        let text = ''
        response.on('data', chunk => {
          text += chunk
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text, headers: response.headers }))
      })
      sent.on('error', reject)
      sent.end(body)
    })
  }
})
