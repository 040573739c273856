import type { ShopDemo } from '../context.ts'
import { reaches } from '../customer.ts'
import { eventually, expect } from '../expect.ts'

/** The engine makes the VM and mints the token; timed from the block of the purchase. */
export async function vm({ shop, story, customers }: ShopDemo): Promise<string> {
  const customer = customers[0]!
  const since = () => ((performance.now() - customer.boughtAt) / 1000).toFixed(1)
  const isStarted = async () => ((await shop.domains('running')).includes(customer.vm) ? true : undefined)
  await eventually(`libvirt to run ${customer.vm}`, isStarted, { withinMs: 60_000 })
  const started = since()
  story.tell(
    'host-a',
    `${customer.vm} is started ${started} s after the payment, and boots (some 15 s in software emulation)`,
  )
  const { token } = await reaches(shop, customer, 'live')
  const live = since()
  expect(token !== null, 'an access token', 'none')
  const owner = await shop.contracts.tokenOwner(BigInt(token))
  expect(owner === customer.wallet.address.toLowerCase(), 'the token to be the buyer’s', owner)
  story.tell('host-a', `${customer.vm} runs; token ${token} is the buyer’s: ${live} s`)
  return `started after ${started} s, running and with its token after ${live} s, in software emulation`
}
