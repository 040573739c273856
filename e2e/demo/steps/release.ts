import { expectSameKernel } from '../broker.ts'
import type { Demo } from '../context.ts'
import { eventually, expect } from '../expect.ts'
import { type DemoHost, expectSilent, walletKeyFile } from '../host.ts'

/** Both hosts give their prefixes back; nothing of them is left on the broker or in its answers. */
export async function release(demo: Demo): Promise<string> {
  const { lab, broker, chain, story, a, b } = demo
  const vms = [a, b].map(host => host.vmAddress())
  const startedAt = performance.now()
  await Promise.all([a, b].map(host => giveBack(demo, host)))
  for (const host of [a, b]) {
    const request = await chain.findRequest(broker.requests, host.nft)
    expect(request === undefined, `no live request of ${host.name} on chain`, request?.status)
  }
  await eventually('nothing to be left on the broker', async () => {
    const rows = await broker.leases()
    expect(rows.length === 0, 'no row', rows)
    expectSameKernel(broker.emptyKernel, await broker.kernel())
    return true
  })
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  story.tell('broker', 'holds no peer, no route, no NDP entry, no firewall element, no row')
  for (const vm of vms) await expectSilent(lab.internet, vm)
  for (const host of [a, b]) {
    const { stdout } = await host.machine.exec('ip', ['-br', 'link'])
    expect(!stdout.includes('wg-broker'), `no tunnel on ${host.name}`, stdout)
  }
  story.tell('internet', 'reaches neither VM any more')
  return `both prefixes free after ${seconds} s: no peer, route, NDP entry, firewall element or row is left`
}

async function giveBack({ story }: Demo, host: DemoHost): Promise<void> {
  story.tell(host.name, 'broker-client release --cleanup-wg')
  await host.client(['release', '--nft-contract', host.nft, '--wallet-key', walletKeyFile, '--cleanup-wg'])
}
