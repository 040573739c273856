/** The host's contracts on a chain of tests: deployed, with one plan, and what owner and buyers do with them. */
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import type { Rpc } from '@blockhost/chain/rpc.ts'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from '@blockhost/contracts/abi/access-credential-nft.ts'
import {
  blockhostSubscriptionsAbi,
  blockhostSubscriptionsBytecode,
} from '@blockhost/contracts/abi/blockhost-subscriptions.ts'
import { testTokenAbi, testTokenBytecode } from '@blockhost/contracts/abi/test-token.ts'
import {
  deployContract,
  fundWallets,
  sendTransaction,
  submitTransaction,
  type TestWallet,
  waitForReceipt,
} from '@blockhost/testkit/wallet.ts'
import { decodeResult, encodeData, fromAbi } from 'ox/AbiFunction'

/** The contracts and their users. Every function that sends waits for the block. */
export type HostContracts = {
  readonly subscriptions: Address
  readonly nft: Address
  readonly token: Address
  /** Gives buyers ether and a million dollars of the token, and lets the contract take them. */
  equip(buyers: readonly TestWallet[]): Promise<void>
  /** Buys for the stablecoin; returns the subscription's id. */
  buy(buyer: TestWallet, purchase: { days: number; plan: number; data: Hex }): Promise<bigint>
  extend(payer: TestWallet, id: bigint, days: number): Promise<void>
  /** Ends a subscription at once, as the contract's owner. */
  cancel(id: bigint): Promise<void>
  subscriberOf(id: bigint): Promise<Address>
  /** The chain's expiry of a subscription, Unix seconds. */
  expiryOf(id: bigint): Promise<number>
  totalTokens(): Promise<bigint>
  /** Lower case. */
  tokenOwner(tokenId: bigint): Promise<string>
  accessData(tokenId: bigint): Promise<{ userEncrypted: Hex; publicSecret: string }>
  transferToken(from: TestWallet, to: Address, tokenId: bigint): Promise<void>
}

/** Who deploys and who mints. */
export type HostRoles = {
  readonly owner: TestWallet
  readonly minter: TestWallet
  /** An AccessCredentialNFT that the owner has already. Default: one is deployed. */
  readonly nft?: Address
}

const abiOf = { subscriptions: blockhostSubscriptionsAbi, nft: accessCredentialNftAbi, token: testTokenAbi }

/** Deploys the contracts and makes plan 1, `small`, for a dollar a day. The wallets of both roles get ether. */
export async function deployHostContracts(rpc: Rpc, { owner, minter, nft: own }: HostRoles): Promise<HostContracts> {
  await fundWallets(rpc, [owner, minter])
  const token = await deployContract(rpc, owner, {
    abi: testTokenAbi,
    bytecode: testTokenBytecode,
    args: ['Test dollar', 'USD', 6],
  })
  const subscriptions = await deployContract(rpc, owner, {
    abi: blockhostSubscriptionsAbi,
    bytecode: blockhostSubscriptionsBytecode,
  })
  const nft = own ?? (await deployContract(rpc, owner, nftContract))
  const at = { subscriptions, nft, token }
  const call = (to: keyof typeof at, name: string, args: readonly unknown[]) => ({
    to: at[to],
    data: encodeData(fromAbi(abiOf[to] as never, name as never) as never, args as never),
  })
  const submit = (from: TestWallet, to: keyof typeof at, name: string, args: readonly unknown[]) =>
    submitTransaction(rpc, from, call(to, name, args))
  const send = async (from: TestWallet, to: keyof typeof at, name: string, args: readonly unknown[]) => {
    await sendTransaction(rpc, from, call(to, name, args))
  }
  const read = async (to: keyof typeof at, name: string, args: readonly unknown[] = []): Promise<unknown> => {
    const item = fromAbi(abiOf[to] as never, name as never) as never
    const data = encodeData(item, args as never)
    return decodeResult(item, (await rpc.call('eth_call', [{ to: at[to], data }, 'latest'])) as Hex)
  }
  await send(owner, 'subscriptions', 'setPrimaryStablecoin', [token])
  await send(owner, 'subscriptions', 'createPlan', ['small', 100n])
  await send(owner, 'nft', 'setMinter', [minter.address])
  const subscription = async (id: bigint) =>
    (await read('subscriptions', 'getSubscription', [id])) as [plan: bigint, subscriber: Address, expiresAt: bigint]
  return {
    ...at,
    async equip(buyers) {
      await fundWallets(rpc, buyers)
      const sent: [TestWallet, Hex][] = []
      for (const buyer of buyers) {
        sent.push([owner, await submit(owner, 'token', 'mint', [buyer.address, 10n ** 12n])])
        sent.push([buyer, await submit(buyer, 'token', 'approve', [subscriptions, 10n ** 12n])])
      }
      for (const [wallet, hash] of sent) await waitForReceipt(rpc, wallet, hash)
    },
    async buy(buyer, { plan, days, data }) {
      await send(buyer, 'subscriptions', 'buySubscription', [BigInt(plan), BigInt(days), 1n, data])
      const ids = (await read('subscriptions', 'getSubscriptionsBySubscriber', [buyer.address])) as readonly bigint[]
      return ids.at(-1)!
    },
    extend: (payer, id, days) => send(payer, 'subscriptions', 'extendSubscription', [id, BigInt(days), 1n]),
    cancel: id => send(owner, 'subscriptions', 'cancelSubscription', [id]),
    subscriberOf: async id => (await subscription(id))[1],
    expiryOf: async id => Number((await subscription(id))[2]),
    totalTokens: async () => (await read('nft', 'totalSupply')) as bigint,
    tokenOwner: async tokenId => ((await read('nft', 'ownerOf', [tokenId])) as string).toLowerCase(),
    accessData: async tokenId => {
      const [userEncrypted, publicSecret] = (await read('nft', 'getAccessData', [tokenId])) as [Hex, string]
      return { userEncrypted, publicSecret }
    },
    transferToken: (from, to, tokenId) => send(from, 'nft', 'transferFrom', [from.address, to, tokenId]),
  }
}

const nftContract = {
  abi: accessCredentialNftAbi,
  bytecode: accessCredentialNftBytecode,
  args: ['Host', 'HOST', ''],
}
