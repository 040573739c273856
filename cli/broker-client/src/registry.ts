/** The BrokerRegistry as the client reads it, in any of its generations. */
import { type Address, type Hex, invalidAnswer, parseHex, parseQuantity, zeroAddress } from '@blockhost/chain/hex.ts'
import { type Rpc, type RpcCall, type RpcOutcome, resultOf } from '@blockhost/chain/rpc.ts'
import { brokerRegistryAbi } from '@blockhost/contracts/abi/broker-registry.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { encodeData, fromAbi } from 'ox/AbiFunction'
import { decode } from 'ox/AbiParameters'

/** One entry of the registry. */
export type RegisteredBroker = {
  readonly id: bigint
  /** Lower case; the only wallet whose answers count. */
  readonly operator: Address
  readonly requestsContract: Address
  /** secp256k1 public key, hex without `0x`; not checked to be on the curve. */
  readonly encryptionPubkey: string
  /** Free text of the operator, made safe to print. */
  readonly region: string
  /** Whether it takes requests; removed entries are not active. */
  readonly active: boolean
  /** Leases it offers, 0 = unlimited; `undefined` where the registry does not say (third generation in the field). */
  readonly capacity: bigint | undefined
  /** As its operator last reported; most never do. */
  readonly currentLoad: bigint | undefined
}

/**
 * Reads every entry: two round trips for up to 100.
 *
 * @throws {BlockHostError} `BH_REGISTRY_UNUSABLE`, and those of {@link Rpc}.
 */
export async function readBrokers(rpc: Rpc, registry: Address): Promise<readonly RegisteredBroker[]> {
  const [code, count] = await rpc.batch([
    { method: 'eth_getCode', params: [registry, 'latest'] },
    call(registry, encodeData(fromAbi(brokerRegistryAbi, 'getBrokerCount'))),
  ])
  if (parseHex(resultOf(code!, 'eth_getCode'), 'eth_getCode') === '0x')
    throw unusable(registry, 'there is no contract at that address on this chain')
  if (!count?.ok && count?.failure.kind === 'reverted') throw unusable(registry, 'it does not answer like a registry')
  const ids = Array.from(
    { length: Number(parseQuantity(resultOf(count!, 'getBrokerCount'), 'getBrokerCount')) },
    (_, index) => BigInt(index + 1),
  )
  const outcomes = await rpc.batch(ids.map(id => getBroker(registry, id)))
  return ids.map((id, index) => parseBroker(id, outcomes[index]!))
}

/**
 * Reads one entry.
 *
 * @throws {BlockHostError} `BH_BROKER_UNKNOWN` when there is none of that id, and those of {@link Rpc}.
 */
export async function readBroker(rpc: Rpc, registry: Address, id: bigint): Promise<RegisteredBroker> {
  const [outcome] = await rpc.batch([getBroker(registry, id)])
  if (!outcome?.ok && outcome?.failure.kind === 'reverted')
    throw new BlockHostError({
      code: 'BH_BROKER_UNKNOWN',
      message: `The registry ${registry} has no broker ${id}`,
      hint: 'See `broker-client list-brokers`.',
      fields: { registry, brokerId: `${id}` },
    })
  return parseBroker(id, outcome!)
}

/** Finds the entry of a requests contract; `undefined` when the registry has none. */
export async function findBrokerOf(
  rpc: Rpc,
  registry: Address,
  requestsContract: Address,
): Promise<RegisteredBroker | undefined> {
  const [outcome] = await rpc.batch([
    call(registry, encodeData(fromAbi(brokerRegistryAbi, 'requestsContractToBrokerId'), [requestsContract])),
  ])
  const id = parseQuantity(resultOf(outcome!, 'requestsContractToBrokerId'), 'requestsContractToBrokerId')
  return id === 0n ? undefined : readBroker(rpc, registry, id)
}

/** Parses the answer to getBroker; which struct it is follows from where its first dynamic member begins. */
export function parseBroker(id: bigint, outcome: RpcOutcome): RegisteredBroker {
  const data = parseHex(resultOf(outcome, `getBroker(${id})`), 'getBroker')
  const broker = decodeBroker(data)
  return {
    id,
    operator: broker.operator,
    requestsContract: broker.requestsContract,
    encryptionPubkey: broker.encryptionPubkey.slice(2),
    region: printable(broker.region),
    active: broker.active && broker.operator !== zeroAddress,
    capacity: 'capacity' in broker ? broker.capacity : undefined,
    currentLoad: 'currentLoad' in broker ? broker.currentLoad : undefined,
  }
}

const withLoad = tuple(['capacity', 'currentLoad'])
const withoutLoad = tuple([])
/** Third word of the tuple: 6 members follow each other before the dynamic ones in the generation without load, else 8. */
const offsets = { withoutLoad: 6n * 32n, withLoad: 8n * 32n } as const

type RawBroker = {
  operator: Address
  requestsContract: Address
  encryptionPubkey: Hex
  region: string
  active: boolean
  capacity?: bigint
  currentLoad?: bigint
}

function decodeBroker(data: Hex): RawBroker {
  const offset = data.length >= 2 + 4 * 64 ? BigInt(`0x${data.slice(2 + 3 * 64, 2 + 4 * 64)}`) : 0n
  try {
    if (offset === offsets.withLoad) return decode([withLoad], data)[0] as RawBroker
    if (offset === offsets.withoutLoad) return decode([withoutLoad], data)[0] as RawBroker
  } catch (cause) {
    throw invalidAnswer('getBroker', 'does not decode', cause)
  }
  throw invalidAnswer('getBroker', 'has the layout of no known registry')
}

function tuple(counters: readonly string[]) {
  const member = (name: string, type: string) => ({ name, type })
  return {
    type: 'tuple',
    components: [
      member('operator', 'address'),
      member('requestsContract', 'address'),
      member('encryptionPubkey', 'bytes'),
      member('region', 'string'),
      member('active', 'bool'),
      ...counters.map(name => member(name, 'uint256')),
      member('registeredAt', 'uint256'),
    ],
  }
}

function getBroker(registry: Address, id: bigint): RpcCall {
  return call(registry, encodeData(fromAbi(brokerRegistryAbi, 'getBroker'), [id]))
}

function call(to: Address, data: Hex): RpcCall {
  return { method: 'eth_call', params: [{ to, data }, 'latest'] }
}

/** Anybody can register: no control or format characters reach the terminal. */
function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?').slice(0, 64)
}

function unusable(registry: Address, why: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_REGISTRY_UNUSABLE',
    message: `The registry ${registry} can't be used: ${why}`,
    hint: 'Check --registry-contract and --chain-id.',
    fields: { registry },
  })
}
