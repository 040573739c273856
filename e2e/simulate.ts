/** `npm run simulate`: the real daemon in simulated worlds, one for each seed. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { exitCodes } from '@blockhost/kit/errors.ts'
import { brokerKeys } from './simulate/cast.ts'
import { type RunOptions, runSeed, type SeedResult } from './simulate/run.ts'
import { faultKinds } from './simulate/scenario.ts'
import { renderEvent } from './simulate/world.ts'

const usage = `Usage: npm run simulate -- [--seeds N] [--from N] [--seed S] [--first] [--verbose] [--json]
  --seeds N   run N seeds after the kept ones of e2e/simulate/seeds.txt (default 200)
  --from N    the first of them (default 1)
  --seed S    run this one seed
  --first     stop at the first seed that fails
  --verbose   print the whole trace of each seed
  --json      print the summary as JSON
`

const shownEvents = 40

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    first: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) process.stdout.write(usage)
else if (![values.seeds, values.from].every(text => /^\d{1,9}$/.test(text))) {
  process.stderr.write(`--seeds and --from take whole numbers\n${usage}`)
  process.exitCode = exitCodes.usage
} else process.exitCode = await main()

async function main(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'simulate-'))
  try {
    const privateKeyFile = join(folder, 'wg.key')
    writeFileSync(privateKeyFile, `${brokerKeys.wireguardPrivate}\n`, { mode: 0o600 })
    return await runAll(chooseSeeds(), { privateKeyFile })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function chooseSeeds(): string[] {
  if (values.seed !== undefined) return [values.seed]
  const first = Number(values.from)
  const numbered = Array.from({ length: Number(values.seeds) }, (_, at) => String(first + at))
  return [...new Set([...keptSeeds(), ...numbered])]
}

/** Lines of `seed reason`. */
function keptSeeds(): string[] {
  const text = readFileSync(new URL('./simulate/seeds.txt', import.meta.url), 'utf8')
  return text.split('\n').flatMap(line => (line === '' || line.startsWith('#') ? [] : [line.split(/\s/)[0]!]))
}

type Sums = {
  seeds: number
  turns: number
  lives: number
  requests: number
  mostTransactions: number
  faults: Record<string, number>
  failures: Pick<SeedResult, 'seed' | 'violations'>[]
}

async function runAll(seeds: readonly string[], options: RunOptions): Promise<number> {
  const startedAt = performance.now()
  const sums: Sums = { seeds: 0, turns: 0, lives: 0, requests: 0, mostTransactions: 0, faults: {}, failures: [] }
  for (const seed of seeds) {
    const result = await runSeed(seed, options)
    add(sums, result)
    if (values.verbose) process.stdout.write(`${result.trace.map(renderEvent).join('\n')}\n`)
    if (result.violations.length > 0) report(result)
    if (values.first && sums.failures.length > 0) break
  }
  printSummary(sums, (performance.now() - startedAt) / 1000)
  return sums.failures.length === 0 ? exitCodes.ok : exitCodes.failed
}

function add(sums: Sums, result: SeedResult): void {
  sums.seeds += 1
  if (result.violations.length > 0) sums.failures.push({ seed: result.seed, violations: result.violations })
  sums.turns += result.turns
  sums.lives += result.lives
  sums.requests += result.requests
  sums.mostTransactions = Math.max(sums.mostTransactions, result.mostTransactions)
  for (const kind of faultKinds) sums.faults[kind] = (sums.faults[kind] ?? 0) + result.faults[kind]
}

function report(result: SeedResult): void {
  const tail = values.verbose ? [] : result.trace.slice(-shownEvents).map(renderEvent)
  const broken = result.violations.map(({ invariant, detail }) => `  ${invariant}\n    ${detail}`)
  process.stderr.write(
    `\nseed ${result.seed} FAILED\n${tail.join('\n')}\n${broken.join('\n')}\n  again: npm run simulate -- --seed ${result.seed}\n`,
  )
}

function printSummary(sums: Sums, seconds: number): void {
  if (values.json) return void process.stdout.write(`${JSON.stringify({ ...sums, seconds })}\n`)
  const faults = Object.entries(sums.faults).map(([kind, count]) => `${kind} ${count}`)
  process.stdout.write(
    `${sums.seeds} seeds, ${sums.turns} turns, ${sums.lives} lives, ${sums.requests} requests (at most ${sums.mostTransactions} transactions for one) in ${seconds.toFixed(1)} s (${(sums.seeds / seconds).toFixed(1)} a second)\nfaults: ${faults.join(', ')}\n${sums.seeds - sums.failures.length} passed, ${sums.failures.length} failed\n`,
  )
}
