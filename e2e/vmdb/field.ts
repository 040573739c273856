import type { VmPools } from '@blockhost/vmdb/pools.ts'

/** Pools with room for everything these tests make; nothing rests, so that numbers are used again at once. */
export const fieldPools: VmPools = {
  vmid: { first: 100, last: 99_999 },
  ipv4: { network: '10.0.0.0/16', gateway: '10.0.0.1' },
  ipv6: { prefix: '2001:db8::/112', first: 2, last: 60_000 },
  restSeconds: 0,
}

/** The wallet of all of them. */
export const fieldWallet = `0x${'ab'.repeat(20)}`
