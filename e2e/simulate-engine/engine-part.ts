import { type Part, readKeptSeeds } from '../simulate/part.ts'
import { runSeed } from './run.ts'

/** The engine's simulator. */
export const enginePart: Part = {
  name: 'engine',
  keptSeeds: readKeptSeeds(new URL('./seeds.txt', import.meta.url)),
  async run(seed) {
    const { violations, trace, faults, purchases, running, tokens } = await runSeed(seed)
    return { violations, trace, faults, counts: { purchases, tokens, 'VMs running in the end': running }, peaks: {} }
  },
}
