import { labAddresses } from '@blockhost/testkit/lab.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { tunnelInterface } from '../broker.ts'
import type { Demo } from '../context.ts'
import { expect } from '../expect.ts'
import { expectReached, expectSilent, ping } from '../host.ts'

/** Host A neither reaches host B's tunnel or VM through the broker, nor is believed when it claims B's addresses. */
export async function isolation(demo: Demo): Promise<string> {
  const direct = await sendsDirectly(demo)
  const spoofed = await spoofs(demo)
  return `${direct}; ${spoofed}`
}

async function sendsDirectly({ lab, broker, story, a, b }: Demo): Promise<string> {
  const tunnelB = b.lease().prefix.replace(/0\/\d+$/, '1')
  const arrivals = await countArrivals(b.machine, a.lease().prefix)
  const droppedBefore = await tenantDrops(broker.machine)
  story.tell('vm-a', `pings vm-b (${b.vmAddress()}) and host-b's end of the tunnel (${tunnelB})`)
  await expectSilent(a.vm, b.vmAddress())
  await expectSilent(a.vm, tunnelB)
  const arrived = await arrivals.stop()
  expect(arrived === 0, 'no packet of A to arrive at host-b', `${arrived} packets`)
  const dropped = (await tenantDrops(broker.machine)) - droppedBefore
  expect(dropped === 4, 'the broker to drop the 4 packets', `${dropped} dropped`)

  // The same counter does count: what the internet sends arrives.
  const control = await countArrivals(b.machine, '2001:db8:ffff::/64')
  await expectReached(lab.internet, b.vmAddress())
  const counted = await control.stop()
  expect(counted > 0, 'packets of the internet to arrive at host-b', `${counted} packets`)
  story.tell('host-b', `saw 0 packets of A (the broker dropped ${dropped}), ${counted} of the internet`)
  return `of 4 packets A -> B 0 arrived (dropped by the broker's firewall)`
}

async function spoofs({ lab, story, a, b }: Demo): Promise<string> {
  const { ipv6: target } = labAddresses.internet
  const stolen = b.vmAddress()
  const arrivals = await countArrivals(lab.internet, stolen)
  story.tell('host-a', `claims vm-b's address ${stolen} and sends from it`)
  await withAddress(a.machine, stolen, target, async () => {
    await ping(a.machine, target, 5, ['-I', stolen])
  })
  const arrived = await arrivals.stop()
  expect(arrived === 0, `no packet that A sends as ${stolen} to arrive on the internet`, `${arrived} packets`)

  const own = a.vmAddress()
  const control = await countArrivals(lab.internet, own)
  await expectReached(a.vm, target)
  const counted = await control.stop()
  expect(counted > 0, `packets that A sends as ${own} to arrive`, `${counted} packets`)
  await expectReached(lab.internet, b.vmAddress(), 1)
  story.tell('internet', `saw 0 packets from the stolen address, ${counted} from A's own`)
  return 'of 5 with a stolen source 0 arrived'
}

/** Returns how many packets between tenants the broker's firewall has dropped. */
async function tenantDrops(machine: Machine): Promise<number> {
  const { stdout } = await machine.exec('nft', ['list', 'ruleset'])
  return Number(stdout.match(/counter packets (\d+) bytes \d+ drop comment "tenant to tenant/)?.[1])
}

/** Lets `host` hold an address that is not its own, with its traffic to `target` sent into the tunnel. */
async function withAddress(host: Machine, address: string, target: string, work: () => Promise<void>): Promise<void> {
  const add = [
    `addr add ${address}/128 dev ${tunnelInterface} nodad`,
    `route add ${target}/128 dev ${tunnelInterface} src ${address}`,
  ]
  const remove = [`route del ${target}/128 dev ${tunnelInterface}`, `addr del ${address}/128 dev ${tunnelInterface}`]
  await host.exec('ip', ['-batch', '-'], { input: `${add.join('\n')}\n` })
  await work()
  await host.exec('ip', ['-batch', '-'], { input: `${remove.join('\n')}\n` })
}

/** Counts the packets of a source that reach a machine, before any other rule of it. */
async function countArrivals(machine: Machine, source: string): Promise<{ stop(): Promise<number> }> {
  const rules = `table ip6 arrivals {
    chain seen {
      type filter hook prerouting priority raw - 10
      ip6 saddr ${source} counter
    }
  }`
  await machine.exec('nft', ['-f', '-'], { input: rules })
  return {
    stop: async () => {
      const { stdout } = await machine.exec('nft', ['list', 'table', 'ip6', 'arrivals'])
      await machine.exec('nft', ['delete', 'table', 'ip6', 'arrivals'])
      return Number(stdout.match(/counter packets (\d+)/)?.[1])
    },
  }
}
