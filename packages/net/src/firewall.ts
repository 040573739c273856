import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { type IpObject, isObject, parseJson } from './ip.ts'
import { malformed, type Parsed, parsedOk } from './parsed.ts'
import {
  chainsOf,
  commentOf,
  type FirewallConfig,
  type LeaseElement,
  leaseElement,
  renderElements,
  renderFirewall,
  setsOf,
  tableName,
} from './ruleset.ts'
import { runTool } from './tool.ts'

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
