import { readFileSync } from 'node:fs'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { Clock } from '@blockhost/kit/clock.ts'
import { openDatabase, transaction } from '@blockhost/kit/sqlite.ts'
import { adoptPools, createAllocator, type PoolName, poolNames } from './allocator.ts'
import { createNftTokens, type NftTokens } from './nft-tokens.ts'
import { type Processes, systemProcesses } from './owner-process.ts'
import { ipv6NumberOf, parsePools, unnamedIpv6Start, type VmPools } from './pools.ts'
import { toVm, transitions, type Vm, type VmRow, type VmState } from './vm.ts'
import { busy, exhausted, exists, invalidInput, notExpired, notFound, wrongState } from './vm-errors.ts'
import { exportVmsJson, type ImportReport, importVmsJson } from './vms-json.ts'

/** What a VM is reserved with. Times are Unix seconds. */
export type ReserveVm = {
  /** Letters, digits, `.`, `_`, `-`; up to 63, beginning with a letter or digit. */
  readonly name: string
  /** 0x address. */
  readonly ownerWallet: string
  /** The chain's expiry. */
  readonly expiresAt: number
  readonly purpose?: string
  /** Unix user of the owner in the VM. Default `admin`. */
  readonly username?: string
  /** What the owner signs for. Default: the name. */
  readonly machineId?: string
}

/**
 * The VM database. Every call is one durable transaction (or a read), safe beside other processes that use the same file.
 * Changes return the VM as it is afterwards, and are fine when it is so already. They throw `BH_VM_NOT_FOUND` and `BH_VM_STATE`.
 */
export type VmDatabase = Disposable & {
  /**
   * Makes a `creating` row together with its VM id, IPv4 and IPv6; all of it or nothing.
   *
   * A `creating` row of that name that this process made, or one that is gone, is taken over as it is, so that a create may go on
   * where it was interrupted. Numbers that rest for the name are used again.
   *
   * @throws {BlockHostError} `BH_VM_EXISTS`; `BH_VM_BUSY` (retryable: another process is making it);
   *   `BH_VM_POOL_EXHAUSTED` (retryable).
   */
  reserveVm(input: ReserveVm): Vm
  /** From `creating` or `suspended`. */
  markActive(name: string, change?: { expiresAt?: number }): Vm
  /** @param unless.expiredAt - Refuses (`BH_VM_NOT_EXPIRED`) unless the VM has expired at that time: an extension may have come in. */
  markSuspended(name: string, unless?: { expiredAt?: number }): Vm
  /**
   * The VM is about to be taken away, by this process; its numbers stay its own until {@link VmDatabase.markDestroyed}. One that is being
   * taken away already is taken over, so that a removal may go on where it was interrupted. To be called before every removal: it
   * keeps two processes from removing one name, of which the slower would hit the VM that was made of it since.
   *
   * @throws {BlockHostError} `BH_VM_BUSY` (retryable) while another process that runs is making it, or taking it away.
   */
  markDestroying(name: string, unless?: { expiredAt?: number }): Vm
  /** The VM is gone; its numbers begin to rest and its name is free. */
  markDestroyed(name: string): Vm
  /** Sets the chain's absolute expiry, in any state but `destroyed`. */
  setExpiry(name: string, expiresAt: number): Vm
  setOwner(name: string, wallet: string): Vm
  setMachineId(name: string, machineId: string): Vm
  /** Keeps a value for others under a key of vms.json that is not ours, e.g. `gecos_synced`; `undefined` removes it. */
  setExtra(name: string, key: string, value: unknown): Vm
  /**
   * Remembers which token a VM is expected to get: `tokenId`, else the highest known plus one. Failed ones are never reserved again.
   * The token that counts is the one of the mint receipt, see {@link VmDatabase.markNftMinted}.
   *
   * @throws {BlockHostError} `BH_NFT_TOKEN_TAKEN` when `tokenId` is known for another VM.
   */
  reserveNftTokenId(name: string, tokenId?: bigint | number): bigint
  /**
   * Records the token of the mint receipt, whichever was reserved.
   *
   * @throws {BlockHostError} `BH_NFT_TOKEN_TAKEN` when another living VM has it.
   */
  markNftMinted(name: string, tokenId: bigint | number, wallet: string): Vm
  /** @throws {BlockHostError} `BH_NFT_TOKEN_NOT_FOUND`; `BH_NFT_TOKEN_MINTED`. */
  markNftFailed(tokenId: bigint | number): void
  findNftToken: NftTokens['find']
  /** Returns the living VM of that name, else the one that was destroyed last. */
  findVm(name: string): Vm | undefined
  /** @returns By age. Without a state: all, destroyed ones included. */
  listVms(filter?: { state?: VmState }): Vm[]
  /** Active VMs whose expiry is before `now` (Unix seconds), longest expired first. */
  vmsToSuspend(now: number): Vm[]
  /** Suspended VMs for which `graceDays` have passed since both suspension and expiry, longest expired first. */
  vmsToDestroy(now: number, graceDays: number): Vm[]
  /** Moves `creating` rows whose process is gone to `destroying` and returns them: what there is of those VMs has to be removed. */
  reapAbandoned(): Vm[]
  /** Takes a VM id without a VM. Give it back with {@link VmDatabase.releaseVmid}. @throws {BlockHostError} `BH_VM_POOL_EXHAUSTED`. */
  allocateVmid(): number
  releaseVmid(vmid: number): void
  /** Returns the database in the shape of the earlier generation's vms.json; VMs that are being made are left out. */
  exportVmsJson(): string
  /** Takes VMs and tokens over from a vms.json of any generation, wholly or not at all. @throws {BlockHostError} `BH_VMS_JSON_INVALID`. */
  importVmsJson(text: string): ImportReport
  close(): void
}

/** Options of {@link openVmDatabase}. */
export type VmDatabaseOptions = {
  /** Who makes a VM, and whether that process still runs. Default: the machine's processes. */
  processes?: Processes
}

const schema = readFileSync(new URL('./schema.sql', import.meta.url), 'utf8')

/**
 * Opens (or makes) the VM database.
 *
 * @param path - File, or `:memory:`.
 * @throws {BlockHostError} `BH_VM_POOL_INVALID` (exit 78), `BH_DATABASE_OPEN_FAILED`, `BH_DATABASE_TOO_NEW`.
 */
export function openVmDatabase(
  path: string,
  pools: VmPools,
  clock: Clock,
  options: VmDatabaseOptions = {},
): VmDatabase {
  const parsed = parsePools(pools)
  const db = openDatabase(path, [fresh => fresh.exec(schema)])
  db.exec('PRAGMA busy_timeout = 30000') // fifty creators at once stand in line
  transaction(db, () => adoptPools(db, parsed))
  const context: Context = {
    db,
    now: () => Math.floor(clock.now() / 1000),
    processes: options.processes ?? systemProcesses(),
    allocator: createAllocator(db, parsed),
    ipv6: parsed.ipv6 === undefined ? 'none' : parsed.ipv6.byName ? 'by name' : 'by pool',
    restSeconds: parsed.restSeconds,
    rows: createRows(db),
    tokens: createNftTokens(db),
  }
  return createVmDatabase(context)
}

/** What the operations share. */
export type Context = {
  readonly db: DatabaseSync
  /** Unix seconds. */
  readonly now: () => number
  readonly processes: Processes
  readonly allocator: ReturnType<typeof createAllocator>
  readonly ipv6: 'none' | 'by name' | 'by pool'
  readonly restSeconds: number
  readonly rows: Rows
  readonly tokens: NftTokens
}

function createVmDatabase(context: Context): VmDatabase {
  const { db, rows, tokens, now } = context
  const atomic = <T>(work: () => T): T => transaction(db, work)
  const change = (name: string, to: VmState, columns: Columns = {}, expiredAt?: number) =>
    atomic(() => move(context, name, to, columns, expiredAt))
  const set = (name: string, columns: Columns) => atomic(() => rows.update(living(context, name), columns))
  const select = (sql: string, ...values: (string | number)[]) => (db.prepare(sql).all(...values) as VmRow[]).map(toVm)
  return {
    reserveVm: input => atomic(() => reserve(context, checked(input))),
    markActive: (name, { expiresAt } = {}) =>
      change(name, 'active', {
        creator: null,
        suspended_at: null,
        ...(expiresAt === undefined ? {} : { expires_at: expiry(expiresAt) }),
      }),
    markSuspended: (name, { expiredAt } = {}) => change(name, 'suspended', { suspended_at: now() }, expiredAt),
    markDestroying: (name, { expiredAt } = {}) => atomic(() => markDestroying(context, name, expiredAt)),
    markDestroyed: name => atomic(() => destroy(context, name)),
    setExpiry: (name, expiresAt) => set(name, { expires_at: expiry(expiresAt) }),
    setOwner: (name, wallet) => set(name, { owner_wallet: walletText(wallet), owner: walletText(wallet) }),
    setMachineId: (name, machineId) => set(name, { machine_id: machineId }),
    setExtra: (name, key, value) =>
      atomic(() => {
        const vm = living(context, name)
        return rows.update(vm, { extra: JSON.stringify({ ...toVm(vm).extra, [key]: value }) })
      }),
    reserveNftTokenId: (name, tokenId) =>
      atomic(() => {
        living(context, name)
        return tokens.reserve(name, now(), tokenId)
      }),
    markNftMinted: (name, tokenId, wallet) =>
      atomic(() => {
        const vm = living(context, name)
        const at = now()
        const id = tokens.mint(name, tokenId, walletText(wallet), at)
        return rows.update(vm, { nft_token_id: Number(id), nft_minted_at: at })
      }),
    markNftFailed: tokenId => atomic(() => tokens.fail(tokenId, now())),
    findNftToken: tokens.find,
    findVm: name => {
      const row = rows.findLiving(name) ?? rows.findDestroyed(name)
      return row === undefined ? undefined : toVm(row)
    },
    listVms: ({ state } = {}) =>
      state === undefined
        ? select('SELECT * FROM vms ORDER BY id')
        : select('SELECT * FROM vms WHERE state = ? ORDER BY id', state),
    vmsToSuspend: at =>
      select("SELECT * FROM vms WHERE state = 'active' AND expires_at < ? ORDER BY expires_at, id", at),
    vmsToDestroy: (at, graceDays) =>
      select(
        `SELECT * FROM vms WHERE state = 'suspended' AND expires_at < ?1 AND coalesce(suspended_at, 0) < ?1 ORDER BY expires_at, id`,
        at - graceDays * 86_400,
      ),
    reapAbandoned: () => atomic(() => reap(context)),
    allocateVmid: () => atomic(() => holdVmid(context)),
    releaseVmid: vmid =>
      atomic(() => {
        if (db.prepare('DELETE FROM held_vmids WHERE vmid = ?').run(vmid).changes === 1)
          context.allocator.giveBack('vmid', String(vmid))
      }),
    exportVmsJson: () => atomic(() => exportVmsJson(context)),
    importVmsJson: text => atomic(() => importVmsJson(context, text)),
    close: () => db.close(),
    [Symbol.dispose]: () => db.close(),
  }
}

function reserve(context: Context, input: Required<ReserveVm>): Vm {
  const { rows, processes } = context
  const found = rows.findLiving(input.name)
  if (found !== undefined) return takeOver(context, found, input)
  const row = rows.insert({
    name: input.name,
    state: 'creating',
    ...takeNumbers(context, input.name),
    owner: input.ownerWallet,
    owner_wallet: input.ownerWallet,
    username: input.username,
    purpose: input.purpose,
    machine_id: input.machineId,
    expires_at: input.expiresAt,
    created_at: context.now(),
    creator: processes.self,
  })
  return toVm(row)
}

function takeOver({ rows, processes }: Context, row: VmRow, input: Required<ReserveVm>): Vm {
  if (row.state !== 'creating' || row.owner_wallet !== input.ownerWallet) throw exists(row.name, row.state)
  refuseOthers(processes, row)
  return rows.update(row, { creator: processes.self, expires_at: input.expiresAt })
}

function takeNumbers(context: Context, name: string): { vmid: number; ipv4: string; ipv6: string | null } {
  const take = (pool: PoolName, options: { preferred?: number | undefined; from?: number } = {}): string => {
    const text = context.allocator.take(pool, { name, now: context.now(), ...options })
    if (text === undefined) throw exhausted(pool, context.allocator.resting(pool))
    return text
  }
  const takeIpv6 = () => {
    if (context.ipv6 === 'none') return null
    if (context.ipv6 === 'by pool') return take('ipv6')
    return take('ipv6', { preferred: ipv6NumberOf(name), from: unnamedIpv6Start })
  }
  return { vmid: Number(take('vmid')), ipv4: take('ipv4'), ipv6: takeIpv6() }
}

function move(context: Context, name: string, to: VmState, columns: Columns, expiredAt: number | undefined): Vm {
  const row = living(context, name)
  if (row.state === to)
    return columns.expires_at === undefined ? toVm(row) : context.rows.update(row, { expires_at: columns.expires_at })
  if (!transitions[row.state].includes(to)) throw wrongState(name, row.state, to)
  if (expiredAt !== undefined && row.expires_at >= expiredAt) throw notExpired(name, row.expires_at)
  return context.rows.update(row, { ...columns, state: to })
}

function markDestroying(context: Context, name: string, expiredAt: number | undefined): Vm {
  const { rows, processes } = context
  const row = living(context, name)
  refuseOthers(processes, row)
  if (row.state === 'destroying') return rows.update(row, { creator: processes.self })
  return move(context, name, 'destroying', { creator: processes.self }, expiredAt)
}

/** What one process is making, or taking away, is not for another as long as that one runs. */
function refuseOthers({ self, isAlive }: Processes, { name, creator }: VmRow): void {
  if (creator !== null && creator !== self && isAlive(creator)) throw busy(name)
}

function destroy(context: Context, name: string): Vm {
  const { rows, allocator, restSeconds, now } = context
  const row = rows.findLiving(name)
  if (row === undefined) {
    const gone = rows.findDestroyed(name)
    if (gone === undefined) throw notFound(name)
    return toVm(gone)
  }
  if (row.state !== 'destroying') throw wrongState(name, row.state, 'destroyed')
  const availableAt = now() + restSeconds
  for (const pool of poolNames) if (row[pool] !== null) allocator.rest(pool, String(row[pool]), { name, availableAt })
  return rows.update(row, { state: 'destroyed', destroyed_at: now(), creator: null })
}

function reap({ db, rows, processes }: Context): Vm[] {
  const creating = db.prepare("SELECT * FROM vms WHERE state = 'creating' ORDER BY id").all() as VmRow[]
  return creating
    .filter(row => row.creator === null || !processes.isAlive(row.creator))
    .map(row => rows.update(row, { state: 'destroying', creator: null }))
}

function holdVmid({ db, allocator, now }: Context): number {
  // A blank can't be in a VM's name, so nothing rests for this one.
  const text = allocator.take('vmid', { name: ' ', now: now() })
  if (text === undefined) throw exhausted('vmid', allocator.resting('vmid'))
  db.prepare('INSERT INTO held_vmids (vmid, held_at) VALUES (?, ?)').run(Number(text), now())
  return Number(text)
}

function living({ rows }: Context, name: string): VmRow {
  const row = rows.findLiving(name)
  if (row !== undefined) return row
  throw rows.findDestroyed(name) === undefined ? notFound(name) : wrongState(name, 'destroyed', undefined)
}

function checked(input: ReserveVm): Required<ReserveVm> {
  if (!isVmName(input.name)) throw invalidInput('name', 'up to 63 letters, digits, ".", "_", "-"')
  const { username = 'admin', machineId = input.name, purpose = '' } = input
  if (!/^[a-z_][a-z\d_-]{0,31}$/.test(username)) throw invalidInput('username', 'a Unix user name')
  const ownerWallet = walletText(input.ownerWallet)
  return { name: input.name, ownerWallet, expiresAt: expiry(input.expiresAt), purpose, username, machineId }
}

/** Returns whether a text may name a VM: `[A-Za-z0-9][A-Za-z0-9._-]*`, up to 63. */
export function isVmName(text: string): boolean {
  return /^[A-Za-z\d][A-Za-z\d._-]{0,62}$/.test(text) && !text.endsWith('\n')
}

function walletText(wallet: string): string {
  if (!/^0x[\da-f]{40}$/i.test(wallet)) throw invalidInput('wallet', '0x and 40 hex digits')
  return wallet.toLowerCase()
}

function expiry(seconds: number | bigint): number {
  const value = Number(seconds)
  // The chain's "never" is the largest uint256.
  if (Number.isNaN(value) || value < 0 || (value <= Number.MAX_SAFE_INTEGER && !Number.isInteger(value)))
    throw invalidInput('expiry', 'Unix seconds')
  return Math.min(value, Number.MAX_SAFE_INTEGER)
}

/** Values of columns by name. */
export type Columns = { readonly [name in Exclude<keyof VmRow, 'id' | 'name'>]?: VmRow[name] }

/** The table `vms`. */
export type Rows = {
  findLiving(name: string): VmRow | undefined
  findDestroyed(name: string): VmRow | undefined
  insert(columns: Columns & { name: string }): VmRow
  update(row: VmRow, columns: Columns): Vm
}

function createRows(db: DatabaseSync): Rows {
  // One for each set of columns; there are few.
  const statements = new Map<string, StatementSync>()
  const prepared = (sql: string): StatementSync => {
    const statement = statements.get(sql) ?? db.prepare(sql)
    statements.set(sql, statement)
    return statement
  }
  const living = db.prepare("SELECT * FROM vms WHERE name = ? AND state <> 'destroyed'")
  const destroyed = db.prepare("SELECT * FROM vms WHERE name = ? AND state = 'destroyed' ORDER BY id DESC LIMIT 1")
  return {
    findLiving: name => living.get(name) as VmRow | undefined,
    findDestroyed: name => destroyed.get(name) as VmRow | undefined,
    insert(columns) {
      const names = Object.keys(columns)
      const marks = names.map(() => '?').join(', ')
      const sql = `INSERT INTO vms (${names.join(', ')}) VALUES (${marks}) RETURNING *`
      return prepared(sql).get(...Object.values(columns)) as VmRow
    },
    update(row, columns) {
      const assignments = Object.keys(columns).map(name => `${name} = ?`)
      const sql = `UPDATE vms SET ${assignments.join(', ')} WHERE id = ? RETURNING *`
      return toVm(prepared(sql).get(...Object.values(columns), row.id) as VmRow)
    },
  }
}
