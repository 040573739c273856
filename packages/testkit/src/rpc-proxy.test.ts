import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { type RpcProxy, startRpcProxy } from './rpc-proxy.ts'

/** An endpoint that tells each call's method and parameters, and counts requests. */
let seen = 0
const target = createServer(async (request, response) => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  seen++
  const body = JSON.parse(Buffer.concat(chunks).toString())
  const one = ({ id, method, params }: { id: number; method: string; params: unknown[] }) => {
    const result = method === 'eth_getTransactionReceipt' ? { blockNumber: params[0] } : [method, ...params]
    return { jsonrpc: '2.0', id, result }
  }
  response.end(JSON.stringify(Array.isArray(body) ? body.map(one) : one(body)))
})
let proxy: RpcProxy

before(async () => {
  await new Promise<void>(resolve => target.listen(0, '127.0.0.1', resolve))
  proxy = await startRpcProxy(`http://127.0.0.1:${(target.address() as AddressInfo).port}`)
})
after(async () => {
  await proxy[Symbol.asyncDispose]()
  target.closeAllConnections()
  target.close()
})

const call = (method: string, ...params: unknown[]) => ({ jsonrpc: '2.0', id: 1, method, params })
const post = (body: unknown) => fetch(proxy.url, { method: 'POST', body: JSON.stringify(body) })
type Reply = { id?: unknown; result?: unknown; error?: { code: number; message: string } }
const ask = async (body: unknown) => (await post(body)).json() as Promise<Reply>
const askAll = async (body: readonly unknown[]) => (await post(body)).json() as Promise<Reply[]>

describe('startRpcProxy', () => {
  it('passes calls and batches on, and counts them', async () => {
    proxy.reset()
    assert.deepEqual(await ask(call('a', 1)), { jsonrpc: '2.0', id: 1, result: ['a', 1] })
    await ask([call('a'), call('b')])
    assert.equal(proxy.roundTrips(), 2)
    assert.deepEqual(proxy.calls(), { a: 2, b: 1 })
  })

  it('answers with a status, an error, or no batches, without passing on', async () => {
    const before = seen
    proxy.setFault(() => ({ kind: 'status', status: 429 }))
    assert.equal((await post(call('a'))).status, 429)
    proxy.setFault(() => ({ kind: 'error', code: -32000, message: 'header not found' }))
    const [answer] = await askAll([call('a')])
    assert.deepEqual(answer?.error, { code: -32000, message: 'header not found' })
    proxy.setFault(() => ({ kind: 'no-batch' }))
    assert.equal((await ask([call('a')])).error?.code, -32600)
    assert.equal(seen, before)
    assert.deepEqual((await ask(call('a'))).result, ['a'])
    proxy.setFault()
  })

  it('breaks the connection before or after the request had effect', async () => {
    for (const [kind, effect] of [
      ['drop', 0],
      ['drop-after', 1],
    ] as const) {
      const before = seen
      proxy.setFault(methods => (methods.includes('a') ? { kind } : undefined))
      await assert.rejects(post(call('a')))
      assert.equal(seen - before, effect)
    }
    proxy.setFault()
  })

  it('shows the chain as it was at a block', async () => {
    proxy.pinBlock(16n)
    const answers = await askAll([
      { ...call('eth_call', {}, 'latest'), id: 1 },
      { ...call('eth_blockNumber'), id: 2 },
      { ...call('eth_getTransactionReceipt', '0x10'), id: 3 },
      { ...call('eth_getTransactionReceipt', '0x11'), id: 4 },
    ])
    assert.deepEqual(
      answers.map(({ result }) => result),
      [['eth_call', {}, '0x10'], '0x10', { blockNumber: '0x10' }, null],
    )
    proxy.pinBlock()
  })
})
