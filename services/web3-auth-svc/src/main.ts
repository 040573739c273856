import { readFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { networkInterfaces } from 'node:os'
import { systemClock } from '@blockhost/kit/clock.ts'
import { describeError, type ExitCode, exitCodes, messageOf, toExitCode } from '@blockhost/kit/errors.ts'
import { type Command, helpText, parseArgv } from './argv.ts'

/** Runs one command line to its end; `argv` is without program and script. */
async function main(argv: readonly string[]): Promise<ExitCode> {
  const command = parseArgv(argv)
  try {
    return await run(command)
  } catch (error) {
    process.stderr.write(`web3-auth-svc: ${describeError(error)}\n`)
    return toExitCode(error)
  }
}

async function run(command: Command): Promise<ExitCode> {
  switch (command.kind) {
    case 'usage':
      process.stderr.write(`web3-auth-svc: ${command.problem}\nTry \`web3-auth-svc --help\`.\n`)
      return exitCodes.usage
    case 'help':
      process.stdout.write(`${helpText}\n`)
      return exitCodes.ok
    case 'version':
      process.stdout.write(`${readVersion()}\n`)
      return exitCodes.ok
    case 'check-config': {
      const { readConfig } = await import('./config.ts')
      readConfig(command.paths)
      process.stdout.write(`${command.paths.service} and ${command.paths.login} can be used.\n`)
      return exitCodes.ok
    }
    case 'serve':
      return serve(command)
  }
}

async function serve({ paths, socketPath }: Extract<Command, { kind: 'serve' | 'check-config' }>): Promise<ExitCode> {
  // Before anything slow: a signal that comes early must neither kill nor be lost.
  const stopped = new Promise<void>(resolve => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve())
  })
  const [{ inheritedSockets }, { readConfig }, { createJournal }, { startService }] = await Promise.all([
    import('./activation.ts'),
    import('./config.ts'),
    import('./journal.ts'),
    import('./service.ts'),
  ])
  const inherited = inheritedSockets(process.env, process.pid)
  const read = readConfig(paths)
  const config = socketPath === undefined ? read : { ...read, socketPath }
  const log = createJournal({ name: 'web3-auth-svc', level: config.logLevel, clock: systemClock })
  const addresses = () => Object.values(networkInterfaces()).flatMap(each => each ?? [])
  await using service = await startService(config, inherited ?? {}, { clock: systemClock, log, addresses })
  log.info({ machine: config.machine.id, mode: config.mode, pagePort: service.pagePort }, 'ready')
  // After the first code, which somebody waits for, and before its answer.
  const prepare = async () => {
    await import('./judge.ts')
    flushCompileCache()
  }
  setTimeout(() => void prepare().catch(error => log.error({ problem: messageOf(error) }, 'not prepared')), 500).unref()
  // Started by hand, it stays: nothing would start it again.
  await Promise.race([stopped, ...(inherited === undefined ? [] : [service.whenIdle(config.idleExitMs)])])
  log.info({}, 'ending')
  return exitCodes.ok
}

function readVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)))
