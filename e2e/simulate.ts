/** `npm run simulate`: the real broker and the real engine in simulated worlds, one for each seed. */
import { parseArgs } from 'node:util'
import { exitCodes } from '@blockhost/kit/errors.ts'
import { openBrokerPart } from './simulate/broker-part.ts'
import type { Part, PartResult } from './simulate/part.ts'
import { enginePart } from './simulate-engine/engine-part.ts'

const usage = `Usage: npm run simulate -- [--only broker|engine] [--seeds N] [--engine-seeds N] [--from N] [--seed S] [--first] [--verbose] [--json]
  --only PART        one of the two; both otherwise
  --seeds N          run N seeds of each after the kept ones (default 200)
  --engine-seeds N   as many of the engine instead
  --from N           the first of them (default 1)
  --seed S           run this one seed
  --first            stop a part at its first seed that fails
  --verbose          print the whole trace of each seed
  --json             print the summary as JSON
`

const shownEvents = 40

const text = { type: 'string' } as const
const flag = { type: 'boolean', default: false } as const
const { values } = parseArgs({
  options: {
    only: text,
    seeds: { ...text, default: '200' },
    'engine-seeds': text,
    from: { ...text, default: '1' },
    seed: text,
    first: flag,
    verbose: flag,
    json: flag,
    help: flag,
  },
})
const problem = findProblem()
if (values.help) process.stdout.write(usage)
else if (problem !== undefined) {
  process.stderr.write(`${problem}\n${usage}`)
  process.exitCode = exitCodes.usage
} else process.exitCode = await main()

function findProblem(): string | undefined {
  const numbers = [values.seeds, values.from, values['engine-seeds'] ?? '0']
  if (!numbers.every(number => /^\d{1,9}$/.test(number))) return '--seeds, --engine-seeds and --from take whole numbers'
  if (!['broker', 'engine', undefined].includes(values.only)) return '--only takes broker or engine'
  return undefined
}

async function main(): Promise<number> {
  using broker = openBrokerPart()
  const startedAt = performance.now()
  const all: Sums[] = []
  for (const part of [broker, enginePart]) {
    if (values.only !== undefined && values.only !== part.name) continue
    all.push(await runPart(part))
  }
  const failed = all.reduce((total, { failures }) => total + failures.length, 0)
  const passed = all.reduce((total, { seeds }) => total + seeds, 0) - failed
  const seconds = (performance.now() - startedAt) / 1000
  if (values.json) process.stdout.write(`${JSON.stringify({ parts: all, passed, failed, seconds })}\n`)
  else process.stdout.write(`${passed} passed, ${failed} failed\n`)
  return failed === 0 ? exitCodes.ok : exitCodes.failed
}

type Figures = Record<string, number>
type Sums = {
  readonly part: Part['name']
  seeds: number
  seconds: number
  counts: Figures
  peaks: Figures
  faults: Figures
  failures: { seed: string; violations: PartResult['violations'] }[]
}

async function runPart(part: Part): Promise<Sums> {
  const sums: Sums = { part: part.name, seeds: 0, seconds: 0, counts: {}, peaks: {}, faults: {}, failures: [] }
  const startedAt = performance.now()
  for (const seed of seedsOf(part)) {
    const result = await part.run(seed)
    add(sums, seed, result)
    if (values.verbose) process.stdout.write(`${result.trace.join('\n')}\n`)
    if (result.violations.length > 0) report(part, seed, result)
    if (values.first && sums.failures.length > 0) break
  }
  sums.seconds = (performance.now() - startedAt) / 1000
  if (!values.json) process.stdout.write(render(sums))
  return sums
}

function seedsOf(part: Part): string[] {
  if (values.seed !== undefined) return [values.seed]
  const count = (part.name === 'engine' ? values['engine-seeds'] : undefined) ?? values.seeds
  const numbered = Array.from({ length: Number(count) }, (_, at) => String(Number(values.from) + at))
  return [...new Set([...part.keptSeeds, ...numbered])]
}

function add(sums: Sums, seed: string, { violations, counts, peaks, faults }: PartResult): void {
  sums.seeds += 1
  if (violations.length > 0) sums.failures.push({ seed, violations })
  for (const [name, count] of Object.entries(counts)) sums.counts[name] = (sums.counts[name] ?? 0) + count
  for (const [name, count] of Object.entries(faults)) sums.faults[name] = (sums.faults[name] ?? 0) + count
  for (const [name, peak] of Object.entries(peaks)) sums.peaks[name] = Math.max(sums.peaks[name] ?? 0, peak)
}

function report({ name }: Part, seed: string, { trace, violations }: PartResult): void {
  const tail = values.verbose ? [] : trace.slice(-shownEvents)
  const broken = violations.map(({ invariant, detail }) => `  ${invariant}\n    ${detail}`)
  const again = `  again: npm run simulate -- --only ${name} --seed ${seed}`
  process.stderr.write(`\n${[`${name}: seed ${seed} FAILED`, ...tail, ...broken, again].join('\n')}\n`)
}

function render({ part, seeds, seconds, counts, peaks, faults, failures }: Sums): string {
  const list = (figures: Figures) => Object.entries(figures).map(([name, count]) => `${count} ${name}`)
  const peak = list(peaks).map(text => `at most ${text}`)
  const figures = [`${seeds} seeds`, ...list(counts), ...peak].join(', ')
  const speed = `${seconds.toFixed(1)} s (${(seeds / seconds).toFixed(1)} a second)`
  const wrong = Object.entries(faults).map(([kind, count]) => `${kind} ${count}`)
  return `${part}: ${figures} in ${speed}, ${failures.length} failed\nfaults: ${wrong.join(', ')}\n`
}
