import type { Clock } from '@blockhost/kit/clock.ts'
import type { PeerStatus } from '@blockhost/net/wireguard.ts'

/** What the kernel says about one peer; `latestHandshake` in Unix seconds. */
export type PeerFacts = Pick<PeerStatus, 'latestHandshake' | 'rxBytes' | 'txBytes'>

/** All peers by public key, as they were at one moment. */
export type PeerReading = { readonly peers: ReadonlyMap<string, PeerFacts> }

/** The peers for those who look, however many they are: the kernel is asked at most once in {@link peersFreshMs}. */
export type PeerView = {
  /** Returns the same object while it is fresh. Rejects when the peers can't be read; the next call tries again. */
  read(): Promise<PeerReading>
}

/** How long one reading answers for. */
export const peersFreshMs = 3_000

/** Makes a {@link PeerView} of `readPeers`, which starts a process each time. */
export function createPeerView(readPeers: () => Promise<ReadonlyMap<string, PeerFacts>>, clock: Clock): PeerView {
  let latest: { at: number; reading: Promise<PeerReading> } | undefined
  return {
    read: () => {
      const now = clock.monotonic()
      if (latest !== undefined && now - latest.at < peersFreshMs) return latest.reading
      const mine = { at: now, reading: readPeers().then(peers => ({ peers })) }
      latest = mine
      mine.reading.catch(() => {
        if (latest === mine) latest = undefined
      })
      return mine.reading
    },
  }
}
