import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createConnection, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { callFrame, createFrameServer, type FrameServerOptions, inheritedSocket } from './frame.ts'
import { createFrameDecoder, encodeFrame, hasMoreValues, parseFrameBody } from './frame-codec.ts'

const callOptions = { timeoutMs: 5000, maxBytes: 1024 * 1024 }

function socketPath(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'bh-frame-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 's.sock')
}

async function startEcho(t: TestContext, options: Partial<FrameServerOptions> = {}) {
  const server = await createFrameServer({
    path: socketPath(t),
    mode: 0o600,
    maxBytes: 1000,
    receiveTimeoutMs: 5000,
    maxConnections: 8,
    handle: async (request, context) => ({ said: request, connection: context.connection, number: context.request }),
    ...options,
  })
  t.after(() => server.close())
  return server
}

/** A raw client that collects whole answers and knows when it was ended. */
function openRaw(path: string, options: { allowHalfOpen?: boolean } = {}) {
  const socket: Socket = createConnection({ path, ...options })
  const decoder = createFrameDecoder(1024 * 1024)
  const answers: unknown[] = []
  const waiting: (() => void)[] = []
  socket.on('error', () => undefined)
  socket.on('data', chunk => {
    decoder.push(chunk as Buffer)
    for (let body = decoder.next(); body !== undefined; body = decoder.next()) answers.push(parseFrameBody(body))
    for (const wake of waiting.splice(0)) wake()
  })
  const closed = new Promise<void>(resolve => socket.on('close', () => resolve()))
  const takeAnswer = async () => {
    while (answers.length === 0) await new Promise<void>(resolve => waiting.push(resolve))
    return answers.shift()
  }
  return { socket, closed, takeAnswer, answers }
}

test('callFrame: a request is answered, many at once too', async t => {
  const server = await startEcho(t, { maxConnections: 64 })
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, n) => callFrame(server.path, { n, text: 'ü' }, callOptions)),
  )
  assert.deepEqual(
    answers.map(answer => (answer as { said: unknown }).said),
    Array.from({ length: 50 }, (_, n) => ({ n, text: 'ü' })),
  )
})

test('createFrameServer: several requests one after the other on one connection, also when they come in one write', async t => {
  const { path } = await startEcho(t)
  const client = openRaw(path)
  const third = encodeFrame('c')
  client.socket.write(Buffer.concat([encodeFrame('a'), encodeFrame('b'), third.subarray(0, 5)]))
  assert.deepEqual(await client.takeAnswer(), { said: 'a', connection: 1, number: 1 })
  assert.deepEqual(await client.takeAnswer(), { said: 'b', connection: 1, number: 2 })
  client.socket.write(third.subarray(5))
  assert.deepEqual(await client.takeAnswer(), { said: 'c', connection: 1, number: 3 })
  client.socket.destroy()
})

test('createFrameServer: a request in pieces of one byte', async t => {
  const { path } = await startEcho(t)
  const client = openRaw(path)
  for (const byte of encodeFrame({ slow: true })) client.socket.write(Buffer.from([byte]))
  assert.deepEqual(((await client.takeAnswer()) as { said: unknown }).said, { slow: true })
  client.socket.destroy()
})

test('createFrameServer: the socket is born with its mode, whatever the umask, and the umask stays', async t => {
  const before = process.umask(0o077)
  t.after(() => process.umask(before))
  const { path } = await startEcho(t, { mode: 0o660, ...(process.getuid?.() === 0 ? { group: 'daemon' } : {}) })
  assert.equal(statSync(path).mode & 0o777, 0o660)
  if (process.getuid?.() === 0) assert.equal(statSync(path).gid, 1)
  assert.equal(process.umask(), 0o077)
})

test('createFrameServer: an unknown group is named', async t => {
  await assert.rejects(startEcho(t, { group: 'no-such-group' }), { code: 'BH_GROUP_UNKNOWN', exitCode: 78 })
})

test('createFrameServer: a stale socket is replaced; one that is answered, and what is no socket, are left alone', async t => {
  const path = socketPath(t)
  const stale = createServer()
  await new Promise<void>(resolve => stale.listen(`${path}.other`, resolve))
  renameSync(`${path}.other`, path) // closing removes the old name only
  await new Promise(resolve => stale.close(resolve))
  assert.ok(existsSync(path))
  await startEcho(t, { path })
  await assert.rejects(startEcho(t, { path }), { code: 'BH_SOCKET_IN_USE' })
  assert.ok(await callFrame(path, 1, callOptions))
  const file = `${path}.txt`
  writeFileSync(file, 'precious')
  await assert.rejects(startEcho(t, { path: file }), { code: 'BH_SOCKET_LISTEN_FAILED' })
  assert.ok(existsSync(file))
})

test('createFrameServer: a request that is too long, or empty, ends its connection unanswered', async t => {
  const { path } = await startEcho(t, { maxBytes: 10 })
  for (const length of [0, 11, 0xffff_ffff]) {
    const client = openRaw(path)
    const header = Buffer.alloc(4)
    header.writeUInt32BE(length)
    client.socket.write(header)
    await client.closed
    assert.deepEqual(client.answers, [])
  }
  assert.deepEqual(await callFrame(path, 12345678, callOptions), { said: 12345678, connection: 4, number: 1 })
})

test('createFrameServer: when unfinished requests together are too long, the longest is ended', async t => {
  const { path, connections } = await startEcho(t, { maxBytes: 4_000_000, maxHeldBytes: 3_000_000, maxConnections: 64 })
  const begin = (bytes: number) => {
    const client = openRaw(path)
    client.socket.write(encodeFrame('x'.repeat(3_900_000)).subarray(0, bytes))
    return client
  }
  const short = Array.from({ length: 20 }, () => begin(1000))
  const first = begin(1_000_000)
  await until(() => connections() === 21)
  const longest = begin(2_500_000)
  await longest.closed
  assert.deepEqual(
    [...short, first].map(client => client.socket.destroyed),
    Array.from({ length: 21 }, () => false),
  )
  assert.ok(await callFrame(path, 'x'.repeat(500_000), callOptions), 'one that is finished at once is served')
  for (const client of [...short, first]) client.socket.destroy()
})

test('createFrameServer: a request of too many values is not parsed', async t => {
  const { path } = await startEcho(t, { maxBytes: 1_000_000, maxValues: 5, answerInvalid: () => 'invalid' })
  assert.deepEqual(await callFrame(path, { a: [1, 2] }, callOptions), { said: { a: [1, 2] }, connection: 1, number: 1 })
  assert.equal(await callFrame(path, { a: [1, 2, 3] }, callOptions), 'invalid')
  const text = '[{,:"'.repeat(50_000)
  assert.deepEqual(await callFrame(path, text, callOptions), { said: text, connection: 3, number: 1 })
})

test('hasMoreValues: never fewer than there are, as many where nothing is empty; whatever the text, it ends', () => {
  const count = (value: unknown): number =>
    typeof value === 'object' && value !== null
      ? Object.entries(value).reduce(
          (sum, [, inner]) => sum + count(inner),
          1 + (Array.isArray(value) ? 0 : Object.keys(value).length),
        )
      : 1
  for (const value of [0, '', 'a,b', 'a\\"[,', [1], [[1, 2], { 'k"': '{' }], { a: 1, b: [true, null] }]) {
    const body = Buffer.from(JSON.stringify(value))
    assert.equal(hasMoreValues(body, count(value) - 1), true, body.toString())
    assert.equal(hasMoreValues(body, count(value)), false, body.toString())
  }
  for (const text of ['"', '"\\', '[[[[[[', '"a" "b', '\\"', ']'])
    assert.equal(hasMoreValues(Buffer.from(text), 10), false)
})

test('createFrameServer: a client that stalls in a request is ended, and nobody waits for it', async t => {
  const { path } = await startEcho(t, { receiveTimeoutMs: 200 })
  const stalling = openRaw(path)
  stalling.socket.write(encodeFrame('x').subarray(0, 3))
  assert.ok(await callFrame(path, 'served meanwhile', callOptions))
  assert.equal(stalling.socket.destroyed, false)
  await stalling.closed
})

test('createFrameServer: a client that does not take its answer is ended', async t => {
  const { path, connections } = await startEcho(t, { receiveTimeoutMs: 200, handle: () => 'x'.repeat(8_000_000) })
  const socket = createConnection({ path })
  t.after(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.pause()
  socket.write(encodeFrame('give'))
  await until(() => connections() === 1)
  await until(() => connections() === 0)
})

test('createFrameServer: silent connections make room for new ones, the oldest first', async t => {
  const { path, connections } = await startEcho(t, { maxConnections: 3 })
  const silent = Array.from({ length: 3 }, () => openRaw(path))
  await until(() => connections() === 3)
  assert.ok(await callFrame(path, 'hello', callOptions))
  await silent[0]!.closed
  assert.deepEqual(
    silent.slice(1).map(client => client.socket.destroyed),
    [false, false],
  )
  for (const client of silent) client.socket.destroy()
})

test('createFrameServer: when all are being served, one more is ended at once and the others keep their answers', async t => {
  const gate = Promise.withResolvers<string>()
  const { path, connections } = await startEcho(t, { maxConnections: 2, handle: () => gate.promise })
  const served = [callFrame(path, 1, callOptions), callFrame(path, 2, callOptions)]
  await until(() => connections() === 2)
  await new Promise(resolve => setImmediate(resolve))
  const third = openRaw(path)
  await third.closed
  gate.resolve('done')
  assert.deepEqual(await Promise.all(served), ['done', 'done'])
})

test('createFrameServer: a client that says "no more" behind its request gets its answer; one that only says that is ended', async t => {
  const { path } = await startEcho(t)
  const client = openRaw(path, { allowHalfOpen: true })
  client.socket.end(encodeFrame('last'))
  assert.deepEqual(((await client.takeAnswer()) as { said: unknown }).said, 'last')
  await client.closed
  const silent = openRaw(path, { allowHalfOpen: true })
  silent.socket.end()
  silent.socket.on('end', () => silent.socket.destroy())
  await silent.closed
})

test('createFrameServer: the handler runs to its end when the client has gone', async t => {
  const gate = Promise.withResolvers<void>()
  let finished = 0
  const server = await startEcho(t, {
    handle: async () => {
      await gate.promise
      finished++
    },
  })
  const client = openRaw(server.path)
  client.socket.write(encodeFrame('work'))
  await until(() => server.connections() === 1)
  client.socket.destroy()
  await client.closed
  gate.resolve()
  await server.close()
  assert.equal(finished, 1)
})

test('createFrameServer: with `once` the connection ends after its answer', async t => {
  const { path } = await startEcho(t, { once: true })
  const client = openRaw(path)
  client.socket.write(Buffer.concat([encodeFrame(1), encodeFrame(2)]))
  assert.equal(((await client.takeAnswer()) as { said: unknown }).said, 1)
  await client.closed
  assert.deepEqual(client.answers, [])
})

test('createFrameServer: what is not JSON gets the configured answer, or none', async t => {
  const bad = Buffer.from([0, 0, 0, 2, 0xff, 0xfe])
  const rude = await startEcho(t)
  const first = openRaw(rude.path)
  first.socket.write(bad)
  await first.closed
  assert.deepEqual(first.answers, [])
  const polite = await startEcho(t, { answerInvalid: () => ({ ok: false }) })
  const second = openRaw(polite.path)
  second.socket.write(Buffer.concat([bad, encodeFrame('fine')]))
  assert.deepEqual(await second.takeAnswer(), { ok: false })
  assert.equal(((await second.takeAnswer()) as { said: unknown }).said, 'fine')
  second.socket.destroy()
})

test('createFrameServer: a handler that rejects ends its connection and is told', async t => {
  const told: unknown[] = []
  const boom = new Error('boom')
  const { path } = await startEcho(t, { handle: () => Promise.reject(boom), onError: error => told.push(error) })
  await assert.rejects(callFrame(path, 1, callOptions), { code: 'BH_SOCKET_ANSWER_INVALID', retryable: true })
  assert.deepEqual(told, [boom])
})

test('whenIdle: waits for the last connection, then for the quiet time', async t => {
  const server = await startEcho(t)
  const client = openRaw(server.path)
  await until(() => server.connections() === 1)
  let idle = false
  const waiting = server.whenIdle(1).then(() => {
    idle = true
  })
  await callFrame(server.path, 'x', callOptions)
  assert.equal(idle, false)
  client.socket.destroy()
  await waiting
})

test('callFrame: names what is wrong', async t => {
  const missing = socketPath(t)
  await assert.rejects(callFrame(missing, 1, callOptions), { code: 'BH_SOCKET_UNREACHABLE', retryable: true })
  const gate = Promise.withResolvers<void>()
  const { path } = await startEcho(t, { handle: () => gate.promise })
  const hanging = callFrame(path, 1, { timeoutMs: 50, maxBytes: 10 })
  await assert.rejects(hanging, { code: 'BH_SOCKET_TIMEOUT', retryable: true })
  gate.resolve()
  const { path: long } = await startEcho(t, { handle: () => 'x'.repeat(100) })
  await assert.rejects(callFrame(long, 1, { timeoutMs: 5000, maxBytes: 10 }), { code: 'BH_SOCKET_ANSWER_INVALID' })
})

test('inheritedSocket: only what systemd meant for this process', () => {
  assert.equal(inheritedSocket({}, 7), undefined)
  assert.equal(inheritedSocket({ LISTEN_FDS: '1', LISTEN_PID: '8' }, 7), undefined)
  assert.equal(inheritedSocket({ LISTEN_FDS: '1', LISTEN_PID: '7' }, 7), 3)
  assert.throws(() => inheritedSocket({ LISTEN_FDS: '2', LISTEN_PID: '7' }, 7), { code: 'BH_SOCKET_LISTEN_FAILED' })
})

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 5000, `still not: ${condition}`)
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}
