/**
 * Measures, and compares with something bare. See `usage`; docs/performance.md tells the method of each figure.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { messageOf } from '@blockhost/kit/errors.ts'
import { ExecError } from '@blockhost/kit/exec.ts'
import { activate } from './activate.ts'
import { authService } from './auth-service.ts'
import { backlog } from './backlog.ts'
import { burst } from './burst.ts'
import { ecies } from './ecies.ts'
import { engine } from './engine.ts'
import type { BenchContext, BenchGroup, Figure } from './figure.ts'
import { forward } from './forward.ts'
import { gas } from './gas.ts'
import { ipam } from './ipam.ts'
import { latency } from './latency.ts'
import { login } from './login.ts'
import { ndp } from './ndp.ts'
import { parallel, payment } from './payment.ts'
import { programs } from './process.ts'
import { restore } from './restore.ts'
import { rootAgent } from './root-agent.ts'
import { missedKeys, renderTable } from './table.ts'
import { vm } from './vm.ts'
import { vmdb } from './vmdb.ts'

const usage = `usage: npm run bench -- [keyPrefix] [--json] [--strict]

Measures the figures whose key begins with keyPrefix (without one all but vm.parallel20Served, which takes minutes), prints a table and writes build/bench.json.
A group of figures that share their set-up is measured as a whole. With a keyPrefix, the other figures in
build/bench.json stay as they were.

  --json    prints the figures as JSON instead of a table
  --strict  exits 1 when a limit is missed. Without it a missed limit is shown and the exit status is 0:
            how fast this machine is decides too.

Exits 0 when everything was measured, 1 when something could not be, 2 for a wrong command line.`

/** In the order of the table. One after the other: each has the machine to itself. */
const groups: readonly BenchGroup[] = [
  ipam,
  activate,
  restore,
  forward,
  ndp,
  backlog,
  latency,
  burst,
  ecies,
  engine,
  vmdb,
  rootAgent,
  vm,
  payment,
  parallel,
  login,
  authService,
  programs,
  gas,
]

const buildFolder = join(import.meta.dirname, '..', 'build')
const resultFile = join(buildFolder, 'bench.json')

async function main(argv: readonly string[]): Promise<number> {
  const options = parseOptions(argv)
  if (options === undefined) {
    console.error(usage)
    return 2
  }
  const isWhole = options.keyPrefix === ''
  const wanted = groups.filter(
    group => group.keys.some(key => key.startsWith(options.keyPrefix)) && !(isWhole && group.isLong),
  )
  if (wanted.length === 0) {
    console.error(`No figure has a key that begins with ${options.keyPrefix}. They are:\n${allKeys().join('\n')}`)
    return 2
  }
  if (isWhole) forgetAllBut(groups.filter(group => group.isLong))
  const { figures, failures } = wanted.length === 1 ? await runHere(wanted[0]!) : await runEach(wanted)
  const shown = Object.fromEntries(Object.entries(figures).filter(([key]) => key.startsWith(options.keyPrefix)))
  process.stdout.write(options.json ? `${JSON.stringify(shown, undefined, 2)}\n` : renderTable(shown))
  const missed = missedKeys(shown)
  if (missed.length > 0)
    console.error(`missed: ${missed.join(', ')}${options.strict ? '' : ' (exit status 0 without --strict)'}`)
  return failures > 0 || (options.strict && missed.length > 0) ? 1 : 0
}

type Options = { readonly keyPrefix: string; readonly json: boolean; readonly strict: boolean }

function parseOptions(argv: readonly string[]): Options | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: { json: { type: 'boolean', default: false }, strict: { type: 'boolean', default: false } },
    })
    return positionals.length > 1 ? undefined : { ...values, keyPrefix: positionals[0] ?? '' }
  } catch {
    return undefined // the usage says more than the message
  }
}

/** Returns the key of every figure, in the order of the table. */
export function allKeys(): string[] {
  return groups.flatMap(group => group.keys)
}

/** What was measured, and how many groups could not be: one that fails is told and costs its own figures only. */
type Outcome = { readonly figures: Readonly<Record<string, Figure>>; readonly failures: number }

/**
 * Measures each group in a process of its own. A process that holds a million leases starts others 70 ms later than a small one, as the
 * kernel copies its page tables; that would be measured, too.
 */
async function runEach(wanted: readonly BenchGroup[]): Promise<Outcome> {
  const measured: BenchGroup[] = []
  for (const group of wanted) if (await runElsewhere(group)) measured.push(group)
  const result = readResult()
  const figures = Object.fromEntries(measured.flatMap(({ keys }) => keys.map(key => [key, result[key] ?? absent(key)])))
  return { figures, failures: wanted.length - measured.length }
}

async function runElsewhere(group: BenchGroup): Promise<boolean> {
  const argv = [...process.execArgv, import.meta.filename, group.keys[0]!, '--json']
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'ignore', 'inherit'] })
  const stop = () => void child.kill()
  process.once('exit', stop)
  const [status] = (await once(child, 'close')) as [number | null]
  process.removeListener('exit', stop)
  return status === 0
}

async function runHere(group: BenchGroup): Promise<Outcome> {
  const start = performance.now()
  try {
    const measured = await runGroup(group)
    const figures = Object.fromEntries(group.keys.map(key => [key, measured[key] ?? absent(key)]))
    writeResult(figures)
    tell(`${nameOf(group)} took ${((performance.now() - start) / 1000).toFixed(1)} s`)
    return { figures, failures: 0 }
  } catch (error) {
    tell(`${nameOf(group)} could not be measured: ${error instanceof ExecError ? error.stderr : messageOf(error)}`)
    return { figures: {}, failures: 1 }
  }
}

async function runGroup(group: BenchGroup): Promise<Record<string, Figure>> {
  mkdirSync(buildFolder, { recursive: true })
  const folder = mkdtempSync(join(buildFolder, 'bench-'))
  const context: BenchContext = { folder, note: text => tell(`${nameOf(group)}: ${text}`) }
  const clear = () => rmSync(folder, { recursive: true, force: true })
  process.once('exit', clear) // Ctrl-C; what runs in a machine ends with this process
  try {
    return await group.run(context)
  } finally {
    process.removeListener('exit', clear)
    clear()
  }
}

function nameOf(group: BenchGroup): string {
  return group.keys[0]!.split('.')[0]!
}

function absent(key: string): never {
  throw new Error(`the figure ${key} is missing`)
}

function tell(text: string): void {
  console.error(`bench: ${text}`)
}

function writeResult(figures: Readonly<Record<string, Figure>>): void {
  const all = { ...readResult(), ...figures }
  const ordered = Object.fromEntries(allKeys().flatMap(key => (all[key] === undefined ? [] : [[key, all[key]]])))
  writeFileSync(resultFile, `${JSON.stringify(ordered, undefined, 2)}\n`)
}

function forgetAllBut(kept: readonly BenchGroup[]): void {
  const result = readResult()
  const figures = kept.flatMap(({ keys }) =>
    keys.flatMap(key => (result[key] === undefined ? [] : [[key, result[key]]])),
  )
  mkdirSync(buildFolder, { recursive: true })
  writeFileSync(resultFile, `${JSON.stringify(Object.fromEntries(figures), undefined, 2)}\n`)
}

function readResult(): Record<string, Figure> {
  try {
    return JSON.parse(readFileSync(resultFile, 'utf8')) as Record<string, Figure>
  } catch {
    return {} // none yet, or half of one: it is only a result
  }
}

if (import.meta.main) {
  process.once('SIGINT', () => process.exit(130))
  process.once('SIGTERM', () => process.exit(143))
  process.exitCode = await main(process.argv.slice(2))
}
