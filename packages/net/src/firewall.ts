import { createHash } from 'node:crypto'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { type IpObject, isObject, parseJson } from './ip.ts'
import { malformed, type Parsed, parsedOk } from './parsed.ts'
import { formatAddress, maskOf, type Prefix, parseAddress } from './prefix.ts'
import { runTool } from './tool.ts'

/** What the firewall of one broker is made from. */
export type FirewallConfig = {
  /** The WireGuard interface; the table is named after it. */
  readonly interface: string
  readonly upstream: Prefix
  /** Length of every lease, in bits. */
  readonly allocationSize: number
  /** TCP ports of this machine that tenants may reach through the tunnel. */
  readonly allowedTcpPorts: readonly number[]
  /** Set in ndppd mode: where only leased addresses may be advertised, and the broker's own address. */
  readonly ndp: { readonly interface: string; readonly brokerAddress: bigint } | undefined
}

/** A lease as an element of the sets: its network address as `ipv6_addr`, and as a number for raw payload matches. */
export type LeaseElement = { readonly address: string; readonly number: string }

/** Our table as it is in the kernel. */
export type FirewallTable = {
  readonly chains: ReadonlyMap<string, FirewallChain>
  /** Elements by set name, in the kernel's spelling. */
  readonly sets: ReadonlyMap<string, readonly string[]>
}

/** Where a chain hooks in, and the comments of its rules in order; each of our comments carries a digest of its rule. */
export type FirewallChain = { readonly hook: string; readonly rules: readonly string[] }

/** What brings the table to the desired state: a script for one `nft -f -` and a sentence for the report. */
export type FirewallDiff = { readonly script: string; readonly change: string }

/** The table of one broker. */
export type Firewall = {
  /** Reads the table with one process; `undefined` when there is none. */
  read(): Promise<FirewallTable | undefined>
  /** Applies a script with one process, wholly or not at all. */
  apply(script: string): Promise<void>
}

/** Makes a {@link Firewall} that works through nft(8). */
export function createFirewall(options: { exec: Exec; config: FirewallConfig }): Firewall {
  const { exec } = options
  const table = tableName(options.config.interface)
  return {
    async read() {
      const text = await listTable(exec, table)
      if (text === undefined) return undefined
      const parsed = parseFirewall(text, table)
      if (parsed.ok) return parsed.value
      throw new BlockHostError({
        code: 'BH_FIREWALL_ANSWER_MALFORMED',
        message: `\`nft -j list table ip6 ${table}\` printed something unknown: ${parsed.problem}`,
        retryable: true,
      })
    },
    async apply(script) {
      if (script !== '') await runTool(exec, 'nft', ['-f', '-'], { input: script, doing: `change the table ${table}` })
    },
  }
}

/** Returns the name of the nftables table (family ip6) that belongs to a WireGuard interface, e.g. `blockhost_wg_broker`. */
export function tableName(interfaceName: string): string {
  return `blockhost_${interfaceName.replace(/[^a-z\d]/gi, '_')}`
}

/** Returns the set elements of a lease. */
export function leaseElement(prefix: Prefix): LeaseElement {
  return { address: formatAddress(prefix.network), number: formatNumber(prefix.network) }
}

/**
 * Returns a script that replaces the table, if there is one, by the one that belongs to these leases. What it does:
 * tenants can't reach each other, can't send from an address that is not leased, and reach nothing of this machine but ping and the
 * allowed ports; nobody else can send from a leased address; what is not leased is answered with "address unreachable"; in ndppd
 * mode no neighbour advertisement leaves for leasable space that is not leased.
 */
export function renderFirewall(config: FirewallConfig, leases: readonly LeaseElement[]): string {
  const table = tableName(config.interface)
  const sets = setsOf(config).map(set => renderSet(set, leases))
  const chains = chainsOf(config).map(renderChain)
  return `table ip6 ${table}\ndelete table ip6 ${table}\ntable ip6 ${table} {\n${[...sets, ...chains].join('')}}\n`
}

/** Returns a script that removes the table; fine when there is none. */
export function renderFirewallRemoval(config: FirewallConfig): string {
  const table = tableName(config.interface)
  return `table ip6 ${table}\ndelete table ip6 ${table}\n`
}

/**
 * Returns a script that changes single leases, its size independent of how many there are. Both kinds may run twice: adding an
 * element that is there does nothing, and one to be removed is added first, since nft fails on one that is gone.
 */
export function renderElements(
  config: FirewallConfig,
  remove: readonly LeaseElement[],
  add: readonly LeaseElement[],
): string {
  const table = tableName(config.interface)
  const line = (verb: string, set: FirewallSet, leases: readonly LeaseElement[]) =>
    leases.length === 0 ? '' : `${verb} element ip6 ${table} ${set.name} { ${leases.map(set.element).join(', ')} }\n`
  return setsOf(config)
    .map(set => `${line('add', set, remove)}${line('delete', set, remove)}${line('add', set, add)}`)
    .join('')
}

/** Compares the table with what it should be; `undefined` when it is that. Cost O(leases). */
export function diffFirewall(
  config: FirewallConfig,
  leases: readonly LeaseElement[],
  actual: FirewallTable | undefined,
): FirewallDiff | undefined {
  const whole = (change: string): FirewallDiff => ({ script: renderFirewall(config, leases), change })
  if (actual === undefined) return whole('made the firewall table')
  if (!hasOurRules(config, actual)) return whole('made the firewall table anew, because its rules had changed')
  const diff = diffSets(config, leases, actual)
  if (diff === undefined) return whole('made the firewall table anew, because its sets had changed')
  if (diff.remove.length + diff.add.length === 0) return undefined
  return {
    script: renderElements(config, diff.remove, diff.add),
    change: `opened the firewall for ${diff.add.length} leases and closed it for ${diff.remove.length}`,
  }
}

/** Parses `nft -j list table ip6 <table>`. Strict: an object it does not know is an error. */
export function parseFirewall(text: string, table: string): Parsed<FirewallTable> {
  const root = parseJson(text)
  const objects = isObject(root) ? root.nftables : undefined
  if (!Array.isArray(objects)) return malformed('it is no list of nftables objects')
  const hooks = new Map<string, string>()
  const rules = new Map<string, string[]>()
  const sets = new Map<string, readonly string[]>()
  for (const entry of objects) {
    if (!isObject(entry)) return malformed('an entry is no object')
    const { chain, rule, set } = entry
    if (isObject(chain)) hooks.set(String(chain.name), `${chain.type} ${chain.hook} ${chain.prio} ${chain.policy}`)
    else if (isObject(rule)) listOf(rules, String(rule.chain)).push(String(rule.comment ?? ''))
    else if (isObject(set)) sets.set(String(set.name), parseElements(set))
    else if (!('table' in entry || 'metainfo' in entry)) return malformed(`${Object.keys(entry)[0]} in table ${table}`)
  }
  const chains = new Map([...hooks].map(([name, hook]) => [name, { hook, rules: rules.get(name) ?? [] }]))
  return parsedOk({ chains, sets })
}

type FirewallSet = {
  readonly name: string
  readonly type: string
  readonly element: (lease: LeaseElement) => string
  /** Reads the kernel's spelling of an element. */
  readonly parse: (element: string) => bigint | undefined
}
type Rule = { readonly purpose: string; readonly match: string; readonly verdict: string }
type Chain = {
  readonly name: string
  readonly hook: string
  readonly priority: number
  readonly rules: readonly Rule[]
}

const leased: FirewallSet = {
  name: 'leased',
  type: 'type ipv6_addr',
  element: lease => lease.address,
  parse: parseAddress,
}

/** The same leases once more: nft 1.0.6 has no name for the target of an advertisement, and raw payload needs a set of numbers. */
const leasedTargets: FirewallSet = {
  name: 'leased_targets',
  type: 'typeof @th,64,128',
  element: lease => lease.number,
  parse: element => (/^0x[\da-f]{1,32}$/.test(element) ? BigInt(element) : undefined),
}

/** Hash sets, not interval sets: to add to one of those nft reads all of it first. Hence the masks in the rules. */
function setsOf(config: FirewallConfig): readonly FirewallSet[] {
  return config.ndp === undefined ? [leased] : [leased, leasedTargets]
}

function chainsOf(config: FirewallConfig): readonly Chain[] {
  const chains = [sourceChain(config), forwardChain(config), inputChain(config)]
  return config.ndp === undefined ? chains : [...chains, advertisementChain(config, config.ndp)]
}

/** Before connection tracking, so that a flood of forged sources costs no state. */
function sourceChain(config: FirewallConfig): Chain {
  const tunnel = `iifname "${config.interface}"`
  const source = masked('ip6 saddr', config.allocationSize, formatAddress)
  return {
    name: 'source',
    hook: 'prerouting',
    priority: -300,
    rules: [
      {
        purpose: 'tenant with a source that is not leased',
        match: `${tunnel} ${source} != @leased`,
        verdict: 'counter drop',
      },
      {
        purpose: 'leased source from outside the tunnel',
        match: `iifname != "${config.interface}" iifname != "lo" ${source} @leased`,
        verdict: 'counter drop',
      },
    ],
  }
}

function forwardChain(config: FirewallConfig): Chain {
  const { interface: name, allocationSize } = config
  const destination = masked('ip6 daddr', allocationSize, formatAddress)
  return {
    name: 'forward',
    hook: 'forward',
    priority: 0,
    rules: [
      { purpose: 'tenant to tenant', match: `iifname "${name}" oifname "${name}"`, verdict: 'counter drop' },
      {
        purpose: 'destination that is not leased',
        match: `oifname "${name}" ${destination} != @leased`,
        verdict: 'counter reject with icmpv6 addr-unreachable',
      },
    ],
  }
}

function inputChain(config: FirewallConfig): Chain {
  const tunnel = `iifname "${config.interface}"`
  const types = 'destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, echo-reply'
  const ports = config.allowedTcpPorts.join(', ')
  return {
    name: 'input',
    hook: 'input',
    priority: 0,
    rules: [
      { purpose: 'ping and errors', match: `${tunnel} icmpv6 type { ${types} }`, verdict: 'accept' },
      ...(ports === ''
        ? []
        : [{ purpose: 'allowed ports', match: `${tunnel} tcp dport { ${ports} }`, verdict: 'accept' }]),
      { purpose: 'tenant to this machine', match: tunnel, verdict: 'counter drop' },
    ],
  }
}

/** Sub-prefix 0 and addresses outside the upstream prefix are not ours to judge: the machine's own addresses are there. */
function advertisementChain(config: FirewallConfig, ndp: NonNullable<FirewallConfig['ndp']>): Chain {
  const { upstream, allocationSize } = config
  const target = masked('@th,64,128', allocationSize, formatNumber)
  const network = formatNumber(upstream.network)
  const inUpstream =
    upstream.length === 0 ? '' : `${masked('@th,64,128', upstream.length, formatNumber)} == ${network} `
  return {
    name: 'advertisement',
    hook: 'output',
    priority: 0,
    rules: [
      {
        purpose: 'neighbour advertisement for space that is not leased',
        match: `oifname "${ndp.interface}" icmpv6 type nd-neighbor-advert ${inUpstream}${target} != ${network} @th,64,128 != ${formatNumber(ndp.brokerAddress)} ${target} != @${leasedTargets.name}`,
        verdict: 'counter drop',
      },
    ],
  }
}

function masked(field: string, length: number, format: (address: bigint) => string): string {
  return length === 128 ? field : `${field} & ${format(maskOf(length))}`
}

function formatNumber(address: bigint): string {
  return `0x${address.toString(16).padStart(32, '0')}`
}

function renderSet(set: FirewallSet, leases: readonly LeaseElement[]): string {
  const elements = leases.length === 0 ? '' : `    elements = { ${leases.map(set.element).join(', ')} }\n`
  return `  set ${set.name} {\n    ${set.type}\n${elements}  }\n`
}

function renderChain(chain: Chain): string {
  const rules = chain.rules.map(rule => `    ${ruleText(rule)} comment "${commentOf(rule)}"\n`).join('')
  const hook = `    type filter hook ${chain.hook} priority ${chain.priority}; policy accept;\n`
  return `  chain ${chain.name} {\n${hook}${rules}  }\n`
}

function ruleText(rule: Rule): string {
  return `${rule.match} ${rule.verdict}`
}

/** nft prints rules in another spelling than it was given, so a rule is recognised by the digest in its comment. */
function commentOf(rule: Rule): string {
  return `${rule.purpose} [${createHash('sha256').update(ruleText(rule)).digest('hex').slice(0, 8)}]`
}

function hasOurRules(config: FirewallConfig, actual: FirewallTable): boolean {
  const chains = chainsOf(config)
  const sets = setsOf(config)
  return (
    actual.chains.size === chains.length &&
    actual.sets.size === sets.length &&
    sets.every(set => actual.sets.has(set.name)) &&
    chains.every(chain => {
      const found = actual.chains.get(chain.name)
      const comments = chain.rules.map(commentOf).join('\n')
      return found?.hook === `filter ${chain.hook} ${chain.priority} accept` && found.rules.join('\n') === comments
    })
  )
}

type SetDiff = { readonly remove: readonly LeaseElement[]; readonly add: readonly LeaseElement[] }

/** What one set lacks is added to all of them, which does no harm; `undefined` when an element is none of ours. */
function diffSets(config: FirewallConfig, leases: readonly LeaseElement[], actual: FirewallTable): SetDiff | undefined {
  const add = new Set<LeaseElement>()
  const remove = new Map<string, LeaseElement>()
  for (const set of setsOf(config)) {
    const missing = new Map(leases.map(lease => [set.element(lease), lease]))
    for (const element of actual.sets.get(set.name) ?? []) {
      if (missing.delete(element)) continue
      const address = set.parse(element)
      if (address === undefined) return undefined
      const lease = leaseElement({ network: address, length: config.allocationSize })
      if (!missing.delete(set.element(lease))) remove.set(lease.address, lease)
    }
    for (const lease of missing.values()) add.add(lease)
  }
  return { remove: [...remove.values()], add: [...add] }
}

function parseElements(set: IpObject): readonly string[] {
  const elements = Array.isArray(set.elem) ? set.elem : []
  return elements.map(element => (typeof element === 'string' ? element : JSON.stringify(element)))
}

function listOf(lists: Map<string, string[]>, name: string): string[] {
  const list = lists.get(name) ?? []
  lists.set(name, list)
  return list
}

async function listTable(exec: Exec, table: string): Promise<string | undefined> {
  try {
    return await runTool(exec, 'nft', ['-j', 'list', 'table', 'ip6', table], {
      doing: `read the table ${table}`,
      timeoutMs: 10_000,
    })
  } catch (error) {
    if (isNoSuchTable(error)) return undefined
    throw error
  }
}

function isNoSuchTable(error: unknown): boolean {
  return error instanceof BlockHostError && /No such file or directory/.test(error.message)
}
