/** What must hold whatever goes wrong: checked inside every commit and after every turn. */
import { overlaps, parsePrefix } from '@blockhost/net/prefix.ts'
import { type Hex, toHex } from 'viem'
import { truthOf } from './cast.ts'
import type { Block } from './chain.ts'
import { type ContractRequest, decodeCall } from './contract.ts'
import type { Life, Surroundings, Witness } from './life.ts'
import type { Violation } from './part.ts'
import { findNetworkViolations } from './quiet.ts'
import { hasCalmNetwork, tunnelName, worldStart } from './scenario.ts'

/** A lease, as the allocations table has it. */
export type LeaseRow = {
  readonly id: number
  readonly prefix: string
  readonly prefix_index: number
  readonly pubkey: string
  readonly nft_contract: string
  readonly tunnel_seen: number
  readonly request_id: number | null
  readonly request_digest: Hex | null
}

/** What is known of the daemon's doings, from outside. */
export type Ledger = Witness & {
  /** Transactions signed for the request that had most of them. */
  readonly mostTransactions: () => number
}

type Freed = Map<string, { readonly nftContract: string; readonly availableAt: number }>

type AuditRow = {
  readonly id: number
  readonly action: string
  readonly nft_contract: string | null
  readonly prefix: string | null
  readonly details: string | null
}

/** More nonces used for one request than this means that something goes round in circles. */
const maxNonces = 8
/** The same for the transactions signed for one nonce, each paying more than the one before. */
const maxReplacements = 16

/** Makes the witness; each violation is reported to `fail`. */
export function createLedger(around: Surroundings, fail: (violation: Violation) => void): Ledger {
  const { chain, kernel, scenario, world } = around
  const { config } = scenario
  const isNetworkCalm = hasCalmNetwork(scenario)
  const restMs = (config.keepDays + config.quarantineDays) * 86_400_000
  const nonces = new Map<string, Set<number>>()
  const replacements = new Map<number, number>()
  /** `key prefix` that the kernel ever had. */
  const carried = new Set<string>()
  const lastIds = { audit: 0, outbox: 0, signature: 0 }
  let leases = new Map<string, LeaseRow>()
  /** The last holder of each prefix that was freed, and until when it rests (Unix ms). */
  let freed: Freed = new Map()
  let firstLooks = new Map<string, number>()
  let looksOfLife = 0

  const check = (holds: boolean, invariant: string, detail: () => string): void => {
    if (!holds) fail({ invariant, detail: detail() })
  }

  function beforeCommit(life: Life): () => void {
    ripen()
    const stillFreed = new Map(freed)
    const audit = life.query<AuditRow>('SELECT * FROM audit_log WHERE id > ? ORDER BY id', lastIds.audit)
    const outbox = life.query<OutboxRow>(
      'SELECT id, intent_key, data FROM outbox WHERE id > ? ORDER BY id',
      lastIds.outbox,
    )
    if (audit.length === 0 && outbox.length === 0) return () => undefined
    const after = readLeases(life)
    checkAudit(life, audit, after, stillFreed)
    if (audit.length > 0) checkPool(life, after)
    for (const row of audit)
      if (row.action === 'allocate') {
        checkOwner(after.get(row.prefix!))
        checkConfirmed(after.get(row.prefix!))
      }
    for (const row of outbox) checkIntent(life, row, after)
    return () => {
      leases = after
      lastIds.audit = audit.at(-1)?.id ?? lastIds.audit
      lastIds.outbox = outbox.at(-1)?.id ?? lastIds.outbox
      freed = stillFreed
    }
  }

  function readLeases(life: Life): Map<string, LeaseRow> {
    const rows = life.query<LeaseRow>('SELECT * FROM allocations')
    return new Map(rows.map(row => [row.prefix, row]))
  }

  // --- audit log ----------------------------------------------------------------------------------------------------

  /** The log, replayed on the leases of before, must give the leases of after. */
  function checkAudit(
    life: Life,
    rows: readonly AuditRow[],
    after: ReadonlyMap<string, LeaseRow>,
    stillFreed: Freed,
  ): void {
    const replayed = new Map([...leases.values()].map(row => [row.prefix, { nft: row.nft_contract, key: row.pubkey }]))
    for (const row of rows) {
      const details = JSON.parse(row.details ?? '{}') as Record<string, string>
      const nft = row.nft_contract ?? ''
      const prefix = row.prefix ?? ''
      if (row.action === 'allocate') {
        check(!replayed.has(prefix), 'a prefix is given out once', () => `${prefix} to ${nft}`)
        checkRested(stillFreed, prefix, nft)
        replayed.set(prefix, { nft, key: details.pubkey ?? '' })
      } else if (row.action === 'update_pubkey') replayed.set(prefix, { nft, key: details.new_pubkey ?? '' })
      else if (row.action === 'release') {
        if (details.reason === 'unused') checkUnused(life, prefix)
        noteFreed(stillFreed, row, details.reason ?? '')
        replayed.delete(prefix)
      } else if (row.action === 'refuse') checkRefusal(life, nft, details, rows)
    }
    const wrong = [...after.values()].find(row => {
      const found = replayed.get(row.prefix)
      return found?.nft !== row.nft_contract || found.key !== row.pubkey
    })
    check(
      wrong === undefined && replayed.size === after.size,
      'the audit log tells every change of a lease',
      () => `log: ${JSON.stringify([...replayed])}; table: ${JSON.stringify([...after.values()])}`,
    )
  }

  function checkRested(stillFreed: Freed, prefix: string, nftContract: string): void {
    const last = stillFreed.get(prefix)
    if (last === undefined || last.nftContract === nftContract) return
    const missing = last.availableAt - wallNow()
    check(
      missing <= 0,
      'a prefix rests before another NFT contract gets it',
      () => `${prefix}: ${missing} ms too early`,
    )
  }

  /** Rested is rested, even if the clock is set back later. */
  function ripen(): void {
    for (const [prefix, last] of freed)
      if (last.availableAt <= wallNow()) freed.set(prefix, { ...last, availableAt: 0 })
  }

  /** What was used rests; what was used, taken again and not used rests on. */
  function noteFreed(stillFreed: Freed, row: AuditRow, reason: string): void {
    const prefix = row.prefix!
    const nftContract = row.nft_contract!
    const last = stillFreed.get(prefix)
    const wasUsed = reason !== 'unused' && leases.get(prefix)?.tunnel_seen === 1
    const restsOn = last?.nftContract === nftContract ? last.availableAt : 0
    stillFreed.set(prefix, {
      nftContract,
      availableAt: Math.max(wasUsed && restMs > 0 ? wallNow() + restMs : 0, restsOn),
    })
  }

  function wallNow(): number {
    return worldStart + world.now() + around.wallOffset()
  }

  function checkUnused(life: Life, prefix: string): void {
    const lease = leases.get(prefix)
    const key = lease?.pubkey ?? ''
    check(lease?.tunnel_seen === 0, 'a lease whose tunnel came up is not taken back as unused', () => prefix)
    const peer = kernel.state.links.get(tunnelName)?.wireguard?.peers.get(key)
    check((peer?.latestHandshake ?? 0) === 0, 'a lease with a handshake is not taken back as unused', () => prefix)
    const first = looksOfLife === life.number ? firstLooks.get(key) : undefined
    const watchedMs = first === undefined ? 0 : world.now() - first
    check(
      watchedMs >= config.tunnelTimeoutMs,
      'unused means seen without handshake for the whole time',
      () => `${prefix} was watched for ${watchedMs} ms`,
    )
  }

  function sawPeers(life: Life): void {
    if (looksOfLife !== life.number) firstLooks = new Map()
    looksOfLife = life.number
    const peers = kernel.state.links.get(tunnelName)?.wireguard?.peers.values() ?? []
    const looks = new Map<string, number>()
    for (const { publicKey, latestHandshake } of peers)
      if (latestHandshake === 0) looks.set(publicKey, firstLooks.get(publicKey) ?? world.now())
    firstLooks = looks
  }

  // --- refusals -----------------------------------------------------------------------------------------------------

  function checkRefusal(
    life: Life,
    nftContract: string,
    details: Record<string, string>,
    rows: readonly AuditRow[],
  ): void {
    const { reason = '' } = details
    const sql = "SELECT digest FROM requests WHERE id = ? AND nft_contract = ? AND state = 'refused' AND reason = ?"
    const found = life.query<{ digest: Hex }>(sql, Number(details.request), nftContract, reason)
    check(found.length > 0, 'a refusal is recorded with its reason', () => JSON.stringify(details))
    const isFair = found.some(({ digest }) => isFairRefusal(life, digest, nftContract, reason, rows))
    check(isFair, 'a request is refused for a true reason only', () => `#${details.request}: ${reason}`)
  }

  function isFairRefusal(
    life: Life,
    digest: Hex,
    nftContract: string,
    reason: string,
    rows: readonly AuditRow[],
  ): boolean {
    const request = chain.requestsByDigest.get(digest)
    if (request === undefined) return false
    const truth = truthOf(request.payload)
    if (reason === 'requester-does-not-own-nft-contract') return chain.givenAway.has(request.nftContract)
    if (reason === 'expired') {
      const left = request.submittedAt + chain.rules.expirationSeconds - chain.head().timestamp
      return left <= 120 + 10 * scenario.blockSeconds
    }
    const { acceptedCodeHashes, requestsPerWalletPerDay } = config.limits
    const { codeHash } = chain.head().state.nfts.get(request.nftContract)!
    if (reason === 'nft-contract-code-not-accepted') return !(acceptedCodeHashes as Hex[]).includes(codeHash)
    if (reason === 'too-many-requests-of-wallet') return requestsPerWalletPerDay > 0 && countAsked(life, request) > 0
    if (truth.kind === 'bad') return reason.startsWith('payload-') || reason === 'wireguard-key-is-the-brokers'
    if (reason === 'wireguard-key-belongs-to-another-lease') return isKeyTaken(life, truth.publicKey, nftContract, rows)
    if (reason === 'pool-exhausted') return isPoolFull(life, nftContract)
    return false
  }

  /** Requests of a wallet that were decided on beyond the daily number; the one that is refused is among them. */
  function countAsked(life: Life, { requester }: ContractRequest): number {
    const asked = life.query('SELECT 1 FROM requests WHERE requester = ?', requester)
    return asked.length - config.limits.requestsPerWalletPerDay
  }

  /** Before, after, or on the way from one to the other. */
  function isKeyTaken(life: Life, publicKey: string, nftContract: string, rows: readonly AuditRow[]): boolean {
    const others = [...leases.values(), ...readLeases(life).values()].filter(row => row.nft_contract !== nftContract)
    return others.some(row => row.pubkey === publicKey) || rows.some(row => row.details?.includes(publicKey))
  }

  function isPoolFull(life: Life, nftContract: string): boolean {
    const free = life.query('SELECT 1 FROM free_ranges LIMIT 1')[0]
    const kept = life.query('SELECT 1 FROM resting WHERE nft_contract = ?', nftContract)[0]
    return free === undefined && kept === undefined
  }

  // --- leases and free space ----------------------------------------------------------------------------------------

  function checkPool(life: Life, after: ReadonlyMap<string, LeaseRow>): void {
    const rows = [...after.values()]
    for (const [at, row] of rows.entries()) {
      const prefix = parsePrefix(row.prefix)!
      const other = rows.slice(at + 1).find(({ prefix: text }) => overlaps(prefix, parsePrefix(text)!))
      check(other === undefined, 'no two leases overlap', () => `${row.prefix} and ${other?.prefix}`)
      check(row.prefix_index > 0, 'index 0 is never leased', () => row.prefix)
      checkBasis(row)
    }
    checkDistinct(rows, 'nft_contract', 'one lease per NFT contract')
    checkDistinct(rows, 'pubkey', 'one lease per WireGuard key')
    checkPartition(life, rows)
  }

  function checkDistinct(rows: readonly LeaseRow[], column: 'nft_contract' | 'pubkey', invariant: string): void {
    check(new Set(rows.map(row => row[column])).size === rows.length, invariant, () => JSON.stringify(rows))
  }

  /** A lease has the key that the request it stands on asked for, in a payload that was worth it. */
  function checkBasis(row: LeaseRow): void {
    const request = row.request_digest === null ? undefined : chain.requestsByDigest.get(row.request_digest)
    const truth = request === undefined ? undefined : truthOf(request.payload)
    const fits = truth?.kind === 'good' && truth.publicKey === row.pubkey && truth.nftContract === row.nft_contract
    check(fits, 'a lease is what its request asked for', () => `${row.prefix} stands on #${row.request_id}`)
  }

  function checkOwner(row: LeaseRow | undefined): void {
    const request = row === undefined ? undefined : chain.requestsByDigest.get(row.request_digest!)
    if (request === undefined) return
    // On a branch that is gone it may have had another owner.
    if (chain.orphaned.has(request.digest)) return
    check(wasOwnerLately(request), "a prefix is given to the NFT contract's owner", () => row!.prefix)
  }

  /** Where nothing is reorganized, a request has as many blocks on top of its own as the configuration asks for. */
  function checkConfirmed(row: LeaseRow | undefined): void {
    if (scenario.faults.reorg > 0 || row === undefined) return
    let block: Block | undefined = chain.head()
    for (let depth = 0; depth < config.onchain!.confirmations && block !== undefined; depth++) block = block.parent
    const isDeep = BigInt(block?.state.requests.length ?? 0) >= BigInt(row.request_id ?? 0)
    check(isDeep, 'a request waits for its confirmations', () => `#${row.request_id}`)
  }

  /** What the daemon read may be some blocks old. */
  function wasOwnerLately({ requester, nftContract }: ContractRequest): boolean {
    let block: Block | undefined = chain.head()
    for (let age = 0; age < 100 && block !== undefined; age++) {
      if (block.state.nfts.get(nftContract)?.owner === requester) return true
      block = block.parent
    }
    return false
  }

  function checkPartition(life: Life, rows: readonly LeaseRow[]): void {
    const ranges = life.query<{ first: number; last: number }>('SELECT first, last FROM free_ranges')
    const resting = life.query<{ prefix_index: number }>('SELECT prefix_index FROM resting')
    const single = [...rows, ...resting].map(({ prefix_index: at }) => ({ first: at, last: at }))
    const all = [...ranges, ...single].toSorted((a, b) => a.first - b.first)
    let next = 1
    for (const range of all) {
      check(range.first === next, 'free, leased and resting space are the whole pool', () => JSON.stringify(all))
      next = range.last + 1
    }
    check(next === life.store.pool.last + 1, 'free, leased and resting space are the whole pool', () =>
      JSON.stringify(all),
    )
  }

  // --- outbox -------------------------------------------------------------------------------------------------------

  type OutboxRow = { readonly id: number; readonly intent_key: string; readonly data: Uint8Array }

  function checkIntent(life: Life, row: OutboxRow, after: ReadonlyMap<string, LeaseRow>): void {
    const call = decodeCall(toHex(row.data))
    if (call.kind === 'submitResponses') for (const { id, digest } of call.answers) checkAnswerable(id, digest!, after)
    if (call.kind !== 'releaseRequest') return
    const sql = 'SELECT 1 FROM requests WHERE id = ? AND tx_key = ?'
    const found = life.query(sql, call.id, row.intent_key)[0]
    check(found !== undefined, 'a release belongs to a request', () => row.intent_key)
  }

  /** First the lease, then the network, then the answer. */
  function checkAnswerable(id: bigint, digest: Hex, after: ReadonlyMap<string, LeaseRow>): void {
    const lease = [...after.values()].find(row => row.request_digest === digest)
    check(lease !== undefined, 'only a request with a lease is answered', () => `#${id}`)
    if (lease === undefined) return
    check(
      carried.has(`${lease.pubkey} ${lease.prefix}`),
      'a request is answered when the network carries its lease',
      () => `#${id}: ${lease.prefix}`,
    )
  }

  function countSigned(): void {
    for (const { nonce, data } of [...around.signatures.values()].slice(lastIds.signature)) {
      lastIds.signature += 1
      replacements.set(nonce, (replacements.get(nonce) ?? 0) + 1)
      check(replacements.get(nonce)! <= maxReplacements, 'transactions are bounded', () => `nonce ${nonce}`)
      for (const subject of subjectsOf(data)) countNonce(subject, nonce)
    }
  }

  /** What a transaction is about: requests by content, and releases by id, as they name nothing else. */
  function subjectsOf(data: Hex): string[] {
    const call = decodeCall(data)
    if (call.kind === 'releaseRequest') return [`release of #${call.id}`]
    return call.kind === 'submitResponses' ? call.answers.map(({ id, digest }) => `answer to #${id} ${digest}`) : []
  }

  function countNonce(subject: string, nonce: number): void {
    const used = nonces.get(subject) ?? new Set()
    nonces.set(subject, used.add(nonce))
    check(used.size <= maxNonces, 'transactions are bounded', () => `${subject}: nonces ${[...used]}`)
  }

  function networkChanged(): void {
    const peers = kernel.state.links.get(tunnelName)?.wireguard?.peers.values() ?? []
    for (const peer of peers) for (const prefix of peer.allowedIps) carried.add(`${peer.publicKey} ${prefix}`)
  }

  function turnEnded(life: Life): void {
    const after = readLeases(life)
    const isSame =
      after.size === leases.size && [...after.values()].every(row => leases.get(row.prefix)?.pubkey === row.pubkey)
    check(isSame, 'the audit log tells every change of a lease', () => JSON.stringify([...after.values()]))
    leases = after
    countSigned()
    checkDropped(life)
    if (isNetworkCalm) for (const violation of findNetworkViolations(around, [...after.values()])) fail(violation)
  }

  function checkDropped(life: Life): void {
    const rows = life.query<{ id: number; digest: Hex }>("SELECT id, digest FROM requests WHERE state = 'dropped'")
    for (const { id, digest } of rows)
      check(chain.orphaned.has(digest), 'only a reorganization drops a request', () => `#${id}`)
  }

  const mostTransactions = () => Math.max(0, ...nonces.values().map(used => used.size))
  return { beforeCommit, turnEnded, sawPeers, networkChanged, mostTransactions }
}
