/** A chain, hosts that ask, and the broker's real daemon; everything in the network namespace of this process. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { generateKeys } from '@blockhost/broker/keygen.ts'
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import { type RpcCall, resultOf } from '@blockhost/chain/rpc.ts'
import { signTransaction } from '@blockhost/chain/transaction.ts'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { brokerRequestsAbi, brokerRequestsBytecode } from '@blockhost/contracts/abi/broker-requests.ts'
import { encodeRequest } from '@blockhost/crypto/broker-messages.ts'
import { encrypt } from '@blockhost/crypto/ecies.ts'
import { addressOf, generatePrivateKey, publicKeyOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { type Anvil, startAnvil } from '@blockhost/testkit/anvil.ts'
import { type RpcProxy, startRpcProxy } from '@blockhost/testkit/rpc-proxy.ts'
import { deployContract, fundWallets, type TestWallet, testWallet } from '@blockhost/testkit/wallet.ts'
import { encodeFunctionData, toHex } from 'viem'
import { brokerAddress } from './inside.ts'
import { benchPool } from './leases.ts'

/** What a host needs to ask, and to use the answer. */
export type BenchHost = {
  readonly nftContract: Address
  readonly wireguard: { readonly privateKey: string; readonly publicKey: string }
  /** ECIES key that the answer is encrypted to. */
  readonly serverKey: Uint8Array
}

/** Options of {@link startStage}. */
export type StageOptions = {
  /** On a real disk: keys, configuration, database. */
  readonly folder: string
  readonly blockTimeSeconds: number
}

/** A chain with a requests contract whose owner is the daemon's operator. */
export type Stage = AsyncDisposable & {
  readonly anvil: Anvil
  /** In front of the chain, for the daemon: what it asks is counted. */
  readonly proxy: RpcProxy
  readonly requests: Address
  /** Makes hosts, each with an NFT contract of its own that wallet number 1 owns. */
  makeHosts(count: number): Promise<BenchHost[]>
  /** Puts a request of each host into the pool; they are mined with the next block. */
  submit(hosts: readonly BenchHost[]): Promise<void>
  /** Calls a view of the requests contract that takes nothing and returns a number. */
  count(view: '_activeCount' | 'getRequestCount'): Promise<number>
  /** Waits until that many requests are answered on the chain. */
  untilAnswered(count: number, timeoutMs: number): Promise<void>
  startDaemon(settings?: DaemonSettings): Promise<Daemon>
}

/** Settings of the daemon that differ from the defaults; keys as in `config.toml`. */
export type DaemonSettings = {
  readonly pollIntervalMs?: number
  readonly databasePath?: string
  /** Default: the proxy's. The chain's own where this process has other work, which would delay what passes the proxy. */
  readonly rpcUrl?: string
}

/** A running daemon. Disposing of it takes the network down too. */
export type Daemon = AsyncDisposable & {
  readonly pid: number
  /** Resolves when `/health` says so. */
  readonly healthy: () => Promise<void>
  /** Last lines of its log. */
  readonly log: readonly string[]
}

/** WireGuard's UDP port on 127.0.0.1, where hosts of this machine reach the daemon's interface. */
export const tunnelPort = 51820

const program = fileURLToPath(new URL('../services/broker/bin/blockhost-broker', import.meta.url))

/** Starts the chain and deploys the requests contract. */
export async function startStage({ folder, blockTimeSeconds }: StageOptions): Promise<Stage> {
  mkdirSync(folder, { recursive: true })
  generateKeys(folder, { force: false })
  const anvil = await startAnvil({ blockTimeSeconds, args: ['--gas-limit', '1000000000'] })
  const proxy = await startRpcProxy(anvil.url)
  const operator = walletOf(readKeyFile(join(folder, 'operator.key')))
  const asker = testWallet(1)
  await fundWallets(anvil.rpc, [operator, asker])
  const requests = await deployContract(anvil.rpc, operator, {
    abi: brokerRequestsAbi,
    bytecode: brokerRequestsBytecode,
  })
  const nftCode = await deployNft(anvil, asker)
  const brokerKey = publicKeyOf(readKeyFile(join(folder, 'ecies.key')))

  let daemon: Daemon | undefined
  const count: Stage['count'] = async functionName => {
    const data = encodeFunctionData({ abi: brokerRequestsAbi, functionName })
    return Number(await anvil.rpc.call('eth_call', [{ to: requests, data }, 'latest']))
  }
  return {
    anvil,
    proxy,
    requests,
    count,
    makeHosts: many => makeHosts(anvil, nftCode, asker, many),
    submit: hosts => submit(anvil, asker, requests, brokerKey, hosts),
    async untilAnswered(many, timeoutMs) {
      let answered = 0
      const condition = async () => {
        answered = await count('_activeCount')
        return answered >= many
      }
      const what = () =>
        `${many} answers: ${answered} are there; the daemon says:\n${daemon?.log.slice(-20).join('\n')}`
      await until(what, timeoutMs, condition)
    },
    async startDaemon(settings) {
      daemon = await startDaemon(folder, { requests, rpcUrl: proxy.url, ...settings })
      return daemon
    },
    [Symbol.asyncDispose]: async () => {
      await proxy[Symbol.asyncDispose]()
      await anvil[Symbol.asyncDispose]()
    },
  }
}

function walletOf(privateKey: Uint8Array): TestWallet {
  return { privateKey, privateKeyHex: toHex(privateKey), address: addressOf(privateKey) }
}

async function deployNft(anvil: Anvil, owner: TestWallet): Promise<Hex> {
  const contract = {
    abi: accessCredentialNftAbi,
    bytecode: accessCredentialNftBytecode,
    args: ['BlockHost Access', 'BHAC', ''],
  }
  const address = await deployContract(anvil.rpc, owner, contract)
  return (await anvil.rpc.call('eth_getCode', [address, 'latest'])) as Hex
}

/** `_owner` in the storage of AccessCredentialNFT: after the six slots of ERC721. Checked below. */
const ownerSlot = '0x6'

async function makeHosts(anvil: Anvil, code: Hex, owner: TestWallet, count: number): Promise<BenchHost[]> {
  const hosts = Array.from({ length: count }, () => ({
    nftContract: `0x${randomBytes(20).toString('hex')}` as Address,
    wireguard: generateKeyPair(),
    serverKey: generatePrivateKey(),
  }))
  const word = `0x${owner.address.slice(2).toLowerCase().padStart(64, '0')}`
  await batch(
    anvil,
    hosts.flatMap(({ nftContract }) => [
      { method: 'anvil_setCode', params: [nftContract, code] },
      { method: 'anvil_setStorageAt', params: [nftContract, ownerSlot, word] },
    ]),
  )
  const data = encodeFunctionData({ abi: accessCredentialNftAbi, functionName: 'owner' })
  const found = await anvil.rpc.call('eth_call', [{ to: hosts[0]!.nftContract, data }, 'latest'])
  if (found !== word) throw new Error(`the NFT contract keeps its owner elsewhere than in slot ${ownerSlot}`)
  return hosts
}

async function submit(
  anvil: Anvil,
  asker: TestWallet,
  requests: Address,
  brokerKey: Uint8Array,
  hosts: readonly BenchHost[],
): Promise<void> {
  const pending = await anvil.rpc.call('eth_getTransactionCount', [asker.address, 'pending'])
  const first = Number(pending)
  const fees = { type: 'eip1559', maxFeePerGasWei: 5_000_000_000n, maxPriorityFeePerGasWei: 1_000_000_000n } as const
  const transactions = hosts.map((host, at) => {
    const data = encodeFunctionData({
      abi: brokerRequestsAbi,
      functionName: 'submitRequest',
      args: [host.nftContract, toHex(encrypt(brokerKey, encodeRequest(messageOf(host))))],
    })
    const call = {
      chainId: anvil.chainId,
      nonce: first + at,
      to: requests,
      data,
      valueWei: 0n,
      gasLimit: 400_000n,
      fees,
    }
    return signTransaction(call, asker.privateKey).raw
  })
  await batch(
    anvil,
    transactions.map(raw => ({ method: 'eth_sendRawTransaction', params: [raw] })),
  )
}

function messageOf({ nftContract, wireguard, serverKey }: BenchHost) {
  const serverPubkey = Buffer.from(publicKeyOf(serverKey)).toString('hex')
  return { nftContract, wgPubkey: wireguard.publicKey, serverPubkey }
}

async function batch(anvil: Anvil, calls: readonly RpcCall[]): Promise<void> {
  const outcomes = await anvil.rpc.batch(calls)
  for (const [at, outcome] of outcomes.entries()) resultOf(outcome, calls[at]!.method)
}

type DaemonPlan = DaemonSettings & { readonly requests: Address; readonly rpcUrl: string }

async function startDaemon(folder: string, plan: DaemonPlan): Promise<Daemon> {
  const configFile = join(folder, 'config.toml')
  writeFileSync(configFile, configText(folder, plan), { mode: 0o600 })
  const child = spawn(program, ['--config', configFile], { stdio: ['ignore', 'pipe', 'pipe'] })
  const log: string[] = []
  for (const stream of [child.stdout, child.stderr])
    createInterface({ input: stream }).on('line', line => {
      log.push(line)
      if (log.length > 100) log.shift()
    })
  return {
    pid: child.pid!,
    log,
    healthy: () =>
      until('the daemon to be healthy', 60_000, async () => {
        if (child.exitCode !== null) throw new Error(`the daemon ended: ${log.slice(-5).join('\n')}`)
        return isHealthy()
      }),
    [Symbol.asyncDispose]: () => stopDaemon(child, configFile),
  }
}

async function isHealthy(): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${apiPort}/health`)).ok
  } catch {
    return false // not listening yet
  }
}

/** A machine of the test kit has every port to itself. */
const apiPort = 8080

async function stopDaemon(child: ChildProcess, configFile: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
  }
  const down = spawn(program, ['down', '--config', configFile], { stdio: 'ignore' })
  await once(down, 'exit')
}

/** The documented configuration; everything that is not named here is at its default. */
function configText(folder: string, { requests, rpcUrl, pollIntervalMs = 5000, databasePath }: DaemonPlan): string {
  return `[broker]
upstream_prefix = "${benchPool.upstreamPrefix}"
allocation_size = ${benchPool.allocationSize}
broker_ipv6 = "${brokerAddress}"

[wireguard]
listen_port = ${tunnelPort}
private_key_file = "${folder}/wg-private.key"
public_endpoint = "198.51.100.1:${tunnelPort}"
upstream_interface = "upstream0"

[api]
listen = "127.0.0.1:${apiPort}"

[database]
path = "${databasePath ?? `${folder}/ipam.db`}"

[onchain]
enabled = true
rpc_url = "${rpcUrl}"
chain_id = 31337
private_key_file = "${folder}/operator.key"
ecies_private_key_file = "${folder}/ecies.key"
requests_contract = "${requests}"
poll_interval_ms = ${pollIntervalMs}
confirmations = 0
`
}

/** Asks every 25 ms. */
export async function until(
  what: string | (() => string),
  timeoutMs: number,
  condition: () => Promise<boolean>,
): Promise<void> {
  const end = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > end)
      throw new Error(`waited ${timeoutMs} ms in vain for ${typeof what === 'string' ? what : what()}`)
    await new Promise(resolve => setTimeout(resolve, 25))
  }
}
