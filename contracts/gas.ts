/**
 * Measures the gas of every state-changing function: whole transactions, sent to a local anvil and read from their receipts.
 *
 * `node contracts/gas.ts` prints the table and writes `contracts/gas-snapshot.json` (function name to gas, read by bench);
 * with `--check` it writes nothing, and exits 1 naming each figure that differs from the committed one.
 * Transactions are the same bytes at each run (fixed keys, nonces and payloads), so the figures are exact, not averages.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import {
  type Abi,
  type Address,
  createTestClient,
  encodeDeployData,
  encodeFunctionData,
  type Hex,
  http,
  type PrivateKeyAccount,
  parseEther,
  publicActions,
  type TransactionReceipt,
  toHex,
  walletActions,
} from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { foundry } from 'viem/chains'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from './abi/access-credential-nft.ts'
import { blockhostSubscriptionsAbi, blockhostSubscriptionsBytecode } from './abi/blockhost-subscriptions.ts'
import { brokerRegistryAbi, brokerRegistryBytecode } from './abi/broker-registry.ts'
import { brokerRequestsAbi, brokerRequestsBytecode } from './abi/broker-requests.ts'
import { testTokenAbi, testTokenBytecode } from './abi/test-token.ts'
import { foundryProgram } from './foundry.ts'

/** Gas by function name. `submitResponsesEach` is a twentieth of one transaction with twenty answers. */
export type GasFigures = Record<string, bigint>

/** Bytes on chain of a usual request (ECIES of 271 bytes of JSON) and of a usual answer (request id, ECIES of 172). */
const requestLength = 368
const responseLength = 277

/** Most gas that may be used, by function; what is not named has no limit. */
const limits: Readonly<Record<string, bigint>> = {
  submitRequest: 300_000n,
  submitResponse: 140_000n,
  submitResponses: 140_000n,
  submitResponsesEach: 120_000n,
  mint: 250_000n,
  buySubscription: 150_000n,
  extendSubscription: 100_000n,
}

/** Bytes of a usual token's connection details: IV, {"hostname":"<IPv6>","port":22,"username":"admin"}, tag. */
const connectionLength = 108

/** Bytes of what a buyer writes to the host: ECIES of {"v":1,"signature":"<65 bytes>","publicSecret":"libpam-web3:..."}. */
const purchaseLength = 360

/** Constructor arguments of AccessCredentialNFT. */
const nftArguments = ['BlockHost Access', 'BHAC', ''] as const

const snapshotFile = join(import.meta.dirname, 'gas-snapshot.json')
const secp256k1Generator =
  '0x0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8'

async function main(argv: readonly string[]): Promise<number> {
  await using node = await startAnvil()
  const figures = await measure(createChain(node.url))
  const problems = [...missingFunctions(figures), ...overLimit(figures)]
  const text = `${JSON.stringify(figures, (_, value) => (typeof value === 'bigint' ? Number(value) : value), 2)}\n`
  if (argv.includes('--check')) problems.push(...differences(JSON.parse(readFileSync(snapshotFile, 'utf8')), figures))
  else {
    for (const [name, gas] of Object.entries(figures)) console.log(`${name.padEnd(26)}${String(gas).padStart(9)}`)
    writeFileSync(snapshotFile, text)
  }
  for (const problem of problems) console.error(problem)
  return problems.length === 0 ? 0 : 1
}

/** Runs every function once, each in the state named beside it. The order is the order of the snapshot. */
async function measure(chain: Chain): Promise<GasFigures> {
  const [broker, host, other] = [chain.account('broker'), chain.account('host'), chain.account('other')]
  const nft = await chain.deploy(host, accessCredentialNftAbi, accessCredentialNftBytecode, nftArguments)
  const otherNft = await chain.deploy(other, accessCredentialNftAbi, accessCredentialNftBytecode, nftArguments)
  return {
    ...(await measureRequests(chain, { broker, host, other, nft, otherNft })),
    ...(await measureRegistry(chain, { broker, host, other })),
    ...(await measureNft(chain, { host, other, nft })),
    ...(await measureSubscriptions(chain, host, other)),
  }
}

type Cast = { broker: PrivateKeyAccount; host: PrivateKeyAccount; other: PrivateKeyAccount }

async function measureRequests(
  chain: Chain,
  { broker, host, other, nft, otherNft }: Cast & { nft: Address; otherNft: Address },
): Promise<GasFigures> {
  const abi = brokerRequestsAbi
  const contract = await chain.deploy(broker, abi, brokerRequestsBytecode)
  const send = (from: PrivateKeyAccount, name: string, args: readonly unknown[], value = 0n): Promise<bigint> =>
    chain.send(from, contract, abi, name, args, value)
  const digest = (id: bigint): Promise<unknown> => chain.read(contract, abi, 'requestDigest', [id])
  const response = (id: number): Hex => bytes(`response ${id}`, responseLength)

  // Another host's request comes first, so that the contract is one in use.
  await send(other, 'submitRequest', [otherNft, bytes('request 1', requestLength)])
  const gas: GasFigures = {}
  // The wallet's first ever, of an NFT contract that never asked.
  gas.submitRequest = await send(host, 'submitRequest', [nft, bytes('request 2', requestLength)])
  gas.submitResponse = await send(broker, 'submitResponse', [2n, response(2)])
  // One answer through the function for many.
  gas.submitResponses = await send(broker, 'submitResponses', [[1n], [await digest(1n)], [response(1)]])
  gas.submitResponsesEach = (await answerTwenty(chain, contract, broker, host)) / 20n
  // By the host that owns the NFT contract; the broker pays a little less.
  gas.releaseAllocation = await send(host, 'releaseAllocation', [nft])
  gas.releaseRequest = await send(other, 'releaseRequest', [1n])
  // One request that ran out of time.
  await send(host, 'submitRequest', [nft, bytes('request 23', requestLength)])
  await chain.wait(25 * 3600)
  gas.markExpired = await send(other, 'markExpired', [[23n]])
  gas.setRequestExpirationTime = await send(broker, 'setRequestExpirationTime', [3600n])
  // From 0, as in all below.
  gas.setTotalCapacity = await send(broker, 'setTotalCapacity', [255n])
  gas.setRequestFee = await send(broker, 'setRequestFee', [parseEther('0.001')])
  await send(host, 'submitRequest', [nft, bytes('request 24', requestLength)], parseEther('0.001'))
  gas.withdraw = await send(broker, 'withdraw', [broker.address])
  gas.transferOwnership = await send(broker, 'transferOwnership', [other.address])
  gas.acceptOwnership = await send(other, 'acceptOwnership', [])
  return gas
}

/** Gas of one transaction that answers twenty hosts. */
async function answerTwenty(
  chain: Chain,
  contract: Address,
  broker: PrivateKeyAccount,
  host: PrivateKeyAccount,
): Promise<bigint> {
  const abi = brokerRequestsAbi
  const ids: bigint[] = []
  for (let id = 3; id < 23; id++) {
    const nft = await chain.deploy(host, accessCredentialNftAbi, accessCredentialNftBytecode, nftArguments)
    await chain.send(host, contract, abi, 'submitRequest', [nft, bytes(`request ${id}`, requestLength)])
    ids.push(BigInt(id))
  }
  const digests = await Promise.all(ids.map(id => chain.read(contract, abi, 'requestDigest', [id])))
  const responses = ids.map(id => bytes(`response ${id}`, responseLength))
  return chain.send(broker, contract, abi, 'submitResponses', [ids, digests, responses])
}

async function measureRegistry(chain: Chain, { broker, host, other }: Cast): Promise<GasFigures> {
  const contract = await chain.deploy(broker, brokerRegistryAbi, brokerRegistryBytecode)
  const send = (from: PrivateKeyAccount, name: string, args: readonly unknown[]): Promise<bigint> =>
    chain.send(from, contract, brokerRegistryAbi, name, args)
  const requests = (n: number): Address => `0x${String(n).padStart(40, '0')}`
  const registration = [host.address, requests(1), secp256k1Generator, 'eu-west', 0n] as const
  return {
    registerBroker: await send(broker, 'registerBroker', registration),
    updateEncryptionPubkey: await send(host, 'updateEncryptionPubkey', [secp256k1Generator]),
    updateRegion: await send(host, 'updateRegion', ['eu-east']),
    updateCapacity: await send(host, 'updateCapacity', [255n]),
    updateLoad: await send(host, 'updateLoad', [1n]),
    updateRequestsContract: await send(host, 'updateRequestsContract', [requests(2)]),
    deactivate: await send(host, 'deactivate', []),
    activate: await send(host, 'activate', []),
    rotateOperator: await send(host, 'rotateOperator', [other.address]),
    removeBroker: await send(broker, 'removeBroker', [1n]),
  }
}

async function measureNft(
  chain: Chain,
  { host, other, nft }: { host: PrivateKeyAccount; other: PrivateKeyAccount; nft: Address },
): Promise<GasFigures> {
  const send = (from: PrivateKeyAccount, name: string, args: readonly unknown[]): Promise<bigint> =>
    chain.send(from, nft, accessCredentialNftAbi, name, args)
  const secret = `libpam-web3:${other.address}:${createHash('sha256').update('nonce').digest('hex').slice(0, 32)}`
  const credential = (name: string): unknown[] => [bytes(name, connectionLength), secret, name, '', '', 1_800_000_000n]
  const gas: GasFigures = { setMinter: await send(host, 'setMinter', [other.address]) }
  // A host's second token, by its minter; the first of its holder.
  await send(host, 'mint', [host.address, ...credential('blockhost-001')])
  gas.mint = await send(other, 'mint', [other.address, ...credential('blockhost-002')])
  const batch = [[other.address], ...credential('blockhost-003').map(value => [value])]
  gas.mintBatch = await send(other, 'mintBatch', batch)
  gas.updateUserEncrypted = await send(other, 'updateUserEncrypted', [1n, bytes('new', connectionLength)])
  gas.updateExpiration = await send(other, 'updateExpiration', [1n, 1_900_000_000n])
  gas.updateAnimationUrl = await send(host, 'updateAnimationUrl', [1n, 'PGI+'])
  gas.setDefaultImageUri = await send(host, 'setDefaultImageUri', ['https://example.org/image.svg'])
  return gas
}

async function measureSubscriptions(
  chain: Chain,
  host: PrivateKeyAccount,
  buyer: PrivateKeyAccount,
): Promise<GasFigures> {
  const abi = blockhostSubscriptionsAbi
  const contract = await chain.deploy(host, abi, blockhostSubscriptionsBytecode)
  const stable = await deployToken(chain, buyer, ['USD Coin', 'USDC', 6], contract)
  const token = await deployToken(chain, buyer, ['Token', 'TOK', 18], contract)
  const pair = await deployPair(chain, buyer, { [token]: 50n * 10n ** 18n, [stable]: 100_000n * 10n ** 6n })
  const send = (from: PrivateKeyAccount, name: string, args: readonly unknown[]): Promise<bigint> =>
    chain.send(from, contract, abi, name, args)
  const blob = (name: string): Hex => bytes(name, purchaseLength)

  const gas: GasFigures = { createPlan: await send(host, 'createPlan', ['Basic', 1000n]) }
  gas.setPrimaryStablecoin = await send(host, 'setPrimaryStablecoin', [stable])
  gas.addPaymentMethod = await send(host, 'addPaymentMethod', [token, pair, stable])
  // The first of its buyer, and the first payment in this token; then one that is neither.
  gas.buySubscriptionFirst = await send(buyer, 'buySubscription', [1n, 30n, 1n, blob('1')])
  gas.buySubscription = await send(buyer, 'buySubscription', [1n, 30n, 1n, blob('2')])
  gas.buySubscriptionWithMax = await send(buyer, 'buySubscriptionWithMax', [1n, 30n, 1n, 10n ** 9n, blob('3')])
  gas.extendSubscription = await send(buyer, 'extendSubscription', [1n, 30n, 1n])
  gas.extendSubscriptionWithMax = await send(buyer, 'extendSubscriptionWithMax', [1n, 30n, 1n, 10n ** 9n])
  await chain.wait(3600)
  gas.updatePrice = await send(buyer, 'updatePrice', [2n])
  await send(buyer, 'buySubscription', [1n, 30n, 2n, blob('4')])
  // Priced by a pair: with nothing to remember, and beginning another period of the average.
  gas.buySubscriptionWithToken = await send(buyer, 'buySubscription', [1n, 30n, 2n, blob('5')])
  await chain.wait(3600)
  gas.buySubscriptionWithTokenAndUpdate = await send(buyer, 'buySubscription', [1n, 30n, 2n, blob('6')])
  gas.cancelSubscription = await send(host, 'cancelSubscription', [1n])
  gas.updatePlan = await send(host, 'updatePlan', [1n, 'Basic', 2000n, true])
  gas.setPlanRenewable = await send(host, 'setPlanRenewable', [1n, false])
  gas.setPurchasesPaused = await send(host, 'setPurchasesPaused', [true])
  gas.updatePaymentMethod = await send(host, 'updatePaymentMethod', [2n, false])
  gas.withdrawFunds = await send(host, 'withdrawFunds', [stable, host.address])
  gas.setSlippageBps = await send(host, 'setSlippageBps', [200n])
  gas.setMinLiquidity = await send(host, 'setMinLiquidity', [1n])
  return gas
}

/** An ERC-20 that `buyer` has plenty of, for `spender` to take. */
async function deployToken(
  chain: Chain,
  buyer: PrivateKeyAccount,
  args: readonly [string, string, number],
  spender: Address,
): Promise<Address> {
  const token = await chain.deploy(buyer, testTokenAbi, testTokenBytecode, args)
  await chain.send(buyer, token, testTokenAbi, 'mint', [buyer.address, 10n ** 30n])
  await chain.send(buyer, token, testTokenAbi, 'approve', [spender, 2n ** 256n - 1n])
  return token
}

/** The Uniswap v2 pair, from npm, of two tokens of which `from` has enough. */
async function deployPair(
  chain: Chain,
  from: PrivateKeyAccount,
  reserves: Readonly<Record<Address, bigint>>,
): Promise<Address> {
  const artifact = (name: string): { abi: Abi; bytecode: string } =>
    JSON.parse(readFileSync(join(import.meta.dirname, `lib/uniswap/v2-core/build/${name}.json`), 'utf8'))
  const factory = artifact('UniswapV2Factory')
  const tokens = Object.keys(reserves)
  const at = await chain.deploy(from, factory.abi, `0x${factory.bytecode}`, [from.address])
  await chain.send(from, at, factory.abi, 'createPair', tokens)
  const pair = (await chain.read(at, factory.abi, 'getPair', tokens)) as Address
  for (const [token, amount] of Object.entries(reserves))
    await chain.send(from, token as Address, testTokenAbi, 'transfer', [pair, amount])
  await chain.send(from, pair, artifact('UniswapV2Pair').abi, 'mint', [from.address])
  return pair
}

/** A message for each state-changing function of ours that has no figure. */
function missingFunctions(figures: GasFigures): string[] {
  // renounceOwnership of BrokerRequests always reverts; of BrokerRegistry it is OpenZeppelin's, as transferOwnership.
  // The other four are OpenZeppelin's ERC-721.
  const exempt = new Set(['renounceOwnership', 'approve', 'setApprovalForAll', 'transferFrom', 'safeTransferFrom'])
  const abi: Abi = [...brokerRequestsAbi, ...brokerRegistryAbi, ...accessCredentialNftAbi, ...blockhostSubscriptionsAbi]
  const names = new Set(
    abi.flatMap(item =>
      item.type === 'function' && item.stateMutability !== 'view' && item.stateMutability !== 'pure' ? [item.name] : [],
    ),
  )
  return [...names]
    .filter(name => figures[name] === undefined && !exempt.has(name))
    .map(name => `${name}: not measured. Add it to contracts/gas.ts`)
}

function overLimit(figures: GasFigures): string[] {
  return Object.entries(limits)
    .filter(([name, limit]) => figures[name] === undefined || figures[name] > limit)
    .map(([name, limit]) => `${name}: ${figures[name]} gas, limit ${limit}`)
}

function differences(committed: Readonly<Record<string, number>>, figures: GasFigures): string[] {
  const names = new Set([...Object.keys(committed), ...Object.keys(figures)])
  return [...names]
    .filter(name => committed[name] !== (figures[name] === undefined ? undefined : Number(figures[name])))
    .map(name => `${name}: ${figures[name]} gas, committed ${committed[name]}. Run: node contracts/gas.ts`)
}

/** `length` bytes that look like ciphertext and are the same at each run. */
function bytes(seed: string, length: number): Hex {
  return toHex(createHash('shake256', { outputLength: length }).update(seed).digest())
}

type Chain = {
  /** A funded wallet with a key that follows from its name. */
  account(name: string): PrivateKeyAccount
  deploy(from: PrivateKeyAccount, abi: Abi, bytecode: Hex, args?: readonly unknown[]): Promise<Address>
  /** Gas of the transaction, from its receipt; throws if it reverts. */
  send(
    from: PrivateKeyAccount,
    to: Address,
    abi: Abi,
    functionName: string,
    args: readonly unknown[],
    value?: bigint,
  ): Promise<bigint>
  read(to: Address, abi: Abi, functionName: string, args: readonly unknown[]): Promise<unknown>
  /** Lets the chain's clock advance. */
  wait(seconds: number): Promise<void>
}

function createChain(url: string): Chain {
  const client = createTestClient({ mode: 'anvil', chain: foundry, transport: http(url) })
    .extend(publicActions)
    .extend(walletActions)
  const funded = new Set<Address>()
  const fund = async (account: PrivateKeyAccount): Promise<PrivateKeyAccount> => {
    if (!funded.has(account.address)) await client.setBalance({ address: account.address, value: parseEther('100') })
    funded.add(account.address)
    return account
  }
  const execute = async (transaction: {
    account: PrivateKeyAccount
    to?: Address
    data: Hex
    value?: bigint
  }): Promise<TransactionReceipt> => {
    const receipt = await client.sendTransactionSync({ ...transaction, gas: 10_000_000n })
    if (receipt.status !== 'success') throw new Error(`reverted in the gas run: ${transaction.data.slice(0, 10)}`)
    return receipt
  }
  return {
    account: name => privateKeyToAccount(toHex(createHash('sha256').update(`gas ${name}`).digest())),
    async deploy(from, abi, bytecode, args = []) {
      const data = encodeDeployData({ abi, bytecode, args })
      return (await execute({ account: await fund(from), data })).contractAddress!
    },
    async send(from, to, abi, functionName, args, value = 0n) {
      const data = encodeFunctionData({ abi, functionName, args })
      return (await execute({ account: await fund(from), to, data, value })).gasUsed
    },
    read: (address, abi, functionName, args) => client.readContract({ address, abi, functionName, args }),
    async wait(seconds) {
      await client.increaseTime({ seconds })
    },
  }
}

/** A fresh anvil on a free port of 127.0.0.1; disposing of it ends the process. */
async function startAnvil(): Promise<AsyncDisposable & { url: string }> {
  const program = foundryProgram('anvil')
  const child = spawn(program, ['--port', '0', '--hardfork', 'osaka'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  for await (const line of createInterface(child.stdout)) {
    const url = /^Listening on (\S+)/.exec(line)?.[1]
    if (url === undefined) continue
    child.stdout.resume()
    return {
      url: `http://${url}`,
      async [Symbol.asyncDispose]() {
        child.kill()
        await ended
      },
    }
  }
  throw new Error(`${program} ended before it listened`)
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
