/** Decides when something goes wrong, and counts it. */
import type { Random } from './random.ts'
import { type FaultKind, faultKinds, isByTime, type Scenario } from './scenario.ts'
import type { World } from './world.ts'

/** The faults of one seed. */
export type Faults = {
  /** Whether a fault strikes this call. Counted when it does. */
  strikes(kind: FaultKind): boolean
  /** Counts a fault that was done to the world. */
  count(kind: FaultKind): void
  /** Lets a kind come by itself, again and again, until the storm is over. */
  comes(kind: FaultKind, happen: () => void): void
  /** Ends everything: from here on nothing goes wrong. */
  end(): void
  readonly isStorm: () => boolean
  readonly counts: Readonly<Record<FaultKind, number>>
}

/** Makes the faults that a scenario asks for. */
export function createFaults(world: World, random: Random, scenario: Scenario): Faults {
  const counts = Object.fromEntries(faultKinds.map(kind => [kind, 0])) as Record<FaultKind, number>
  const streams = Object.fromEntries(faultKinds.map(kind => [kind, random.fork(kind)])) as Record<FaultKind, Random>
  let isStorm = true

  function comes(kind: FaultKind, happen: () => void): void {
    const mean = scenario.faults[kind]
    if (mean === 0 || !isByTime(kind)) return
    const wait = -Math.log(1 - streams[kind].next()) * mean
    world.after(wait, () => {
      if (!isStorm) return
      counts[kind] += 1
      happen()
      comes(kind, happen)
    })
  }

  return {
    strikes(kind) {
      if (!isStorm || scenario.faults[kind] === 0 || !streams[kind].chance(scenario.faults[kind])) return false
      counts[kind] += 1
      return true
    },
    count: kind => {
      counts[kind] += 1
    },
    comes,
    end: () => {
      isStorm = false
    },
    isStorm: () => isStorm,
    counts,
  }
}
