import { type Address, type Hex, parseQuantity } from '@blockhost/chain/hex.ts'
import { type Rpc, resultOf } from '@blockhost/chain/rpc.ts'
import { brokerRegistryAbi } from '@blockhost/contracts/abi/broker-registry.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { decodeResult, encodeData, fromAbi } from 'ox/AbiFunction'

/** How a broker's contracts should be set up. */
export type Registration = {
  readonly registry: Address
  readonly requests: Address
  readonly operator: Address
  /** What hosts encrypt requests to: 65 bytes, hex. */
  readonly encryptionPubkey: Hex
  /** Absent: as it is; `default` in a new entry. */
  readonly region: string | undefined
  /** Leases at a time; 0 = unlimited. Absent: as it is. */
  readonly capacity: bigint | undefined
  /** Absent: as it is. */
  readonly requestFeeWei: bigint | undefined
}

/** How they are set up. */
export type RegistrationFacts = {
  readonly requestsOwner: Address
  readonly totalCapacity: bigint
  readonly requestFeeWei: bigint
  readonly registryOwner: Address
  /** The registry's entry of the requests contract; `undefined` when it has none. */
  readonly entry:
    | {
        readonly brokerId: bigint
        readonly operator: Address
        readonly encryptionPubkey: Hex
        readonly region: string
        readonly active: boolean
        readonly capacity: bigint
      }
    | undefined
}

/** One transaction to be sent. */
export type ContractCall = {
  /** Names the function and its arguments, so that the same call twice is one. */
  readonly key: string
  readonly to: Address
  readonly data: Hex
  /** What it does, for people. */
  readonly note: string
}

/** What stands between facts and wish. `blocked` calls only somebody else may make. */
export type RegistrationDiff = {
  readonly calls: readonly ContractCall[]
  readonly blocked: readonly (ContractCall & { readonly by: Address })[]
}

/**
 * Returns the calls that turn the facts into the wish; none when they agree. Pure.
 *
 * Assumes that the operator sends them: what only the owner of a registry that somebody else runs may do comes back as `blocked`.
 */
export function diffRegistration(wanted: Registration, facts: RegistrationFacts): RegistrationDiff {
  const { requests, registry, operator, capacity, requestFeeWei } = wanted
  const calls: ContractCall[] = []
  const blocked: RegistrationDiff['blocked'][number][] = []
  if (differs(capacity, facts.totalCapacity)) calls.push(setCapacity(requests, capacity))
  if (differs(requestFeeWei, facts.requestFeeWei)) calls.push(setRequestFee(requests, requestFeeWei))
  if (facts.entry === undefined) {
    const call = registerBroker(wanted, wanted.region ?? 'default', capacity ?? facts.totalCapacity)
    if (isSame(facts.registryOwner, operator)) calls.push(call)
    else blocked.push({ ...call, by: facts.registryOwner })
  } else {
    const changes = updateEntry(registry, wanted, facts.entry)
    if (isSame(facts.entry.operator, operator)) calls.push(...changes)
    else blocked.push(...changes.map(call => ({ ...call, by: facts.entry!.operator })))
  }
  return { calls, blocked }
}

/** Reads how the contracts are set up: two HTTP round trips. Throws as {@link Rpc.call} does. */
export async function readRegistration(
  rpc: Rpc,
  { registry, requests }: { registry: Address; requests: Address },
): Promise<RegistrationFacts> {
  const views = {
    requestsOwner: view(requests, fromAbi(brokerRequestsAbi, 'owner')),
    totalCapacity: view(requests, fromAbi(brokerRequestsAbi, 'totalCapacity')),
    requestFee: view(requests, fromAbi(brokerRequestsAbi, 'requestFee')),
    registryOwner: view(registry, fromAbi(brokerRegistryAbi, 'owner')),
  }
  const entryOf = fromAbi(brokerRegistryAbi, 'requestsContractToBrokerId')
  const idCall = ethCall(registry, encodeData(entryOf, [requests]))
  const outcomes = await rpc.batch([...Object.values(views).map(({ call }) => call), idCall])
  const [requestsOwner, totalCapacity, requestFee, registryOwner, brokerId] = outcomes.map(
    outcome => resultOf(outcome, 'the contracts of the broker') as Hex,
  ) as [Hex, Hex, Hex, Hex, Hex]
  return {
    requestsOwner: views.requestsOwner.decode(requestsOwner),
    totalCapacity: views.totalCapacity.decode(totalCapacity),
    requestFeeWei: views.requestFee.decode(requestFee),
    registryOwner: views.registryOwner.decode(registryOwner),
    entry: await readEntry(rpc, registry, decodeResult(entryOf, brokerId)),
  }
}

/** Makes the call that sets how many leases the contract accepts at a time; 0 = unlimited. */
export function setCapacity(requests: Address, capacity: bigint): ContractCall {
  const data = encodeData(fromAbi(brokerRequestsAbi, 'setTotalCapacity'), [capacity])
  const note = capacity === 0n ? 'accept any number of leases' : `accept ${capacity} leases at a time`
  return { key: `setTotalCapacity:${requests}:${capacity}`, to: requests, data, note }
}

/** Makes the call that sets what a request costs its sender. */
export function setRequestFee(requests: Address, feeWei: bigint): ContractCall {
  const data = encodeData(fromAbi(brokerRequestsAbi, 'setRequestFee'), [feeWei])
  return { key: `setRequestFee:${requests}:${feeWei}`, to: requests, data, note: `ask ${feeWei} wei for each request` }
}

/** Reads how much the contract holds, in wei, that {@link withdrawFees} would send. Throws as {@link Rpc.call} does. */
export async function readCollectedFees(rpc: Rpc, requests: Address): Promise<bigint> {
  return parseQuantity(await rpc.call('eth_getBalance', [requests, 'latest']), 'eth_getBalance')
}

/** Makes the call that sends the fees collected so far to `to`. */
export function withdrawFees(requests: Address, to: Address): ContractCall {
  const data = encodeData(fromAbi(brokerRequestsAbi, 'withdraw'), [to])
  return { key: `withdraw:${requests}:${to}`, to: requests, data, note: `send the collected fees to ${to}` }
}

function registerBroker(wanted: Registration, region: string, capacity: bigint): ContractCall {
  const { registry, operator, requests, encryptionPubkey } = wanted
  const data = encodeData(fromAbi(brokerRegistryAbi, 'registerBroker'), [
    operator,
    requests,
    encryptionPubkey,
    region,
    capacity,
  ])
  return {
    key: `registerBroker:${registry}:${requests}`,
    to: registry,
    data,
    note: `register the broker in ${registry}`,
  }
}

type Entry = NonNullable<RegistrationFacts['entry']>

function updateEntry(registry: Address, wanted: Registration, entry: Entry): ContractCall[] {
  const id = entry.brokerId
  const update = (name: string, data: Hex, note: string): ContractCall => ({
    key: `${name}:${registry}:${id}:${data.slice(-64)}`,
    to: registry,
    data,
    note,
  })
  const calls: ContractCall[] = []
  if (!isSame(entry.encryptionPubkey, wanted.encryptionPubkey)) {
    const data = encodeData(fromAbi(brokerRegistryAbi, 'updateEncryptionPubkey'), [wanted.encryptionPubkey])
    calls.push(update('updateEncryptionPubkey', data, `publish the ECIES key for broker ${id}`))
  }
  if (differs(wanted.region, entry.region)) {
    const data = encodeData(fromAbi(brokerRegistryAbi, 'updateRegion'), [wanted.region])
    calls.push(update('updateRegion', data, `name the region of broker ${id} ${wanted.region}`))
  }
  if (differs(wanted.capacity, entry.capacity)) {
    const data = encodeData(fromAbi(brokerRegistryAbi, 'updateCapacity'), [wanted.capacity])
    calls.push(update('updateCapacity', data, `announce room for ${wanted.capacity} leases at broker ${id}`))
  }
  if (!entry.active)
    calls.push(update('activate', encodeData(fromAbi(brokerRegistryAbi, 'activate')), `offer broker ${id} to clients`))
  return calls
}

async function readEntry(rpc: Rpc, registry: Address, brokerId: bigint): Promise<RegistrationFacts['entry']> {
  if (brokerId === 0n) return undefined
  const getBroker = fromAbi(brokerRegistryAbi, 'getBroker')
  const { method, params } = ethCall(registry, encodeData(getBroker, [brokerId]))
  return { brokerId, ...decodeResult(getBroker, (await rpc.call(method, params)) as Hex) }
}

function view<T extends Parameters<typeof decodeResult>[0] & { inputs: readonly [] }>(to: Address, item: T) {
  return {
    call: ethCall(to, encodeData(item as never)),
    decode: (data: Hex) => decodeResult(item, data),
  }
}

function ethCall(to: Address, data: Hex) {
  return { method: 'eth_call', params: [{ to, data }, 'latest'] }
}

/** Whether something was asked for that is not so already. */
function differs<T>(wanted: T | undefined, actual: T): wanted is T {
  return wanted !== undefined && wanted !== actual
}

function isSame(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase()
}
