import type { ShopDemo } from '../context.ts'
import { expectIn, expectRefused, makeWallets, reaches } from '../customer.ts'

/** The token changes hands: its new owner is let in, the old one is not. */
export async function transfer({ lab, shop, story, customers }: ShopDemo): Promise<string> {
  const customer = customers[0]!
  const { token } = await reaches(shop, customer, 'live')
  const [next] = await makeWallets(shop, 1)
  await shop.contracts.transferToken(customer.wallet, next!.address, BigInt(token!))
  customer.holder = next!
  story.tell('buyer', `gives token ${token} to ${next!.address}`)
  await expectRefused(lab.internet, customer.wallet, customer.access!)
  story.tell('buyer', 'is refused from the next login on')
  const { answerMs } = await expectIn(lab.internet, next!, customer.access!)
  story.tell('new owner', 'signs the code, and is in')
  return `token ${token}: old owner out, new owner in (${(answerMs! / 1000).toFixed(1)} s)`
}
