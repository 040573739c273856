import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createFrameServer } from '@blockhost/kit/frame.ts'

const pam = fileURLToPath(new URL('../pam', import.meta.url))
const isThere =
  existsSync('/usr/include/security/pam_modules.h') && existsSync('/usr/bin/gcc') && existsSync('/usr/bin/make')
const needsCompiler = { skip: isThere ? false : 'needs the Debian packages gcc make libpam0g-dev' }
const needsClang = { skip: existsSync('/usr/bin/clang') ? needsCompiler.skip : 'needs the Debian package clang' }
const limit = { timeout: 120_000 }

const challenge = { success: true, session: 'ab'.repeat(16), prompt_text: '\nCode: ABC234\n', prompt: 'Paste: ' }

describe('pam_web3.so through libpam', needsCompiler, () => {
  before(() => make('build/pam_web3.so', 'build/try'), limit)

  it('unit tests under ASan and UBSan pass; nothing but PAM’s functions is exported', limit, () => {
    assert.match(make('check'), /unit: all passed/)
  })

  it(
    'is built to be hard to exploit: read-only relocations, no executable stack, stack protector, fortified',
    limit,
    () => {
      const elf = execFileSync('readelf', ['--wide', '--dynamic', '--program-headers', join(pam, 'build/pam_web3.so')])
      assert.match(String(elf), /BIND_NOW/)
      assert.match(String(elf), /GNU_RELRO/)
      assert.match(String(elf), /GNU_STACK .* RW /)
      const symbols = execFileSync('nm', ['--dynamic', '--undefined-only', join(pam, 'build/pam_web3.so')], {
        encoding: 'utf8',
      })
      assert.match(symbols, /__stack_chk_fail/)
      const external = [...symbols.matchAll(/ U (\w+)/g)].map(([, name]) => name)
      for (const unsafe of ['strcpy', 'strcat', 'sprintf', 'gets', 'system', 'popen', 'execve', 'getenv', 'malloc'])
        assert.ok(!external.includes(unsafe), unsafe)
    },
  )

  it(
    'shows what it is told, passes user, service, source and answer on, and says yes when the service does',
    limit,
    async () => {
      await using service = await fakeService(({ method }) => (method === 'challenge' ? challenge : { success: true }))
      const tried = await attempt(service.path, ['the answer "\\'])
      assert.equal(tried.result, 'PAM_SUCCESS')
      assert.match(tried.output, /^info: \nCode: ABC234\n\nprompt: Paste: \n/)
      assert.deepEqual(service.requests, [
        { method: 'challenge', params: { user: 'alice', service: 'web3', rhost: '2001:db8::1' } },
        { method: 'verify', params: { session: challenge.session, answer: 'the answer "\\' } },
      ])
    },
  )

  it('asks in the documented words when the service names none', limit, async () => {
    const { prompt: _, ...rest } = challenge
    await using service = await fakeService(({ method }) => (method === 'challenge' ? rest : { success: true }))
    const { output } = await attempt(service.path, [''])
    assert.match(output, /^prompt: Press Enter after signing in the browser, or paste the signature: $/m)
  })

  for (const [reason, code] of [
    ['denied', 'PAM_AUTH_ERR'],
    ['user-unknown', 'PAM_USER_UNKNOWN'],
    ['unavailable', 'PAM_AUTHINFO_UNAVAIL'],
    ['too-many', 'PAM_MAXTRIES'],
    [undefined, 'PAM_AUTH_ERR'],
  ] as const)
    it(
      `${reason ?? 'no reason'} is ${code}, before and after the question, and the sentence is shown`,
      limit,
      async () => {
        const refusal = { success: false, error: 'Because.', ...(reason === undefined ? {} : { reason }) }
        await using early = await fakeService(() => refusal)
        const first = await attempt(early.path, [])
        assert.deepEqual([first.result, first.output.includes('error: Because.')], [code, true])
        await using late = await fakeService(({ method }) => (method === 'challenge' ? challenge : refusal))
        const second = await attempt(late.path, ['x'])
        assert.deepEqual([second.result, second.output.includes('error: Because.')], [code, true])
      },
    )

  it(
    'no service, a full or silent end, and every malformed reply are PAM_AUTHINFO_UNAVAIL, and the person hears of it',
    limit,
    async () => {
      const sentence = /^error: This server can't sign anybody in at the moment\. Try again in a minute\.$/m
      const missing = await attempt('/nonexistent/socket', [])
      assert.equal(missing.result, 'PAM_AUTHINFO_UNAVAIL')
      assert.match(missing.output, sentence)
      for (const reply of [
        Buffer.of(),
        Buffer.from([0, 0, 0, 0]),
        Buffer.from([255, 255, 255, 255]),
        frame('{"success":true'),
        frame('{"success":"true"}'),
        frame('{"success":true}'),
        frame('\u0000'),
        frame(JSON.stringify({ ...challenge, session: '' })),
        frame(JSON.stringify({ ...challenge, prompt_text: 'x'.repeat(5000) })),
        frame('[['.repeat(4000)),
      ]) {
        await using service = await rawService(reply)
        const { result, output } = await attempt(service.path, ['x'])
        assert.equal(result, 'PAM_AUTHINFO_UNAVAIL', reply.toString('latin1').slice(0, 40))
        assert.match(output, sentence)
      }
    },
  )

  it('a terminal that goes away is PAM_CONV_ERR, and the service hears of no answer', limit, async () => {
    await using service = await fakeService(() => challenge)
    assert.equal((await attempt(service.path, [])).result, 'PAM_CONV_ERR')
    assert.equal(service.requests.length, 1)
  })

  it('answers that are too long or not printable never reach the service as they are', limit, async () => {
    await using service = await fakeService(({ method }) => (method === 'challenge' ? challenge : { success: false }))
    assert.equal((await attempt(service.path, ['x'.repeat(9000)])).result, 'PAM_AUTH_ERR')
    assert.equal(service.requests.length, 1)
    await attempt(service.path, ['a\u001b[2Jü'])
    assert.deepEqual(service.requests.at(-1)?.params.answer, 'a?[2J??')
  })

  it('a user’s name that is not printable ASCII is refused rather than changed into another', limit, async () => {
    await using service = await fakeService(() => challenge)
    for (const user of ['jürgen', 'a\nb', 'x'.repeat(3000)])
      assert.equal((await attempt(service.path, [], { user })).result, 'PAM_USER_UNKNOWN')
    assert.deepEqual(service.requests, [])
  })

  it('an argument it does not know is PAM_SERVICE_ERR', limit, async () => {
    for (const argument of ['sockett=/x', 'socket=relative', 'debug'])
      assert.equal((await attempt('', [], { argument })).result, 'PAM_SERVICE_ERR', argument)
  })

  it('five seconds of libFuzzer find nothing in the parser', { ...limit, ...needsClang }, () => {
    assert.match(make('fuzz', 'SECONDS_TO_FUZZ=5'), /Done \d+ runs/)
  })
})

type Request = { method: string; params: Record<string, string> }
type FakeService = AsyncDisposable & { path: string; requests: Request[] }

/** A service that answers every request as `answer` says. */
async function fakeService(answer: (request: Request) => object): Promise<FakeService> {
  const path = join(mkdtempSync(join(tmpdir(), 'pam-module-')), 'socket')
  const requests: Request[] = []
  const handle = (request: unknown) => {
    requests.push(request as Request)
    return answer(request as Request)
  }
  const server = await createFrameServer({
    path,
    mode: 0o600,
    maxBytes: 65_536,
    receiveTimeoutMs: 5000,
    maxConnections: 8,
    handle,
  })
  return { path, requests, [Symbol.asyncDispose]: () => server.close() }
}

/** A service that sends these bytes to whoever asks, and ends the connection. */
async function rawService(reply: Buffer): Promise<AsyncDisposable & { path: string }> {
  const path = join(mkdtempSync(join(tmpdir(), 'pam-module-')), 'socket')
  const server = createServer((socket: Socket) => {
    socket.on('error', () => undefined) // the module leaves as soon as it has seen enough
    socket.once('data', () => socket.end(reply))
  })
  await new Promise<void>(resolve => server.listen(path, resolve))
  return { path, [Symbol.asyncDispose]: () => new Promise(resolve => server.close(() => resolve())) }
}

function frame(body: string): Buffer {
  const bytes = Buffer.from(body)
  const head = Buffer.alloc(4)
  head.writeUInt32BE(bytes.length)
  return Buffer.concat([head, bytes])
}

/** Authenticates once; `answers` are typed, and then the terminal is closed. */
async function attempt(
  socket: string,
  answers: string[],
  { user = 'alice', argument = `socket=${socket}` } = {},
): Promise<{ result: string; output: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'pam-conf-'))
  const line = `auth [success=done default=die] ${join(pam, 'build/pam_web3.so')} ${argument}\n`
  writeFileSync(join(folder, 'web3'), line)
  const child = spawn(join(pam, 'build/try'), [folder, 'web3', user, '2001:db8::1'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', chunk => {
    output += chunk
  })
  child.stdin.on('error', () => undefined)
  child.stdin.end(answers.map(answer => `${answer}\n`).join(''))
  await new Promise(resolve => child.once('close', resolve))
  return { result: /^result: (\w+)$/m.exec(output)?.[1] ?? 'none', output }
}

function make(...targets: string[]): string {
  return execFileSync('make', ['-C', pam, ...targets], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}
