import type { Lab } from '@blockhost/testkit/lab.ts'
import type { DemoBroker } from './broker.ts'
import type { DemoChain } from './chain.ts'
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
