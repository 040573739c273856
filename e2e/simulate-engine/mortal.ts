/** The life of one process: what it holds stops answering when it ends. */
export type Life = {
  isOver: boolean
  /** Moments that are left; the one that finds none ends it. */
  left: number
  /** Resolves when it is over. */
  readonly over: Promise<void>
  end(): void
}

/** Begins a life of so many moments. */
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

/** Which calls of a target the process may die at, beside its asynchronous ones. */
export type Moments = {
  /** Synchronous calls that leave something behind: the process may die before them, or right after. */
  readonly writes?: readonly string[]
  /** Every call goes to another process: death before it means that it never arrived. */
  readonly isRemote?: boolean
}

/**
 * Returns `target` as a process sees it: each call may be its last, before the call has effect or after, and what a dead one waits for
 * never comes.
 */
export function mortal<T extends object>(target: T, life: Life, { writes = [], isRemote = false }: Moments = {}): T {
  const never = new Promise<never>(() => undefined)
  const spend = () => {
    if (life.left-- <= 0) life.end()
    return life.isOver
  }
  return new Proxy(target, {
    get(of, key) {
      const value: unknown = Reflect.get(of, key)
      if (typeof value !== 'function') return value
      const isWrite = writes.includes(String(key))
      return (...args: unknown[]) => {
        if (life.isOver) throw new Dead()
        if (isRemote && spend()) return never
        if (isWrite && spend()) throw new Dead()
        const result: unknown = value.apply(of, args)
        if (!(result instanceof Promise)) {
          if (isWrite && spend()) throw new Dead()
          return result
        }
        spend()
        const answer = (settled: () => unknown) => (life.isOver ? never : settled())
        return result.then(
          done => answer(() => done),
          error => answer(() => Promise.reject(error)),
        )
      }
    },
  })
}
