/** The life of one process: what it holds stops answering when it ends. */
export type Life = {
  isOver: boolean
  /** Calls that are left; what is counted ends it. */
  left: number
  /** Resolves when it is over. */
  readonly over: Promise<void>
  end(): void
}

/** Begins a life of so many calls. */
export function beginLife(left = Number.POSITIVE_INFINITY): Life {
  const { promise: over, resolve } = Promise.withResolvers<void>()
  const life: Life = {
    isOver: false,
    left,
    over,
    end() {
      life.isOver = true
      resolve()
    },
  }
  return life
}

/** Thrown where a dead process would have gone on without waiting for anybody. */
export class Dead extends Error {
  override readonly name = 'Dead'
}

/**
 * Returns `target` as a process sees it: each asynchronous call may be its last, before the call has effect or after, and what a dead one
 * waits for never comes.
 */
export function mortal<T extends object>(target: T, life: Life): T {
  const never = new Promise<never>(() => undefined)
  return new Proxy(target, {
    get(of, key) {
      const value: unknown = Reflect.get(of, key)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (life.isOver) throw new Dead()
        const result: unknown = value.apply(of, args)
        if (!(result instanceof Promise)) return result
        if (life.left-- <= 0) life.end()
        const answer = (settled: () => unknown) => (life.isOver ? never : settled())
        return result.then(
          done => answer(() => done),
          error => answer(() => Promise.reject(error)),
        )
      }
    },
  })
}
