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
  const started = new Map<string, number>()

  return {
    restart: () => started.clear(),
    async findUnused(timeoutMs) {
      const waiting = store.unseenLeases().filter(lease => isAnswered(store, lease))
      // Whoever waits no longer begins anew when it waits again, whatever fails below.
      const keys = new Set(waiting.map(waitKey))
      for (const key of started.keys()) if (!keys.has(key)) started.delete(key)
      if (waiting.length === 0) return []
      const peers = await dataplane.peers()
      const now = clock.monotonic()
      const seen: { lease: Lease; latestHandshake: number }[] = []
      const unused: Lease[] = []
      for (const lease of waiting) {
        const peer = peers.get(lease.publicKey)
        const since = started.get(waitKey(lease)) ?? now
        if (peer?.latestHandshake !== undefined) seen.push({ lease, latestHandshake: peer.latestHandshake })
        // A peer that is missing is ours to repair, not the host's failure: its time begins when it is back.
        if (peer === undefined) started.delete(waitKey(lease))
        else started.set(waitKey(lease), since)
        if (peer !== undefined && peer.latestHandshake === undefined && now - since >= timeoutMs) unused.push(lease)
      }
      if (seen.length > 0)
        store.transaction(() => {
          for (const { lease, latestHandshake } of seen) store.markSeen(lease, latestHandshake * 1000)
        })
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
