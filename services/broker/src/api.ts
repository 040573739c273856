import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type Clock, isoTime } from '@blockhost/kit/clock.ts'
import { BlockHostError, exitCodes, isRetryable, messageOf } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import { createAdaptorServer } from '@hono/node-server'
import { Hono } from 'hono'
import type { BrokerStatus } from './broker.ts'
import { type BrokerConfig, isLoopback } from './config.ts'
import type { PeerFacts, PeerReading, PeerView } from './peer-view.ts'
import type { Lease } from './store.ts'

/** What the API reads; it changes nothing. */
export type ApiDeps = {
  /** The configuration in force; asked for at every request because SIGHUP replaces it. */
  config: () => BrokerConfig
  status: () => BrokerStatus
  leases: {
    count(): number
    /** Leases with a higher id, by id. */
    after(id: number, limit: number): Lease[]
  }
  peers: PeerView
  /** Prometheus text; its content type. */
  metrics: () => Promise<{ text: string; contentType: string }>
  clock: Clock
  log: Log
  version: string
}

/** The chain counts as unreachable when it was not read for so long. */
const chainStaleMs = 5 * 60_000
/** A handshake this young makes a peer active (the design document's five minutes). */
const activeSeconds = 300
const pageRows = { usual: 1_000, most: 10_000 } as const

type LeaseStatus = 'active' | 'idle' | 'never_connected'
type Bindings = { Bindings: { incoming?: IncomingMessage } }

/**
 * Makes the read-only HTTP API: `/health`, `/api/status`, `/api/allocations`, `/metrics`. Errors are `{"error": text}`.
 *
 * Without bearer tokens, everything but `/health` is for this machine: other addresses get 403 unless `api.allow_remote` is set.
 */
export function createApi(deps: ApiDeps): Hono<Bindings> {
  const app = new Hono<Bindings>()
  const startedAt = deps.clock.monotonic()
  const countPeers = createPeerCounter(deps)

  app.use(async (context, next) => {
    await next()
    for (const [name, value] of Object.entries(securityHeaders)) context.header(name, value)
  })
  app.use(async (context, next) => {
    const { method, path } = context.req
    if (!routes.includes(path)) return context.json({ error: `There is nothing at ${path}` }, 404)
    if (method !== 'GET' && method !== 'HEAD')
      return context.json({ error: `${path} can only be read (GET)` }, 405, { allow: 'GET, HEAD' })
    if (path !== '/health' && !isAllowed(context.env?.incoming?.socket.remoteAddress, deps.config()))
      return context.json({ error: 'Other machines may read only /health; see api.allow_remote' }, 403)
    return next()
  })

  app.get('/health', context => {
    const reasons = findTroubles(deps, startedAt)
    const uptime_seconds = Math.floor((deps.clock.monotonic() - startedAt) / 1000)
    const facts = { version: deps.version, uptime_seconds }
    if (reasons.length === 0) return context.json({ status: 'healthy', ...facts })
    return context.json({ status: 'unhealthy', ...facts, reasons }, 503)
  })
  app.get('/api/status', async context => context.json(renderStatus(deps, await countPeers())))
  app.get('/api/allocations', async context => {
    const limit = toCount(context.req.query('limit') ?? String(pageRows.usual), pageRows.most)
    const after = toCount(context.req.query('after') ?? '0', Number.MAX_SAFE_INTEGER)
    if (limit === undefined || limit === 0 || after === undefined)
      return context.json(
        { error: `Expected limit from 1 to ${pageRows.most} and after from 0, as whole numbers` },
        400,
      )
    const { peers } = await deps.peers.read()
    const rows = deps.leases.after(after, limit)
    context.header('x-total-count', String(deps.leases.count()))
    if (rows.length === limit)
      context.header('link', `</api/allocations?limit=${limit}&after=${rows.at(-1)!.id}>; rel="next"`)
    return context.json(rows.map(lease => renderLease(lease, peers.get(lease.publicKey), deps.clock.now())))
  })
  app.get('/metrics', async context => {
    const { text, contentType } = await deps.metrics()
    return context.body(text, 200, { 'content-type': contentType })
  })

  app.onError((error, context) => {
    const temporary = isRetryable(error)
    deps.log.warn({ err: messageOf(error), path: context.req.path }, 'an API request failed')
    const text =
      error instanceof BlockHostError ? error.message : 'Something went wrong; the log of the broker says what'
    return context.json({ error: text }, temporary ? 503 : 500)
  })
  return app
}

const routes: readonly string[] = ['/health', '/api/status', '/api/allocations', '/metrics']

const securityHeaders = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
} as const

/** Serves an API over HTTP or HTTPS. */
export type ApiServer = {
  /** Where it listens; the port the system chose when 0 was asked for. */
  readonly address: AddressInfo
  /** Reads the certificate and its key again; does nothing without TLS. */
  reloadCertificate(): void
  /** Stops listening and ends open connections. */
  close(): Promise<void>
}

/**
 * Listens and serves `app`. Slow and idle clients are cut off: 5 s for the head of a request, 10 s for all of it.
 *
 * @param patience - Other limits, as `node:http` names them.
 * @throws {BlockHostError} `BH_API_LISTEN_FAILED`: exit 75 when the address is in use, 78 when this machine does not have it.
 */
export async function serveApi(
  app: Hono<Bindings>,
  api: BrokerConfig['api'],
  patience: Partial<typeof usualLimits> = {},
): Promise<ApiServer> {
  const { tls } = api
  const limits = { ...usualLimits, ...patience }
  const readTls = () => ({ cert: readFileSync(tls!.cert), key: readFileSync(tls!.key) })
  const server = createAdaptorServer(
    tls === undefined
      ? { fetch: app.fetch, createServer, serverOptions: limits }
      : { fetch: app.fetch, createServer: createTlsServer, serverOptions: { ...limits, ...readTls() } },
  ) as Server
  server.maxConnections = 256
  await listen(server, api)
  return {
    address: server.address() as AddressInfo,
    reloadCertificate: () => {
      if (tls !== undefined && 'setSecureContext' in server)
        (server as unknown as { setSecureContext(context: object): void }).setSecureContext(readTls())
    },
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const usualLimits = {
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 8_192,
}

function listen(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', cause => {
      const inUse = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE'
      reject(
        new BlockHostError({
          code: 'BH_API_LISTEN_FAILED',
          message: `Could not listen on ${host} port ${port}`,
          hint: inUse ? 'Another program listens there; stop it or change api.listen.' : 'Correct api.listen.',
          retryable: inUse,
          exitCode: inUse ? exitCodes.tryAgain : exitCodes.badConfig,
          cause,
        }),
      )
    })
    server.listen({ host, port }, resolve)
  })
}

function isAllowed(remote: string | undefined, { api }: BrokerConfig): boolean {
  return api.allowRemote || (remote !== undefined && isLoopback(remote.replace(/^::ffff:/, '')))
}

function findTroubles(deps: ApiDeps, startedAt: number): string[] {
  const { lastPollAt, chainError, dataplaneError } = deps.status()
  const troubles: string[] = []
  if (deps.config().onchain !== undefined) {
    const now = deps.clock.now()
    const silentMs = lastPollAt === undefined ? deps.clock.monotonic() - startedAt : now - lastPollAt
    if (silentMs > chainStaleMs)
      troubles.push(
        `The chain was not read for ${Math.floor(silentMs / 1000)} s: ${chainError ?? 'no reason is known'}`,
      )
  }
  if (dataplaneError !== undefined) troubles.push(`Tunnels and routes are not up to date: ${dataplaneError}`)
  return troubles
}

type PeerCounts = Readonly<Record<LeaseStatus, number>>

/** Counts the leases by the state of their tunnel, once for each reading of the peers. Cost O(leases). */
function createPeerCounter({ leases, peers, clock }: ApiDeps): () => Promise<PeerCounts> {
  let counted: { reading: PeerReading; counts: PeerCounts } | undefined
  return async () => {
    const reading = await peers.read()
    if (counted?.reading === reading) return counted.counts
    const counts: Record<LeaseStatus, number> = { active: 0, idle: 0, never_connected: 0 }
    const now = clock.now()
    const page = (after: number) => leases.after(after, pageRows.usual)
    for (let rows = page(0); rows.length > 0; rows = page(rows.at(-1)!.id))
      for (const lease of rows) counts[statusOf(lease, reading.peers.get(lease.publicKey), now)]++
    counted = { reading, counts }
    return counts
  }
}

function renderStatus(deps: ApiDeps, peers: PeerCounts): Record<string, unknown> {
  const { upstreamPrefix, allocationSize, onchain } = deps.config()
  const status = deps.status()
  const total = Number(status.poolCapacity)
  const used = deps.leases.count()
  return {
    upstream_prefix: upstreamPrefix,
    allocation_size: allocationSize,
    total_allocations: total,
    used_allocations: used,
    available_allocations: Math.max(0, total - used - status.resting),
    resting_allocations: status.resting,
    active_peers: peers.active,
    idle_peers: peers.idle,
    never_connected_peers: peers.never_connected,
    chain:
      onchain === undefined
        ? null
        : {
            chain_id: onchain.chainId,
            requests_contract: onchain.requestsContracts[0],
            head_block: toText(status.headBlock),
            last_read_at: status.lastPollAt === undefined ? null : isoTime(status.lastPollAt),
            error: status.chainError ?? null,
            operator_balance_wei: toText(status.operatorBalanceWei),
            requests: status.requests,
            transactions_pending: status.outboxPending,
          },
  }
}

function renderLease(lease: Lease, peer: PeerFacts | undefined, now: number): Record<string, unknown> {
  const seconds = peer?.latestHandshake
  return {
    prefix: lease.prefix,
    pubkey: lease.publicKey,
    endpoint: lease.endpoint ?? null,
    nft_contract: lease.nftContract,
    allocated_at: lease.allocatedAt,
    last_seen_at: seconds === undefined ? (lease.lastSeenAt ?? null) : isoTime(seconds * 1000),
    status: statusOf(lease, peer, now),
  }
}

function statusOf(lease: Lease, peer: PeerFacts | undefined, now: number): LeaseStatus {
  const seconds = peer?.latestHandshake
  if (seconds !== undefined) return now / 1000 - seconds < activeSeconds ? 'active' : 'idle'
  return lease.lastSeenAt === undefined ? 'never_connected' : 'idle'
}

/** JSON has no big integers; decimal text loses nothing. */
function toText(value: bigint | undefined): string | null {
  return value === undefined ? null : value.toString()
}

function toCount(text: string, max: number): number | undefined {
  return /^\d{1,16}$/.test(text) && Number(text) <= max ? Number(text) : undefined
}
