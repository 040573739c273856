import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { createEtherscanBackend, heldAfter } from './etherscan.ts'

const contract = '0x00000000000000000000000000000000000000aa'
const wallet = '0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a'
const other = '0x00000000000000000000000000000000000000bb'
const word = (value: number) => `0x${value.toString(16).padStart(64, '0')}`
const transfer = (tokenID: string, from: string, to: string) => ({ tokenID, from, to })

describe('heldTokens', () => {
  it('asks as the explorers want it, replays the transfers newest first, and gives decimal ids', async () => {
    const list = [
      transfer('7', wallet, other),
      transfer('8', other, wallet.toUpperCase().replace('0X', '0x')),
      transfer('7', other, wallet),
    ]
    const { backend, asked } = setUp({
      tokennfttx: { status: '1', message: 'OK', result: list },
      eth_call: { result: word(0) },
    })
    assert.deepEqual(await backend.heldTokens(contract, wallet), ['8'])
    assert.deepEqual(Object.fromEntries(asked[0]!.searchParams), {
      module: 'account',
      action: 'tokennfttx',
      contractaddress: contract,
      address: wallet,
      sort: 'desc',
      chainid: '5',
      apikey: 'KEY',
    })
    assert.equal(asked[0]!.origin + asked[0]!.pathname, 'https://explorer.example/v2/api')
    assert.equal(asked.length, 2)
  })

  it('leaves out tokens whose access is over', async () => {
    const list = [transfer('8', other, wallet)]
    const { backend } = setUp({ tokennfttx: { status: '1', result: list }, eth_call: { result: word(1) } })
    assert.deepEqual(await backend.heldTokens(contract, wallet), [])
  })

  it('“No transactions found” is no token, not a failure', async () => {
    const { backend } = setUp({ tokennfttx: { status: '0', message: 'No transactions found', result: [] } })
    assert.deepEqual(await backend.heldTokens(contract, wallet), [])
  })

  it('refuses lists that are none', async () => {
    for (const answer of [
      { status: '0', message: 'NOTOK', result: 'Invalid API Key' },
      { status: '1', result: [{ tokenID: 'x', from: other, to: wallet }] },
      { status: '1', result: [null] },
    ])
      await assert.rejects(
        setUp({ tokennfttx: answer }).backend.heldTokens(contract, wallet),
        code('BH_RPC_ANSWER_INVALID'),
      )
  })
})

describe('call', () => {
  const call = { to: contract, data: '0x6352211e' } as const

  it('passes calls on side by side and reads results and reverts', async () => {
    const { backend, asked } = setUp({ eth_call: { jsonrpc: '2.0', id: 1, result: word(5) } })
    assert.deepEqual(
      await backend.call([call, call]),
      [1, 2].map(() => ({ kind: 'returned', data: word(5) })),
    )
    assert.equal(asked[0]!.searchParams.get('module'), 'proxy')
    assert.equal(asked[0]!.searchParams.get('data'), call.data)
    const reverted = setUp({ eth_call: { error: { code: 3, message: 'execution reverted', data: '0x12345678' } } })
    assert.deepEqual(await reverted.backend.call([call]), [{ kind: 'reverted', empty: false }])
  })

  it('an outage, a limit and nonsense may pass; the key is never in what is said', async () => {
    for (const world of [
      { status: 429 },
      { status: 500 },
      { text: '<html>' },
      { text: '5' },
      { eth_call: { status: '0', message: 'NOTOK', result: 'Max rate limit reached' } },
      { broken: true },
    ])
      await assert.rejects(
        setUp(world).backend.call([call]),
        error =>
          code('BH_RPC_UNAVAILABLE')(error) && !String(error).includes('KEY') && (error as BlockHostError).retryable,
      )
  })
})

describe('heldAfter', () => {
  it('a token that left and came back is held', () => {
    const moves = [
      [wallet, other],
      [other, wallet],
      [wallet, other],
    ] as const
    const transfers = moves.map(([to, from]) => ({ tokenId: 1n, from, to }) as const)
    assert.deepEqual(heldAfter(transfers, wallet), [1n])
    assert.deepEqual(heldAfter(transfers.slice(1), wallet), [])
  })
})

type World = { tokennfttx?: object; eth_call?: object; status?: number; text?: string; broken?: boolean }

function setUp(world: World) {
  const asked: URL[] = []
  const send = async (url: URL) => {
    asked.push(url)
    if (world.broken) throw new TypeError('fetch failed')
    const answer = world[url.searchParams.get('action') as 'tokennfttx' | 'eth_call']
    return new Response(world.text ?? JSON.stringify(answer ?? {}), { status: world.status ?? 200 })
  }
  const options = { apiUrl: 'https://explorer.example/v2/', apiKey: 'KEY', chainId: 5, timeoutMs: 1000 }
  return { backend: createEtherscanBackend(options, send as typeof fetch), asked }
}

function code(expected: string): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === expected
}
