/** Clients of the root agent's socket that flood, stall, send too much or go away: nobody else is hurt, and nothing of them stays. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { createExec } from '@blockhost/kit/exec.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import { createFrameDecoder, encodeFrame, parseFrameBody } from '@blockhost/kit/frame-codec.ts'
import { startHost, until } from './root-agent/field.ts'

const limit = { timeout: 120_000 }
const mebibyte = 1024 * 1024
const harmless = { action: 'vm-network-del', params: { name: 'nobody' } }
/** `MemoryMax=` of the unit, KiB, less what a machine with little to spare may need. */
const memoryLimit = 600 * 1024

/** Waits until a call of this kind is not told that too many wait. */
async function untilServed(path: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    const answer = (await callFrame(path, harmless, { timeoutMs: 20_000 })) as { ok: boolean; code?: string }
    if (answer.ok) return
    assert.equal(answer.code, 'BH_AGENT_BUSY')
    assert.ok(tries < 500, 'the agent stays busy')
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** 10,000 clients, 400 at once; each sends three bytes and stays until it is ended. */
const floodProgram = `
const net = require('node:net')
let [opened, open] = [0, 0]
const next = () => {
  for (; open < 400 && opened < 10000; opened++, open++) {
    const client = net.connect(process.argv[1])
    client.on('connect', () => client.write(Buffer.from([0, 0, 1])))
    client.on('error', () => undefined)
    client.on('close', () => { open--; setImmediate(next) })
  }
  if (open === 0) console.log('opened ' + opened)
}
next()
`

if (process.getuid?.() !== 0) test('floods', { skip: 'needs root: it makes network namespaces' }, () => undefined)
else defineTests()

function defineTests(): void {
  test('10,000 connections that begin a request and stall: every honest call is answered meanwhile', limit, async t => {
    const { agent, call } = await start(t)
    const idle = agent.files()
    const flood = createExec()(process.execPath, ['-e', floodProgram, agent.path], { timeoutMs: 100_000 })
    let flooding = true
    const ended = flood.finally(() => {
      flooding = false
    })
    let calls = 0
    for (; flooding; calls++) await call(harmless.action, harmless.params)
    assert.match((await ended).stdout, /^opened 10000\n/)
    t.diagnostic(`${calls} calls were answered meanwhile`)
    assert.ok(calls >= 10, `${calls} calls`)
    await until(() => agent.files() <= idle)
  })

  test('as many slow senders as there may be connections: they are ended, nobody waits for them', limit, async t => {
    const { agent, call } = await start(t, '[socket]\nreceive_timeout_ms = 2000\n')
    const idle = agent.files()
    const senders = Array.from({ length: 64 }, () => {
      const client = open(agent.path)
      const frame = encodeFrame(harmless)
      let sent = 0
      const timer = setInterval(() => client.socket.write(frame.subarray(sent, ++sent)), 100)
      return { ...client, closed: client.closed.finally(() => clearInterval(timer)) }
    })
    for (let n = 0; n < 10; n++) await call(harmless.action, harmless.params)
    await Promise.all(senders.map(({ closed }) => closed))
    assert.deepEqual(
      senders.flatMap(({ answers }) => answers),
      [],
    )
    await until(() => agent.files() <= idle)
  })

  test('frames as long as they may be, and longer', limit, async t => {
    const { agent, call } = await start(t)
    await t.test('announced too long, or empty: ended at once', async () => {
      for (const length of [0, 10 * mebibyte + 1, 2 ** 31, 2 ** 32 - 1]) {
        const client = open(agent.path)
        const header = Buffer.alloc(4)
        header.writeUInt32BE(length)
        client.socket.write(header)
        await client.closed
        assert.deepEqual(client.answers, [])
      }
    })
    await t.test('64 at once that lack their last byte: honest calls are answered, memory stays bounded', async () => {
      const frame = encodeFrame('x'.repeat(10 * mebibyte - 2))
      assert.equal(frame.length, 4 + 10 * mebibyte)
      const clients = Array.from({ length: 64 }, () => {
        const client = open(agent.path)
        client.socket.write(frame.subarray(0, -1))
        return client
      })
      for (let n = 0; n < 30; n++) await call(harmless.action, harmless.params)
      const ended = clients.filter(({ socket }) => socket.destroyed).length
      assert.ok(ended >= 50, `only ${ended} were ended`)
      for (const { socket } of clients) socket.destroy()
    })
    await t.test('whole ones: refused with an answer, also when they would need fifty times the memory', async () => {
      const text = await callFrame(
        agent.path,
        { action: 'vm-status', params: { name: 'x'.repeat(10 * mebibyte - 100) } },
        { timeoutMs: 60_000 },
      )
      assert.match(String((text as { error: string }).error), /^invalid params: name: expected up to 63/)
      for (const body of [
        `[${'[],'.repeat(3_000_000)}1]`,
        '['.repeat(10_000_000),
        `{${'"":{},'.repeat(1_400_000)}"":0}`,
      ]) {
        const client = open(agent.path)
        const header = Buffer.alloc(4)
        header.writeUInt32BE(body.length)
        client.socket.write(header)
        client.socket.write(body)
        await client.closed
        const [answer] = client.answers as { error: string; code: string }[]
        assert.equal(answer?.error, 'invalid request: it is not JSON, or has more than 20000 values')
      }
      await call(harmless.action, harmless.params)
    })
    t.diagnostic(`the most memory the agent had: ${agent.mostMemory()} KiB`)
    assert.ok(agent.mostMemory() < memoryLimit, `${agent.mostMemory()} KiB`)
  })

  test('clients that send no more, or go away', limit, async t => {
    const { agent, call } = await start(t)
    const idle = agent.files()
    const frame = encodeFrame(harmless)
    await t.test('a whole request and then the end: it is answered', async () => {
      const client = open(agent.path)
      client.socket.end(frame)
      await client.closed
      assert.deepEqual(client.answers, [{ ok: true }])
    })
    await t.test('half a request, half a length, or nothing: ended without an answer', async () => {
      for (const bytes of [frame.length - 1, 4, 2, 0]) {
        const client = open(agent.path)
        client.socket.end(frame.subarray(0, bytes))
        await client.closed
        assert.deepEqual(client.answers, [])
      }
    })
    await t.test('more than a request: one answer', async () => {
      const client = open(agent.path)
      client.socket.write(Buffer.concat([frame, frame, Buffer.alloc(100_000)]))
      await client.closed
      assert.deepEqual(client.answers, [{ ok: true }])
    })
    await t.test('300 that ask and are gone', async () => {
      for (let n = 0; n < 300; n++) {
        const { socket } = open(agent.path)
        socket.write(frame, () => socket.destroy())
      }
      await call('host-status') // while theirs are carried out
      await untilServed(agent.path)
    })
    await t.test('300 honest calls at once: each is carried out or told to try again', async () => {
      const answers = await Promise.all(
        Array.from({ length: 300 }, () =>
          callFrame(agent.path, harmless, { timeoutMs: 60_000 }).catch(error => ({ ok: false, ...error })),
        ),
      )
      for (const answer of answers as { ok: boolean; retryable?: boolean }[])
        assert.ok(answer.ok || answer.retryable === true, JSON.stringify(answer))
      assert.ok((answers as { ok: boolean }[]).filter(({ ok }) => ok).length >= 10)
      await call(harmless.action, harmless.params)
    })
    await until(() => agent.files() <= idle)
  })

  test('as many long actions as may be: short ones run beside them', limit, async t => {
    const { agent, host, call } = await start(t)
    const answers = Array.from({ length: 50 }, (_, n) =>
      callFrame(agent.path, { action: 'qm-shutdown', params: { vmid: 100 + n } }, { timeoutMs: 60_000 }),
    )
    const refused = await Promise.race(answers) // nothing ends before it is let go
    assert.equal((refused as { code: string }).code, 'BH_AGENT_BUSY')
    assert.equal((refused as { retryable: boolean }).retryable, true)
    for (let n = 0; n < 20; n++) await call(harmless.action, harmless.params)
    await call('host-status')
    writeFileSync(host.path('/run/release'), '')
    const done = (await Promise.all(answers)) as { ok: boolean; code?: string }[]
    assert.equal(done.filter(({ ok }) => ok).length, 32)
    assert.equal(done.filter(({ code }) => code === 'BH_AGENT_BUSY').length, 18)
  })
}

async function start(t: TestContext, config?: string) {
  const { host, agent, path, call } = await startHost(t, config)
  await call(harmless.action, harmless.params)
  const inside = (file: string) => host.path(`/proc/${agent.pid}/${file}`)
  const files = () => readdirSync(inside('fd')).length
  const mostMemory = () => Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(inside('status'), 'utf8'))?.[1])
  return { host, call, agent: { path, files, mostMemory } }
}

/** A client that keeps whole answers and knows when it was ended. */
function open(path: string) {
  const socket: Socket = createConnection({ path, allowHalfOpen: true })
  const decoder = createFrameDecoder(mebibyte)
  const answers: unknown[] = []
  socket.on('error', () => undefined)
  socket.on('end', () => socket.destroy())
  socket.on('data', chunk => {
    decoder.push(chunk as Buffer)
    for (let body = decoder.next(); body !== undefined; body = decoder.next()) answers.push(parseFrameBody(body))
  })
  const closed = new Promise<void>(resolve => socket.on('close', () => resolve()))
  return { socket, closed, answers }
}
