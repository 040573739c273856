import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import type { Rpc, RpcCall, RpcOutcome } from '@blockhost/chain/rpc.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { encodeResult, fromAbi, getSelector } from 'ox/AbiFunction'
import { probeContracts, readChainView } from './requests-contract.ts'

const contract: Address = '0x00000000000000000000000000000000000000c0'
const nftContract: Address = '0x00000000000000000000000000000000000000f7'
const wallet: Address = '0x00000000000000000000000000000000000000a1'
const reverted: RpcOutcome = { ok: false, failure: { kind: 'reverted', code: 3, message: 'execution reverted' } }
const word = (value: bigint): RpcOutcome => ({ ok: true, result: `0x${value.toString(16).padStart(64, '0')}` })
const ok = (result: unknown): RpcOutcome => ({ ok: true, result })

/** Answers by function name; whatever is not named reverts, as a contract without the function does. */
function fakeRpc(answers: Readonly<Record<string, RpcOutcome>>): Rpc & { readonly trips: RpcCall[][] } {
  const trips: RpcCall[][] = []
  const names = new Map(
    brokerRequestsAbi.flatMap(item => (item.type === 'function' ? [[getSelector(item), item.name] as const] : [])),
  )
  names.set('0x6e77fd2f', 'capacityStatus' as never)
  const answer = ({ method, params }: RpcCall): RpcOutcome => {
    if (method !== 'eth_call') return answers[method] ?? reverted
    return answers[names.get((params[0] as { data: Hex }).data.slice(0, 10) as Hex) ?? ''] ?? reverted
  }
  const batch = async (calls: readonly RpcCall[]) => {
    trips.push([...calls])
    return calls.map(answer)
  }
  return {
    trips,
    batch,
    call: async (method, params) => {
      const [outcome] = await batch([{ method, params }])
      assert.ok(outcome?.ok)
      return outcome.result
    },
  }
}

function storedRequest(id: bigint): RpcOutcome {
  const request = {
    id,
    requester: wallet,
    nftContract,
    encryptedPayload: '0x0401',
    status: 1,
    responsePayload: '0x02',
    submittedAt: 1000n,
    respondedAt: 0n,
  } as const
  return ok(encodeResult(fromAbi(brokerRequestsAbi, 'getRequest'), request))
}

describe('probeContracts', () => {
  const first = { eth_getCode: ok('0x60'), owner: word(0xd0n), requestExpirationTime: word(86_400n) }
  const second = {
    ...first,
    getAvailableCapacity: word(2n ** 256n - 1n),
    _activeCount: word(2n),
    _pendingCount: word(1n),
  }
  const probe = async (answers: Readonly<Record<string, RpcOutcome>>) =>
    (await probeContracts(fakeRpc(answers), [contract]))[0]!

  it('tells the generations by the functions that answer', async () => {
    const generations = await Promise.all([first, second, { ...second, requestFee: word(7n) }].map(probe))
    assert.deepEqual(
      generations.map(
        found => found.ok && [found.facts.generation, found.facts.requestFeeWei, found.facts.liveRequests],
      ),
      [
        [1, 0n, undefined],
        [2, 0n, 3n],
        [3, 7n, 3n],
      ],
    )
    assert.ok(generations[0]?.ok && generations[0].facts.owner === '0x00000000000000000000000000000000000000d0')
  })

  it('says what is wrong with the others', async () => {
    const problems = await Promise.all(
      [
        { eth_getCode: ok('0x') },
        { eth_getCode: ok('0x60') },
        { eth_getCode: ok('0x60'), owner: word(1n), capacityStatus: word(0n) },
      ].map(probe),
    )
    assert.deepEqual(
      problems.map(found => (found.ok ? '' : found.problem.slice(0, 20))),
      ['there is no contract', 'it does not answer l', 'it is of the generat'],
    )
  })

  it('takes all contracts in one round trip, and no passing problem for an answer', async () => {
    const rpc = fakeRpc(second)
    assert.equal((await probeContracts(rpc, [contract, contract, contract])).length, 3)
    assert.equal(rpc.trips.length, 1)
    const busy: RpcOutcome = { ok: false, failure: { kind: 'transient', code: -32005, message: 'busy' } }
    await assert.rejects(probe({ ...second, requestFee: busy }), retryable)
  })
})

describe('readChainView', () => {
  const base = {
    eth_getBlockByNumber: ok({ number: '0x10', timestamp: '0x64' }),
    eth_getTransactionCount: ok('0x5'),
    nftContractToRequestId: word(7n),
    getRequest: storedRequest(7n),
  }
  const view = (rpc: Rpc, guess?: bigint) =>
    readChainView(rpc, { requestsContract: contract, nftContract, wallet, guess })

  it('reads everything at one block', async () => {
    const rpc = fakeRpc(base)
    assert.deepEqual(await view(rpc), {
      blockNumber: 16n,
      timestamp: 100,
      minedNonce: 5,
      mapped: { id: 7n, requester: wallet, payload: '0x0401', status: 'approved', response: '0x02', submittedAt: 1000 },
    })
    for (const { params } of rpc.trips.slice(1).flat()) assert.equal(params[1], '0x10')
    assert.equal(rpc.trips.length, 3)
  })

  it('saves a round trip when it guesses the id', async () => {
    const rpc = fakeRpc(base)
    assert.equal((await view(rpc, 7n)).mapped?.id, 7n)
    assert.equal(rpc.trips.length, 2)
    assert.equal((await view(fakeRpc({ ...base, nftContractToRequestId: word(0n) }), 7n)).mapped, undefined)
  })

  it('takes contradictions for something that passes', async () => {
    for (const getRequest of [reverted, storedRequest(8n), ok('0x'), ok(`0x${'11'.repeat(320)}`)])
      await assert.rejects(view(fakeRpc({ ...base, getRequest })), retryable)
  })
})

function retryable(error: unknown): boolean {
  return error instanceof BlockHostError && error.retryable
}
