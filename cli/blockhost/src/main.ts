import { readFileSync } from 'node:fs'
import { systemClock } from '@blockhost/kit/clock.ts'
import { describeError, type ExitCode, errorToJson, exitCodes, toExitCode } from '@blockhost/kit/errors.ts'
import { type Command, helpText, parseArgv } from './argv.ts'

if (import.meta.main) process.exit(await main(process.argv.slice(2)))

/** Runs one command line to its end. @param argv - Without program and script. @returns The exit code. */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  const command = parseArgv(argv, process.env)
  try {
    return await run(command)
  } catch (error) {
    if ('json' in command && command.json) print({ error: errorToJson(error) })
    process.stderr.write(`${describeError(error)}\n`)
    return toExitCode(error)
  }
}

async function run(command: Command): Promise<ExitCode> {
  switch (command.kind) {
    case 'usage':
      process.stderr.write(`${command.problem}\nTry \`blockhost --help\`.\n`)
      return exitCodes.usage
    case 'help':
      print(helpText)
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

type Of<K extends Command['kind']> = Extract<Command, { kind: K }>

async function runStatus({ folder, all, json }: Of<'status'>): Promise<ExitCode> {
  const { readEngineConfig } = await import('@blockhost/engine/config.ts')
  const { readReport } = await import('@blockhost/engine/report.ts')
  const { askEngine } = await import('./engine-socket.ts')
  const { renderStatus, statusToJson } = await import('./status.ts')
  const config = readEngineConfig(folder)
  const health = await askEngine(config.socketPath)
  const nowMs = systemClock.now()
  const report = readReport(config.databasePath, { all, nowMs })
  print(json ? statusToJson(report, health) : renderStatus(report, health, { all, nowMs }))
  return health === undefined ? exitCodes.failed : exitCodes.ok
}

async function runDoctor({ folder, json }: Of<'doctor'>): Promise<ExitCode> {
  const { examine } = await import('./doctor.ts')
  const { exitCodeOf, renderFindings } = await import('./finding.ts')
  const findings = await examine(folder, systemClock)
  print(json ? { findings } : renderFindings(findings))
  return exitCodeOf(findings)
}

function print(what: string | object): void {
  process.stdout.write(`${typeof what === 'string' ? what : JSON.stringify(what, null, 2)}\n`)
}
