import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { configFolder } from '@blockhost/hostconfig/config-folder.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { describeError, type ExitCode, errorToJson, exitCodes, messageOf, toExitCode } from '@blockhost/kit/errors.ts'

const help = `usage: blockhost status [--all] [--json]
       blockhost doctor [--json]

status  what is bought, running and failing, and why. --all: every subscription
doctor  checks configuration, keys, chain, contracts, money, hypervisor, lease and clock, and says what to do

  --config-dir FOLDER  default /etc/blockhost, or ./config when BLOCKHOST_DEV=1

Exit status: 0 all is well, 1 something is not (doctor: a check is bad; status: the engine does not run),
2 wrong command line, 78 the configuration has to be changed.`

if (import.meta.main) process.exit(await main(process.argv.slice(2)))

/** Runs one command line to its end. @param argv - Without program and script. @returns The exit code. */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  const parsed = parse(argv)
  if (typeof parsed === 'string') {
    process.stderr.write(`${parsed}\nTry \`blockhost --help\`.\n`)
    return exitCodes.usage
  }
  try {
    return await run(parsed)
  } catch (error) {
    if (parsed.json) print({ error: errorToJson(error) })
    process.stderr.write(`${describeError(error)}\n`)
    return toExitCode(error)
  }
}

type Command = { kind: 'status' | 'doctor' | 'help' | 'version'; folder: string; all: boolean; json: boolean }

function parse(argv: readonly string[]): Command | string {
  const flag = { type: 'boolean', default: false } as const
  const options = { json: flag, all: flag, help: flag, version: flag, 'config-dir': { type: 'string' } } as const
  try {
    const { values, positionals } = parseArgs({ args: [...argv], options, allowPositionals: true })
    const folder = values['config-dir'] ?? configFolder(process.env)
    const common = { folder, all: values.all, json: values.json }
    if (values.help) return { kind: 'help', ...common }
    if (values.version) return { kind: 'version', ...common }
    const [kind, ...rest] = positionals
    if ((kind !== 'status' && kind !== 'doctor') || rest.length > 0) return 'Expected `status` or `doctor`.'
    return { kind, ...common }
  } catch (error) {
    return messageOf(error)
  }
}

async function run(command: Command): Promise<ExitCode> {
  switch (command.kind) {
    case 'help':
      print(help)
      return exitCodes.ok
    case 'version':
      print(
        (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version,
      )
      return exitCodes.ok
    case 'status':
      return runStatus(command)
    case 'doctor':
      return runDoctor(command)
  }
}

async function runStatus({ folder, all, json }: Command): Promise<ExitCode> {
  const { readEngineConfig } = await import('@blockhost/engine/config.ts')
  const { readReport } = await import('@blockhost/engine/report.ts')
  const { askEngine } = await import('./engine-socket.ts')
  const { renderStatus, statusToJson } = await import('./status.ts')
  const config = readEngineConfig(folder)
  const health = await askEngine(config.socketPath)
  const report = readReport(config.databasePath, { all, nowMs: systemClock.now() })
  print(json ? statusToJson(report, health) : renderStatus(report, health, { all }))
  return health === undefined ? exitCodes.failed : exitCodes.ok
}

async function runDoctor({ folder, json }: Command): Promise<ExitCode> {
  const { examine } = await import('./doctor.ts')
  const { renderFindings } = await import('./finding.ts')
  const findings = await examine(folder, systemClock)
  print(json ? { findings } : renderFindings(findings))
  return findings.some(finding => finding.verdict === 'bad') ? exitCodes.failed : exitCodes.ok
}

function print(what: string | object): void {
  process.stdout.write(`${typeof what === 'string' ? what : JSON.stringify(what, null, 2)}\n`)
}
