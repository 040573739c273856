import { expectSameKernel } from '../broker.ts'
import type { Demo } from '../context.ts'
import { eventually, expect } from '../expect.ts'
import { expectReached } from '../host.ts'
import { askForAnother } from './another.ts'

/** The chain drops the block of a request that was answered: the lease is undone, the others stay. */
export async function reorg(demo: Demo): Promise<string> {
  const { lab, broker, chain, story, a, b } = demo
  const before = await broker.kernel()
  const heightBefore = await chain.height()
  const other = await askForAnother(demo, 'reorg')
  const { prefix, wg_public_key: key } = other.lease
  expect((await broker.kernel()).peers.has(key), 'a peer for the answered request', 'none')

  const depth = Number((await chain.height()) - heightBefore)
  const startedAt = performance.now()
  await chain.reorg(depth)
  story.tell('chain', `replaces its last ${depth} blocks; the request for ${prefix} is in none of the new ones`)
  const request = await chain.findRequest(broker.requests, other.nft).catch(() => undefined)
  expect(request === undefined, 'the request to be gone from the chain', request)

  await eventually('the dropped request to leave no lease', async () => {
    expect(
      !(await broker.leases()).some(lease => lease.prefix === prefix),
      `no lease of ${prefix}`,
      'it is still there',
    )
    return true
  })
  await eventually('the kernel as it was before the request', async () => {
    expectSameKernel(before, await broker.kernel())
    return true
  })
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  story.tell('broker', `has undone the lease of ${prefix}, ${seconds} s after the reorg`)
  await Promise.all([a, b].map(host => expectReached(lab.internet, host.vmAddress(), 1)))
  return `${depth} blocks dropped; the lease of ${prefix} undone after ${seconds} s; both other VMs still answer`
}
