import { expectSameKernel, tunnelInterface } from '../broker.ts'
import type { Demo } from '../context.ts'
import { eventually } from '../expect.ts'
import { expectReached, expectSilent, reachedFromInternet } from '../host.ts'

/** The daemon dies by SIGKILL and everything it set up in the kernel is gone; its next start puts it back, the hosts do nothing. */
export async function heal(demo: Demo): Promise<string> {
  const { lab, broker, story, a, b } = demo
  const before = await broker.kernel()
  const starts = broker.starts()
  const startedAt = performance.now()
  story.tell('broker', 'kill -9 of the daemon, its interface deleted, the firewall flushed')
  await broker.killDaemon()
  await broker.machine.exec('ip', ['link', 'del', tunnelInterface])
  await broker.machine.exec('nft', ['flush', 'ruleset'])
  await expectSilent(lab.internet, a.vmAddress())

  await eventually('the daemon to be started again', () => (broker.starts() > starts ? true : undefined))
  story.tell('broker', 'the daemon is started again, as systemd would')
  await Promise.all([a, b].map(host => reachedFromInternet(lab, host.vmAddress(), 30_000)))
  const outage = ((performance.now() - startedAt) / 1000).toFixed(1)
  story.tell('internet', `reaches both VMs again, ${outage} s after the kill`)

  await eventually('everything to be back', async () => {
    expectSameKernel(before, await broker.kernel())
    return true
  })
  await expectReached(b.vm, a.lease().gateway, 1)
  return `both VMs reachable again ${outage} s after the kill, without the hosts doing anything`
}
