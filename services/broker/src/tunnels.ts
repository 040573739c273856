import type { Clock } from '@blockhost/kit/clock.ts'
import type { Dataplane } from './dataplane.ts'
import type { Lease, Store } from './store.ts'

/** Watches whether the tunnels of new leases come up. */
export type TunnelWatch = {
  /**
   * Looks at the handshakes once (one process; none when no tunnel is waited for) and notes the tunnels that came up.
   *
   * @param timeoutMs - How long a host may take from the moment its answer is on the chain.
   * @returns Leases whose time is over. A failing `wg` throws, so it never counts as "no handshake".
   */
  findUnused(timeoutMs: number): Promise<Lease[]>
  /** Starts all waiting times again: the tunnels could not come up for a reason of ours. */
  restart(): void
}

/**
 * Makes the watch. Waiting times are measured on the monotonic clock and start again when the daemon does: a jump of the wall
 * clock, or an hour in which the broker was down, never costs a host its lease. That a lease waits is durable (`tunnel_seen`).
 */
export function createTunnelWatch(deps: { store: Store; dataplane: Dataplane; clock: Clock }): TunnelWatch {
  const { store, dataplane, clock } = deps
  let started = new Map<string, number>()

  return {
    restart: () => started.clear(),
    async findUnused(timeoutMs) {
      const waiting = store.unseenLeases().filter(lease => isAnswered(store, lease))
      if (waiting.length === 0) {
        started.clear()
        return []
      }
      const peers = await dataplane.peers()
      const now = clock.monotonic()
      const still = new Map<string, number>()
      const unused: Lease[] = []
      store.transaction(() => {
        for (const lease of waiting) {
          const peer = peers.get(lease.publicKey)
          if (peer?.latestHandshake !== undefined) {
            store.markSeen(lease, peer.latestHandshake * 1000)
            continue
          }
          // A peer that is missing is ours to repair, not the host's failure: its time begins when it is back.
          if (peer === undefined) continue
          const since = started.get(waitKey(lease)) ?? now
          still.set(waitKey(lease), since)
          if (now - since >= timeoutMs) unused.push(lease)
        }
      })
      started = still
      return unused
    },
  }
}

function isAnswered(store: Store, lease: Lease): boolean {
  return lease.request !== undefined && store.requests.find(lease.request)?.state === 'answered'
}

function waitKey(lease: Lease): string {
  return `${lease.id}:${lease.publicKey}`
}
