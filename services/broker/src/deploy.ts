import { existsSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Address, type Hex, parseQuantity } from '@blockhost/chain/hex.ts'
import { createOutbox, type OutboxIntent } from '@blockhost/chain/outbox.ts'
import { outboxSchema } from '@blockhost/chain/outbox-store.ts'
import { createRpc, type Rpc, resultOf } from '@blockhost/chain/rpc.ts'
import { createTransactionPort, type TransactionPort } from '@blockhost/chain/transaction-port.ts'
import { brokerRegistryBytecode } from '@blockhost/contracts/abi/broker-registry.ts'
import { brokerRequestsBytecode } from '@blockhost/contracts/abi/broker-requests.ts'
import { addressOf, publicKeyOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { readTextFile, writeFileAtomic } from '@blockhost/kit/files.ts'
import type { Log } from '@blockhost/kit/log.ts'
import { openDatabase } from '@blockhost/kit/sqlite.ts'
import { checksum } from 'ox/Address'
import { parse as parseToml } from 'smol-toml'
import { setConfigValues } from './config-write.ts'
import { runIntents } from './outbox-run.ts'
import { diffRegistration, type RegistrationDiff, readRegistration } from './registration.ts'

/** What `blockhost-broker deploy` is told. */
export type DeployOptions = {
  readonly rpcUrls: readonly string[]
  /** EIP-155 id; an endpoint on another chain is refused. */
  readonly chainId: number
  readonly operatorKeyFile: string
  readonly eciesKeyFile: string
  /** Absent: as it is; `default` in a new entry of the registry. */
  readonly region: string | undefined
  /** Leases at a time; 0 = unlimited. Absent: as it is. */
  readonly capacity: bigint | undefined
  /** Absent: as it is. */
  readonly requestFeeWei: bigint | undefined
  /** A registry that exists; otherwise one is deployed. */
  readonly registry: Address | undefined
  /** A requests contract of the operator that exists; otherwise one is deployed. */
  readonly requests: Address | undefined
}

/** What {@link deploy} needs from outside. */
export type DeployDeps = {
  readonly clock: Clock
  readonly log: Log
  /** Tells a person how it goes, one line at a time. */
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

/** What was done. Addresses are EIP-55 checksummed. */
export type DeployReport = {
  readonly chainId: number
  readonly operator: Address
  readonly registry: Address
  readonly requests: Address
  /** `undefined` when the registry belongs to somebody else, who has to register the broker. */
  readonly brokerId: bigint | undefined
  /** What this run sent; earlier runs' transactions are not repeated. */
  readonly transactions: readonly { readonly what: string; readonly hash: Hex; readonly gasUsed: bigint }[]
  /** Calls that only the owner of the registry may make. */
  readonly blocked: RegistrationDiff['blocked']
}

const timeoutMs = 30 * 60_000
const confirmationsElsewhere = 2

/**
 * Deploys what is missing, and sets up and registers the broker, so that hosts find it. Everything sent stands in a journal beside the
 * operator's key first: after a crash or a lost connection the same command goes on where it stopped, and deploys nothing twice.
 *
 * @throws {BlockHostError} `BH_WRONG_CHAIN` (exit 78), `BH_DEPLOY_NEEDS_FUNDS` (exit 1, with address and amount),
 *   `BH_DEPLOY_JOURNAL_STALE` when the journal is of another chain with the same id, `BH_TRANSACTION_FAILED`,
 *   `BH_TRANSACTION_PENDING` (exit 75).
 */
export async function deploy(options: DeployOptions, deps: DeployDeps): Promise<DeployReport> {
  const { chainId } = options
  const privateKey = readKeyFile(options.operatorKeyFile)
  const encryptionPubkey: Hex = `0x${publicKeyOf(readKeyFile(options.eciesKeyFile)).toHex()}`
  const operator = addressOf(privateKey)
  const rpc = createRpc({ urls: options.rpcUrls, chainId }, deps)
  const port = createTransactionPort(rpc, { privateKey, address: operator, chainId })
  const journalFile = journalPath(options, operator)
  using journal = openJournal(journalFile, port, deps)
  const run = (intents: readonly OutboxIntent[]) =>
    runIntents(intents, { chainId, timeoutMs }, { ...deps, ...journal, rpc, sends: true })

  const creations = creationsOf(options).filter(({ key }) => journal.outbox.find(key)?.state !== 'final')
  await refuseIfPoor(
    port,
    rpc,
    creations.filter(({ key }) => journal.outbox.find(key)?.hash === undefined),
    chainId,
  )
  deps.say(`Chain ${chainId}, operator ${operator}`)
  const created = await run(creations)
  const addressAt = (key: string) => checksum(journal.outbox.find(key)!.contractAddress!)
  const registry = options.registry ?? addressAt('registry')
  const requests = checksum(options.requests ?? addressAt('requests'))
  await refuseIfAbsent(rpc, [registry, requests], journalFile)

  const wanted = { ...options, registry, requests, operator, encryptionPubkey }
  const diff = diffRegistration(wanted, await readRegistration(rpc, wanted))
  const set = await run(diff.calls)
  const facts = await readRegistration(rpc, wanted)
  return {
    chainId,
    operator,
    registry: checksum(registry),
    requests,
    brokerId: facts.entry?.brokerId,
    transactions: [...created, ...set].map(({ note, hash, gasUsed }) => ({
      what: note,
      hash: hash!,
      gasUsed: gasUsed!,
    })),
    blocked: diff.blocked,
  }
}

/**
 * Returns the journal's file name: beside the operator's key, one for each chain and wallet, as a new wallet under the old name has
 * deployed nothing.
 */
function journalPath({ operatorKeyFile, chainId }: DeployOptions, operator: Address): string {
  return `${operatorKeyFile}.deploy-${chainId}-${operator.slice(2, 10).toLowerCase()}.db`
}

/** Renders what was done for a terminal: what happened, where things are, what the configuration needs. */
export function describeDeployment(report: DeployReport, options: DeployOptions): string {
  const { transactions, blocked } = report
  const gas = transactions.reduce((sum, { gasUsed }) => sum + gasUsed, 0n)
  return [
    transactions.length === 0
      ? 'Nothing had to be sent.'
      : `Sent ${transactions.length} transactions, ${gas} gas in all:`,
    ...transactions.map(
      ({ what, hash, gasUsed }) => `  ${what.padEnd(44)} ${String(gasUsed).padStart(9)} gas  ${hash}`,
    ),
    '',
    `registry            ${report.registry}`,
    `requests contract   ${report.requests}`,
    `operator            ${report.operator}`,
    `broker id           ${report.brokerId ?? 'none yet'}`,
    '',
    ...blocked.flatMap(call => [
      `Only ${call.by} may ${call.note}. Ask them to send to ${call.to}:`,
      `  ${call.data}`,
      '',
    ]),
    'In /etc/blockhost-broker/config.toml:',
    '[onchain]',
    ...Object.entries(configValues(report, options)).map(([key, value]) => `${key} = ${JSON.stringify(value)}`),
  ].join('\n')
}

/** Returns what `[onchain]` of the configuration must say to use the deployment. */
export function configValues(report: DeployReport, options: DeployOptions): Record<string, string | number | boolean> {
  return {
    enabled: true,
    rpc_url: options.rpcUrls[0]!,
    chain_id: report.chainId,
    private_key_file: options.operatorKeyFile,
    ecies_private_key_file: options.eciesKeyFile,
    requests_contract: report.requests,
  }
}

/** Renders what was done for `--json`; amounts of gas are numbers. */
export function deploymentToJson(report: DeployReport, options: DeployOptions): Record<string, unknown> {
  return {
    chain_id: report.chainId,
    operator: report.operator,
    registry_contract: report.registry,
    requests_contract: report.requests,
    broker_id: report.brokerId === undefined ? null : Number(report.brokerId),
    transactions: report.transactions.map(({ what, hash, gasUsed }) => ({ what, hash, gas_used: Number(gasUsed) })),
    blocked: report.blocked.map(({ note, by, to, data }) => ({ what: note, by, to, data })),
    config: configValues(report, options),
  }
}

/**
 * Puts the deployment into `[onchain]` of a configuration file, comments kept; a file that does not exist is made from the example.
 * A requests contract that stands there moves to the legacy ones, so that its hosts are answered further on.
 *
 * @throws {BlockHostError} `BH_FILE_WRITE_FAILED`, `BH_FILE_READ_FAILED`.
 */
export function writeDeployment(report: DeployReport, options: DeployOptions, path: string): void {
  const example = fileURLToPath(new URL('../config.example.toml', import.meta.url))
  const isNew = !existsSync(path)
  const text = readTextFile(isNew ? example : path, { what: 'configuration' })
  const former = isNew ? [] : formerContracts(text, report.requests)
  const values = {
    ...configValues(report, options),
    ...(former.length === 0 ? {} : { legacy_requests_contracts: former }),
  }
  const mode = isNew ? 0o640 : statSync(path).mode & 0o777
  writeFileAtomic(path, setConfigValues(text, 'onchain', values), { mode })
}

/** The contracts that the file names, without the new one. */
function formerContracts(text: string, requests: Address): string[] {
  const { onchain } = parseToml(text) as {
    onchain?: { requests_contract?: string; legacy_requests_contracts?: string[] }
  }
  const named = [onchain?.requests_contract, ...(onchain?.legacy_requests_contracts ?? [])]
  const others = named.filter(address => address !== undefined && address.toLowerCase() !== requests.toLowerCase())
  return [...new Set(others as string[])]
}

function openJournal(path: string, port: TransactionPort, deps: DeployDeps) {
  const db = openDatabase(path, [fresh => fresh.exec(outboxSchema)])
  const local = port.chainId === 31_337 || port.chainId === 1_337
  const outbox = createOutbox(
    db,
    port,
    { confirmations: local ? 0 : confirmationsElsewhere, stuckAfterMs: 90_000, feeBumpPercent: 20, maxInFlight: 8 },
    deps,
  )
  return { outbox, [Symbol.dispose]: () => db.close() }
}

function creationsOf({ registry, requests }: DeployOptions): OutboxIntent[] {
  const create = (key: string, data: Hex, note: string) => ({ key, to: undefined, data, note })
  return [
    ...(registry === undefined ? [create('registry', brokerRegistryBytecode, 'deploy BrokerRegistry')] : []),
    ...(requests === undefined ? [create('requests', brokerRequestsBytecode, 'deploy BrokerRequests')] : []),
  ]
}

/** Gas of the calls after the creations, all of them together (contracts/gas-snapshot.json, rounded up). */
const gasOfCalls = 450_000n
/** Of one creation, where the endpoint won't estimate it. */
const gasOfCreation = 3_500_000n

async function refuseIfPoor(
  port: TransactionPort,
  rpc: Rpc,
  creations: readonly OutboxIntent[],
  chainId: number,
): Promise<void> {
  if (creations.length === 0) return
  const balanceWei = parseQuantity(await rpc.call('eth_getBalance', [port.address, 'latest']), 'eth_getBalance')
  const market = await port.poll({ receiptsOf: [] })
  const estimates = await port.estimate(creations.map(({ to, data }) => ({ to, data, valueWei: 0n })))
  const gas = estimates.reduce((sum, estimate) => sum + (estimate.ok ? estimate.gas : gasOfCreation), gasOfCalls)
  const priceWei = 2n * (market.baseFeeWei ?? 0n) + market.tipWei
  const neededWei = (gas * priceWei * 5n) / 4n
  if (balanceWei >= neededWei) return
  const address = checksum(port.address)
  throw new BlockHostError({
    code: 'BH_DEPLOY_NEEDS_FUNDS',
    message: `The operator wallet ${address} holds ${toEther(balanceWei)} ETH on chain ${chainId}; deploying takes up to ${toEther(neededWei)} ETH`,
    hint: `Send at least ${toEther(neededWei - balanceWei)} ETH to ${address}, then run the same command again.`,
    fields: { address, balanceWei: String(balanceWei), neededWei: String(neededWei) },
  })
}

/** A journal outlives a local chain that was started anew; then what it tells of is gone. */
async function refuseIfAbsent(rpc: Rpc, contracts: readonly Address[], journal: string): Promise<void> {
  const outcomes = await rpc.batch(contracts.map(address => ({ method: 'eth_getCode', params: [address, 'latest'] })))
  const absent = contracts.filter((_, index) => resultOf(outcomes[index]!, 'eth_getCode') === '0x')
  if (absent.length === 0) return
  throw new BlockHostError({
    code: 'BH_DEPLOY_JOURNAL_STALE',
    message: `There is no contract at ${absent.join(' and ')}, where one should be`,
    hint: `If this is another chain than the one deployed to earlier, move ${journal} away and run the command again.`,
    fields: { absent, journal },
  })
}

/** Renders wei as ETH, rounded up to six decimals. */
function toEther(wei: bigint): string {
  const micro = (wei + 999_999_999_999n) / 1_000_000_000_000n
  return `${micro / 1_000_000n}.${String(micro % 1_000_000n).padStart(6, '0')}`
}
