import { shopTimes } from '../../shop/shop.ts'
import type { ShopDemo } from '../context.ts'
import { type Customer, expectIn, reaches } from '../customer.ts'
import { expect } from '../expect.ts'
import { expectSilent } from '../host.ts'

const day = 86_400

/** The plan runs out, is renewed, runs out again; the VM follows, and goes after the days of grace. */
export async function expiry(demo: ShopDemo): Promise<string> {
  const { lab, chain, shop, story, customers } = demo
  const customer = customers[0]!
  const { hostname } = customer.access!
  await runOut(demo, customer)
  story.tell('host-a', 'shuts the VM down; nothing leads to it any more')

  await shop.contracts.extend(customer.wallet, customer.subscription, 1)
  story.tell('buyer', 'pays for another day')
  const renewedAt = performance.now()
  await reaches(shop, customer, 'live')
  await expectIn(lab.internet, customer.holder, customer.access!)
  const back = ((performance.now() - renewedAt) / 1000).toFixed(1)
  story.tell('owner', `is in again ${back} s later; the token is the same`)

  await runOut(demo, customer)
  story.tell('host-a', 'shuts it down again')
  await chain.passTo((await shop.contracts.expiryOf(customer.subscription)) + shopTimes.graceDays * day + 1)
  story.tell('demo', `${shopTimes.graceDays} day of grace passes on the chain`)
  await reaches(shop, customer, 'ended')
  const domains = await shop.domains()
  expect(!domains.includes(customer.vm), `no ${customer.vm}`, domains)
  story.tell('host-a', 'destroys VM and disk')
  await expectSilent(lab.internet, hostname)
  return `suspended, back ${back} s after the renewal, suspended, destroyed`
}

async function runOut({ lab, chain, shop, story }: ShopDemo, customer: Customer): Promise<void> {
  await chain.passTo((await shop.contracts.expiryOf(customer.subscription)) + 1)
  story.tell('demo', 'the day passes on the chain')
  await reaches(shop, customer, 'suspended')
  const running = await shop.domains('running')
  expect(!running.includes(customer.vm), `${customer.vm} not to run`, running)
  await expectSilent(lab.internet, customer.access!.hostname)
}
