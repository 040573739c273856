/** Finds the broker of a request: the one an unfinished request went to, the one named, the one asked before, or the best of the registry. */
import type { Address } from '@blockhost/chain/hex.ts'
import type { Rpc } from '@blockhost/chain/rpc.ts'
import { isPublicKey } from '@blockhost/crypto/ecies.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Prefix } from '@blockhost/net/prefix.ts'
import type { BrokerContract } from './allocation.ts'
import type { AddressText, BrokerSelector } from './argv.ts'
import { type Candidate, checkBroker, chooseBroker, type UsableBroker } from './broker-choice.ts'
import type { Intent } from './intent.ts'
import type { Progress } from './progress.ts'
import { findBrokerOf, type RegisteredBroker, readBroker, readBrokers } from './registry.ts'
import { type ContractFacts, probeContracts, readFacts, readHasLive } from './requests-contract.ts'

/** Whom to ask, and what its contract says. */
export type SelectedBroker = { readonly broker: BrokerContract; readonly facts: ContractFacts }

/** What {@link selectBroker} goes by. */
export type SelectionQuery = {
  readonly selector: BrokerSelector
  readonly nftContract: AddressText
  /** `undefined`: none is configured. */
  readonly registry: AddressText | undefined
  /** The unfinished request, which belongs to this NFT contract, wallet and chain. */
  readonly intent: Intent | undefined
  /** `broker-contract.json`. */
  readonly remembered: BrokerContract | undefined
  readonly expectUpstream: Prefix | undefined
}

/**
 * Selects the broker. Wherever a registry is known, its operator must own the requests contract.
 *
 * @param requireRegistry - Returns the registry's address or throws saying how to name one.
 * @throws {BlockHostError} `BH_BROKER_UNUSABLE`, `BH_BROKER_UNTRUSTED`, `BH_NO_BROKER`, `BH_REQUEST_UNFINISHED`, `BH_REGISTRY_UNKNOWN`.
 */
export async function selectBroker(
  rpc: Rpc,
  query: SelectionQuery,
  deps: { readonly progress: Progress; requireRegistry(): AddressText },
): Promise<SelectedBroker> {
  const { selector, intent, remembered } = query
  const expectUpstream = query.expectUpstream ?? remembered?.expectUpstream
  const select = (contract: { requestsContract: AddressText; brokerPubkey: string; brokerId: bigint }) =>
    selectContract(rpc, { ...contract, expectUpstream }, query.registry, deps.progress)
  if (intent !== undefined) {
    const broker = brokerOfIntent(intent)
    checkSameBroker(selector, broker)
    return select(broker)
  }
  if (selector.kind === 'direct')
    return select({ requestsContract: selector.requestsContract, brokerPubkey: selector.brokerPubkey, brokerId: 0n })
  if (selector.kind === 'id')
    return selectById(rpc, deps.requireRegistry(), selector.brokerId, query.nftContract, expectUpstream)
  if (remembered !== undefined && selector.region === undefined) return select(remembered)
  return selectBest(rpc, deps.requireRegistry(), selector.region, query)
}

/** Returns the broker an unfinished request went to. */
function brokerOfIntent(intent: Intent): { requestsContract: AddressText; brokerPubkey: string; brokerId: bigint } {
  return {
    requestsContract: intent.requests_contract as AddressText,
    brokerPubkey: intent.broker_pubkey,
    brokerId: BigInt(intent.broker_id),
  }
}

function checkSameBroker(selector: BrokerSelector, broker: { requestsContract: string; brokerId: bigint }): void {
  const isSame =
    selector.kind === 'any' ||
    (selector.kind === 'id' && selector.brokerId === broker.brokerId) ||
    (selector.kind === 'direct' && selector.requestsContract.toLowerCase() === broker.requestsContract.toLowerCase())
  if (isSame) return
  throw new BlockHostError({
    code: 'BH_REQUEST_UNFINISHED',
    message: `A request to another broker (${broker.requestsContract}) is not finished`,
    hint: 'Run `request` without naming a broker to finish it, or `release --force` to give it up.',
    fields: { requestsContract: broker.requestsContract },
  })
}

/** The key in use is the registry's where there is one: an operator may have changed it since. */
async function selectContract(
  rpc: Rpc,
  contract: BrokerContract,
  registry: Address | undefined,
  progress: Progress,
): Promise<SelectedBroker> {
  const facts = await readFacts(rpc, contract.requestsContract)
  const registered = registry === undefined ? undefined : await findBrokerOf(rpc, registry, contract.requestsContract)
  if (registered === undefined) {
    progress.note(`${contract.requestsContract} is not checked against a registry: whoever owns it decides the answer`)
    if (!isPublicKey(Uint8Array.fromHex(contract.brokerPubkey)))
      throw unusable(contract.requestsContract, 'the encryption key is not a secp256k1 public key')
    return { broker: contract, facts }
  }
  if (facts.owner !== registered.operator) throw untrusted(contract.requestsContract, facts.owner, registered.operator)
  const brokerPubkey = isPublicKey(Uint8Array.fromHex(registered.encryptionPubkey))
    ? registered.encryptionPubkey
    : contract.brokerPubkey
  return { broker: { ...contract, brokerPubkey, brokerId: registered.id }, facts }
}

async function selectById(
  rpc: Rpc,
  registry: Address,
  id: bigint,
  nftContract: Address,
  expectUpstream: Prefix | undefined,
): Promise<SelectedBroker> {
  const broker = await readBroker(rpc, registry, id)
  const [candidate] = await readCandidates(rpc, [broker], nftContract)
  const check = checkBroker(candidate!)
  if (check.ok) return toSelected(check.usable, expectUpstream)
  const { probe } = candidate!
  if (probe.ok && probe.facts.owner !== broker.operator)
    throw untrusted(broker.requestsContract, probe.facts.owner, broker.operator)
  throw unusable(`broker ${id}`, check.problem)
}

async function selectBest(
  rpc: Rpc,
  registry: Address,
  region: string | undefined,
  { nftContract, expectUpstream }: SelectionQuery,
): Promise<SelectedBroker> {
  const choice = chooseBroker(await readCandidates(rpc, await readBrokers(rpc, registry), nftContract), region)
  if (choice.ok) return toSelected(choice.chosen, expectUpstream)
  const where = region === undefined ? '' : ` in region ${region}`
  const why = choice.problems.length === 0 ? '' : `: ${choice.problems.slice(0, 5).join('; ')}`
  throw new BlockHostError({
    code: 'BH_NO_BROKER',
    message: `No broker of the registry ${registry}${where} takes requests${why}`,
    hint: 'See `broker-client list-brokers`.',
    fields: { registry, problems: choice.problems },
  })
}

async function readCandidates(
  rpc: Rpc,
  brokers: readonly RegisteredBroker[],
  nftContract: Address,
): Promise<readonly Candidate[]> {
  const contracts = brokers.map(broker => broker.requestsContract)
  const probes = await probeContracts(rpc, contracts)
  const live = await readHasLive(rpc, contracts, nftContract)
  return brokers.map((broker, index) => ({ broker, probe: probes[index]!, hasLive: live[index]! }))
}

function toSelected({ broker, facts }: UsableBroker, expectUpstream: Prefix | undefined): SelectedBroker {
  const { requestsContract, encryptionPubkey, id } = broker
  return { broker: { requestsContract, brokerPubkey: encryptionPubkey, brokerId: id, expectUpstream }, facts }
}

function untrusted(contract: Address, owner: Address, operator: Address): BlockHostError {
  return new BlockHostError({
    code: 'BH_BROKER_UNTRUSTED',
    message: `The requests contract ${contract} is owned by ${owner}, while the registry names ${operator} as its operator`,
    hint: 'Its answers can not be trusted; choose another broker with --broker-id.',
    fields: { contract, owner, operator },
  })
}

function unusable(what: string, problem: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_BROKER_UNUSABLE',
    message: `Can't ask ${what}: ${problem}`,
    hint: 'Choose another broker with --broker-id (see list-brokers).',
  })
}
