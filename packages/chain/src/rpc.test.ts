import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { createRpc, type RpcOptions, readChainId } from './rpc.ts'

type Call = { id: number; method: string; params: unknown[] }
type Answer = { result: unknown } | { error: { code: number; message: string; data?: unknown } }
/** What one endpoint does with an HTTP request; throwing is the network failing. */
type Endpoint = (body: Call | Call[], headers: Record<string, string>) => unknown

/** Endpoints by host name, the requests each got, and a clock that stands still until moved. */
function setup(endpoints: Record<string, Endpoint>, options: Partial<RpcOptions> = {}) {
  const requests: { host: string; methods: string[] }[] = []
  const fakeFetch = async (url: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const { host } = new URL(String(url))
    const body = JSON.parse(String(init?.body)) as Call | Call[]
    requests.push({ host, methods: [body].flat().map(call => call.method) })
    const answer = endpoints[host]!(body, init?.headers as Record<string, string>)
    return answer instanceof Response ? answer : Response.json(answer)
  }
  let nowMs = 0
  const clock: Clock = { now: () => nowMs, monotonic: () => nowMs, sleep: async () => undefined }
  const urls = Object.keys(endpoints).map(host => `http://${host}/secret-key`)
  const rpc = createRpc({ urls, ...options }, { clock, log: silentLog, fetch: fakeFetch as typeof fetch })
  return {
    rpc,
    requests,
    hosts: () => requests.map(({ host }) => host),
    advance: (ms: number) => {
      nowMs += ms
    },
  }
}

/** An endpoint that answers each call by a table, in reverse order as JSON-RPC allows. */
function answering(table: (call: Call) => Answer): Endpoint {
  const one = (call: Call) => ({ jsonrpc: '2.0', id: call.id, ...table(call) })
  return body => (Array.isArray(body) ? body.map(one).reverse() : one(body))
}

const chain = (blockNumber: number, chainId = 1) =>
  answering(({ method, params }) => {
    if (method === 'eth_blockNumber') return { result: `0x${blockNumber.toString(16)}` }
    if (method === 'eth_chainId') return { result: `0x${chainId.toString(16)}` }
    return { result: [method, ...params] }
  })
const refusing = (code: number, message: string) => answering(() => ({ error: { code, message } }))
const broken: Endpoint = () => {
  throw new TypeError('fetch failed', { cause: Object.assign(new Error('no'), { code: 'ECONNREFUSED' }) })
}
const two = [
  { method: 'a', params: [1] },
  { method: 'b', params: [] },
]

describe('batch', () => {
  it('makes one HTTP request and keeps the order of the calls', async () => {
    const { rpc, requests } = setup({ one: chain(1) })
    const outcomes = await rpc.batch(two)
    assert.deepEqual(outcomes, [
      { ok: true, result: ['a', 1] },
      { ok: true, result: ['b'] },
    ])
    assert.equal(requests.length, 1)
  })

  it('sends nothing for no calls', async () => {
    const { rpc, requests } = setup({ one: chain(1) })
    assert.deepEqual(await rpc.batch([]), [])
    assert.equal(requests.length, 0)
  })

  it('keeps the outcomes of the calls apart', async () => {
    const { rpc } = setup({
      one: answering(({ method }) =>
        method === 'a' ? { result: 1 } : { error: { code: 3, message: 'execution reverted', data: '0x1234' } },
      ),
    })
    const [a, b] = await rpc.batch(two)
    assert.deepEqual(a, { ok: true, result: 1 })
    assert.deepEqual(b, {
      ok: false,
      failure: { kind: 'reverted', code: 3, message: 'execution reverted', data: '0x1234' },
    })
  })

  it('splits more calls than maxBatch', async () => {
    const { rpc, requests } = setup({ one: chain(1) }, { maxBatch: 2 })
    const outcomes = await rpc.batch(Array.from({ length: 5 }, (_, i) => ({ method: `m${i}`, params: [] })))
    assert.deepEqual(
      outcomes.map(outcome => outcome.ok && outcome.result),
      [['m0'], ['m1'], ['m2'], ['m3'], ['m4']],
    )
    assert.deepEqual(
      requests.map(({ methods }) => methods.length),
      [2, 2, 1],
    )
  })

  it('asks one call at a time where batches are refused, and remembers that', async () => {
    const single = chain(1)
    const { rpc, requests } = setup({
      one: (body, headers) =>
        Array.isArray(body)
          ? Response.json({ error: { code: -32600, message: 'Batch requests are not supported' } }, { status: 400 })
          : single(body, headers),
    })
    assert.deepEqual(await rpc.batch(two), [
      { ok: true, result: ['a', 1] },
      { ok: true, result: ['b'] },
    ])
    await rpc.batch(two)
    assert.deepEqual(
      requests.map(({ methods }) => methods.length),
      [2, 1, 1, 1, 1],
    )
  })

  it('tries again when a kept-alive connection was closed meanwhile', async () => {
    let count = 0
    const { rpc } = setup({
      one: (body, headers) => {
        if (count++ === 0) throw new TypeError('fetch failed', { cause: { code: 'UND_ERR_SOCKET' } })
        return chain(1)(body, headers)
      },
    })
    assert.deepEqual(await rpc.call('a', []), ['a'])
  })

  const nonsense: [string, unknown][] = [
    ['a list that leaves a call out', [{ id: 0, result: 1 }]],
    [
      'a list with strange ids',
      [
        { id: 'x', result: 1 },
        { id: 1, result: 1 },
      ],
    ],
    ['an object', {}],
    ['neither result nor error', [{ id: 0 }, { id: 1, result: 1 }]],
    ['no JSON', new Response('<html>')],
    ['a server error', new Response('oops', { status: 502 })],
    ['too much', new Response('"'.padEnd(33 * 1024 * 1024, 'x'))],
  ]
  for (const [what, answer] of nonsense) {
    it(`fails retryably on ${what}`, async () => {
      const { rpc } = setup({ one: () => answer })
      await assert.rejects(rpc.batch(two), retryable('BH_RPC_UNAVAILABLE'))
    })
  }

  it('names hosts and reasons in its error, never the path that holds the key', async () => {
    const { rpc } = setup({ one: broken, two: () => new Response('', { status: 429 }) })
    await assert.rejects(rpc.batch(two), (error: unknown) => {
      assert.ok(error instanceof BlockHostError)
      assert.match(error.message, /one: ECONNREFUSED.*two: HTTP status 429/)
      assert.ok(!error.message.includes('secret'))
      return true
    })
  })

  it('sends user and password of a URL as Basic authorization', async () => {
    let seen: Record<string, string> = {}
    const { rpc } = setup(
      {
        one: (body, headers) => {
          seen = headers
          return chain(1)(body, headers)
        },
      },
      { urls: ['http://user:p%40ss@one/'] },
    )
    await rpc.call('a', [])
    assert.equal(seen.authorization, `Basic ${Buffer.from('user:p@ss').toString('base64')}`)
  })
})

describe('several endpoints', () => {
  it('prefers the first while it works', async () => {
    const { rpc, hosts } = setup({ one: chain(5), two: chain(5) })
    await rpc.call('a', [])
    await rpc.call('a', [])
    assert.deepEqual(hosts(), ['one', 'one'])
  })

  for (const [what, endpoint] of [
    ['is down', broken],
    ['limits the rate', refusing(-32005, 'daily request count exceeded, request rate limited')],
    ['has lost the newest block', refusing(-32000, 'header not found')],
    ['answers with HTTP 503', () => new Response('', { status: 503 })],
  ] as const) {
    it(`asks the next one when one ${what}, and leaves the first alone for a while`, async () => {
      const { rpc, hosts, advance } = setup({ one: endpoint, two: chain(5) }, { setAsideMs: 1000 })
      assert.deepEqual(await rpc.call('a', []), ['a'])
      await rpc.call('a', [])
      assert.deepEqual(hosts(), ['one', 'two', 'two'])
      advance(1000)
      await rpc.call('a', [])
      assert.deepEqual(hosts(), ['one', 'two', 'two', 'one', 'two'])
      advance(1000)
      await rpc.call('a', [])
      assert.deepEqual(hosts().slice(5), ['two'], 'twice as long the second time')
    })
  }

  it('does not blame an endpoint for a revert', async () => {
    const { rpc, hosts } = setup({
      one: answering(({ method }) =>
        method === 'eth_blockNumber' ? { result: '0x5' } : { error: { code: -32000, message: 'execution reverted' } },
      ),
      two: chain(5),
    })
    await assert.rejects(rpc.call('a', []), notRetryable('BH_CALL_REVERTED'))
    assert.deepEqual(hosts(), ['one'])
  })

  it('sets aside one that is more than maxLagBlocks behind, but takes its word when there is no other', async () => {
    const heads = { one: 100, two: 100 }
    const at =
      (host: 'one' | 'two'): Endpoint =>
      (body, headers) =>
        chain(heads[host])(body, headers)
    let isTwoDown = false
    const { rpc, hosts, advance } = setup(
      { one: at('one'), two: (body, headers) => (isTwoDown ? broken : at('two'))(body, headers) },
      { setAsideMs: 1000 },
    )
    await rpc.call('a', [])
    Object.assign(heads, { one: 100, two: 104 })
    advance(1)
    // Nothing has shown yet that the first is behind; the second is only asked when it fails.
    await rpc.call('a', [])
    assert.deepEqual(hosts(), ['one', 'one'])
    heads.one = 96
    await rpc.call('a', [])
    assert.deepEqual(hosts().at(-1), 'one', 'its own head is all there is to compare with')
    isTwoDown = true
    assert.deepEqual(await rpc.call('a', []), ['a'])
  })

  it('compares with the heads the others last showed', async () => {
    let isOneDown = true
    const one: Endpoint = (body, headers) => (isOneDown ? broken : chain(96))(body, headers)
    const { rpc, hosts, advance } = setup({ one, two: chain(100) }, { setAsideMs: 1000 })
    await rpc.call('a', [])
    isOneDown = false
    advance(1000)
    await rpc.call('a', [])
    assert.deepEqual(hosts(), ['one', 'two', 'one', 'two'])
  })

  it('tells transient outcomes when no endpoint did better', async () => {
    const { rpc } = setup({ one: refusing(-32005, 'limit'), two: broken })
    await assert.rejects(rpc.call('a', []), retryable('BH_RPC_UNAVAILABLE'))
  })
})

describe('the chain id', () => {
  it('is asked once, in the round trip of the first call', async () => {
    const { rpc, requests } = setup({ one: chain(1, 5) }, { chainId: 5 })
    await rpc.call('a', [])
    await rpc.call('a', [])
    assert.deepEqual(
      requests.map(({ methods }) => methods),
      [['eth_chainId', 'a'], ['a']],
    )
  })

  it('of another chain ends the program with 78', async () => {
    const { rpc } = setup({ one: chain(1, 6) }, { chainId: 5 })
    await assert.rejects(rpc.call('a', []), (error: unknown) => {
      assert.ok(error instanceof BlockHostError)
      assert.deepEqual([error.code, error.exitCode, error.retryable], ['BH_WRONG_CHAIN', 78, false])
      return true
    })
  })

  it('takes one of several endpoints out, not the program', async () => {
    const { rpc } = setup({ one: chain(1, 6), two: chain(1, 5) }, { chainId: 5 })
    assert.deepEqual(await rpc.call('a', []), ['a'])
  })

  it('is asked again after a failure', async () => {
    let chainId = 5
    let isDown = false
    const { rpc } = setup(
      { one: (body, headers) => (isDown ? broken : chain(1, chainId))(body, headers) },
      { chainId: 5 },
    )
    await rpc.call('a', [])
    isDown = true
    await assert.rejects(rpc.call('a', []))
    isDown = false
    chainId = 6
    await assert.rejects(rpc.call('a', []), notRetryable('BH_WRONG_CHAIN'))
  })

  it('can be read', async () => {
    assert.equal(await readChainId(setup({ one: chain(1, 11155111) }).rpc), 11155111)
  })
})

describe('createRpc', () => {
  it('refuses what is no http: or https: URL', () => {
    for (const urls of [[], ['ws://one'], ['one'], ['']])
      assert.throws(
        () => createRpc({ urls }, { clock: {} as Clock, log: silentLog }),
        (error: unknown) =>
          error instanceof BlockHostError && error.code === 'BH_RPC_URL_INVALID' && error.exitCode === 78,
      )
  })
})

function retryable(code: string): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === code && error.retryable
}

function notRetryable(code: string): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === code && !error.retryable
}
