/** `broker-client`: argv, environment, signals and wiring. Everything heavy is imported when a subcommand needs it. */
import { readFileSync } from 'node:fs'
import type { BlockHostError } from '@blockhost/kit/errors.ts'
import { type Command, type Globals, helpText, parseArgv } from './argv.ts'
import type { CommandDeps, CommandResult } from './command.ts'

async function main(args: readonly string[]): Promise<number> {
  const parsed = parseArgv(args, process.env)
  if (!parsed.ok) return usageError(parsed.message, parsed.json)
  const { globals, command } = parsed
  if (command.name === 'version')
    return print({ json: { version: version() }, text: [`broker-client ${version()}`] }, globals)
  if (command.name === 'help') return print({ json: { help: command.text }, text: [command.text.trimEnd()] }, globals)
  return runCommand(command, globals)
}

function version(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  return version
}

function usageError(message: string, json: boolean): number {
  if (json) process.stdout.write(`${JSON.stringify({ error: { code: 'BH_USAGE', message, retryable: false } })}\n`)
  process.stderr.write(
    json ? `broker-client: ${message}\n` : `broker-client: ${message}\n\n${helpText().split('\n')[0]}\n`,
  )
  return 2
}

async function runCommand(command: Command, globals: Globals): Promise<number> {
  const { describeError, errorToJson, toExitCode } = await import('@blockhost/kit/errors.ts')
  const deps = await wire(globals, command)
  try {
    return print(await dispatch(command, deps), globals)
  } catch (error) {
    deps.progress.end('failed')
    if (globals.json) process.stdout.write(`${JSON.stringify({ error: errorToJson(error) })}\n`)
    process.stderr.write(`broker-client: ${describeError(isOurs(error) ? error : unexpected(error))}\n`)
    return toExitCode(error)
  }
}

async function wire(globals: Globals, command: Command): Promise<CommandDeps> {
  const [{ systemClock }, { createExec }, { localSystem }, { createProgress }] = await Promise.all([
    import('@blockhost/kit/clock.ts'),
    import('@blockhost/kit/exec.ts'),
    import('@blockhost/net/system.ts'),
    import('./progress.ts'),
  ])
  return {
    globals,
    clock: systemClock,
    progress: createProgress(process.stderr, () => systemClock.monotonic()),
    exec: createExec({ env: userspaceImplementation() }),
    system: localSystem,
    signal: interruption(command),
    isRoot: process.getuid?.() === 0,
  }
}

/** wg-quick(8) asks this variable which program to use where the kernel has no WireGuard. */
function userspaceImplementation(): Record<string, string> {
  const program = process.env.WG_QUICK_USERSPACE_IMPLEMENTATION
  return program === undefined ? {} : { WG_QUICK_USERSPACE_IMPLEMENTATION: program }
}

/** Commands that wait stop in good order at the first Ctrl-C or SIGTERM; the others, and a second signal, end at once. */
function interruption(command: Command): AbortSignal {
  const controller = new AbortController()
  if (['request', 'renew', 'release'].includes(command.name))
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort())
  return controller.signal
}

async function dispatch(command: Command, deps: CommandDeps): Promise<CommandResult> {
  switch (command.name) {
    case 'request':
    case 'renew':
      return (await import('./request.ts')).request(command, deps)
    case 'status':
      return (await import('./status.ts')).status(command, deps)
    case 'list-brokers':
      return (await import('./list-brokers.ts')).listBrokers(deps)
    case 'install':
    case 'configure':
      return (await import('./install.ts')).install(command, deps)
    case 'release':
      return (await import('./release.ts')).release(command, deps)
    default:
      throw new Error(`there is no subcommand ${command.name}`)
  }
}

function print(result: CommandResult, globals: Globals): number {
  process.stdout.write(globals.json ? `${JSON.stringify(result.json)}\n` : `${result.text.join('\n')}\n`)
  return 0
}

function isOurs(error: unknown): error is BlockHostError {
  return error instanceof Error && error.name === 'BlockHostError'
}

/** A fault of this program: the trace is what helps. */
function unexpected(error: unknown): Error {
  return new Error(`unexpected fault: ${error instanceof Error ? (error.stack ?? error.message) : error}`)
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
