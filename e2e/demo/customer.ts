/** People who buy a VM: a wallet, an SSH client, and nothing else. */
import { fileURLToPath } from 'node:url'
import { type ConnectionDetails, parseConnectionDetails } from '@blockhost/crypto/access-data.ts'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { freshWallet, type TestWallet } from '@blockhost/testkit/wallet.ts'
import { type Connection, connectSsh, type Ended } from '../login/ssh.ts'
import { sealPurchase } from '../shop/buyer.ts'
import type { Shop, ShopItem } from '../shop/shop.ts'
import type { ShopDemo } from './context.ts'
import { eventually, expect } from './expect.ts'

/** A purchase and who made it. */
export type Customer = {
  /** Paid. */
  readonly wallet: TestWallet
  /** Holds the access token; another once it was transferred. */
  holder: TestWallet
  readonly subscription: bigint
  /** Name of the VM. */
  readonly vm: string
  /** When the purchase was mined, `performance.now()`. */
  readonly boughtAt: number
  /** Where the VM is; known once the token was read. */
  access: ConnectionDetails | undefined
}

/** The plan that everyone buys. */
export const plan = 1

const toolProgram = fileURLToPath(new URL('../../cli/pam_web3_tool/bin/pam_web3_tool', import.meta.url))

/** Makes fresh wallets with ether and test dollars. */
export async function makeWallets(shop: Shop, count: number): Promise<readonly TestWallet[]> {
  const wallets = Array.from({ length: count }, freshWallet)
  await shop.contracts.equip(wallets)
  return wallets
}

/** Buys so many days of the plan, as a buyer's page does. */
export async function buy(shop: Shop, wallet: TestWallet, days: number): Promise<Customer> {
  const data = sealPurchase(wallet, shop.publicKey, crypto.randomUUID())
  const subscription = await shop.contracts.buy(wallet, { plan, days, data })
  const vm = `blockhost-${`${subscription}`.padStart(3, '0')}`
  return { wallet, holder: wallet, subscription, vm, boughtAt: performance.now(), access: undefined }
}

/** Waits until a purchase is in a state, and returns it as `blockhost status` shows it. */
export async function reaches(shop: Shop, customer: Customer, state: string): Promise<ShopItem> {
  return (await allReach(shop, [customer], state))[0]!
}

/** Waits until all of the purchases are in a state: one look a second, however many they are. In the order given. */
export async function allReach(
  shop: Shop,
  customers: readonly Customer[],
  state: string,
  withinMs = 300_000,
): Promise<readonly ShopItem[]> {
  return await eventually(
    `${customers.map(({ vm }) => vm).join(', ')} to be ${state}`,
    async () => {
      const items = await itemsOf(shop, customers)
      const others = items.filter(item => item?.state !== state)
      if (others.length === 0) return items as readonly ShopItem[]
      throw new Error(
        others.map(item => (item === undefined ? 'unknown' : `${item.vm} ${item.state}: ${item.words}`)).join('; '),
      )
    },
    { withinMs, everyMs: 1000 },
  )
}

/** Returns the purchases as `blockhost status` shows them; `undefined` where it does not know one. */
export async function itemsOf(shop: Shop, customers: readonly Customer[]): Promise<readonly (ShopItem | undefined)[]> {
  const items = await shop.status()
  return customers.map(({ subscription }) => items.find(({ id }) => BigInt(id) === subscription))
}

/** Reads the token on chain and opens it with the wallet's signature and the shipped `pam_web3_tool`. */
export async function readAccess({ lab, shop }: ShopDemo, customer: Customer): Promise<ConnectionDetails> {
  const { token } = await reaches(shop, customer, 'live')
  expect(token !== null, `a token for ${customer.vm}`, 'none')
  const { userEncrypted, publicSecret } = await shop.contracts.accessData(BigInt(token))
  const signature = signMessage(publicSecret, customer.wallet.privateKey)
  const args = ['decrypt-symmetric', '--signature-file', '-', '-c', userEncrypted]
  const { stdout } = await lab.internet.exec(toolProgram, args, { input: signature })
  const details = parseConnectionDetails(stdout)
  expect(details !== undefined, 'host name, port and user in the token', stdout)
  customer.access = details
  return details
}

/** Connects from a machine, and waits until SSH asks for the signature. */
export async function connectTo(from: Machine, { hostname, username }: ConnectionDetails): Promise<Connection> {
  return await eventually(
    `SSH at ${hostname} to ask ${username} for a signature`,
    async () => {
      const connection = await connectSsh(from, username, hostname)
      if ('answer' in connection) return connection
      throw new Error(connection.screen.trim())
    },
    { withinMs: 90_000, everyMs: 500 },
  )
}

/** Signs what SSH shows, pastes the signature, and returns how it ended. */
export async function signIn(from: Machine, wallet: TestWallet, to: ConnectionDetails): Promise<Ended> {
  const connection = await connectTo(from, to)
  return await connection.answer(signMessage(connection.shown.message, wallet.privateKey))
}

/** Ends the step unless the wallet's signature opens a shell. */
export async function expectIn(from: Machine, wallet: TestWallet, to: ConnectionDetails): Promise<Ended> {
  const ended = await signIn(from, wallet, to)
  expect(ended.in, `a shell as ${to.username} at ${to.hostname}`, ended.screen)
  return ended
}

/** Ends the step if the wallet's signature opens a shell. */
export async function expectRefused(from: Machine, wallet: TestWallet, to: ConnectionDetails): Promise<Ended> {
  const ended = await signIn(from, wallet, to)
  expect(!ended.in, `no shell as ${to.username} at ${to.hostname}`, ended.screen)
  return ended
}
