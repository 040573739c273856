/** The simulator's contract and lens against the real ones on anvil: the same calls, the same outcomes, the same views. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createChainReader } from '@blockhost/chain/chain-reader.ts'
import { decodeContractError } from '@blockhost/chain/contract-error.ts'
import { type Address, bytesToHex, type Hex, toQuantity } from '@blockhost/chain/hex.ts'
import type { Snapshot, SnapshotQuery } from '@blockhost/chain/snapshot.ts'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { brokerRequestsAbi, brokerRequestsBytecode } from '@blockhost/contracts/abi/broker-requests.ts'
import { type Anvil, startAnvil } from '@blockhost/testkit/anvil.ts'
import { deployContract, fundWallets, type TestWallet, testWallet } from '@blockhost/testkit/wallet.ts'
import { encodeFunctionData } from 'viem'
import type { Block, SimChain } from './chain.ts'
import { createSimReader } from './chain-ports.ts'
import { type ContractCall, type ContractRules, type ContractState, emptyContract, execute } from './contract.ts'
import { createRandom, type Random } from './random.ts'

const operator = testWallet(0)
const hosts = [testWallet(1), testWallet(2), testWallet(3)]
const steps = 300

test('300 random calls: the same answers, reverts and snapshots as the contract and the lens', async () => {
  await using anvil = await startAnvil()
  await fundWallets(anvil.rpc, [operator, ...hosts])
  const random = createRandom('contract')
  const real = await deploy(anvil)
  let state: ContractState = { ...emptyContract, nfts: real.nfts }
  let timestamp = Number(
    ((await anvil.rpc.call('eth_getBlockByNumber', ['latest', false])) as { timestamp: Hex }).timestamp,
  )
  let reverted = 0
  for (let step = 0; step < steps; step++) {
    timestamp += random.chance(0.04) ? random.int(80_000, 90_000) : random.int(1, 60)
    const { from, call } = drawCall(random, state, [...real.nfts.keys()])
    const expected = execute(state, call, { from, timestamp, rules: real.rules })
    const outcome = await send(anvil, from, real.rules.address, call, timestamp)
    assert.equal(outcome, expected.ok ? 'ok' : expected.error, `step ${step}: ${call.kind}`)
    if (expected.ok) state = expected.state
    else reverted += 1
    if (step % 10 === 9) await compareSnapshots(anvil, real.rules, state, random)
  }
  assert.ok(reverted > 15 && reverted < steps / 2, `${reverted} calls reverted`)
})

async function deploy(anvil: Anvil): Promise<{ rules: ContractRules; nfts: ContractState['nfts'] }> {
  const code = { abi: accessCredentialNftAbi, bytecode: accessCredentialNftBytecode, args: ['Host', 'HOST', ''] }
  const address = await deployContract(anvil.rpc, operator, {
    abi: brokerRequestsAbi,
    bytecode: brokerRequestsBytecode,
  })
  const nfts = new Map<Address, { owner: Address; codeHash: Hex; isErc721: boolean }>()
  for (const host of hosts) {
    const nft = (await deployContract(anvil.rpc, host, code)).toLowerCase() as Address
    nfts.set(nft, { owner: lower(host), codeHash: '0x', isErc721: true })
  }
  await anvil.rpc.call('anvil_autoImpersonateAccount', [true])
  await anvil.setAutomine(false)
  const owner = lower(operator)
  return {
    nfts,
    rules: { chainId: 31_337, address: address.toLowerCase() as Address, owner, expirationSeconds: 86_400 },
  }
}

function lower({ address }: TestWallet): Address {
  return address.toLowerCase() as Address
}

function drawCall(
  random: Random,
  state: ContractState,
  nfts: readonly Address[],
): { from: Address; call: ContractCall } {
  const nftContract = random.pick(nfts)
  const owner = state.nfts.get(nftContract)!.owner
  const stranger = lower(random.pick(hosts))
  const boss = random.chance(0.93) ? lower(operator) : stranger
  const id = () => BigInt(random.int(1, state.requests.length + 1))
  switch (random.weighted({ request: 5, answers: 4, answer: 2, releaseNft: 1, releaseId: 1.5, expire: 1 })) {
    case 'request':
      return {
        from: random.chance(0.9) ? owner : stranger,
        call: { kind: 'submitRequest', nftContract, payload: drawPayload(random) },
      }
    case 'answers': {
      const count = random.int(1, 4)
      const answers = Array.from({ length: count }, () => drawAnswer(random, state, id()))
      return { from: boss, call: { kind: 'submitResponses', isStrict: false, answers } }
    }
    case 'answer': {
      const answer = { ...drawAnswer(random, state, id()), digest: undefined }
      return { from: boss, call: { kind: 'submitResponses', isStrict: true, answers: [answer] } }
    }
    case 'releaseNft':
      return { from: random.pick([owner, stranger, boss]), call: { kind: 'releaseAllocation', nftContract } }
    case 'releaseId':
      return { from: random.pick([owner, stranger, boss]), call: { kind: 'releaseRequest', id: id() } }
    case 'expire':
      return { from: stranger, call: { kind: 'markExpired', ids: [id(), id(), id()] } }
  }
}

function drawAnswer(random: Random, state: ContractState, id: bigint): { id: bigint; digest: Hex; payload: Hex } {
  const right = state.requests[Number(id) - 1]?.digest ?? `0x${'1'.repeat(64)}`
  const wrong: Hex = `0x${'2'.repeat(64)}`
  return { id, digest: random.chance(0.85) ? right : wrong, payload: bytesToHex(drawPayload(random)) }
}

function drawPayload(random: Random): Uint8Array {
  const length = random.weighted({ usual: 30, empty: 0.5, large: 3, greatest: 0.5, greater: 0.5 })
  const lengths = { usual: random.int(1, 400), empty: 0, large: random.int(1000, 3000), greatest: 4096, greater: 4097 }
  return Uint8Array.from({ length: lengths[length] }, () => random.int(0, 255))
}

/** Returns `ok`, or the name of the error; what would revert is not sent. */
async function send(anvil: Anvil, from: Address, to: Address, call: ContractCall, timestamp: number): Promise<string> {
  const transaction = { from, to, data: encode(call), gas: toQuantity(25_000_000n) }
  await anvil.setNextBlockTimestamp(timestamp)
  const hash = (await anvil.rpc.call('eth_sendTransaction', [transaction])) as Hex
  await anvil.mine()
  const receipt = (await anvil.rpc.call('eth_getTransactionReceipt', [hash])) as { status: Hex; blockNumber: Hex }
  if (receipt.status === '0x1') return 'ok'
  const before = toQuantity(BigInt(receipt.blockNumber) - 1n)
  const overrides = { time: toQuantity(timestamp) }
  const [outcome] = await anvil.rpc.batch([{ method: 'eth_call', params: [transaction, before, {}, overrides] }])
  assert.ok(!outcome!.ok && outcome!.failure.kind === 'reverted')
  return decodeContractError(brokerRequestsAbi, outcome!.failure.data)!.name
}

function encode(call: ContractCall): Hex {
  const abi = brokerRequestsAbi
  switch (call.kind) {
    case 'submitRequest':
      return encodeFunctionData({ abi, functionName: call.kind, args: [call.nftContract, bytesToHex(call.payload)] })
    case 'submitResponses': {
      const { answers, isStrict } = call
      if (isStrict)
        return encodeFunctionData({ abi, functionName: 'submitResponse', args: [answers[0]!.id, answers[0]!.payload] })
      const args = [
        answers.map(({ id }) => id),
        answers.map(({ digest }) => digest!),
        answers.map(({ payload }) => payload),
      ] as const
      return encodeFunctionData({ abi, functionName: call.kind, args })
    }
    case 'releaseAllocation':
      return encodeFunctionData({ abi, functionName: call.kind, args: [call.nftContract] })
    case 'releaseRequest':
      return encodeFunctionData({ abi, functionName: call.kind, args: [call.id] })
    case 'markExpired':
      return encodeFunctionData({ abi, functionName: call.kind, args: [call.ids] })
    default:
      throw new Error(`${call.kind} is not of the requests contract`)
  }
}

async function compareSnapshots(
  anvil: Anvil,
  rules: ContractRules,
  state: ContractState,
  random: Random,
): Promise<void> {
  const count = state.requests.length
  const query: SnapshotQuery = {
    requests: rules.address,
    cursor: BigInt(random.int(0, Math.max(0, count - 1))),
    max: random.int(1, 40),
    watchIds: Array.from({ length: random.int(0, 20) }, () => BigInt(random.int(1, count + 2))),
    operator: rules.owner,
  }
  const real = await createChainReader(anvil.rpc, { chainId: rules.chainId }).snapshot(query)
  const block = { number: real.blockNumber, timestamp: real.timestamp, state } as Block
  const chain = { rules, funds: { wei: real.operatorBalanceWei }, headOf: () => block } as unknown as SimChain
  const simulated = await createSimReader(chain, () => ({ name: 'any', frozen: undefined })).snapshot(query)
  assert.deepEqual(withoutCode(simulated), withoutCode(real))
}

/** The hash of the NFT contract's code is the only thing that the two can't share. */
function withoutCode(snapshot: Snapshot): unknown {
  return {
    ...snapshot,
    owner: snapshot.owner.toLowerCase(),
    requests: snapshot.requests.map(({ codeHash: _, ...view }) => ({ ...view, payload: bytesToHex(view.payload) })),
  }
}
