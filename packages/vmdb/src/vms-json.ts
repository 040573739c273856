import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { parseIpv4Address } from '@blockhost/net/ipv4.ts'
import { formatAddress, parseAddress } from '@blockhost/net/prefix.ts'
import { z } from 'zod'
import type { PoolName } from './allocator.ts'
import type { NftToken } from './nft-tokens.ts'
import { toVm, type Vm, type VmRow } from './vm.ts'
import type { Context } from './vm-database.ts'

/*
 * The VM database of the earlier generation, vms.json:
 * { vms: { name: {...} }, next_vmid, allocated_ips, allocated_ipv6, reserved_nft_tokens: { id: {...} } }
 */

/** What an import found. */
export type ImportReport = {
  /** Living VMs taken over. */
  readonly vms: number
  /** Destroyed ones, kept as history. */
  readonly destroyed: number
  readonly tokens: number
  /** What was changed or left out, one sentence each. */
  readonly notes: readonly string[]
}

/** Renders the database; destroyed VMs whose name lives again are left out. Runs inside the caller's transaction. */
export function exportVmsJson({ db, tokens }: Context): string {
  const rows = (db.prepare('SELECT * FROM vms ORDER BY id').all() as VmRow[]).map(toVm)
  const held = db.prepare('SELECT vmid FROM held_vmids').all() as { vmid: number }[]
  const living = rows.filter(vm => vm.state !== 'destroyed')
  const highest = Math.max(0, ...living.map(vm => vm.vmid), ...held.map(row => row.vmid))
  const lowest = db.prepare('SELECT first FROM free_vmid WHERE first > ? ORDER BY first LIMIT 1').get(highest)
  // The living come last and win.
  const shown = [...rows.filter(vm => vm.state === 'destroyed'), ...living].filter(vm => vm.state !== 'creating')
  const vms: [string, unknown][] = shown.map(vm => [vm.name, toJson(vm)])
  return `${JSON.stringify(
    {
      vms: Object.fromEntries(vms),
      next_vmid: Number(lowest?.first ?? highest + 1),
      allocated_ips: living.map(vm => vm.ipv4),
      allocated_ipv6: living.flatMap(vm => vm.ipv6 ?? []),
      reserved_nft_tokens: Object.fromEntries(tokens.list().map(token => [String(token.tokenId), tokenToJson(token)])),
    },
    undefined,
    2,
  )}\n`
}

/**
 * Takes a vms.json over. Runs inside the caller's transaction.
 *
 * @throws {BlockHostError} `BH_VMS_JSON_INVALID` (exit 78) with every problem found: a field, or two VMs with one address.
 */
export function importVmsJson(context: Context, text: string): ImportReport {
  const file = parseFile(text)
  const entries = Object.entries(file.vms)
  const problems = conflicts(context, entries)
  if (problems.length > 0) throw invalid(problems)
  const notes: string[] = []
  const tokens = Object.entries(file.reserved_nft_tokens).map(([id, token]) => toToken(id, token))
  const mintedFor = new Map(tokens.filter(token => token.status === 'minted').map(token => [token.vmName, token]))
  for (const [name, vm] of entries) insertVm(context, name, vm, mintedFor.get(name), notes)
  for (const token of tokens) context.tokens.put(token)
  const addresses = new Set(entries.map(([, vm]) => vm.ip_address))
  const leaked = file.allocated_ips.filter(address => !addresses.has(address))
  if (leaked.length > 0) notes.push(`${leaked.join(', ')} were allocated to no VM and are free now`)
  const destroyed = entries.filter(([, vm]) => vm.status === 'destroyed').length
  return { vms: entries.length - destroyed, destroyed, tokens: tokens.length, notes }
}

/** ISO 8601; an offset that is missing means UTC. Unix seconds, rounded up so that nothing expires early. */
const time = z.string().transform((text, context) => {
  const ms = Date.parse(/(?:Z|[+-]\d\d:?\d\d)$/i.test(text) ? text : `${text}Z`)
  if (Number.isNaN(ms)) context.addIssue('expected an ISO 8601 time')
  return Math.ceil(ms / 1000)
})

const ipv4 = z.string().refine(text => parseIpv4Address(text) !== undefined, 'expected an IPv4 address')
const ipv6 = z.string().transform((text, context) => {
  const address = parseAddress(text)
  if (address === undefined) context.addIssue('expected an IPv6 address')
  return address === undefined ? '' : formatAddress(address)
})
const tokenId = z.number().int().min(0)

const vmSchema = z.looseObject({
  vm_name: z.string().optional(),
  // The latest libvirt provisioner wrote 0, or the name.
  vmid: z.union([z.number().int().min(0), z.string()]),
  ip_address: ipv4,
  ipv6_address: ipv6.nullish(),
  expires_at: time,
  owner: z.string().default(''),
  status: z.enum(['active', 'suspended', 'destroyed']),
  created_at: time,
  purpose: z.string().nullish(),
  wallet_address: z.string().nullish(),
  suspended_at: time.nullish(),
  destroyed_at: time.nullish(),
  username: z.string().nullish(),
  nft_token_id: tokenId.nullish(),
  nft_minted: z.boolean().nullish(),
  nft_minted_at: time.nullish(),
  machine_id: z.string().nullish(),
  blockhost_state: z.literal('destroying').optional(),
})
type VmJson = z.output<typeof vmSchema>

const tokenSchema = z.looseObject({
  vm_name: z.string(),
  status: z.enum(['reserved', 'minted', 'failed']),
  reserved_at: time,
  owner_wallet: z.string().nullish(),
  minted_at: time.nullish(),
  failed_at: time.nullish(),
})

const nameSchema = z.string().regex(/^[A-Za-z\d][A-Za-z\d._-]{0,62}$/, 'expected the name of a VM')
const fileSchema = z.looseObject({
  vms: z.record(nameSchema, vmSchema).default({}),
  next_vmid: z.number().int().optional(),
  allocated_ips: z.array(z.string()).default([]),
  allocated_ipv6: z.array(z.string()).default([]),
  reserved_nft_tokens: z.record(z.string().regex(/^\d{1,15}$/, 'expected a token id'), tokenSchema).default({}),
})

function parseFile(text: string): z.output<typeof fileSchema> {
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    throw invalid(['it is not JSON'])
  }
  const parsed = fileSchema.safeParse(raw)
  if (parsed.success) return parsed.data
  throw invalid(parsed.error.issues.map(issue => `${issue.path.join('.') || '(top level)'}: ${issue.message}`))
}

function conflicts({ rows, db }: Context, entries: readonly [string, VmJson][]): string[] {
  const seen = new Map<string, string>()
  const usedTokens = new Map<number, string>()
  return entries.flatMap(([name, vm]) => {
    if (vm.status === 'destroyed') return []
    const problems: string[] = []
    if (rows.findLiving(name) !== undefined) problems.push(`vms.${name}: a VM of that name is in the database`)
    const token = vm.nft_token_id ?? undefined
    if (token !== undefined && usedTokens.has(token))
      problems.push(`vms.${name}: ${usedTokens.get(token)} has NFT ${token} too`)
    if (token !== undefined) usedTokens.set(token, name)
    for (const address of [vm.ip_address, vm.ipv6_address ?? undefined]) {
      if (address === undefined) continue
      const other = seen.get(address) ?? ownerOf(db, address)
      if (other !== undefined) problems.push(`vms.${name}: ${other} has ${address} too`)
      seen.set(address, name)
    }
    return problems
  })
}

function ownerOf(db: Context['db'], address: string): string | undefined {
  const column = address.includes(':') ? 'ipv6' : 'ipv4'
  const row = db.prepare(`SELECT name FROM vms WHERE ${column} = ? AND state <> 'destroyed'`).get(address)
  return row === undefined ? undefined : String(row.name)
}

function insertVm(context: Context, name: string, vm: VmJson, token: NftToken | undefined, notes: string[]): void {
  const lives = vm.status !== 'destroyed'
  const minted = vm.nft_minted === false ? undefined : (vm.nft_token_id ?? undefined)
  const wallet = vm.wallet_address?.toLowerCase()
  if (lives) {
    for (const [pool, text] of [
      ['ipv4', vm.ip_address],
      ['ipv6', vm.ipv6_address],
    ] as [PoolName, string | null | undefined][])
      if (text) context.allocator.takeExact(pool, text)
  }
  context.rows.insert({
    name,
    state: vm.blockhost_state ?? vm.status,
    vmid: lives ? takeVmid(context, name, vm.vmid, notes) : Number(vm.vmid) || 0,
    ipv4: vm.ip_address,
    ipv6: vm.ipv6_address ?? null,
    owner: vm.owner,
    owner_wallet: wallet !== undefined && /^0x[\da-f]{40}$/.test(wallet) ? wallet : null,
    username: vm.username ?? 'admin',
    purpose: vm.purpose ?? '',
    machine_id: vm.machine_id ?? name,
    expires_at: vm.expires_at,
    created_at: vm.created_at,
    suspended_at: vm.suspended_at ?? null,
    destroyed_at: vm.destroyed_at ?? null,
    nft_token_id: minted ?? (token === undefined ? null : Number(token.tokenId)),
    nft_minted_at: vm.nft_minted_at ?? token?.mintedAt ?? null,
    extra: JSON.stringify(Object.fromEntries(Object.entries(vm).filter(([key]) => !ourKeys.has(key)))),
  })
}

/** Takes the id a VM had; another one where it had none of its own (0, or its name). */
function takeVmid(context: Context, name: string, vmid: number | string, notes: string[]): number {
  const { db, allocator, now } = context
  const known = Number(vmid)
  const isTaken = () =>
    db.prepare("SELECT 1 FROM vms WHERE vmid = ? AND state <> 'destroyed'").get(known) !== undefined ||
    db.prepare('SELECT 1 FROM held_vmids WHERE vmid = ?').get(known) !== undefined
  if (Number.isSafeInteger(known) && known > 0 && !isTaken()) {
    allocator.takeExact('vmid', String(known))
    return known
  }
  const fresh = allocator.take('vmid', { name, now: now() })
  if (fresh === undefined) throw invalid([`vms.${name}.vmid: ${vmid} can't be kept, and the VM id pool is exhausted`])
  notes.push(`${name} has VM id ${fresh} in place of ${vmid}`)
  return Number(fresh)
}

const ourKeys = new Set(Object.keys(vmSchema.shape))

function toJson(vm: Vm): Record<string, unknown> {
  const optional = {
    suspended_at: vm.suspendedAt === undefined ? undefined : isoMicros(vm.suspendedAt),
    destroyed_at: vm.destroyedAt === undefined ? undefined : isoMicros(vm.destroyedAt),
    nft_minted_at: vm.nftMintedAt === undefined ? undefined : isoMicros(vm.nftMintedAt),
    // Those who read the file know three states: one that is being destroyed no longer runs.
    blockhost_state: vm.state === 'destroying' ? 'destroying' : undefined,
  }
  return {
    ...vm.extra,
    vm_name: vm.name,
    vmid: vm.vmid,
    ip_address: vm.ipv4,
    ipv6_address: vm.ipv6 ?? null,
    expires_at: isoMicros(vm.expiresAt),
    owner: vm.owner,
    status: vm.state === 'destroying' ? 'suspended' : vm.state,
    created_at: isoMicros(vm.createdAt),
    purpose: vm.purpose,
    wallet_address: vm.ownerWallet ?? null,
    username: vm.username,
    machine_id: vm.machineId,
    nft_token_id: vm.nftTokenId === undefined ? null : Number(vm.nftTokenId),
    nft_minted: vm.nftTokenId !== undefined,
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
  }
}

function tokenToJson(token: NftToken): Record<string, unknown> {
  return {
    vm_name: token.vmName,
    status: token.status,
    reserved_at: isoMicros(token.reservedAt),
    ...(token.ownerWallet === undefined ? {} : { owner_wallet: token.ownerWallet }),
    ...(token.mintedAt === undefined ? {} : { minted_at: isoMicros(token.mintedAt) }),
    ...(token.failedAt === undefined ? {} : { failed_at: isoMicros(token.failedAt) }),
  }
}

function toToken(id: string, token: z.output<typeof tokenSchema>): NftToken {
  return {
    tokenId: BigInt(id),
    vmName: token.vm_name,
    status: token.status,
    reservedAt: token.reserved_at,
    ownerWallet: token.owner_wallet ?? undefined,
    mintedAt: token.minted_at ?? undefined,
    failedAt: token.failed_at ?? undefined,
  }
}

/** The earlier generation's form: UTC with microseconds. Later than the year 9999 can't be written. */
function isoMicros(seconds: number): string {
  const latest = 253_402_300_799
  return new Date(Math.min(seconds, latest) * 1000).toISOString().replace(/\.\d{3}Z$/, '.000000+00:00')
}

function invalid(problems: readonly string[]): BlockHostError {
  return new BlockHostError({
    code: 'BH_VMS_JSON_INVALID',
    message: `vms.json can't be imported: ${problems.join('; ')}`,
    hint: 'Correct the file; nothing was imported.',
    fields: { problems },
    exitCode: exitCodes.badConfig,
  })
}
