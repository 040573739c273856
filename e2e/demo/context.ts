import type { Lab } from '@blockhost/testkit/lab.ts'
import type { Shop } from '../shop/shop.ts'
import type { DemoBroker } from './broker.ts'
import type { DemoChain } from './chain.ts'
import type { Customer } from './customer.ts'
import type { DemoHost } from './host.ts'
import type { Story } from './story.ts'

/** What is there before the first step. */
export type Stage = {
  readonly lab: Lab
  readonly chain: DemoChain
  readonly story: Story
}

/** What the steps after `deploy` work with. */
export type Demo = Stage & {
  readonly broker: DemoBroker
  readonly a: DemoHost
  readonly b: DemoHost
}

/** What the steps after `open` work with. */
export type ShopDemo = Demo & {
  readonly shop: Shop
  /** What host A held before its first VM, one fact a line. */
  readonly emptyHost: readonly string[]
  /** Everyone who bought, in order; steps add to it. */
  readonly customers: Customer[]
}
