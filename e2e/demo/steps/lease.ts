import { contains, parsePrefix } from '@blockhost/net/prefix.ts'
import { labAddresses } from '@blockhost/testkit/lab.ts'
import type { Demo } from '../context.ts'
import { eventually, expect } from '../expect.ts'
import { type DemoHost, expectReached, walletKeyFile } from '../host.ts'

/** Both hosts ask at the same time, get different prefixes, and set their tunnels up. */
export async function lease(demo: Demo): Promise<string> {
  const { broker, chain, a, b } = demo
  const results = await Promise.all([a, b].map(host => ask(demo, host)))

  const upstream = parsePrefix(labAddresses.broker.prefix)!
  const prefixes = [a, b].map(host => parsePrefix(host.lease().prefix)!)
  expect(
    prefixes.every(prefix => contains(upstream, prefix)),
    `prefixes inside ${labAddresses.broker.prefix}`,
    [a, b].map(host => host.lease().prefix),
  )
  expect(a.lease().prefix !== b.lease().prefix, 'two different prefixes', a.lease().prefix)
  for (const host of [a, b]) {
    const request = await chain.findRequest(broker.requests, host.nft)
    expect(request?.status === 'approved', `${host.name}'s request approved on chain`, request?.status ?? 'no request')
    await expectReached(host.machine, host.lease().gateway, 1)
  }
  await eventually('a handshake with each host', async () =>
    (await broker.kernel()).handshakes.size === 2 ? true : undefined,
  )
  const answered = results.map(({ answerMs }) => (answerMs / 1000).toFixed(1)).join(' and ')
  return `${a.lease().prefix} and ${b.lease().prefix}; answered ${answered} s after the hosts began to ask, blocks of 1 s`
}

async function ask({ story }: Demo, host: DemoHost): Promise<{ answerMs: number }> {
  story.tell(host.name, `broker-client request --nft-contract ${host.nft} --wallet-key ${walletKeyFile}`)
  const startedAt = performance.now()
  await host.client(['request', '--nft-contract', host.nft, '--wallet-key', walletKeyFile, '--poll-interval', '0.5'])
  const answerMs = performance.now() - startedAt
  story.tell(host.name, `has ${host.lease().prefix}; broker-client install`)
  await host.client(['install'])
  story.tell(host.name, `tunnel is up to ${host.lease().broker_endpoint}`)
  return { answerMs }
}
