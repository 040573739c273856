import { labAddresses } from '@blockhost/testkit/lab.ts'
import type { Demo } from '../context.ts'
import { expect } from '../expect.ts'
import { expectReached, reachedFromInternet } from '../host.ts'
import { measureTransfer } from '../transfer.ts'

/** A server on the internet reaches the VM behind each host over IPv6, and sends to it over TCP. */
export async function reach(demo: Demo): Promise<string> {
  const { lab, story, a, b } = demo
  const { broker } = labAddresses
  await Promise.all([a.startVm(), b.startVm()])
  for (const host of [a, b]) {
    story.tell('operator', `of ${host.name} gives its VM ${host.vmAddress()}`)
    await reachedFromInternet(lab, host.vmAddress())
  }
  const pings = await Promise.all([a, b].map(host => expectReached(lab.internet, host.vmAddress(), 5)))
  const [pingA, pingB] = pings.map(({ averageMs }) => `${averageMs.toFixed(1)} ms`)
  story.tell('internet', `pings vm-a (${pingA}) and vm-b (${pingB})`)
  await expectReached(a.vm, labAddresses.internet.ipv6, 1)

  const tunnel = await measureTransfer({
    listener: a.vm,
    address: a.vmAddress(),
    connector: lab.internet,
    sender: 'connector',
  })
  story.tell('internet', `sends to vm-a over TCP: ${rate(tunnel)}`)
  const bare = await measureTransfer({
    listener: lab.broker,
    address: broker.ipv4,
    connector: a.machine,
    sender: 'listener',
  })
  story.tell('broker', `sends to host-a on the bare path, without WireGuard: ${rate(bare)}`)
  expect(tunnel > 1, 'more than 1 Mbit/s through the tunnel', rate(tunnel))
  return `ping6 ${pingA} and ${pingB}; TCP ${rate(tunnel)} through the tunnel, ${rate(bare)} on the bare path`
}

function rate(mbitPerSecond: number): string {
  return `${Math.round(mbitPerSecond)} Mbit/s`
}
