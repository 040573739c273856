/** `vm-gc`: argv, environment and wiring. */
import { createRpc } from '@blockhost/chain/rpc.ts'
import { createSubscriptionsReader, maxWatched } from '@blockhost/chain/subscriptions-lens.ts'
import { type EngineConfig, readEngineConfig } from '@blockhost/engine/config.ts'
import { subscriptionIdOf } from '@blockhost/engine/subscription.ts'
import { configFolder } from '@blockhost/hostconfig/config-folder.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { describeError, errorToJson, exitCodes, toExitCode } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { connectHostProvisioner } from '@blockhost/provisioners/host-provisioner.ts'
import { openVmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { type GcArgs, gcUsage, parseGcArgs } from './argv.ts'
import { type ChainLook, type CollectReport, collect } from './collect.ts'

if (import.meta.main) process.exitCode = await main(process.argv.slice(2), process.env)

/** Runs one command line to its end and returns the exit code. */
export async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const parsed = parseGcArgs(argv)
  if (!parsed.ok) {
    process[parsed.help ? 'stdout' : 'stderr'].write(parsed.help ? gcUsage : `vm-gc: ${parsed.message}\n\n${gcUsage}`)
    return parsed.help ? exitCodes.ok : exitCodes.usage
  }
  try {
    const report = await run(parsed.args, env)
    process.stdout.write(render(parsed.args, report))
    return report.failed.length === 0 ? exitCodes.ok : exitCodes.failed
  } catch (error) {
    process.stderr.write(`vm-gc: ${describeError(error)}\n`)
    process.stdout.write(`BLOCKHOST_RESULT: ${JSON.stringify({ status: 'failed', error: errorToJson(error) })}\n`)
    return toExitCode(error)
  }
}

async function run(args: GcArgs, env: NodeJS.ProcessEnv): Promise<CollectReport> {
  const config = readEngineConfig(configFolder(env))
  using vms = openVmDatabase(config.vmDatabasePath, config.pools, systemClock)
  const provisioner = connectHostProvisioner(config, vms)
  if (args.execute && args.destroy) vms.reapAbandoned()
  const graceDays = args.graceDays ?? config.rules.graceDays
  // Awaited here: the database is open until then.
  return await collect(
    { vms, provisioner, clock: systemClock, look: names => look(config, names) },
    { ...args, graceDays },
  )
}

/** One round trip for each 500 subscriptions; the oldest block time counts. */
async function look(config: EngineConfig, names: readonly string[]): Promise<ChainLook> {
  const { chainId, rpcUrls } = config
  const { subscriptions, nft } = config.rules
  const rpc = createRpc({ urls: rpcUrls, chainId }, { clock: systemClock, log: silentLog })
  const reader = createSubscriptionsReader(rpc, { subscriptions, chainId })
  const ids = names.flatMap(name => subscriptionIdOf(name) ?? [])
  const expiries = new Map<string, number>()
  let timestamp = Number.MAX_SAFE_INTEGER
  for (let at = 0; at === 0 || at < ids.length; at += maxWatched) {
    const watchIds = ids.slice(at, at + maxWatched)
    const query = { subscriptions, nft, cursor: 0n, max: 0, watchIds, tokenIds: [], wallets: [] }
    const { snapshot } = await reader.snapshot(query)
    timestamp = Math.min(timestamp, snapshot.timestamp)
    for (const [index, view] of snapshot.watched.entries())
      if (view !== undefined)
        expiries.set(names.find(name => subscriptionIdOf(name) === watchIds[index])!, view.expiresAt)
  }
  return { timestamp, expiries }
}

function render(args: GcArgs, report: CollectReport): string {
  const verb = args.execute ? '' : 'would be '
  const lines = [
    ...report.extended.map(name => `${name}: paid for longer than the database knew`),
    ...report.suspended.map(name => `${name}: ${verb}suspended`),
    ...report.destroyed.map(name => `${name}: ${verb}destroyed`),
    ...report.failed.map(({ name, error }) => `${name}: failed: ${error}`),
  ]
  const result = { status: report.failed.length === 0 ? 'ok' : 'failed', executed: args.execute, ...report }
  return [...(args.json ? [] : lines), `BLOCKHOST_RESULT: ${JSON.stringify(result)}`, ''].join('\n')
}
