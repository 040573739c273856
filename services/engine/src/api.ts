import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { EngineStatus } from './engine.ts'
import { createMetricsText } from './metrics.ts'

/** What the status socket tells. */
export type ApiDeps = {
  status(): EngineStatus
  readonly now: () => number
  readonly version: string
  readonly usage: () => { cpuSeconds: number; rssBytes: number }
}

/** The engine counts as ill when it has not read the chain for so long. */
const chainStaleMs = 5 * 60_000

/**
 * Serves `/health`, `/status` and `/metrics` (HTTP over a Unix socket): for this machine alone, and it changes nothing.
 *
 * @param path - Its folder must exist. A socket that a dead process left is replaced; whoever holds the lock may.
 * @throws {BlockHostError} `BH_SOCKET_FAILED`.
 */
export async function serveApi(path: string, deps: ApiDeps): Promise<AsyncDisposable> {
  const server = createServer((request, response) => {
    const { status, type, text } = answer(request.url ?? '/', deps)
    response.writeHead(request.method === 'GET' ? status : 405, { 'content-type': type }).end(text)
  })
  server.requestTimeout = 5_000
  await listen(server, path)
  chmodSync(path, 0o660) // whatever the umask: for the group too, as the folder lets it in
  return {
    [Symbol.asyncDispose]: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Returns what is wrong, in words; empty: all is well. */
export function findTroubles(status: EngineStatus, nowMs: number): string[] {
  const { lastPollAt } = status
  const isStale = lastPollAt === undefined || nowMs - lastPollAt > chainStaleMs
  const stale = lastPollAt === undefined ? 'the chain was not read yet' : 'the chain was not read for five minutes'
  return [...(isStale ? [stale] : []), ...status.problems]
}

function answer(url: string, deps: ApiDeps): { status: number; type: string; text: string } {
  const status = deps.status()
  switch (url) {
    case '/health': {
      const reasons = findTroubles(status, deps.now())
      const verdict = reasons.length === 0 ? 'healthy' : 'unhealthy'
      return json(reasons.length === 0 ? 200 : 503, { status: verdict, version: deps.version, reasons })
    }
    case '/status':
      return json(200, { version: deps.version, ...status })
    case '/metrics':
      return {
        status: 200,
        type: 'text/plain; version=0.0.4',
        text: createMetricsText(status, deps.usage(), deps.now()),
      }
    default:
      return json(404, { error: 'There is /health, /status and /metrics' })
  }
}

function json(status: number, value: object) {
  const text = JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner))
  return { status, type: 'application/json', text: `${text}\n` }
}

function listen(server: Server, path: string): Promise<void> {
  rmSync(path, { force: true })
  return new Promise((resolve, reject) => {
    server.once('error', cause =>
      reject(
        new BlockHostError({
          code: 'BH_SOCKET_FAILED',
          message: `Could not listen on ${path}`,
          hint: 'Its folder must exist and be writable; the unit makes it (RuntimeDirectory).',
          cause,
        }),
      ),
    )
    server.listen(path, resolve)
  })
}
