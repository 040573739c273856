/** A JSON-RPC endpoint in front of another: counts what passes, and fails on request. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** What goes wrong with one HTTP request. */
export type RpcFault =
  /** The HTTP answer has this status and nothing of use; the endpoint behind never hears of it. */
  | { readonly kind: 'status'; readonly status: number }
  /** Every call of the request is answered with this error. */
  | { readonly kind: 'error'; readonly code: number; readonly message: string }
  /** The connection breaks before the request is passed on, or after: it has effect, and nobody hears of it. */
  | { readonly kind: 'drop' | 'drop-after' }
  /** The answer takes so much longer. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** Batches are not understood. */
  | { readonly kind: 'no-batch' }

/** Decides what goes wrong with a request; called once for each, with its methods in order. */
export type RpcFaultRule = (methods: readonly string[]) => RpcFault | undefined

/** A running proxy. Disposing of it closes every connection. */
export type RpcProxy = AsyncDisposable & {
  readonly url: string
  /** HTTP requests so far. */
  readonly roundTrips: () => number
  /** Calls of each method so far. */
  readonly calls: () => Readonly<Record<string, number>>
  /** Forgets the counts. */
  reset(): void
  /** Replaces the rule; absent: nothing goes wrong. */
  setFault(rule?: RpcFaultRule): void
  /**
   * Answers as if block `number` were the newest: `latest` means that block, and receipts of later ones are not known. Absent: the
   * truth. Transactions still pass.
   */
  pinBlock(number?: bigint): void
}

type Call = { id?: unknown; method: string; params?: unknown[] }

/** Starts a proxy on a free port of 127.0.0.1 in front of `target`, an `http:` URL. */
export async function startRpcProxy(target: string): Promise<RpcProxy> {
  let roundTrips = 0
  let counts: Record<string, number> = {}
  let rule: RpcFaultRule | undefined
  let pinned: bigint | undefined

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body: Call | Call[] = JSON.parse(await readBody(request))
    const calls = Array.isArray(body) ? body : [body]
    roundTrips++
    for (const { method } of calls) counts[method] = (counts[method] ?? 0) + 1
    const fault = rule?.(calls.map(({ method }) => method))
    if (fault !== undefined && (await fail(fault, body, request, response))) return
    const reply = await pass(body)
    if (fault?.kind === 'drop-after') return void request.socket.destroy()
    response.setHeader('content-type', 'application/json').end(reply)
  }

  /** Returns whether that was all. */
  async function fail(
    fault: RpcFault,
    body: Call | Call[],
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<boolean> {
    if (fault.kind === 'delay') return sleep(fault.ms, false)
    if (fault.kind === 'drop-after') return false
    if (fault.kind === 'drop') request.socket.destroy()
    else if (fault.kind === 'status') response.writeHead(fault.status).end('no')
    else if (fault.kind === 'error') response.end(JSON.stringify(errorFor(body, fault)))
    else if (Array.isArray(body)) response.end(JSON.stringify(errorFor({ method: '' }, noBatch)))
    else return false
    return true
  }

  async function pass(body: Call | Call[]): Promise<string> {
    const sent = pinned === undefined ? body : pinRequest(body, pinned)
    const headers = { 'content-type': 'application/json' }
    const response = await fetch(target, { method: 'POST', headers, body: JSON.stringify(sent) })
    const reply = await response.text()
    return pinned === undefined ? reply : pinReply(body, reply, pinned)
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(error => {
      if (!response.headersSent) response.writeHead(502)
      response.end(String(error))
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    roundTrips: () => roundTrips,
    calls: () => ({ ...counts }),
    reset() {
      roundTrips = 0
      counts = {}
    },
    setFault(next) {
      rule = next
    },
    pinBlock(number) {
      pinned = number
    },
    [Symbol.asyncDispose]: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const noBatch = { code: -32600, message: 'batch requests are not supported' }

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

function errorFor(body: Call | Call[], { code, message }: { code: number; message: string }): unknown {
  const one = (call: Call) => ({ jsonrpc: '2.0', id: call.id ?? null, error: { code, message } })
  return Array.isArray(body) ? body.map(one) : one(body)
}

function pinRequest(body: Call | Call[], number: bigint): Call | Call[] {
  const tag = `0x${number.toString(16)}`
  const one = (call: Call) => ({
    ...call,
    params: (call.params ?? []).map(value => (value === 'latest' ? tag : value)),
  })
  return Array.isArray(body) ? body.map(one) : one(body)
}

type Reply = { id?: unknown; result?: unknown }

function pinReply(body: Call | Call[], reply: string, number: bigint): string {
  const methods = new Map((Array.isArray(body) ? body : [body]).map(call => [call.id, call.method]))
  const one = (answer: Reply): Reply => {
    const method = methods.get(answer.id)
    if (method === 'eth_blockNumber') return { ...answer, result: `0x${number.toString(16)}` }
    const block = (answer.result as { blockNumber?: string } | null | undefined)?.blockNumber
    const isLater = method === 'eth_getTransactionReceipt' && block !== undefined && BigInt(block) > number
    return isLater ? { ...answer, result: null } : answer
  }
  const parsed: Reply | Reply[] = JSON.parse(reply)
  return JSON.stringify(Array.isArray(parsed) ? parsed.map(one) : one(parsed))
}
