import { BlockHostError } from '@blockhost/kit/errors.ts'

/** Limits of {@link createLanes}. */
export type LaneLimits = {
  /** Calls that run at once, long ones aside. */
  readonly running: number
  /** Calls that wait in one lane. */
  readonly waiting: number
  /** Calls that run or wait, long ones among them. */
  readonly total: number
  /** Long calls: how many run at once, and how many run or wait. They take no short one's place. */
  readonly long: { readonly running: number; readonly total: number }
}

/** How a call is run. */
export type LaneOptions = {
  /** Calls of one lane run in order; `undefined`: beside everything. */
  readonly lane: string | undefined
  /** Whether it may take minutes. */
  readonly isLong: boolean
}

/** Runs calls of one lane in order, those of different lanes beside each other, short ones beside long ones. */
export type Lanes = {
  /** @throws {BlockHostError} `BH_AGENT_BUSY` (retryable) when too much waits already. */
  run<T>(options: LaneOptions, work: () => Promise<T>): Promise<T>
  /** Calls that run or wait. */
  count(): number
}

/** Makes {@link Lanes}. */
export function createLanes(limits: LaneLimits): Lanes {
  const tails = new Map<string, { last: Promise<unknown>; length: number }>()
  const slots = { short: createSlots(limits.running), long: createSlots(limits.long.running) }
  const counts = { all: 0, long: 0 }

  const inLane = async <T>(lane: string, work: () => Promise<T>): Promise<T> => {
    const tail = tails.get(lane) ?? { last: Promise.resolve(), length: 0 }
    if (tail.length > limits.waiting) throw tooMuch(lane)
    tails.set(lane, tail)
    tail.length++
    const result = tail.last.then(work)
    tail.last = result.catch(() => undefined)
    try {
      return await result
    } finally {
      tail.length--
      if (tail.length === 0) tails.delete(lane)
    }
  }
  return {
    async run({ lane, isLong }, work) {
      if (counts.all >= limits.total) throw tooMuch('all')
      if (isLong && counts.long >= limits.long.total) throw tooMuch('long ones')
      counts.all++
      counts.long += Number(isLong)
      const inSlot = () => slots[isLong ? 'long' : 'short'].run(work)
      try {
        return await (lane === undefined ? inSlot() : inLane(lane, inSlot))
      } finally {
        counts.all--
        counts.long -= Number(isLong)
      }
    },
    count: () => counts.all,
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
