import { join } from 'node:path'
import { systemClock } from '@blockhost/kit/clock.ts'
import { formatIpv4Address } from '@blockhost/net/ipv4.ts'
import type { VmPools } from '@blockhost/vmdb/pools.ts'
import { openVmDatabase, type VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import type { BenchContext, BenchGroup } from './figure.ts'
import { median, round } from './statistics.ts'

/** One durable reservation (VM id, IPv4, IPv6, row) with few and many VMs there already. */
export const vmdb: BenchGroup = {
  keys: ['vmdb.allocateUs.10', 'vmdb.allocateUs.100000'],
  async run(context) {
    using few = openFilled(context, 10)
    using many = openFilled(context, 100_000)
    const { ofFew, ofMany } = measure(few, many)
    return {
      'vmdb.allocateUs.10': { value: round(median(ofFew)), unit: 'us' },
      'vmdb.allocateUs.100000': {
        value: round(median(ofMany)),
        unit: 'us',
        limit: round(2 * median(ofFew)),
        comparedWith: `with 10 VMs: ${round(median(ofFew))} us, taken in turns`,
      },
    }
  },
}

const pools: VmPools = {
  vmid: { first: 1, last: 10_000_000 },
  ipv4: { network: '10.0.0.0/8', gateway: '10.0.0.1' },
  ipv6: { prefix: '2001:db8::/64' },
}
const wallet = `0x${'ab'.repeat(20)}`

function openFilled(context: BenchContext, count: number): VmDatabase {
  context.note(`filling a database with ${count.toLocaleString('en')} VMs`)
  const db = openVmDatabase(join(context.folder, `vmdb-${count}.db`), pools, systemClock)
  const time = '2026-01-01T00:00:00Z'
  const vms = Array.from({ length: count }, (_, at) => [
    `blockhost-${at}`,
    {
      vmid: at + 1,
      ip_address: formatIpv4Address(10 * 2 ** 24 + 2 + at),
      ipv6_address: `2001:db8::${(256 + at).toString(16).replace(/(.+)(.{4})$/, '$1:$2')}`,
      status: 'active',
      expires_at: time,
      created_at: time,
    },
  ])
  db.importVmsJson(JSON.stringify({ vms: Object.fromEntries(vms) }))
  return db
}

const rounds = 300
const warmUp = 20

/** Each commit waits for the disk, so the two take turns: a slow moment of the disk hits both. In microseconds. */
function measure(few: VmDatabase, many: VmDatabase) {
  const ofFew: number[] = []
  const ofMany: number[] = []
  for (let at = -warmUp; at < rounds; at++) {
    const input = { name: `blockhost-${500_000 + at}`, ownerWallet: wallet, expiresAt: 2_000_000_000 }
    const took = [few, many].map(db => {
      const start = performance.now()
      db.reserveVm(input)
      return (performance.now() - start) * 1000
    })
    if (at < 0) continue
    ofFew.push(took[0]!)
    ofMany.push(took[1]!)
  }
  return { ofFew, ofMany }
}
