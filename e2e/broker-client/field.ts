/** A chain with a broker of any generation and a host that owns an NFT contract, for tests of the real `broker-client` program. */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Address, bytesToHex, type Hex, hexToBytes } from '@blockhost/chain/hex.ts'
import { type Rpc, resultOf } from '@blockhost/chain/rpc.ts'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { brokerRegistryAbi, brokerRegistryBytecode } from '@blockhost/contracts/abi/broker-registry.ts'
import { brokerRequestsAbi, brokerRequestsBytecode } from '@blockhost/contracts/abi/broker-requests.ts'
import { brokerRequestsV1Abi, brokerRequestsV1Bytecode } from '@blockhost/contracts/abi/legacy/broker-requests-v1.ts'
import { brokerRequestsV2Abi, brokerRequestsV2Bytecode } from '@blockhost/contracts/abi/legacy/broker-requests-v2.ts'
import { encodeResponse, parseRequest, type ResponseMessage, wrapResponse } from '@blockhost/crypto/broker-messages.ts'
import { decrypt, encrypt } from '@blockhost/crypto/ecies.ts'
import { generatePrivateKey, publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import type { Anvil } from '@blockhost/testkit/anvil.ts'
import { deployContract, fundWallets, sendTransaction, type TestWallet, testWallet } from '@blockhost/testkit/wallet.ts'
import { decodeResult, encodeData, fromAbi } from 'ox/AbiFunction'

/** Generation of a requests contract, as the client counts them. */
export type Generation = 1 | 2 | 3

const contracts = {
  1: { abi: brokerRequestsV1Abi, bytecode: brokerRequestsV1Bytecode },
  2: { abi: brokerRequestsV2Abi, bytecode: brokerRequestsV2Bytecode },
  3: { abi: brokerRequestsAbi, bytecode: brokerRequestsBytecode },
} as const

/** The shipped program. */
export const program = fileURLToPath(new URL('../../cli/broker-client/bin/broker-client', import.meta.url))

/** What a run of the client left behind. `status` is null when a signal ended it. */
export type ClientRun = { readonly status: number | null; readonly stdout: string; readonly stderr: string }

/** A running client. */
export type RunningClient = { readonly done: Promise<ClientRun>; kill(signal: NodeJS.Signals): void; stderr(): string }

/** One request as the chain has it. */
export type ChainRequest = {
  readonly id: bigint
  readonly payload: Hex
  readonly status: number
  readonly submittedAt: bigint
}

/** One broker, one host, everything deployed. */
export type Field = Awaited<ReturnType<typeof createField>>

let wallets = 0

/** Deploys registry, requests contract of the generation and the host's NFT contract. Each field has wallets and folders of its own. */
export async function createField(anvil: Pick<Anvil, 'rpc' | 'url' | 'chainId'>, generation: Generation) {
  const { rpc } = anvil
  const operator = testWallet(1000 + wallets++)
  const host = testWallet(1000 + wallets++)
  await fundWallets(rpc, [operator, host])
  const eciesKey = generatePrivateKey()
  const wgKeys = generateKeyPair()
  const registry = await deployContract(rpc, operator, { abi: brokerRegistryAbi, bytecode: brokerRegistryBytecode })
  const requests = await deployContract(rpc, operator, contracts[generation])
  const nft = await deployContract(rpc, host, {
    abi: accessCredentialNftAbi,
    bytecode: accessCredentialNftBytecode,
    args: ['BlockHost Access', 'BHAC', ''],
  })
  const register = encodeData(fromAbi(brokerRegistryAbi, 'registerBroker'), [
    operator.address,
    requests,
    bytesToHex(publicKeyOf(eciesKey)),
    'eu',
    0n,
  ])
  await sendTransaction(rpc, operator, { to: registry, data: register })
  const folder = mkdtempSync(join(tmpdir(), 'bc-e2e-'))
  const configDir = join(folder, 'etc')
  const walletKey = join(folder, 'deployer.key')
  writeFileSync(walletKey, `${host.privateKeyHex}\n`, { mode: 0o600 })
  const call = (wallet: TestWallet, data: Hex) => sendTransaction(rpc, wallet, { to: requests, data })
  const clients: RunningClient[] = []
  const field = {
    generation,
    operator,
    host,
    registry,
    requests,
    nft,
    folder,
    configDir,
    walletKey,
    wgKeys,
    eciesPublicKey: publicKeyOf(eciesKey).toHex(),
    /** Globals every run gets; `url` lets a proxy stand in between. */
    globals: (url = anvil.url) => [
      '--rpc-url',
      url,
      '--chain-id',
      `${anvil.chainId}`,
      '--registry-contract',
      registry,
      '--config-dir',
      configDir,
    ],
    askArgs: (...more: string[]) => [
      '--nft-contract',
      nft,
      '--wallet-key',
      walletKey,
      '--poll-interval',
      '0.5',
      ...more,
    ],
    call,
    /** Puts a second broker into the registry, which nobody runs; returns its requests contract. */
    registerAnother: async (other: Generation) => {
      const another = testWallet(1000 + wallets++)
      await fundWallets(rpc, [another])
      const contract = await deployContract(rpc, another, contracts[other])
      const key = bytesToHex(publicKeyOf(generatePrivateKey()))
      const data = encodeData(fromAbi(brokerRegistryAbi, 'registerBroker'), [another.address, contract, key, 'eu', 0n])
      await sendTransaction(rpc, operator, { to: registry, data })
      return contract
    },
    requestCount: () => readNumber(rpc, requests, encodeData(fromAbi(brokerRequestsAbi, 'getRequestCount'))),
    liveId: () => readNumber(rpc, requests, encodeData(fromAbi(brokerRequestsAbi, 'nftContractToRequestId'), [nft])),
    readRequest: (id: bigint) => readRequest(rpc, requests, id),
    /** The WireGuard key that request `id` asks for, as the broker reads it. */
    askedKey: async (id: bigint) => {
      const { payload } = await readRequest(rpc, requests, id)
      const parsed = parseRequest(decrypt(eciesKey, hexToBytes(payload)))
      if (!parsed.ok) throw new Error(parsed.reason)
      return parsed.request
    },
    /** Answers request `id`; `over` replaces members, and the whole may be replaced. */
    answer: async (
      id: bigint,
      options: {
        over?: Record<string, unknown>
        whole?: Hex
        namedId?: bigint
        bare?: boolean
        recipient?: Uint8Array
      } = {},
    ) => {
      const { serverPubkey } = await field.askedKey(id)
      const plain = { ...field.grant, ...options.over } as unknown as ResponseMessage
      const blob = encrypt(options.recipient ?? Uint8Array.fromHex(serverPubkey), encodeResponse(plain))
      const whole = options.whole ?? bytesToHex(options.bare ? blob : wrapResponse(options.namedId ?? id, blob))
      await call(operator, encodeData(fromAbi(brokerRequestsAbi, 'submitResponse'), [id, whole]))
    },
    grant: {
      prefix: '2001:db8:1:2::100/120',
      gateway: '2001:db8:1:2::2',
      brokerPubkey: wgKeys.publicKey,
      brokerEndpoint: '198.51.100.1:51820',
    },
    /** Somebody asks with the same NFT contract, with a WireGuard key that no file here holds. */
    askFromElsewhere: async () => {
      await call(host, encodeData(fromAbi(brokerRequestsAbi, 'submitRequest'), [nft, '0x0455']))
      return field.requestCount()
    },
    file: (name: string) => join(configDir, name),
    json: (name: string): Record<string, unknown> => JSON.parse(readFileSync(join(configDir, name), 'utf8')),
    has: (name: string) => existsSync(join(configDir, name)),
    mode: (name: string) => statSync(join(configDir, name)).mode & 0o777,
    start: (args: readonly string[]) => {
      const client = startClient(args)
      clients.push(client)
      return client
    },
    run: (...args: string[]) => field.start([...field.globals(), ...args]).done,
    request: (...more: string[]) => field.run('request', ...field.askArgs(...more)),
    /** Ends what a failed test left running. */
    [Symbol.dispose]: () => {
      for (const client of clients) client.kill('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    },
  }
  return field
}

/** Answers whatever is live and pending until it is disposed of. */
export function answerAll(
  field: Field,
  options: Parameters<Field['answer']>[1] = {},
): AsyncDisposable & { readonly answered: readonly bigint[] } {
  const answered: bigint[] = []
  let stopped = false
  const work = (async () => {
    while (!stopped) {
      const id = await field.liveId()
      if (id !== 0n && !answered.includes(id) && (await field.readRequest(id)).status === 0) {
        // Reorgs and re-requests make an answer fail now and then; the next look decides.
        await field.answer(id, options).then(
          () => answered.push(id),
          () => undefined,
        )
      }
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  })()
  return {
    answered,
    [Symbol.asyncDispose]: async () => {
      stopped = true
      await work
    },
  }
}

function startClient(args: readonly string[]): RunningClient {
  // A process group of its own: killing it reaches Node behind the shell that starts it, should it still be there.
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', chunk => {
    stdout += chunk
  })
  child.stderr.on('data', chunk => {
    stderr += chunk
  })
  const done = new Promise<ClientRun>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', status => resolve({ status, stdout, stderr }))
  })
  return {
    done,
    stderr: () => stderr,
    kill: signal => {
      if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, signal)
    },
  }
}

async function readNumber(rpc: Rpc, to: Address, data: Hex): Promise<bigint> {
  return BigInt((await rpc.call('eth_call', [{ to, data }, 'latest'])) as string)
}

/** While it mines, anvil answers some calls from the old state and some from the new: a request that was seen may be missing for a moment. */
async function readRequest(rpc: Rpc, to: Address, id: bigint, tries = 50): Promise<ChainRequest> {
  const getRequest = fromAbi(brokerRequestsAbi, 'getRequest')
  const [outcome] = await rpc.batch([
    { method: 'eth_call', params: [{ to, data: encodeData(getRequest, [id]) }, 'latest'] },
  ])
  if (!outcome!.ok && tries > 0) {
    await new Promise(resolve => setTimeout(resolve, 20))
    return readRequest(rpc, to, id, tries - 1)
  }
  const data = resultOf(outcome!, 'getRequest') as Hex
  const { encryptedPayload: payload, status, submittedAt } = decodeResult(getRequest, data)
  return { id, payload, status, submittedAt }
}
