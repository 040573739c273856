/**
 * JSON-RPC over HTTP (https://ethereum.org/developers/docs/apis/json-rpc): many calls in one round trip, several endpoints.
 * An own client rather than viem's: that one costs 36 MiB and 200 ms to import, and can't tell which calls share a round trip.
 */
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, exitCodes, messageOf } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import { parseQuantity } from './hex.ts'
import { classifyRpcError, type RpcFailure, refusesBatches } from './rpc-failure.ts'

/** One JSON-RPC request without its envelope. */
export type RpcCall = { readonly method: string; readonly params: readonly unknown[] }

/** What became of one call. */
export type RpcOutcome =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly failure: RpcFailure }

/** A chain's JSON-RPC interface behind one or several endpoints. */
export type Rpc = {
  /**
   * Makes all calls in one HTTP round trip (more only past `maxBatch`, or where an endpoint takes no batches) and returns their
   * outcomes in the same order. An endpoint that fails, lags or answers any call with a passing problem is set aside for a while
   * and the next one is asked; outcomes are transient failures only when no endpoint did better.
   *
   * @throws {BlockHostError} `BH_RPC_UNAVAILABLE` (retryable) when no endpoint answered; `BH_WRONG_CHAIN` (exit 78).
   */
  batch(calls: readonly RpcCall[]): Promise<readonly RpcOutcome[]>
  /**
   * Makes one call and returns its result.
   *
   * @throws {BlockHostError} as `batch`, and `BH_CALL_REVERTED` (its field `data` is the revert data), `BH_RPC_REFUSED`.
   */
  call(method: string, params: readonly unknown[]): Promise<unknown>
}

/** Options of {@link createRpc}. */
export type RpcOptions = {
  /** `http:` or `https:` URLs, the preferred one first. User and password in a URL are sent as Basic authorization. */
  readonly urls: readonly string[]
  /** EIP-155 id the endpoints must be on; each is asked before its first answer is believed. Absent: any chain. */
  readonly chainId?: number | undefined
  /** One HTTP exchange ends after this many milliseconds. Default 10,000. */
  readonly timeoutMs?: number
  /** How long an endpoint is left alone after its first failure, milliseconds; doubles up to 300,000. Default 15,000. */
  readonly setAsideMs?: number
  /** Blocks an endpoint may be behind the best of the others before it is set aside. Default 3. */
  readonly maxLagBlocks?: number
  /** Calls per HTTP request. Default 100, which every big provider takes. */
  readonly maxBatch?: number
}

/** What {@link createRpc} needs from outside. */
export type RpcDeps = { readonly clock: Clock; readonly log: Log; readonly fetch?: typeof fetch }

type Endpoint = {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** Host only: paths and queries carry API keys. */
  readonly name: string
  head: bigint
  failures: number
  asideUntilMs: number
  chainChecked: boolean
  takesBatches: boolean
}

type Attempt =
  | { readonly outcomes: readonly RpcOutcome[]; readonly problem: undefined }
  | { readonly outcomes: readonly RpcOutcome[] | undefined; readonly problem: string }

const maxAnswerBytes = 32 * 1024 * 1024
const maxAsideMs = 300_000
const maxParallel = 8

/**
 * Makes an {@link Rpc}. Nothing is sent before the first call.
 *
 * @throws {BlockHostError} `BH_RPC_URL_INVALID` (exit 78).
 */
export function createRpc(options: RpcOptions, deps: RpcDeps): Rpc {
  const { timeoutMs = 10_000, setAsideMs = 15_000, maxLagBlocks = 3, maxBatch = 100 } = options
  const { clock, log, fetch: send = fetch } = deps
  const endpoints = options.urls.map(parseEndpoint)
  if (endpoints.length === 0) throw badUrl('no RPC endpoint is configured')

  async function batch(calls: readonly RpcCall[]): Promise<readonly RpcOutcome[]> {
    if (calls.length === 0) return []
    const problems: string[] = []
    let secondBest: readonly RpcOutcome[] | undefined
    let wrongChain: BlockHostError | undefined
    for (const endpoint of inOrder(endpoints, clock.monotonic())) {
      const attempt = await ask(endpoint, calls).catch((error: unknown): Attempt => {
        if (error instanceof BlockHostError && error.code === 'BH_WRONG_CHAIN') wrongChain ??= error
        return { outcomes: undefined, problem: problemOf(error) }
      })
      if (attempt.problem === undefined) {
        endpoint.failures = 0
        return attempt.outcomes
      }
      setAside(endpoint, attempt.problem)
      problems.push(`${endpoint.name}: ${attempt.problem}`)
      secondBest ??= attempt.outcomes
    }
    if (secondBest !== undefined) return secondBest
    // An endpoint that is down may be on the right chain, so it takes all of them to be sure.
    if (wrongChain !== undefined && endpoints.length === 1) throw wrongChain
    throw new BlockHostError({
      code: 'BH_RPC_UNAVAILABLE',
      message: `No RPC endpoint answered ${calls[0]!.method}${calls.length > 1 ? ` and ${calls.length - 1} more` : ''}: ${problems.join('; ')}`,
      hint: 'It is tried again by itself; check the network and `rpc_url` if it stays so.',
      retryable: true,
    })
  }

  async function ask(endpoint: Endpoint, calls: readonly RpcCall[]): Promise<Attempt> {
    const checks: RpcCall[] = []
    if (options.chainId !== undefined && !endpoint.chainChecked) checks.push({ method: 'eth_chainId', params: [] })
    if (endpoints.length > 1) checks.push({ method: 'eth_blockNumber', params: [] })
    const all = await exchange(endpoint, [...checks, ...calls])
    for (const [index, check] of checks.entries()) {
      const outcome = all[index]!
      if (!outcome.ok) return { outcomes: undefined, problem: `${check.method} failed: ${outcome.failure.message}` }
      const value = parseQuantity(outcome.result, check.method)
      if (check.method === 'eth_chainId') checkChain(endpoint, value)
      else endpoint.head = value
    }
    const outcomes = all.slice(checks.length)
    const passing = outcomes.find(outcome => !outcome.ok && outcome.failure.kind === 'transient')
    if (passing !== undefined && !passing.ok) return { outcomes, problem: passing.failure.message }
    return { outcomes, problem: lagOf(endpoint) }
  }

  function checkChain(endpoint: Endpoint, chainId: bigint): void {
    if (chainId !== BigInt(options.chainId!))
      throw new BlockHostError({
        code: 'BH_WRONG_CHAIN',
        message: `The RPC endpoint ${endpoint.name} is on chain ${chainId}; the configuration says ${options.chainId}`,
        hint: 'Correct `rpc_url` or `chain_id`.',
        fields: { endpoint: endpoint.name, chainId: Number(chainId), expected: options.chainId },
        exitCode: exitCodes.badConfig,
      })
    endpoint.chainChecked = true
  }

  function lagOf(endpoint: Endpoint): string | undefined {
    const lag = endpoints.reduce((most, other) => Math.max(most, Number(other.head - endpoint.head)), 0)
    return lag > maxLagBlocks ? `it is ${lag} blocks behind` : undefined
  }

  function setAside(endpoint: Endpoint, problem: string): void {
    endpoint.failures++
    // What comes back may be another machine behind the same name.
    endpoint.chainChecked = false
    const pauseMs = Math.min(maxAsideMs, setAsideMs * 2 ** Math.min(endpoint.failures - 1, 10))
    endpoint.asideUntilMs = clock.monotonic() + pauseMs
    const fields = { endpoint: endpoint.name, problem, pauseMs, failures: endpoint.failures }
    if (endpoint.failures === 1) log.warn(fields, 'RPC endpoint set aside')
    else log.debug(fields, 'RPC endpoint failed')
  }

  async function exchange(endpoint: Endpoint, calls: readonly RpcCall[]): Promise<RpcOutcome[]> {
    const outcomes: RpcOutcome[] = []
    for (let at = 0; at < calls.length; at += maxBatch) {
      const chunk = calls.slice(at, at + maxBatch)
      if (endpoint.takesBatches && chunk.length > 1) {
        const answered = await exchangeBatch(endpoint, chunk)
        if (answered !== undefined) {
          outcomes.push(...answered)
          continue
        }
        endpoint.takesBatches = false
        log.info({ endpoint: endpoint.name }, 'RPC endpoint takes no batches; asking one call at a time')
      }
      outcomes.push(...(await exchangeSingly(endpoint, chunk)))
    }
    return outcomes
  }

  /** Returns `undefined` when the endpoint does not take batches. */
  async function exchangeBatch(endpoint: Endpoint, calls: readonly RpcCall[]): Promise<RpcOutcome[] | undefined> {
    const answer = await post(endpoint, calls.map(envelope))
    if (Array.isArray(answer)) return sortAnswers(answer, calls.length)
    const error = (answer as { error?: unknown } | null)?.error
    if (refusesBatches(error)) return undefined
    throw new Error(
      error === undefined
        ? 'it answered a batch with no list'
        : `it refused the batch: ${classifyRpcError(error).message}`,
    )
  }

  async function exchangeSingly(endpoint: Endpoint, calls: readonly RpcCall[]): Promise<RpcOutcome[]> {
    const outcomes: RpcOutcome[] = []
    for (let at = 0; at < calls.length; at += maxParallel) {
      const answers = calls.slice(at, at + maxParallel).map(call => post(endpoint, envelope(call, 0)))
      outcomes.push(...(await Promise.all(answers)).map(outcomeOf))
    }
    return outcomes
  }

  async function post(endpoint: Endpoint, body: unknown): Promise<unknown> {
    const request = {
      method: 'POST',
      headers: endpoint.headers,
      body: JSON.stringify(body),
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    } as const
    // A kept-alive connection may have been closed meanwhile by the other side; that says nothing about the endpoint.
    const response = await send(endpoint.url, request).catch(error => {
      if (isClosedConnection(error)) return send(endpoint.url, request)
      throw error
    })
    return readAnswer(response)
  }

  return {
    batch,
    call: async (method, params) => resultOf((await batch([{ method, params }]))[0]!, method),
  }
}

/**
 * Returns the result of `outcome`.
 *
 * @param label - What was called, for the message.
 * @throws {BlockHostError} `BH_CALL_REVERTED`, `BH_RPC_REFUSED` (neither retryable), `BH_RPC_UNAVAILABLE` (retryable).
 */
export function resultOf(outcome: RpcOutcome, label: string): unknown {
  if (outcome.ok) return outcome.result
  const { kind, code, message, data } = outcome.failure
  if (kind === 'transient')
    throw new BlockHostError({
      code: 'BH_RPC_UNAVAILABLE',
      message: `The RPC endpoint could not answer ${label}: ${message}`,
      fields: { code },
      retryable: true,
    })
  throw new BlockHostError({
    code: kind === 'reverted' ? 'BH_CALL_REVERTED' : 'BH_RPC_REFUSED',
    message: kind === 'reverted' ? `${label} reverted: ${message}` : `The RPC endpoint refused ${label}: ${message}`,
    fields: { code, ...(data === undefined ? {} : { data }) },
  })
}

/** Asks which chain the endpoint is on (EIP-155 id). Throws as {@link Rpc.call} does. */
export async function readChainId(rpc: Rpc): Promise<number> {
  return Number(parseQuantity(await rpc.call('eth_chainId', []), 'eth_chainId'))
}

function parseEndpoint(text: string): Endpoint {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw badUrl('an RPC endpoint is not an http: or https: URL')
  const headers: Record<string, string> = { 'content-type': 'application/json', accept: 'application/json' }
  if (url.username !== '') {
    const pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`
    headers.authorization = `Basic ${Buffer.from(pair).toString('base64')}`
    url.username = ''
    url.password = ''
  }
  const start = { head: 0n, failures: 0, asideUntilMs: Number.NEGATIVE_INFINITY, chainChecked: false }
  return { url: url.href, headers, name: url.host, takesBatches: true, ...start }
}

/** Those in service as configured, then those set aside, the one due first in front: no call is refused for being early. */
function inOrder(endpoints: readonly Endpoint[], nowMs: number): Endpoint[] {
  const aside = (endpoint: Endpoint) => Math.max(0, endpoint.asideUntilMs - nowMs)
  return endpoints.toSorted((a, b) => aside(a) - aside(b))
}

function envelope(call: RpcCall, id: number): unknown {
  return { jsonrpc: '2.0', id, method: call.method, params: call.params }
}

function sortAnswers(answers: readonly unknown[], count: number): RpcOutcome[] {
  const byId = new Map(answers.map(answer => [(answer as { id?: unknown } | null)?.id, answer]))
  return Array.from({ length: count }, (_, id) => {
    if (!byId.has(id)) throw new Error('it left a call of the batch unanswered')
    return outcomeOf(byId.get(id))
  })
}

function outcomeOf(answer: unknown): RpcOutcome {
  if (typeof answer !== 'object' || answer === null) throw new Error('it did not answer with JSON-RPC')
  if ('error' in answer && answer.error !== null && answer.error !== undefined)
    return { ok: false, failure: classifyRpcError(answer.error) }
  if (!('result' in answer)) throw new Error('it answered with neither result nor error')
  return { ok: true, result: answer.result }
}

async function readAnswer(response: Response): Promise<unknown> {
  const text = await readText(response)
  try {
    const answer: unknown = JSON.parse(text)
    // Some answer 4xx and 5xx with a JSON-RPC error inside, which says more.
    if (response.ok || Array.isArray(answer) || (answer as { error?: unknown } | null)?.error !== undefined)
      return answer
  } catch (cause) {
    if (response.ok) throw new Error('it did not answer with JSON', { cause })
  }
  throw new Error(`HTTP status ${response.status}`)
}

async function readText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > maxAnswerBytes) throw new Error(`its answer is longer than ${maxAnswerBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function problemOf(error: unknown): string {
  if (error instanceof Error && error.name === 'TimeoutError') return 'it did not answer in time'
  // fetch says "fetch failed" and hides the reason in the cause.
  const cause = error instanceof TypeError ? error.cause : undefined
  return messageOf(cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause) : error)
}

function isClosedConnection(error: unknown): boolean {
  const code = ((error as Error | undefined)?.cause as { code?: unknown } | undefined)?.code
  return code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE'
}

function badUrl(problem: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_RPC_URL_INVALID',
    message: `The chain can't be reached: ${problem}`,
    hint: 'Set `rpc_url` to an http: or https: URL.',
    exitCode: exitCodes.badConfig,
  })
}
