/** The files other programs of the host read: `broker-allocation.json` (the lease) and `broker-contract.json` (whom to ask again). */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { readTextFile, writeFileAtomic } from '@blockhost/kit/files.ts'
import { malformed, type Parsed, parsedOk } from '@blockhost/net/parsed.ts'
import { formatPrefix, type Prefix, parsePrefix } from '@blockhost/net/prefix.ts'
import { publicKeyOf } from '@blockhost/net/wireguard.ts'
import type { AddressText } from './argv.ts'
import { type Lease, leaseTexts, parseLease } from './lease.ts'

/** A lease as it lies on disk. */
export type Allocation = {
  readonly lease: Lease
  /** As the person typed it. */
  readonly nftContract: string
  readonly requestId: bigint
  readonly wgPrivateKey: string
  readonly wgPublicKey: string
  /** Unix milliseconds. */
  readonly allocatedAtMs: number
  /** The wallet that answered, EIP-55 checksummed; empty when not known. */
  readonly brokerWallet: string
}

/** Whom the lease was asked from. */
export type BrokerContract = {
  readonly requestsContract: AddressText
  /** secp256k1 public key, hex without `0x`. */
  readonly brokerPubkey: string
  /** Id in the registry; 0 when it was chosen without one. */
  readonly brokerId: bigint
  /** Upstream that the person said every prefix must lie in. */
  readonly expectUpstream: Prefix | undefined
}

/** Where the two files lie and for whom they are readable. */
export type AllocationStore = {
  /** Returns `undefined` without a file; a problem (one clause) for a file that is no complete lease, the installer's `"mode": "manual"` included. */
  findAllocation(): Parsed<Allocation> | undefined
  findContract(): Parsed<BrokerContract> | undefined
  saveAllocation(allocation: Allocation): void
  saveContract(contract: BrokerContract): void
  /** Forgets the lease; whom to ask stays, so that a later request finds the same broker, which keeps the prefix for a while. */
  removeAllocation(): void
}

/** Says who may read the files beside root. */
export type FileAccess = { readonly mode: number; readonly gid?: number }

/**
 * Opens the files of a configuration folder.
 *
 * @param access - From {@link fileAccess}.
 */
export function openAllocationStore(configDir: string, access: FileAccess): AllocationStore {
  const allocationPath = join(configDir, 'broker-allocation.json')
  const contractPath = join(configDir, 'broker-contract.json')
  const read = <T>(path: string, parse: (value: Record<string, unknown>) => Parsed<T>) =>
    existsSync(path) ? parseObject(readTextFile(path), parse) : undefined
  return {
    findAllocation: () => read(allocationPath, parseAllocation),
    findContract: () => read(contractPath, parseContract),
    saveAllocation: allocation => writeFileAtomic(allocationPath, formatAllocation(allocation), access),
    saveContract: contract => writeFileAtomic(contractPath, formatContract(contract), access),
    removeAllocation: () => rmSync(allocationPath, { force: true }),
  }
}

/**
 * Returns the mode of the files: 0640 for the group `blockhost` where there is one and we may give files to it, else 0600.
 *
 * @param groups - Text of `/etc/group` (group(5)).
 */
export function fileAccess(groups: string, isRoot: boolean): FileAccess {
  const gid = /^blockhost:[^:]*:(\d{1,10}):/m.exec(groups)?.[1]
  return gid !== undefined && isRoot ? { mode: 0o640, gid: Number(gid) } : { mode: 0o600 }
}

/** Renders `broker-allocation.json` with exactly the keys of the earlier generation, indented by 2. */
export function formatAllocation(allocation: Allocation): string {
  const texts = leaseTexts(allocation.lease)
  return formatObject({
    prefix: texts.prefix,
    gateway: texts.gateway,
    broker_pubkey: texts.brokerPubkey,
    broker_endpoint: texts.brokerEndpoint,
    nft_contract: allocation.nftContract,
    request_id: Number(allocation.requestId),
    wg_private_key: allocation.wgPrivateKey,
    wg_public_key: allocation.wgPublicKey,
    // Python's isoformat, which readers in the field parse.
    allocated_at: new Date(allocation.allocatedAtMs).toISOString().replace('Z', '000+00:00'),
    broker_wallet: allocation.brokerWallet,
    dns_zone: texts.dnsZone,
  })
}

/** Renders `broker-contract.json`. */
export function formatContract(contract: BrokerContract): string {
  return formatObject({
    requests_contract: contract.requestsContract,
    broker_pubkey: contract.brokerPubkey,
    broker_id: Number(contract.brokerId),
    ...(contract.expectUpstream === undefined ? {} : { expect_upstream: formatPrefix(contract.expectUpstream) }),
  })
}

function parseAllocation(value: Record<string, unknown>): Parsed<Allocation> {
  if (value.mode === 'manual') return malformed('it was written by hand and names no tunnel')
  const lease = parseLease(
    {
      prefix: value.prefix,
      gateway: value.gateway,
      brokerPubkey: value.broker_pubkey,
      brokerEndpoint: value.broker_endpoint,
      dnsZone: value.dns_zone,
    },
    { expectUpstream: undefined },
  )
  if (!lease.ok) return lease
  const { wg_private_key: wgPrivateKey, wg_public_key: wgPublicKey, request_id: requestId } = value
  if (typeof wgPrivateKey !== 'string' || publicKeyOrNone(wgPrivateKey) !== wgPublicKey)
    return malformed('its WireGuard keys are missing or do not belong together')
  if (!Number.isSafeInteger(requestId) || (requestId as number) < 0)
    return malformed('request_id is not a whole number')
  const text = (key: string) => (typeof value[key] === 'string' ? value[key] : '')
  return parsedOk({
    lease: lease.value,
    nftContract: text('nft_contract'),
    requestId: BigInt(requestId as number),
    wgPrivateKey,
    wgPublicKey: wgPublicKey as string,
    allocatedAtMs: Date.parse(text('allocated_at')) || 0,
    brokerWallet: /^0x[0-9a-fA-F]{40}$/.test(text('broker_wallet')) ? text('broker_wallet') : '',
  })
}

function parseContract(value: Record<string, unknown>): Parsed<BrokerContract> {
  const {
    requests_contract: requestsContract,
    broker_pubkey: brokerPubkey,
    broker_id: brokerId,
    expect_upstream: upstream,
  } = value
  if (typeof requestsContract !== 'string' || !/^0x[0-9a-fA-F]{40}$/.test(requestsContract))
    return malformed('requests_contract is not an address')
  const digits = typeof brokerPubkey === 'string' ? brokerPubkey.replace(/^0x/i, '').toLowerCase() : ''
  if (!/^([0-9a-f]{66}|[0-9a-f]{128}|[0-9a-f]{130})$/.test(digits))
    return malformed('broker_pubkey is not a public key')
  const expectUpstream = typeof upstream === 'string' ? parsePrefix(upstream) : undefined
  if (upstream !== undefined && expectUpstream === undefined) return malformed('expect_upstream is not an IPv6 prefix')
  return parsedOk({
    requestsContract: requestsContract as AddressText,
    brokerPubkey: digits,
    brokerId: Number.isSafeInteger(brokerId) && (brokerId as number) > 0 ? BigInt(brokerId as number) : 0n,
    expectUpstream,
  })
}

function parseObject<T>(text: string, parse: (value: Record<string, unknown>) => Parsed<T>): Parsed<T> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return malformed('it is not JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return malformed('it is not a JSON object')
  return parse(value as Record<string, unknown>)
}

function publicKeyOrNone(privateKey: string): string | undefined {
  try {
    return publicKeyOf(privateKey)
  } catch {
    return undefined
  }
}

function formatObject(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`
}
