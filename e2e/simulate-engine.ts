/** The real engine in simulated worlds, one for each seed: `node e2e/simulate-engine.ts [--seeds N] [--from N] [--seed S] [--verbose]`. */
import { parseArgs } from 'node:util'
import { runSeed } from './simulate-engine/run.ts'

const text = { type: 'string' } as const
const { values } = parseArgs({
  options: {
    seeds: { ...text, default: '100' },
    from: { ...text, default: '1' },
    seed: text,
    verbose: { type: 'boolean' },
  },
})
const seeds =
  values.seed === undefined
    ? Array.from({ length: Number(values.seeds) }, (_, at) => String(Number(values.from) + at))
    : [values.seed]
let failed = 0
let kills = 0
let purchases = 0
let running = 0
for (const seed of seeds) {
  const result = await runSeed(seed)
  kills += result.kills
  purchases += result.purchases
  running += result.running
  if (values.verbose) process.stdout.write(`${result.trace.join('\n')}\n`)
  if (result.problems.length === 0) continue
  failed += 1
  process.stdout.write(`seed ${seed}:\n${result.problems.map(problem => `  ${problem}\n`).join('')}`)
}
process.stdout.write(
  `${seeds.length} seeds, ${kills} kills, ${purchases} purchases, ${running} VMs running in the end, ${failed} failed\n`,
)
process.exitCode = failed === 0 ? 0 : 1
