import { demoTimes, expectSameKernel } from '../broker.ts'
import type { Demo } from '../context.ts'
import { eventually, expect } from '../expect.ts'
import { askForAnother } from './another.ts'

/** A host asks, gets an answer and never brings its tunnel up: the lease is taken back, here and on chain. */
export async function unused(demo: Demo): Promise<string> {
  const { broker, chain, story, b } = demo
  const before = await broker.kernel()
  const other = await askForAnother(demo, 'unused')
  const { prefix, wg_public_key: key } = other.lease
  story.tell('host-b', `has ${prefix} for another NFT contract and never sets the tunnel up`)
  const startedAt = performance.now()
  expect((await broker.kernel()).peers.has(key), 'the broker to wait for its tunnel', 'no such peer')

  const withinMs = demoTimes.tunnelTimeoutS * 1000 + 15_000
  await eventually(
    `the request of ${other.nft} to be released on chain`,
    async () => ((await chain.findRequest(broker.requests, other.nft)) === undefined ? true : undefined),
    { withinMs },
  )
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  expectSameKernel(before, await broker.kernel())
  expect(!(await broker.leases()).some(lease => lease.prefix === prefix), 'no lease of it left', prefix)
  story.tell('broker', `took ${prefix} back after ${seconds} s without a handshake`)
  expect(b.lease().prefix !== prefix, "host-b's own lease untouched", b.lease().prefix)
  return `${prefix} taken back ${seconds} s after the answer (a tunnel has ${demoTimes.tunnelTimeoutS} s here, 120 s by default)`
}
