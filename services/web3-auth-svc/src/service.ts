/** The service: from a configuration and listening sockets to answers. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRpc } from '@blockhost/chain/rpc.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { messageOf } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { createFrameServer, type FrameServer } from '@blockhost/kit/frame.ts'
import type { Log } from '@blockhost/kit/log.ts'
import { type ChainBackend, createRpcBackend } from './chain-backend.ts'
import { type Challenges, createChallenges } from './challenges.ts'
import type { AuthConfig, ChainConfig } from './config.ts'
import { type LocalAddress, pageUrl, publicAddresses, renderInvitation, type SigningPlace } from './invitation.ts'
import { ipVersion } from './ip-version.ts'
import { openLastKnown } from './last-known.ts'
import { createMethods, invalidRequest } from './methods.ts'
import type { PageServer } from './page.ts'
import { createRateLimit } from './rate-limit.ts'
import { writeStateFile } from './state-file.ts'
import { readTrustedFile } from './trusted-file.ts'

/** What the service takes from outside. */
export type ServiceDeps = {
  readonly clock: Clock
  readonly log: Log
  /** Addresses of this machine. */
  readonly addresses: () => readonly LocalAddress[]
  /** Unix user whose wallet files are believed. Default 0. */
  readonly trustedUser?: number
}

/** Sockets that systemd made; what is missing is made here. */
export type Sockets = { readonly frames?: number | undefined; readonly page?: number | undefined }

/** A running service. */
export type Service = AsyncDisposable & {
  /** Port of the signing page; `undefined` when it is not served. */
  readonly pagePort: number | undefined
  /** Resolves when nobody has been connected for `ms` and no code is open. */
  whenIdle(ms: number): Promise<void>
  close(): Promise<void>
}

/** Requests above this end their connection without an answer, as in earlier generations. */
const maxRequestBytes = 1024 * 1024

/**
 * Starts the service. A page that can't be served is a warning: signatures are pasted then.
 *
 * @throws {BlockHostError} `BH_SOCKET_IN_USE`, `BH_SOCKET_LISTEN_FAILED`, `BH_FILE_WRITE_FAILED`, `BH_RPC_URL_INVALID`.
 */
export async function startService(config: AuthConfig, sockets: Sockets, deps: ServiceDeps): Promise<Service> {
  mkdirSync(config.stateFolder, { recursive: true, mode: 0o700 })
  const challenges = createChallenges(
    {
      machineId: config.machine.id,
      secret: config.machine.secret ?? ensureSecret(config.stateFolder),
      codeLength: config.otp.length,
      ttlMs: config.otp.ttlMs,
    },
    deps.clock,
  )
  const page = await startPage(config, sockets, challenges, deps)
  const frames = await startFrames(config, sockets, challenges, page.place, deps)
  const close = async () => {
    await frames.close()
    await page.server?.close()
  }
  return {
    pagePort: page.server?.port,
    whenIdle: ms => whenIdle(frames, challenges, ms, deps.clock),
    close,
    [Symbol.asyncDispose]: close,
  }
}

/** The key of the codes, when none is configured: made once, 32 bytes. */
function ensureSecret(folder: string): Uint8Array {
  const path = join(folder, 'otp.key')
  try {
    const kept = readTextFile(path).trim()
    if (/^[0-9a-f]{64}$/.test(kept)) return Uint8Array.fromHex(kept)
  } catch {
    // The first start.
  }
  const secret = new Uint8Array(randomBytes(32))
  writeStateFile(path, `${secret.toHex()}\n`)
  return secret
}

async function startPage(
  config: AuthConfig,
  sockets: Sockets,
  challenges: Challenges,
  { clock, log, addresses }: ServiceDeps,
): Promise<{ server: PageServer | undefined; place: SigningPlace }> {
  const { signingUrl: url } = config
  const without: SigningPlace = url === undefined ? { kind: 'none' } : { kind: 'elsewhere', url }
  if (!config.page.enabled) return { server: undefined, place: without }
  try {
    const [{ ensureCertificate }, { createPage, servePage }] = await Promise.all([
      import('./certificate.ts'),
      import('./page.ts'),
    ])
    const known = publicAddresses(addresses())
    const host = url === undefined ? undefined : new URL(url).hostname.replace(/^\[|\]$/g, '')
    const names = [...new Set([...(host === undefined ? [] : [host]), ...known])]
    const certificate = ensureCertificate(config.stateFolder, names.length === 0 ? ['localhost'] : names, clock.now())
    const listener = sockets.page === undefined ? config.page : { fd: sockets.page }
    const server = await servePage(
      createPage({ challenges, machineId: config.machine.id, clock, log }),
      certificate,
      listener,
    )
    const shown = pageUrl(url, known.length > 0 || ipVersion(host ?? '') !== 0 ? known : ['localhost'], server.port)
    return { server, place: { kind: 'page', url: shown, fingerprint: certificate.fingerprint } }
  } catch (error) {
    log.error({ problem: messageOf(error) }, 'the signing page is not served; signatures have to be pasted')
    return { server: undefined, place: { kind: 'none' } }
  }
}

async function startFrames(
  config: AuthConfig,
  sockets: Sockets,
  challenges: Challenges,
  place: SigningPlace,
  deps: ServiceDeps,
): Promise<FrameServer> {
  const { clock, log, trustedUser = 0 } = deps
  const { chain: chainConfig, machine, mode } = config
  const chain = chainConfig === undefined ? undefined : await createChain(chainConfig, clock, log)
  const judgeDeps = {
    chain,
    lastKnown: openLastKnown(config.stateFolder, config.lastKnownMs, { clock, log }),
    readPasswd: () => readFileSync(config.passwdPath, 'utf8'),
    readWallets: () => readTrustedFile(config.walletsPath, trustedUser),
    readRescueWallets: () => readTrustedFile(config.rescueWalletsPath, trustedUser),
    log,
  }
  const options = {
    mode,
    chainId: chainConfig?.chainId,
    contract: chainConfig?.contract,
    deadlineMs: config.chainDeadlineMs,
  }
  const handle = createMethods({
    challenges,
    sources: createRateLimit(config.limits.perSource, clock),
    users: createRateLimit(config.limits.perUser, clock),
    judge: async ({ user, text }, answer) => {
      const { judge } = await import('./judge.ts') // secp256k1 is slow to load, and showing a code needs none
      return judge({ user, text, answer }, options, judgeDeps)
    },
    prepare: () => import('./judge.ts'),
    invite: challenge => renderInvitation(challenge, machine.id, place),
    chain,
    contract: chainConfig?.contract,
    graceMs: config.graceMs,
    log,
  })
  return createFrameServer({
    path: config.socketPath,
    mode: 0o660,
    ...(sockets.frames === undefined ? {} : { fd: sockets.frames }),
    maxBytes: maxRequestBytes,
    receiveTimeoutMs: 10_000,
    maxConnections: 128,
    handle,
    answerInvalid: invalidRequest,
    onError: error => log.error({ problem: messageOf(error) }, 'a request failed'),
  })
}

async function createChain({ backend, chainId }: ChainConfig, clock: Clock, log: Log): Promise<ChainBackend> {
  if (backend.kind === 'etherscan') {
    const { createEtherscanBackend } = await import('./etherscan.ts')
    return createEtherscanBackend({ ...backend, chainId })
  }
  const { urls, timeoutMs } = backend
  return createRpcBackend(createRpc({ urls, chainId, timeoutMs }, { clock, log }))
}

async function whenIdle(frames: FrameServer, challenges: Challenges, ms: number, clock: Clock): Promise<void> {
  for (;;) {
    await frames.whenIdle(ms)
    if (challenges.count() === 0) return
    await clock.sleep(challenges.longestMs())
  }
}
