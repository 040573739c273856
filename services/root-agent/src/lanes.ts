import { BlockHostError } from '@blockhost/kit/errors.ts'

/** Limits of {@link createLanes}. */
export type LaneLimits = {
  /** Calls that run at once. */
  readonly running: number
  /** Calls that wait in one lane. */
  readonly waiting: number
  /** Calls that run or wait. */
  readonly total: number
}

/** Runs calls of one lane in order, those of different lanes beside each other. */
export type Lanes = {
  /** @throws {BlockHostError} `BH_AGENT_BUSY` (retryable) when too much waits already. */
  run<T>(lane: string | undefined, work: () => Promise<T>): Promise<T>
  /** Calls that run or wait. */
  count(): number
}

/** Makes {@link Lanes}. */
export function createLanes(limits: LaneLimits): Lanes {
  const tails = new Map<string, { last: Promise<unknown>; length: number }>()
  const slots = createSlots(limits.running)
  let total = 0

  const inLane = async <T>(lane: string, work: () => Promise<T>): Promise<T> => {
    const tail = tails.get(lane) ?? { last: Promise.resolve(), length: 0 }
    if (tail.length > limits.waiting) throw tooMuch(lane)
    tails.set(lane, tail)
    tail.length++
    const result = tail.last.then(() => slots.run(work))
    tail.last = result.catch(() => undefined)
    try {
      return await result
    } finally {
      tail.length--
      if (tail.length === 0) tails.delete(lane)
    }
  }
  return {
    async run(lane, work) {
      if (total >= limits.total) throw tooMuch('all')
      total++
      try {
        return await (lane === undefined ? slots.run(work) : inLane(lane, work))
      } finally {
        total--
      }
    },
    count: () => total,
  }
}

/** At most `count` at once, the others in order. */
function createSlots(count: number) {
  const queue: (() => void)[] = []
  let free = count
  return {
    async run<T>(work: () => Promise<T>): Promise<T> {
      if (free > 0) free--
      else await new Promise<void>(resolve => queue.push(resolve))
      try {
        return await work()
      } finally {
        const next = queue.shift()
        if (next === undefined) free++
        else next() // the slot goes on to the next one
      }
    },
  }
}

function tooMuch(lane: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_AGENT_BUSY',
    message: `Too many calls are waiting (${lane})`,
    hint: 'Try again when some have ended.',
    fields: { lane },
    retryable: true,
  })
}
