import type { ShopDemo } from '../context.ts'
import { buy, expectIn, makeWallets, reaches, readAccess } from '../customer.ts'
import { eventually, expect } from '../expect.ts'

/** The engine is killed while it makes a VM; its next start finishes that VM, and mints one token. */
export async function engineKilled(demo: ShopDemo): Promise<string> {
  const { lab, shop, story, customers } = demo
  const [wallet] = await makeWallets(shop, 1)
  const tokens = await shop.contracts.totalTokens()
  const domains = (await shop.domains()).length
  const customer = await buy(shop, wallet!, 365)
  customers.push(customer)
  const isBooting = async () => ((await shop.domains('running')).includes(customer.vm) ? true : undefined)
  await eventually(`libvirt to run ${customer.vm}`, isBooting, { withinMs: 60_000 })
  const starts = shop.engine.starts()
  await shop.engine.kill()
  story.tell('demo', `kill -9 of blockhost-engine while ${customer.vm} boots`)
  await eventually('the engine to be started again', () => (shop.engine.starts() > starts ? true : undefined))
  story.tell('host-a', 'starts it again, as its unit says')
  const { token } = await reaches(shop, customer, 'live')
  const minted = (await shop.contracts.totalTokens()) - tokens
  expect(minted === 1n, 'one token for it', `${minted}`)
  const made = (await shop.domains()).length - domains
  expect(made === 1, 'one VM for it', `${made}`)
  await expectIn(lab.internet, wallet!, await readAccess(demo, customer))
  story.tell('buyer', `signs in to ${customer.vm}, token ${token}`)
  return `one VM, one token, and its buyer is in`
}
