import { readFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { parseArgs } from 'node:util'
import { systemClock } from '@blockhost/kit/clock.ts'
import { describeError, type ExitCode, exitCodes, messageOf, toExitCode } from '@blockhost/kit/errors.ts'
import { stopSignal } from '@blockhost/kit/stop.ts'

const help = `usage: blockhost-engine [--config-dir FOLDER] [--check-config] [--version]

Serves what is bought on chain: makes VMs, mints access tokens, suspends, resumes and destroys.

  --config-dir FOLDER  configuration; default /etc/blockhost, or ./config when BLOCKHOST_DEV=1
  --check-config       reads the configuration and says whether it can be used

At its start, and at SIGHUP (systemctl reload blockhost-engine), it tries at once what failed and waits for its next try.
SIGHUP does not read the configuration again.

Exit status: 0 stopped, 2 wrong command line, 75 try again, 78 the configuration has to be changed.`

if (import.meta.main) process.exit(await main(process.argv.slice(2)))

/** Runs one command line to its end. @param argv - Without program and script. @returns The exit code. */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  // Before anything slow: a signal that comes early must neither kill nor be lost.
  const signal = stopSignal(process)
  let tryNow: (() => void) | undefined
  process.on('SIGHUP', () => tryNow?.())
  const options = parse(argv)
  if (typeof options === 'string') {
    tell(`${options}\nTry \`blockhost-engine --help\`.`)
    return exitCodes.usage
  }
  try {
    return await run(options, signal, call => {
      tryNow = call
    })
  } catch (error) {
    tell(describeError(error))
    return toExitCode(error)
  }
}

type Options = { 'config-dir'?: string; 'check-config'?: boolean; help?: boolean; version?: boolean }

function parse(argv: readonly string[]): Options | string {
  try {
    const text = { type: 'string' } as const
    const flag = { type: 'boolean' } as const
    const options = { 'config-dir': text, 'check-config': flag, help: flag, version: flag }
    return parseArgs({ args: [...argv], options }).values
  } catch (error) {
    return messageOf(error)
  }
}

type OnTryNow = (tryNow: () => void) => void

async function run(options: Options, signal: AbortSignal, onTryNow: OnTryNow): Promise<ExitCode> {
  if (options.help) print(help)
  else if (options.version) print(readVersion())
  else {
    const { configFolder } = await import('@blockhost/hostconfig/config-folder.ts')
    const folder = options['config-dir'] ?? configFolder(process.env)
    if (options['check-config']) {
      const { readEngineConfig } = await import('./config.ts')
      readEngineConfig(folder)
      print(`${folder} can be used.`)
    } else await serve(folder, signal, onTryNow)
  }
  return exitCodes.ok
}

async function serve(configFolder: string, signal: AbortSignal, onTryNow: OnTryNow): Promise<void> {
  const { runDaemon } = await import('./daemon.ts')
  flushCompileCache()
  await runDaemon({
    configFolder,
    version: readVersion(),
    env: process.env,
    clock: systemClock,
    signal,
    onTryNow,
    usage: () => {
      const { user, system } = process.cpuUsage()
      return { cpuSeconds: (user + system) / 1e6, rssBytes: process.memoryUsage.rss() }
    },
  })
}

function readVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`)
}
