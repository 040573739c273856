import type { ShopDemo } from '../context.ts'
import { buy, makeWallets, plan } from '../customer.ts'

/** Somebody with a fresh wallet pays for a day. */
export async function purchase({ shop, story, customers }: ShopDemo): Promise<string> {
  const [wallet] = await makeWallets(shop, 1)
  story.tell('buyer', `has a fresh wallet, ${wallet!.address}`)
  const customer = await buy(shop, wallet!, 1)
  customers.push(customer)
  story.tell('buyer', `buySubscription(plan ${plan}, 1 day): pays a dollar, and encrypts a signature to the host`)
  const expires = new Date((await shop.contracts.expiryOf(customer.subscription)) * 1000).toISOString()
  return `subscription ${customer.subscription}, until ${expires}`
}
