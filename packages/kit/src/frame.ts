import { chownSync, lstatSync, rmSync } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { BlockHostError, messageOf } from './errors.ts'
import { createFrameDecoder, encodeFrame, type FrameDecoder, hasMoreValues, parseFrameBody } from './frame-codec.ts'
import { groupId } from './group.ts'

/*
 * Frames over a Unix socket, in both directions. Spoken by the root agent and by web3-auth-svc.
 * Who may talk is decided by the socket's mode and by the folder it lies in.
 */

/** Options of {@link createFrameServer}. Times are milliseconds. */
export type FrameServerOptions = {
  /** Path of the socket. With `fd` it is used only in messages. */
  path: string
  /** Permission bits that the socket is born with, e.g. `0o660`. Ignored with `fd`. */
  mode: number
  /** Group that gets the socket: name in /etc/group, or id. Default: the process's. Ignored with `fd`. */
  group?: string | number
  /** A listening socket made by somebody else: {@link inheritedSocket}. It is neither chmodded nor removed. */
  fd?: number
  /** A request announced longer than this ends its connection without an answer. */
  maxBytes: number
  /** When unfinished requests together are longer, the connection with the longest is ended. Default: no limit but the others. */
  maxHeldBytes?: number
  /** A request of more JSON values, keys included, is not parsed; it counts as not JSON. Default: any number. */
  maxValues?: number
  /** From a request's first byte (for the first one: from the connection) to its last; and the same for taking the answer. */
  receiveTimeoutMs: number
  /** Between an answer and the first byte of the next request. Default: the receive timeout. */
  idleTimeoutMs?: number
  /** When so many are open, the one that keeps us waiting longest makes room; if all are being served, the new one is ended. */
  maxConnections: number
  /** Ends the connection after one answer. Default `false`: the next request on it is read once the last is answered. */
  once?: boolean
  /** Answers one request; it runs to its end even when the client has gone. A rejection ends the connection unanswered. */
  handle(request: unknown, context: FrameContext): Promise<unknown> | unknown
  /** The answer to a frame that is not JSON. Default: the connection is ended. */
  answerInvalid?(problem: string): unknown
  /** Told about rejections of `handle` and errors of the listening socket. Default: dropped. */
  onError?(error: unknown): void
}

/** What a handler may know about where its request came from. */
export type FrameContext = {
  /** Connections of this server, counted from 1. */
  readonly connection: number
  /** Requests of the connection, counted from 1. */
  readonly request: number
}

/** A listening server. Disposing of it stops listening, waits for running handlers, and ends the connections. */
export type FrameServer = AsyncDisposable & {
  readonly path: string
  /** Open connections. */
  connections(): number
  /** Resolves once there has been no connection and no running handler for `ms` milliseconds. */
  whenIdle(ms: number): Promise<void>
  close(): Promise<void>
}

/**
 * Listens for frames. A stale socket is removed only when nobody answers on it.
 *
 * @throws {BlockHostError} `BH_SOCKET_IN_USE`, `BH_SOCKET_LISTEN_FAILED`, `BH_GROUP_UNKNOWN`.
 */
export async function createFrameServer(options: FrameServerOptions): Promise<FrameServer> {
  const connections = new Connections(options)
  const server = createServer({ allowHalfOpen: true }, socket => connections.accept(socket))
  if (options.fd === undefined) await listenOnPath(server, options)
  else await listen(server, options.path, () => server.listen({ fd: options.fd }))
  server.on('error', error => options.onError?.(error)) // e.g. EMFILE while accepting: the server goes on
  const close = async () => {
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    await connections.end()
    await closed
  }
  return {
    path: options.path,
    connections: () => connections.count,
    whenIdle: ms => connections.whenIdle(ms),
    close,
    [Symbol.asyncDispose]: close,
  }
}

/**
 * Returns the one listening socket that systemd passed (sd_listen_fds(3)), or `undefined`.
 *
 * @param env - The process's environment; LISTEN_PID must name `pid`.
 * @throws {BlockHostError} `BH_SOCKET_LISTEN_FAILED` when there is more than one.
 */
export function inheritedSocket(env: Readonly<Record<string, string | undefined>>, pid: number): number | undefined {
  if (env.LISTEN_FDS === undefined || Number(env.LISTEN_PID) !== pid) return undefined
  if (env.LISTEN_FDS === '1') return 3
  throw new BlockHostError({
    code: 'BH_SOCKET_LISTEN_FAILED',
    message: `Got ${env.LISTEN_FDS} sockets from systemd, expected one`,
    hint: 'Keep one ListenStream= in the .socket unit.',
  })
}

/** Options of {@link callFrame}. */
export type CallFrameOptions = {
  /** For connecting, sending and the whole answer, milliseconds. */
  timeoutMs: number
  /** Longest answer taken, bytes. Default 1 MiB. */
  maxBytes?: number
}

/**
 * Sends one request over a new connection and returns the answer.
 *
 * @throws {BlockHostError} `BH_SOCKET_UNREACHABLE` (retryable unless permission is missing), `BH_SOCKET_TIMEOUT` (retryable; what was
 *   asked for may still happen), `BH_SOCKET_ANSWER_INVALID`.
 */
export function callFrame(path: string, request: unknown, options: CallFrameOptions): Promise<unknown> {
  const frame = encodeFrame(request)
  return new Promise((resolve, reject) => {
    const decoder = createFrameDecoder(options.maxBytes ?? 1024 * 1024)
    const socket = createConnection({ path })
    const finish = (settle: () => void) => {
      clearTimeout(timer)
      socket.destroy()
      settle()
    }
    const fail = (error: BlockHostError) => finish(() => reject(error))
    const timer = setTimeout(() => fail(timedOut(path, options.timeoutMs)), options.timeoutMs)
    socket.on('error', cause => fail(unreachable(path, cause)))
    socket.on('close', () => fail(invalidAnswer(path, new Error('the connection ended before the answer'))))
    socket.on('connect', () => socket.write(frame))
    socket.on('data', chunk => {
      try {
        decoder.push(chunk as Buffer)
        const body = decoder.next()
        if (body === undefined) return
        const answer = parseFrameBody(body)
        finish(() => resolve(answer))
      } catch (cause) {
        fail(invalidAnswer(path, cause))
      }
    })
  })
}

/** One client: reads a request, has it handled, writes the answer, reads the next. Nothing is read meanwhile. */
type Connection = {
  readonly socket: Socket
  readonly number: number
  readonly decoder: FrameDecoder
  requests: number
  phase: 'reading' | 'handling' | 'writing'
  timer: NodeJS.Timeout | undefined
}

/** Bytes up to which an unfinished request is not worth adding all of them up. */
const smallRequest = 256 * 1024

/** The open connections of a server; owns their sockets and timers. */
class Connections {
  readonly #options: FrameServerOptions
  /** By how long they have been waiting: one that was answered goes to the end. */
  readonly #open = new Set<Connection>()
  readonly #running = new Set<Promise<void>>()
  readonly #idleWaiters = new Set<{ ms: number; timer: NodeJS.Timeout | undefined; resolve: () => void }>()
  #accepted = 0

  constructor(options: FrameServerOptions) {
    this.#options = options
  }

  get count(): number {
    return this.#open.size
  }

  accept(socket: Socket): void {
    socket.on('error', () => undefined) // 'close' follows
    if (this.#open.size >= this.#options.maxConnections && !this.#makeRoom()) return void socket.destroy()
    const decoder = createFrameDecoder(this.#options.maxBytes)
    const number = ++this.#accepted
    const connection: Connection = { socket, number, decoder, requests: 0, phase: 'reading', timer: undefined }
    this.#open.add(connection)
    this.#updateIdle()
    this.#setDeadline(connection, this.#options.receiveTimeoutMs)
    socket.on('close', () => this.#drop(connection))
    socket.on('data', chunk => this.#take(connection, chunk as Buffer))
    // A client may say that it sends no more and still wait for the answer; paused sockets report the end when they are resumed.
    socket.on('end', () => {
      if (connection.phase === 'reading') this.#drop(connection)
    })
  }

  async end(): Promise<void> {
    for (const connection of [...this.#open]) if (connection.phase === 'reading') this.#drop(connection)
    await Promise.allSettled([...this.#running])
    for (const connection of [...this.#open]) this.#drop(connection)
  }

  whenIdle(ms: number): Promise<void> {
    return new Promise(resolve => {
      this.#idleWaiters.add({ ms, timer: undefined, resolve })
      this.#updateIdle()
    })
  }

  #makeRoom(): boolean {
    for (const connection of this.#open)
      if (connection.phase !== 'handling') {
        this.#drop(connection)
        return true
      }
    return false
  }

  #take(connection: Connection, chunk: Buffer): void {
    const startsRequest = connection.phase === 'reading' && connection.decoder.held() === 0
    if (startsRequest && connection.requests > 0) this.#setDeadline(connection, this.#options.receiveTimeoutMs)
    connection.decoder.push(chunk)
    if (connection.phase === 'reading') this.#serveNext(connection)
    if (connection.decoder.held() > smallRequest) this.#limitHeld()
  }

  #limitHeld(): void {
    const reading = [...this.#open].filter(({ phase }) => phase === 'reading')
    const held = reading.reduce((sum, { decoder }) => sum + decoder.held(), 0)
    if (held <= (this.#options.maxHeldBytes ?? Number.POSITIVE_INFINITY)) return
    this.#drop(reading.reduce((one, other) => (other.decoder.held() > one.decoder.held() ? other : one)))
  }

  #serveNext(connection: Connection): void {
    let body: Buffer | undefined
    try {
      body = connection.decoder.next()
    } catch {
      this.#drop(connection)
      return
    }
    if (body === undefined) return
    clearTimeout(connection.timer)
    connection.phase = 'handling'
    connection.socket.pause()
    const work = this.#serve(connection, body).finally(() => {
      this.#running.delete(work)
      this.#updateIdle()
    })
    this.#running.add(work)
  }

  async #serve(connection: Connection, body: Buffer): Promise<void> {
    try {
      const answer = encodeFrame(await this.#answer(connection, body))
      if (connection.socket.destroyed) return
      connection.phase = 'writing'
      this.#setDeadline(connection, this.#options.receiveTimeoutMs)
      await write(connection.socket, answer)
      if (this.#options.once) connection.socket.destroySoon()
      else this.#readNext(connection)
    } catch (error) {
      this.#options.onError?.(error)
      this.#drop(connection)
    }
  }

  async #answer(connection: Connection, body: Buffer): Promise<unknown> {
    let request: unknown
    try {
      const most = this.#options.maxValues
      if (most !== undefined && hasMoreValues(body, most)) throw new RangeError(`it has more than ${most} values`)
      request = parseFrameBody(body)
    } catch (error) {
      if (this.#options.answerInvalid === undefined) throw error
      return this.#options.answerInvalid(messageOf(error))
    }
    return this.#options.handle(request, { connection: connection.number, request: ++connection.requests })
  }

  #readNext(connection: Connection): void {
    if (connection.socket.destroyed) return
    const { receiveTimeoutMs, idleTimeoutMs = receiveTimeoutMs } = this.#options
    this.#open.delete(connection)
    this.#open.add(connection)
    connection.phase = 'reading'
    this.#setDeadline(connection, connection.decoder.held() > 0 ? receiveTimeoutMs : idleTimeoutMs)
    connection.socket.resume()
    this.#serveNext(connection)
  }

  #setDeadline(connection: Connection, ms: number): void {
    clearTimeout(connection.timer)
    connection.timer = setTimeout(() => this.#drop(connection), ms)
  }

  #drop(connection: Connection): void {
    clearTimeout(connection.timer)
    this.#open.delete(connection)
    connection.socket.destroy()
    this.#updateIdle()
  }

  #updateIdle(): void {
    const idle = this.#open.size === 0 && this.#running.size === 0
    for (const waiter of this.#idleWaiters) {
      if (!idle) {
        clearTimeout(waiter.timer)
        waiter.timer = undefined
      } else
        waiter.timer ??= setTimeout(() => {
          this.#idleWaiters.delete(waiter)
          waiter.resolve()
        }, waiter.ms)
    }
  }
}

/** Resolves when the kernel has the bytes, or when the connection is gone. */
function write(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise(resolve => {
    socket.once('close', resolve)
    socket.write(bytes, () => {
      socket.off('close', resolve)
      resolve()
    })
  })
}

async function listenOnPath(server: Server, { path, mode, group }: FrameServerOptions): Promise<void> {
  const gid = group === undefined ? undefined : groupId(group)
  await removeStaleSocket(path)
  const umask = process.umask(0o777 & ~mode) // bind(2) happens inside the call of listen
  try {
    await listen(server, path, () => {
      server.listen({ path })
      process.umask(umask)
    })
    if (gid !== undefined) chownSync(path, -1, gid)
  } catch (error) {
    server.close()
    throw error
  } finally {
    process.umask(umask)
  }
}

function listen(server: Server, path: string, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => reject(listenFailed(path, cause))
    server.once('error', fail)
    server.once('listening', () => {
      server.off('error', fail)
      resolve()
    })
    start()
  })
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) throw listenFailed(path, new Error('something that is not a socket lies there'))
  if (await isAnswered(path))
    throw new BlockHostError({
      code: 'BH_SOCKET_IN_USE',
      message: `Somebody listens on ${path} already`,
      hint: 'Stop the other one first, or configure another path.',
      fields: { path },
    })
  rmSync(path, { force: true })
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = createConnection({ path })
    const finish = (answered: boolean) => {
      socket.destroy()
      resolve(answered)
    }
    socket.on('connect', () => finish(true))
    // EAGAIN: somebody listens and is busy.
    socket.on('error', (error: NodeJS.ErrnoException) =>
      finish(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    )
  })
}

function listenFailed(path: string, cause: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_SOCKET_LISTEN_FAILED',
    message: `Could not listen on ${path}`,
    hint: 'Its folder must exist and be writable, and the path be shorter than 108 bytes.',
    fields: { path },
    cause,
  })
}

function unreachable(path: string, cause: NodeJS.ErrnoException): BlockHostError {
  const forbidden = cause.code === 'EACCES' || cause.code === 'EPERM'
  return new BlockHostError({
    code: 'BH_SOCKET_UNREACHABLE',
    message: `Could not talk to ${path}`,
    hint: forbidden
      ? 'Run it as a user who is in the group of the socket.'
      : 'Start the service that listens there (`systemctl status` tells).',
    fields: { path },
    retryable: !forbidden,
    cause,
  })
}

function timedOut(path: string, timeoutMs: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_SOCKET_TIMEOUT',
    message: `${path} did not answer within ${timeoutMs} ms`,
    hint: 'What was asked for may still happen; ask for the state before asking again.',
    fields: { path, timeoutMs },
    retryable: true,
  })
}

function invalidAnswer(path: string, cause: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_SOCKET_ANSWER_INVALID',
    message: `${path} did not answer as expected`,
    fields: { path },
    retryable: true,
    cause,
  })
}
