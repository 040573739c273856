import type { LeasedPrefix } from './dataplane-lease.ts'

/** Removals from the firewall whose process still runs. */
export type Closing = {
  /** Takes over a removal; its failure is kept for {@link Closing.check}. */
  add(prefixes: readonly LeasedPrefix[], nft: Promise<void>): void
  /** Waits for those of the given prefixes, or for all, and then forgets about failures: the caller looks at the whole. */
  end(prefixes?: readonly LeasedPrefix[]): Promise<void>
  /** Throws what failed since the last `end()` of all. */
  check(): void
}

/**
 * Lets removals end by themselves. They are in force after 3 ms, but nft can't exit before the kernel has freed the elements, which is
 * an RCU grace period of 10 to 20 ms (nf_tables_trans_destroy_flush_work); nobody has to wait for that but a change of the same prefix.
 */
export function createClosing(onFailure: (error: unknown) => void): Closing {
  const running = new Map<string, Promise<void>>()
  let failure: { readonly error: unknown } | undefined
  return {
    add(prefixes, nft) {
      const ended = nft
        .catch(error => {
          failure = { error }
          onFailure(error)
        })
        .then(() => {
          for (const { text } of prefixes) if (running.get(text) === ended) running.delete(text)
        })
      for (const { text } of prefixes) running.set(text, ended)
    },
    async end(prefixes) {
      await Promise.all(prefixes === undefined ? running.values() : prefixes.map(({ text }) => running.get(text)))
      if (prefixes === undefined) failure = undefined
    },
    check() {
      if (failure !== undefined) throw failure.error
    },
  }
}
