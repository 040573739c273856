/** The signing page over HTTPS: its files, what a code is for, and where its signature goes. */
import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, messageOf } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import { type Asset, assets } from '@blockhost/web/assets.ts'
import { type Challenges, maxSignatureBytes } from './challenges.ts'

/** What the page needs. */
export type PageDeps = {
  readonly challenges: Challenges
  readonly machineId: string
  readonly clock: Clock
  readonly log: Log
}

/** Longest body of a signature, bytes: hex of the longest one, and `0x`. */
const maxBodyBytes = 2 * maxSignatureBytes + 2

const files: Readonly<Record<string, Asset>> = {
  ...assets,
  '/': { type: 'text/html; charset=utf-8', file: new URL('../page/index.html', import.meta.url) },
  '/sign.css': { type: 'text/css; charset=utf-8', file: new URL('../page/sign.css', import.meta.url) },
  '/sign.js': { type: 'text/javascript; charset=utf-8', file: new URL('../page/sign.js', import.meta.url) },
}

const headers = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
} as const

type Answer = {
  readonly status: number
  readonly type: string
  readonly body: string | Buffer
  readonly allow?: string
}

/**
 * Makes the handler of every request: `GET /` and its files, `GET /auth/pending/<session>`, `POST /auth/callback/<session>` with the
 * signature as body. Answers 404, 405, 409, 413 and 400 as earlier generations do; the server itself answers 408.
 */
export function createPage(deps: PageDeps): (request: IncomingMessage, response: ServerResponse) => void {
  const readFile = createFileReader()
  return async (request, response) => {
    const { status, type, body, allow } = await answerRequest(request, deps, readFile).catch(error => {
      // One file that is not there must not end the service with everybody's codes.
      const path = pathOf(request).replace(/[0-9a-f]{32}/, '…') // who has a session may answer for it: not for the log
      deps.log.error({ path, problem: messageOf(error) }, 'a request to the signing page failed')
      return text(500, 'The server could not answer.')
    })
    const more = { 'content-type': type, ...(allow === undefined ? {} : { allow }) }
    response.writeHead(status, { ...headers, ...more }).end(request.method === 'HEAD' ? undefined : body)
  }
}

async function answerRequest(
  request: IncomingMessage,
  deps: PageDeps,
  readFile: (file: URL) => Buffer,
): Promise<Answer> {
  const path = pathOf(request)
  const [, verb, session = ''] = /^\/auth\/(pending|callback)\/([^/]*)$/.exec(path) ?? []
  const isGet = request.method === 'GET' || request.method === 'HEAD'
  if (verb === 'callback') return request.method === 'POST' ? takeSignature(session, request, deps) : notAllowed('POST')
  const file = Object.hasOwn(files, path) ? files[path] : undefined
  if (verb === undefined && file === undefined) return text(404, 'There is nothing here.')
  if (!isGet) return notAllowed('GET, HEAD')
  if (file === undefined) return describePending(session, deps)
  return { status: 200, type: file.type, body: readFile(file.file) }
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '/').replace(/\?.*$/s, '')
}

function describePending(session: string, { challenges, machineId, clock }: PageDeps): Answer {
  const challenge = isSession(session) ? challenges.find(session) : undefined
  if (challenge === undefined) return isOver()
  const body = JSON.stringify({
    otp: challenge.code,
    machine_id: machineId,
    session_id: session,
    user: challenge.user,
    from: challenge.rhost,
    message: challenge.text,
    answered: challenge.answered,
    expires_in_seconds: Math.max(0, Math.floor((challenge.endsAtMs - clock.monotonic()) / 1000)),
  })
  return { status: 200, type: 'application/json', body }
}

async function takeSignature(session: string, request: IncomingMessage, { challenges }: PageDeps): Promise<Answer> {
  // A form of another site could be made to send here; browsers say where a request comes from.
  const site = request.headers['sec-fetch-site']
  if (site !== undefined && site !== 'same-origin') return text(403, 'Only from this page.')
  if (!isSession(session) || challenges.find(session) === undefined) return isOver()
  const body = await readBody(request)
  if (body === undefined) return text(413, 'That is too long for a signature.')
  const signature = body.trim().toLowerCase().replace(/^0x/, '')
  if (!/^([0-9a-f]{2}){64,}$/.test(signature)) return text(400, 'That is not a signature.')
  const outcome = challenges.answer(session, `0x${signature}`)
  if (outcome === 'taken') return text(200, 'OK')
  return outcome === 'answered' ? text(409, 'The terminal took a signature already.') : isOver()
}

/** Returns `undefined` when the body is too long. Never ends when the connection breaks: nobody is left to answer. */
function readBody(request: IncomingMessage): Promise<string | undefined> {
  return new Promise(resolve => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      if (body.length <= maxBodyBytes) body += chunk.toString('latin1')
      if (body.length > maxBodyBytes) resolve(undefined) // the rest is read and dropped, so that the answer arrives
    })
    request.on('end', () => resolve(body))
  })
}

function isOver(): Answer {
  return text(404, 'There is no such sign-in, or it is over.')
}

function notAllowed(allow: string): Answer {
  return { ...text(405, `Only ${allow}.`), allow }
}

function text(status: number, body: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body }
}

function isSession(text: string): boolean {
  return /^[0-9a-f]{32}$/.test(text)
}

function createFileReader(): (file: URL) => Buffer {
  const cache = new Map<string, Buffer>()
  return file => {
    const content = cache.get(file.href) ?? readFileSync(file)
    cache.set(file.href, content)
    return content
  }
}

/** A page that is being served. */
export type PageServer = { readonly port: number; close(): Promise<void> }

/**
 * Serves `handler` over HTTPS on `listener`: an inherited socket, or a host and a port (0: any). Slow clients are cut off after 5 s.
 *
 * @param patience - Other limits, as `node:http` names them.
 * @throws {BlockHostError} `BH_PAGE_LISTEN_FAILED` (retryable).
 */
export async function servePage(
  handler: (request: IncomingMessage, response: ServerResponse) => void,
  certificate: { readonly cert: string; readonly key: string },
  listener: { readonly fd: number } | { readonly host: string; readonly port: number },
  patience: Partial<typeof limits> = {},
): Promise<PageServer> {
  const { cert, key } = certificate
  const server = createServer(
    { cert, key, minVersion: 'TLSv1.2', handshakeTimeout: 5000, ...limits, ...patience },
    handler,
  )
  server.maxConnections = 64
  await new Promise<void>((resolve, reject) => {
    server.once('error', cause => reject(listenFailed(listener, cause)))
    server.listen(listener, resolve)
  })
  server.on('error', () => undefined) // while accepting: the server goes on
  return {
    port: (server.address() as AddressInfo).port,
    close: () => closeServer(server),
  }
}

const limits = {
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 8_192,
}

function closeServer(server: Server): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

function listenFailed(listener: object, cause: Error): BlockHostError {
  return new BlockHostError({
    code: 'BH_PAGE_LISTEN_FAILED',
    message: `The signing page could not be served on ${JSON.stringify(listener)}`,
    hint: 'Free the port, or set another as `page.port`.',
    retryable: true,
    cause,
  })
}
