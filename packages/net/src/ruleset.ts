import { createHash } from 'node:crypto'
import { formatAddress, formatPrefix, maskOf, type Prefix, parseAddress } from './prefix.ts'

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

/** A set of the table: the leases in one spelling. */
export type FirewallSet = {
  readonly name: string
  /** As nft(8) writes it. */
  readonly type: string
  /** The element that stands for a lease. */
  readonly element: (lease: LeaseElement) => string
  /** Reads the kernel's spelling of an element. */
  readonly parse: (element: string) => bigint | undefined
}
/** A rule; `purpose` is what an operator reads beside its counter. */
export type Rule = { readonly purpose: string; readonly match: string; readonly verdict: string }

/** A base chain of type filter, policy accept. */
export type Chain = {
  readonly name: string
  readonly hook: string
  readonly priority: number
  readonly rules: readonly Rule[]
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

/** Returns the sets of the table. Hash sets, not interval sets: to add to one of those nft reads all of it first. Hence the masks. */
export function setsOf(config: FirewallConfig): readonly FirewallSet[] {
  return config.ndp === undefined ? [leased] : [leased, leasedTargets]
}

/** Returns the chains of the table. */
export function chainsOf(config: FirewallConfig): readonly Chain[] {
  const chains = [sourceChain(config), forwardChain(config), inputChain(config)]
  return config.ndp === undefined ? chains : [...chains, advertisementChain(config, config.ndp)]
}

/** Returns the comment of a rule, with a digest of it: nft prints rules in another spelling than it was given. */
export function commentOf(rule: Rule): string {
  return `${rule.purpose} [${createHash('sha256').update(ruleText(rule)).digest('hex').slice(0, 8)}]`
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

/** Before connection tracking, so that a flood of forged sources costs no state. */
function sourceChain(config: FirewallConfig): Chain {
  const { interface: name, upstream } = config
  const tunnel = `iifname "${name}"`
  const source = masked('ip6 saddr', config.allocationSize, formatAddress)
  // Spares every packet from the internet the look into the set, which costs as much as the rest of the rule.
  const inUpstream = upstream.length === 0 ? '' : `ip6 saddr ${formatPrefix(upstream)} `
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
        match: `${inUpstream}iifname != "${name}" iifname != "lo" ${source} @leased`,
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
      { purpose: 'tenant to tenant', match: `oifname "${name}" iifname "${name}"`, verdict: 'counter drop' },
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
