import { createRpc, type Rpc } from '@blockhost/chain/rpc.ts'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { findAnvil } from '@blockhost/testkit/anvil.ts'
import { type Lab, labAddresses } from '@blockhost/testkit/lab.ts'
import type { Forward } from '@blockhost/testkit/machine.ts'
import {
  type Address,
  createPublicClient,
  createTestClient,
  createWalletClient,
  type Hex,
  http,
  publicActions,
} from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { foundry } from 'viem/chains'
import { eventually } from './expect.ts'

/** The demo's chain: a real EVM (anvil) that every machine reaches at a public address, one block a second. */
export type DemoChain = AsyncDisposable & {
  /** RPC endpoint as the machines see it. */
  readonly rpcUrl: string
  /** The chain from here. */
  readonly rpc: Rpc
  readonly chainId: number
  /** Gives a wallet ether to pay gas with. */
  fund(wallet: Address, ether: bigint): Promise<void>
  /** Deploys the NFT contract a host proves itself with, from that host's own wallet. */
  deployNft(ownerKey: Hex): Promise<Address>
  /** Returns the live request of an NFT contract, `undefined` when it has none. */
  findRequest(requests: Address, nft: Address): Promise<{ id: bigint; status: RequestStatus } | undefined>
  /** Returns the height of the chain. */
  height(): Promise<bigint>
  /** Unix seconds of the last block. */
  now(): Promise<number>
  /** Makes the next block one of that time, Unix seconds, and waits for it; later ones go on from there. */
  passTo(timestamp: number): Promise<void>
  /** Replaces the last `depth` blocks by empty ones, as a reorganization does. */
  reorg(depth: number): Promise<void>
}

/** State of a request on chain. */
export type RequestStatus = 'pending' | 'approved' | 'rejected' | 'expired'

const port = 8545
const statuses = ['pending', 'approved', 'rejected', 'expired'] as const

/** Starts the chain on the lab's internet server. */
export async function startChain(lab: Lab): Promise<DemoChain> {
  const address = labAddresses.internet.ipv4
  const node = await lab.internet.spawn([findAnvil(), '--host', address, '--port', `${port}`, '--block-time', '1'])
  await eventually('anvil to listen', () => {
    if (node.lastLines().some(line => line.startsWith('Listening'))) return true
    throw new Error(node.lastLines().at(-1) ?? 'it said nothing')
  })
  const forward = await lab.internet.forward(port, address)
  return createChain(forward, `http://${address}:${port}`)
}

function createChain(forward: Forward, rpcUrl: string): DemoChain {
  const transport = http(`http://127.0.0.1:${forward.port}`)
  const reader = createPublicClient({ chain: foundry, transport, pollingInterval: 100 })
  const control = createTestClient({ mode: 'anvil', chain: foundry, transport }).extend(publicActions)
  const rpc = createRpc(
    { urls: [`http://127.0.0.1:${forward.port}`], chainId: foundry.id },
    { clock: systemClock, log: silentLog },
  )
  const now = async () => Number((await reader.getBlock({ blockTag: 'latest' })).timestamp)
  return {
    ...{ rpcUrl, rpc, now },
    chainId: foundry.id,
    passTo: async timestamp => {
      await control.setNextBlockTimestamp({ timestamp: BigInt(timestamp) })
      await eventually('the chain to be there', async () => ((await now()) >= timestamp ? true : undefined))
    },
    fund: (wallet, ether) => control.setBalance({ address: wallet, value: ether * 10n ** 18n }),
    deployNft: async ownerKey => {
      const wallet = createWalletClient({ account: privateKeyToAccount(ownerKey), chain: foundry, transport })
      const hash = await wallet.deployContract({
        abi: accessCredentialNftAbi,
        bytecode: accessCredentialNftBytecode,
        args: ['BlockHost Access', 'BHAC', ''],
      })
      const { contractAddress } = await reader.waitForTransactionReceipt({ hash })
      if (!contractAddress) throw new Error('the NFT contract was not deployed')
      return contractAddress
    },
    findRequest: async (requests, nft) => {
      const contract = { address: requests, abi: brokerRequestsAbi } as const
      const id = await reader.readContract({ ...contract, functionName: 'nftContractToRequestId', args: [nft] })
      if (id === 0n) return undefined
      const request = await reader.readContract({ ...contract, functionName: 'getRequest', args: [id] })
      return { id, status: statuses[request.status]! }
    },
    height: () => reader.getBlockNumber({ cacheTime: 0 }),
    reorg: async depth => {
      await control.request({ method: 'anvil_reorg', params: [depth, []] } as never)
    },
    [Symbol.asyncDispose]: () => forward[Symbol.asyncDispose](),
  }
}
