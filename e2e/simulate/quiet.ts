/** What must hold once nothing goes wrong any more and nothing changes: chain = database = network. */
import { requestStatus } from '@blockhost/chain/snapshot.ts'
import { proxiedAddresses } from '@blockhost/net/ndp.ts'
import { formatAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import type { FakeKernelState } from '@blockhost/testkit/fake-kernel-state.ts'
import { brokerKeys, openAnswer, truthOf } from './cast.ts'
import type { Block } from './chain.ts'
import { type ContractRequest, type ContractState, liveRequest } from './contract.ts'
import type { LeaseRow } from './invariants.ts'
import type { Life, Surroundings } from './life.ts'
import type { Violation } from './part.ts'
import { tunnelName, upstreamName } from './scenario.ts'

/** Returns what is wrong with a world at rest. */
export function findQuietViolations(around: Surroundings, life: Life): Violation[] {
  const leases = life.query<LeaseRow>('SELECT * FROM allocations')
  const state = around.chain.head().state
  return [
    ...checkHealth(life),
    ...checkOpenEnds(life),
    ...checkRefusalsLogged(life),
    ...checkRequests(life, state, leases),
    ...checkLeases(life, state, leases),
    ...checkAnswersOnChain(around.chain.head()),
    ...checkIntentsMinedOnce(around),
    ...findNetworkViolations(around, leases),
  ]
}

/** Returns a text that changes when database, chain or network do. */
export function fingerprint(around: Surroundings, life: Life): string {
  const { chain, kernel } = around
  const [total] = life.query<{ n: number }>('SELECT total_changes() AS n')
  const network = kernel.render().replaceAll(/ \d+ \d+ \d+ off$/gm, '')
  const { requests, mapping } = chain.head().state
  const statuses = requests.map(request => request.status).join('')
  return `${life.number} ${total!.n} ${statuses} ${[...mapping].join()} ${chain.waitingCount()} ${network}`
}

function violation(invariant: string, detail: string): Violation {
  return { invariant, detail }
}

function checkHealth(life: Life): Violation[] {
  const { chainError, dataplaneError } = life.broker.status()
  const errors = [chainError, dataplaneError].filter(error => error !== undefined)
  return errors.map(error => violation('a daemon without trouble says that it is well', error))
}

function checkOpenEnds(life: Life): Violation[] {
  const open = life.query("SELECT id, state, reason FROM requests WHERE state IN ('leased', 'answering', 'releasing')")
  const waiting = life.query("SELECT note, state, problem FROM outbox WHERE state IN ('queued', 'sent', 'mined')")
  return [
    ...open.map(row => violation('every request comes to an end', JSON.stringify(row))),
    ...waiting.map(row => violation('every transaction comes to an end', JSON.stringify(row))),
  ]
}

function checkRefusalsLogged(life: Life): Violation[] {
  const rows =
    life.query(`SELECT id, reason FROM requests WHERE state = 'refused' AND reason <> 'answer-failed' AND NOT EXISTS (
         SELECT 1 FROM audit_log WHERE action = 'refuse'
           AND json_extract(details, '$.request') = requests.id AND json_extract(details, '$.reason') = requests.reason)`)
  return rows.map(row => violation('every refusal is in the audit log', JSON.stringify(row)))
}

function checkRequests(life: Life, state: ContractState, leases: readonly LeaseRow[]): Violation[] {
  return state.requests.flatMap(request => {
    if (state.mapping.get(request.nftContract) !== request.id) return []
    return request.status === requestStatus.pending ? checkUnanswered(life, request) : checkAnswered(request, leases)
  })
}

function checkUnanswered(life: Life, request: ContractRequest): Violation[] {
  const row = life.query(
    'SELECT state, reason FROM requests WHERE id = ? AND digest = ?',
    request.id,
    request.digest,
  )[0] as { state: string; reason: string } | undefined
  if (row?.state === 'refused') return []
  return [violation('every request is answered, refused or overtaken', `#${request.id} is ${row?.state ?? 'unknown'}`)]
}

function checkAnswered(request: ContractRequest, leases: readonly LeaseRow[]): Violation[] {
  const { id, nftContract, digest, response } = request
  const truth = truthOf(request.payload)
  const lease = leases.find(row => row.nft_contract === nftContract)
  const invariant = 'an answer on chain names the lease in the database'
  if (truth.kind === 'bad') return [violation('a bad request is never answered', `#${id}: ${truth.flaw}`)]
  if (lease === undefined) return [violation(invariant, `#${id} has no lease`)]
  const opened = openAnswer(truth.host, id, response!)
  if (opened.kind !== 'good') return [violation(invariant, `#${id}: ${opened.kind}`)]
  const { prefix, gateway, brokerPubkey } = opened.response
  const fits =
    prefix === lease.prefix &&
    truth.publicKey === lease.pubkey &&
    digest === lease.request_digest &&
    gateway === '2001:db8:77::1' &&
    brokerPubkey === brokerKeys.wireguardPublic
  if (fits) return []
  const says = `#${id} says ${prefix} for ${truth.publicKey}`
  return [violation(invariant, `${says}; the lease is ${lease.prefix} for ${lease.pubkey} of #${lease.request_id}`)]
}

function checkLeases(life: Life, state: ContractState, leases: readonly LeaseRow[]): Violation[] {
  return leases.flatMap(lease => {
    const live = liveRequest(state, lease.nft_contract as ContractRequest['nftContract'])
    if (live?.status === requestStatus.approved && live.digest === lease.request_digest) return []
    // Asking again with rubbish does not cost a host the prefix it has.
    if (live?.status === requestStatus.pending && checkUnanswered(life, live).length === 0) return []
    const found = live === undefined ? 'no live request' : `#${live.id}, status ${live.status}`
    return [violation('a lease has an answer on chain', `${lease.prefix} of #${lease.request_id}: ${found}`)]
  })
}

function checkAnswersOnChain(head: Block): Violation[] {
  const found: Violation[] = []
  const answered = new Set<bigint>()
  for (let block: Block | undefined = head; block !== undefined; block = block.parent)
    for (const { transaction, error, skipped } of block.mined) {
      if (error !== undefined || transaction.call.kind !== 'submitResponses') continue
      for (const { id, digest } of transaction.call.answers) {
        if (skipped.includes(id)) continue
        if (answered.has(id)) found.push(violation('at most one answer per request', `#${id}`))
        answered.add(id)
        if (digest !== head.state.requests[Number(id) - 1]?.digest)
          found.push(violation('an answer is for the request it was made for', `#${id}`))
      }
    }
  return found
}

/** Where endpoints tell the truth, an intent never gets a second nonce. */
function checkIntentsMinedOnce({ chain, faults, signatures }: Surroundings): Violation[] {
  const { counts } = faults
  if (counts.reorg + counts['hidden-receipt'] + counts['stale-endpoint'] > 0) return []
  const nonces = new Map<string, Set<number>>()
  for (const { data, nonce, hash } of signatures.values())
    if (data !== '0x' && chain.operatorMined.has(hash)) nonces.set(data, (nonces.get(data) ?? new Set()).add(nonce))
  const twice = [...nonces.values()].filter(used => used.size > 1)
  return twice.map(used => violation('an intent is mined once', `with the nonces ${[...used].join()}`))
}

/** Returns where the network is not what the leases ask for. */
export function findNetworkViolations({ kernel, scenario }: Surroundings, leases: readonly LeaseRow[]): Violation[] {
  const { config } = scenario
  const { state } = kernel
  const prefixes = leases.map(lease => parsePrefix(lease.prefix)!)
  const networks = prefixes.map(prefix => formatAddress(prefix.network))
  const isKernelMode = config.wireguard.ndpMode === 'kernel'
  const proxies = isKernelMode ? [...proxiedAddresses(prefixes)].map(address => `${address} ${upstreamName}`) : []
  const link = state.links.get(tunnelName)
  const peers = [...(link?.wireguard?.peers.values() ?? [])].map(peer => `${peer.publicKey} ${peer.allowedIps.join()}`)
  return [
    ...compare(
      'peers',
      leases.map(lease => `${lease.pubkey} ${lease.prefix}`),
      peers,
    ),
    ...compare('firewall set', networks, setOf(state, 'leased')),
    ...compare('NDP entries', proxies, [...state.proxies]),
    ...compare(
      'interface',
      ['up with key'],
      [link?.up && link.wireguard?.publicKey === brokerKeys.wireguardPublic ? 'up with key' : 'not'],
    ),
    ...(config.wireguard.ndpMode === 'ndppd' ? checkNdppd(state, leases) : []),
  ]
}

function checkNdppd(state: FakeKernelState, leases: readonly LeaseRow[]): Violation[] {
  const targets = leases.map(({ prefix }) => `0x${parsePrefix(prefix)!.network.toString(16).padStart(32, '0')}`)
  const running = [...state.processes.values()].map(({ argv }) => argv[0]!).filter(name => name === 'ndppd')
  return [...compare('NDP targets', targets, setOf(state, 'leased_targets')), ...compare('ndppd', ['ndppd'], running)]
}

function setOf(state: FakeKernelState, name: string): string[] {
  return [...state.tables.values()].flatMap(table => [...(table.sets.get(name)?.elements ?? [])])
}

function compare(what: string, wanted: readonly string[], found: readonly string[]): Violation[] {
  const missing = wanted.filter(item => !found.includes(item))
  const extra = found.filter(item => !wanted.includes(item))
  if (missing.length + extra.length === 0) return []
  return [
    violation(`the ${what} are those of the leases`, `missing: ${missing.join(' | ')}; too many: ${extra.join(' | ')}`),
  ]
}
