import { expectSameKernel } from '../broker.ts'
import type { ShopDemo } from '../context.ts'
import { allReach } from '../customer.ts'
import { eventually, expect } from '../expect.ts'
import { walletKeyFile } from '../host.ts'
import { hostFacts } from '../host-facts.ts'

/** The remaining subscriptions are cancelled and the prefix is given back: nothing is left on host or broker. */
export async function clean(demo: ShopDemo): Promise<string> {
  const { shop, story, broker, a, customers, emptyHost } = demo
  const startedAt = performance.now()
  for (const { subscription } of customers.slice(1)) await shop.contracts.cancel(subscription)
  story.tell('host-a', `cancels the other ${customers.length - 1} subscriptions`)
  await allReach(shop, customers, 'ended')
  await eventually('nothing of a VM to be left on host A', async () => {
    const now = await hostFacts(shop)
    const left = now.filter(line => !emptyHost.includes(line))
    expect(left.length === 0, 'no domain, disk, link, route, neighbour or rule', left.slice(0, 5))
    return true
  })
  story.tell('host-a', 'holds no domain, disk, link, route, neighbour entry or firewall rule of a VM')
  await a.client(['release', '--nft-contract', a.nft, '--wallet-key', walletKeyFile, '--cleanup-wg'])
  await eventually('nothing to be left on the broker', async () => {
    const rows = await broker.leases()
    expect(rows.length === 0, 'no row', rows)
    expectSameKernel(broker.emptyKernel, await broker.kernel())
    return true
  })
  story.tell('broker', 'holds no peer, route, NDP entry, firewall element or row')
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  return `nothing of ${customers.length} VMs is left on host or broker after ${seconds} s`
}
