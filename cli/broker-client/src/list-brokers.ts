/** `list-brokers`. */
import { checkBroker } from './broker-choice.ts'
import { type CommandDeps, type CommandResult, openRpc } from './command.ts'
import { type RegisteredBroker, readBrokers } from './registry.ts'
import { findRegistry, requireRegistry } from './registry-address.ts'
import { type ContractProbe, probeContracts } from './requests-contract.ts'

/** Lists the active brokers of the registry and whether each may be asked. @throws {BlockHostError} `BH_REGISTRY_UNKNOWN`, those of the RPC. */
export async function listBrokers(deps: CommandDeps): Promise<CommandResult> {
  const registry = findRegistry(deps.globals)
  const contract = requireRegistry(registry, deps.globals.configDir)
  const rpc = openRpc(deps, registry.chainId)
  const brokers = (await readBrokers(rpc, contract)).filter(broker => broker.active)
  const probes = await probeContracts(
    rpc,
    brokers.map(broker => broker.requestsContract),
  )
  const rows = brokers.map((broker, index) => describe(broker, probes[index]!))
  return { json: rows, text: rows.length === 0 ? [`The registry ${contract} has no active broker`] : table(rows) }
}

type Row = ReturnType<typeof describe>

function describe(broker: RegisteredBroker, probe: ContractProbe) {
  const check = checkBroker({ broker, probe, hasLive: false })
  const facts = probe.ok ? probe.facts : undefined
  return {
    id: Number(broker.id),
    region: broker.region,
    operator: broker.operator,
    requests_contract: broker.requestsContract,
    encryption_pubkey: broker.encryptionPubkey,
    generation: facts?.generation ?? null,
    live_requests: facts?.liveRequests === undefined ? null : Number(facts.liveRequests),
    available:
      facts?.availableCapacity === undefined || facts.availableCapacity > 2n ** 53n
        ? null
        : Number(facts.availableCapacity),
    request_fee_wei: `${facts?.requestFeeWei ?? 0n}`,
    usable: check.ok,
    problem: check.ok ? null : check.problem,
  }
}

function table(rows: readonly Row[]): string[] {
  const cells = rows.map(row => [
    `${row.id}`,
    row.region,
    row.live_requests === null ? '-' : `${row.live_requests}`,
    row.available === null ? '-' : `${row.available}`,
    row.request_fee_wei,
    row.requests_contract,
    row.problem ?? 'yes',
  ])
  const all = [['ID', 'REGION', 'LEASES', 'FREE', 'FEE (WEI)', 'REQUESTS CONTRACT', 'USABLE'], ...cells]
  const widths = all[0]!.map((_, column) => Math.max(...all.map(row => row[column]!.length)))
  return all.map(row =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
}
