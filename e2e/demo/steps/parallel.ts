import type { ShopDemo } from '../context.ts'
import { allReach, buy, expectIn, makeWallets, readAccess } from '../customer.ts'
import { expect } from '../expect.ts'

const count = 3
/** Longer than the demo's clock goes: these end by being cancelled. */
const days = 365

/** Three buy at once; each gets one VM and one token, and gets in. */
export async function parallel(demo: ShopDemo): Promise<string> {
  const { lab, shop, story, customers } = demo
  const wallets = await makeWallets(shop, count)
  const startedAt = performance.now()
  const bought = await Promise.all(wallets.map(wallet => buy(shop, wallet, days)))
  customers.push(...bought)
  story.tell('buyers', `${count} of them pay at once: ${bought.map(({ vm }) => vm).join(', ')} boot side by side`)
  const items = await allReach(shop, bought, 'live')
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  expect(new Set(items.map(({ token }) => token)).size === count, `${count} different tokens`, items)
  story.tell('host-a', `runs all ${count} after ${seconds} s`)
  const details = []
  for (const customer of bought) details.push(await readAccess(demo, customer))
  expect(new Set(details.map(({ hostname }) => hostname)).size === count, `${count} different addresses`, details)
  for (const { wallet, access } of bought) await expectIn(lab.internet, wallet, access!)
  story.tell('buyers', 'each signs in to its own VM')
  return `${count} VMs, ${count} tokens, ${count} logins; all running ${seconds} s after the purchases`
}
