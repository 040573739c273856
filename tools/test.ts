// `npm run check` (--check) and `npm test`: every stage in turn, what failed in full, and one closing line.
import { spawn } from 'node:child_process'
import { existsSync, globSync, readFileSync, rmSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { foundryProgram } from '../contracts/foundry.ts'

type Counts = { passed: number; failed: number; skipped: number }

type Stage = {
  name: string
  /** What it looks at, for the reader. */
  what: string
  /** Program and arguments; `node` is the running one. */
  argv: readonly string[]
  /** Folder it runs in, relative to the root. Default: the root. */
  cwd?: string
  /** Done before it starts. */
  prepare?: () => void
  /** Reads from the output and exit status what passed and failed. */
  count: (output: string, status: number) => Counts
  /** Also part of `npm run check`. */
  check?: true
  /** Lines of its output worth showing while it runs. Default: none. */
  show?: RegExp
  /** Cuts the output of a failed stage to what matters. Default: all of it. */
  failure?: (output: string) => string
  /**
   * Names the test files that failed, to run them once more, alone. For tests of real processes and networks only: on a busy
   * machine one may run out of time. What failed is printed either way.
   */
  again?: (output: string) => readonly string[]
}

const demoRecord = 'build/demo.json'
const bin = (name: string) => `node_modules/.bin/${name}`
const isTest = (path: string) => !path.includes('node_modules')
const unitTests = () =>
  globSync(['{packages,services,cli,provisioners,image,contracts,tools,bench}/**/*.test.ts']).filter(isTest).sort()
const endToEndTests = () => globSync(['e2e/**/*.test.ts']).filter(isTest).sort()

function stages(): readonly Stage[] {
  return [
    {
      name: 'format',
      what: 'format and lint',
      argv: [bin('biome'), 'ci', '--colors=off', '.'],
      count: one,
      check: true,
    },
    { name: 'types', what: 'types', argv: [bin('tsc'), '-p', '.'], count: one, check: true },
    {
      name: 'abi',
      what: 'committed ABIs are those of the contracts',
      cwd: 'contracts',
      argv: ['node', 'generate-abi.ts', '--check'],
      count: one,
      check: true,
    },
    {
      name: 'forge',
      what: 'contracts: unit, fuzz, invariants',
      cwd: 'contracts',
      argv: [foundryProgram('forge'), 'test'],
      count: ofForge,
      check: true,
    },
    {
      name: 'gas',
      what: 'committed gas snapshot is that of the contracts, and within its limits',
      cwd: 'contracts',
      argv: ['node', 'gas.ts', '--check'],
      count: one,
      check: true,
    },
    {
      name: 'unit',
      what: 'unit tests',
      argv: ['node', '--test', '--test-timeout=300000', ...unitTests()],
      count: ofNode,
      failure: failingTests,
      check: true,
    },
    {
      name: 'e2e',
      what: 'real processes, networks and chains',
      argv: ['node', '--test', '--test-concurrency=2', '--test-timeout=300000', ...endToEndTests()],
      count: ofNode,
      show: /^[✔✖﹣] /,
      failure: failingTests,
      again: failingFiles,
    },
    {
      name: 'demo',
      what: 'the story of npm run demo',
      argv: ['node', 'e2e/demo.ts'],
      prepare: () => rmSync(demoRecord, { force: true }),
      count: ofDemo,
      show: /^ ?[✔✖] /,
    },
    {
      name: 'simulate',
      what: 'broker (200 seeds) and engine (60) against simulated worlds',
      argv: ['node', 'e2e/simulate.ts', '--seeds', '200', '--engine-seeds', '60'],
      count: ofSimulation,
      show: /^(broker|engine): /,
    },
  ]
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({ options: { check: { type: 'boolean' } }, allowPositionals: true })
  const known = stages()
  const unknown = positionals.filter(name => !known.some(stage => stage.name === name))
  if (unknown.length > 0) {
    console.error(`There is no stage ${unknown.join(', ')}; there are ${known.map(stage => stage.name).join(', ')}.`)
    return 2
  }
  const chosen = known.filter(stage =>
    positionals.length > 0 ? positionals.includes(stage.name) : values.check !== true || stage.check === true,
  )
  const startedAt = performance.now()
  const total: Counts = { passed: 0, failed: 0, skipped: 0 }
  for (const stage of chosen) {
    const counts = await run(stage)
    total.passed += counts.passed
    total.failed += counts.failed
    total.skipped += counts.skipped
  }
  close(total, performance.now() - startedAt)
  return total.failed === 0 ? 0 : 1
}

/** Prints the figures of the whole run the way node's test runner does, then the closing line. */
function close({ passed, failed, skipped }: Counts, durationMs: number): void {
  console.log()
  console.log(`ℹ tests ${passed + failed + skipped}`)
  console.log(`ℹ pass ${passed}`)
  console.log(`ℹ fail ${failed}`)
  console.log(`ℹ skipped ${skipped}`)
  console.log(`ℹ duration_ms ${Math.round(durationMs)}`)
  console.log(`${passed} passed, ${failed} failed`)
}

async function run(stage: Stage): Promise<Counts> {
  console.log(`▶ ${stage.name.padEnd(9)} ${stage.what}`)
  const startedAt = performance.now()
  stage.prepare?.()
  const { output, status } = await execute(stage)
  let counts = stage.count(output, status)
  // A stage that counted no failure but ended badly (a crash, a signal), or ran nothing, has failed all the same.
  if (counts.failed === 0 && (status !== 0 || counts.passed + counts.skipped === 0)) counts.failed = 1
  if (counts.failed > 0) {
    console.log(indent((stage.failure ?? whole)(output)))
    counts = await runAgain(stage, output, counts)
  }
  for (const reason of skippedTests(output)) console.log(`    skipped: ${reason}`)
  const seconds = `${((performance.now() - startedAt) / 1000).toFixed(1)} s`
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''
  const mark = counts.failed > 0 ? '✖' : '✔'
  console.log(`${mark} ${stage.name.padEnd(9)} ${counts.passed} passed, ${counts.failed} failed${skipped} (${seconds})`)
  return counts
}

/** Runs the files that failed once more, one after the other. They pass only if nothing in them fails then. */
async function runAgain(stage: Stage, output: string, counts: Counts): Promise<Counts> {
  const files = stage.again?.(output) ?? []
  if (files.length === 0 || files.length > maxFilesAgain) return counts
  console.log(`    once more, alone: ${files.join(', ')}`)
  const argv = ['node', '--test', '--test-concurrency=1', '--test-timeout=300000', ...files]
  const second = await execute({ ...stage, argv })
  const { failed, passed } = stage.count(second.output, second.status)
  if (failed === 0 && second.status === 0 && passed > 0) {
    console.log(`    passed the second time: ${files.join(', ')}`)
    return { ...counts, passed: counts.passed + counts.failed, failed: 0 }
  }
  console.log(indent((stage.failure ?? whole)(second.output)))
  return counts
}

const maxFilesAgain = 4

async function execute(stage: Stage): Promise<{ output: string; status: number }> {
  const [program, ...args] = stage.argv.map(arg => (arg === 'node' ? process.execPath : arg))
  const child = spawn(program!, args, {
    cwd: stage.cwd ?? '.',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: undefined, NODE_TEST_CONTEXT: undefined },
  })
  const stopChild = () => child.kill('SIGTERM')
  process.once('SIGTERM', stopChild)
  let output = ''
  let line = ''
  const take = (chunk: Buffer) => {
    output += chunk
    if (stage.show === undefined) return
    const lines = `${line}${chunk}`.split('\n')
    line = lines.pop() ?? ''
    for (const text of lines) if (stage.show.test(text)) console.log(`    ${text.trim()}`)
  }
  child.stdout.on('data', take)
  child.stderr.on('data', take)
  const status = await new Promise<number>(resolve => {
    child.once('error', error => {
      output += `${program} could not be started: ${error.message}\n`
      resolve(127)
    })
    child.once('close', code => resolve(code ?? 1))
  })
  process.removeListener('SIGTERM', stopChild)
  return { output, status }
}

// What the runners say.

function one(_output: string, status: number): Counts {
  return status === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 }
}

function ofNode(output: string): Counts {
  const figure = (name: string) => Number(output.match(new RegExp(`^ℹ ${name} (\\d+)$`, 'm'))?.[1] ?? 0)
  return { passed: figure('pass'), failed: figure('fail') + figure('cancelled'), skipped: figure('skipped') }
}

function ofForge(output: string): Counts {
  const total = output.match(/(\d+) tests? passed, (\d+) failed, (\d+) skipped \(\d+ total tests?\)/)
  return { passed: Number(total?.[1] ?? 0), failed: Number(total?.[2] ?? 0), skipped: Number(total?.[3] ?? 0) }
}

function ofDemo(_output: string, status: number): Counts {
  if (!existsSync(demoRecord)) return one('', status)
  const { steps } = JSON.parse(readFileSync(demoRecord, 'utf8')) as { steps: readonly { ok: boolean }[] }
  const passed = steps.filter(step => step.ok).length
  return { passed, failed: steps.length - passed, skipped: 0 }
}

function ofSimulation(output: string): Counts {
  const total = output.match(/^(\d+) passed, (\d+) failed$/m)
  return { passed: Number(total?.[1] ?? 0), failed: Number(total?.[2] ?? 0), skipped: 0 }
}

function failingTests(output: string): string {
  const at = output.indexOf('✖ failing tests:')
  return at === -1 ? output : output.slice(at)
}

function failingFiles(output: string): readonly string[] {
  return [...new Set([...output.matchAll(/^test at (e2e\/[^:]+\.test\.ts):/gm)].map(([, file]) => file!))]
}

function skippedTests(output: string): readonly string[] {
  return output.split('\n').flatMap(line => line.match(/^\s*﹣ (.*# .*)$/)?.[1] ?? [])
}

function whole(output: string): string {
  return output
}

function indent(text: string): string {
  return text.trimEnd().replace(/^(?=.)/gm, '    ')
}

if (import.meta.main) process.exitCode = await main()
