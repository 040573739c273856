import { parseArgs } from 'node:util'
import { describeError, type ExitCode, exitCodes, toExitCode } from '@blockhost/kit/errors.ts'
import { stopSignal } from '@blockhost/kit/stop.ts'

const defaultConfigPath = '/etc/blockhost/root-agent.toml'

const usage = `usage: blockhost-root-agent [--config FILE] [--check-config]

Carries out a closed list of actions that need root, for those who may open its socket.

  --config FILE   configuration (default ${defaultConfigPath})
  --check-config  tries the configuration and ends
`

if (import.meta.main) process.exit(await main(process.argv.slice(2)))

/** Runs one command line to its end and returns the exit code. */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  const options = parseOptions(argv)
  if (options === undefined) {
    process.stderr.write(usage)
    return exitCodes.usage
  }
  try {
    await run(options)
    return exitCodes.ok
  } catch (error) {
    process.stderr.write(`${describeError(error)}\n`)
    return toExitCode(error)
  }
}

type Options = { config: string; 'check-config': boolean; help: boolean }

async function run({ config, help, ...options }: Options): Promise<void> {
  if (help) {
    process.stdout.write(usage)
    return
  }
  if (options['check-config']) {
    const { readRootAgentConfig } = await import('./config.ts')
    readRootAgentConfig(config)
    process.stdout.write(`${config} can be used.\n`)
    return
  }
  const signal = stopSignal(process)
  const { runDaemon } = await import('./daemon.ts')
  await runDaemon({ configPath: config, env: process.env, pid: process.pid, signal })
}

function parseOptions(argv: readonly string[]): Options | undefined {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        config: { type: 'string', default: defaultConfigPath },
        'check-config': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    return values
  } catch {
    return undefined
  }
}
