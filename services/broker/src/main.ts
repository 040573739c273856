import { readFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { systemClock } from '@blockhost/kit/clock.ts'
import { describeError, type ExitCode, errorToJson, exitCodes, toExitCode } from '@blockhost/kit/errors.ts'
import { stopSignal } from '@blockhost/kit/stop.ts'
import { type Command, helpText, parseArgv } from './argv.ts'

// Everything but the argument reader is loaded when it is needed, so that --version and a usage error come at once.

const defaultConfigPath = '/etc/blockhost-broker/config.toml'

if (import.meta.main) process.exit(await main(process.argv.slice(2)))

/**
 * Runs one command line to its end.
 *
 * @param argv - Without program and script.
 * @returns The exit code. Results go to standard output, progress and errors to standard error.
 */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  const command = parseArgv(argv)
  try {
    return await run(command)
  } catch (error) {
    if ('json' in command && command.json) print({ error: errorToJson(error) })
    tell(describeError(error))
    return toExitCode(error)
  }
}

async function run(command: Command): Promise<ExitCode> {
  switch (command.kind) {
    case 'usage':
      tell(`${command.problem}\nTry \`blockhost-broker --help\`.`)
      return exitCodes.usage
    case 'help':
      print(helpText)
      return exitCodes.ok
    case 'version':
      print(readVersion())
      return exitCodes.ok
    case 'run':
      return runDaemonCommand(command)
    case 'check-config':
      return runCheckConfig(command)
    case 'keygen':
      return runKeygen(command)
    case 'generate-key':
      return runGenerateKey(command)
    case 'deploy':
      return runDeploy(command)
    case 'set-fee':
    case 'set-capacity':
    case 'withdraw-fees':
      return runOperate(command)
    case 'down':
      return runDown(command)
  }
}

type Of<K extends Command['kind']> = Extract<Command, { kind: K }>

async function runDaemonCommand({ configPath = defaultConfigPath }: Of<'run'>): Promise<ExitCode> {
  // Before anything slow: a signal that comes early must neither kill nor be lost.
  const signal = stopSignal(process)
  let reload: (() => void) | undefined
  process.on('SIGHUP', () => reload?.())
  const { runDaemon } = await import('./daemon.ts')
  await runDaemon({
    configPath,
    version: readVersion(),
    env: process.env,
    clock: systemClock,
    signal,
    onReload: call => {
      reload = call
    },
    onReady: () => flushCompileCache(), // a daemon that is killed later leaves it to the next start all the same
    usage: () => {
      const { user, system } = process.cpuUsage()
      return { cpuSeconds: (user + system) / 1e6, rssBytes: process.memoryUsage.rss() }
    },
  })
  return exitCodes.ok
}

async function runCheckConfig({ configPath = defaultConfigPath, json }: Of<'check-config'>): Promise<ExitCode> {
  const { readConfig } = await import('./config.ts')
  const { warnings } = readConfig(configPath)
  if (json) print({ ok: true, file: configPath, warnings })
  else print([`${configPath} can be used.`, ...warnings.map(warning => `warning: ${warning}`)].join('\n'))
  return exitCodes.ok
}

async function runKeygen({ folder, force, json }: Of<'keygen'>): Promise<ExitCode> {
  const { describeKeys, generateKeys, keysToJson } = await import('./keygen.ts')
  const keys = generateKeys(folder, { force })
  print(json ? keysToJson(keys) : describeKeys(keys))
  return exitCodes.ok
}

/** The earlier generation's way of making one key; unlike it, this one never overwrites unless told to. */
async function runGenerateKey({ path, force, json }: Of<'generate-key'>): Promise<ExitCode> {
  const { addressOf, generateKeyFile } = await import('@blockhost/crypto/key-file.ts')
  const address = addressOf(generateKeyFile(path, { force }))
  print(json ? { path, address } : `made ${path}\naddress ${address}`)
  return exitCodes.ok
}

async function runDeploy({
  configPath = defaultConfigPath,
  json,
  writeConfig,
  ...options
}: Of<'deploy'>): Promise<ExitCode> {
  const { deploy, deploymentToJson, describeDeployment, writeDeployment } = await import('./deploy.ts')
  const { excludeDaemon } = await import('./deploy-lock.ts')
  using _alone = excludeDaemon(configPath, options)
  const report = await deploy(options, await commandDeps())
  if (writeConfig) {
    writeDeployment(report, options, configPath)
    tell(`Wrote [onchain] of ${configPath}`)
  }
  print(json ? deploymentToJson(report, options) : describeDeployment(report, options))
  return exitCodes.ok
}

async function runOperate(command: Of<'set-fee' | 'set-capacity' | 'withdraw-fees'>): Promise<ExitCode> {
  const { configPath = defaultConfigPath, json } = command
  const { readConfig } = await import('./config.ts')
  const { operate } = await import('./operate.ts')
  const { readCollectedFees, setCapacity, setRequestFee, withdrawFees } = await import('./registration.ts')
  const row = await operate(
    readConfig(configPath),
    async (requests, operator, rpc) => {
      if (command.kind === 'withdraw-fees') {
        const collected = await readCollectedFees(rpc, requests)
        return collected === 0n ? undefined : withdrawFees(requests, command.to ?? operator)
      }
      return (command.kind === 'set-fee' ? setRequestFee : setCapacity)(requests, command.value)
    },
    await commandDeps(),
  )
  if (row === undefined) {
    print(json ? { done: null, hash: null, gas_used: 0 } : 'Nothing to withdraw: no fees were collected.')
    return exitCodes.ok
  }
  const { note, hash, gasUsed } = row
  print(json ? { done: note, hash, gas_used: Number(gasUsed) } : `Done: ${note} (${hash}, ${gasUsed} gas)`)
  return exitCodes.ok
}

async function runDown({ configPath = defaultConfigPath, json }: Of<'down'>): Promise<ExitCode> {
  const { readConfig } = await import('./config.ts')
  const { takeDown } = await import('./down.ts')
  const config = readConfig(configPath)
  const { clock, log } = await commandDeps()
  await takeDown(config, { clock, log })
  const { interface: name } = config.wireguard
  print(json ? { removed: name } : `Removed ${name} and what belonged to it. Leases and keys are as they were.`)
  return exitCodes.ok
}

async function commandDeps() {
  const { silentLog } = await import('@blockhost/kit/log.ts')
  return { clock: systemClock, log: silentLog, say: tell, signal: stopSignal(process) }
}

function readVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

function print(what: string | object): void {
  process.stdout.write(`${typeof what === 'string' ? what : JSON.stringify(what, null, 2)}\n`)
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`)
}
