/** nft(8) on the fake kernel: one table family (ip6), sets, chains, elements. */
import { CommandFailure, type FakeKernelState, type FakeTable } from './fake-kernel-state.ts'

/** Runs `nft <args>`; returns what it prints. A script is applied wholly or not at all. */
export function runNft(state: FakeKernelState, args: readonly string[], input: string): string {
  if (args[0] === '-f') {
    state.tables = applyScript(state.tables, input)
    return ''
  }
  const [flag, verb, object, family, name] = args
  if (flag === '-j' && verb === 'list' && object === 'table' && family === 'ip6') return listTable(state, name ?? '')
  throw new CommandFailure(1, `the fake kernel does not know \`nft ${args.join(' ')}\``)
}

function listTable(state: FakeKernelState, name: string): string {
  const table = state.tables.get(name)
  if (table === undefined)
    throw new CommandFailure(
      1,
      `Error: No such file or directory\nlist table ip6 ${name}\n               ${'^'.repeat(name.length)}`,
    )
  const at = { family: 'ip6', table: name }
  const sets = [...table.sets].map(([set, { type, elements }]) => ({
    set: { ...at, name: set, type, handle: 1, ...(elements.size === 0 ? {} : { elem: [...elements] }) },
  }))
  const chains = [...table.chains].map(([chain, { type, hook, priority, policy }]) => ({
    chain: { ...at, name: chain, handle: 1, type, hook, prio: priority, policy },
  }))
  const rules = [...table.chains].flatMap(([chain, { rules }]) =>
    rules.map(rule => ({ rule: { ...at, chain, handle: 1, comment: rule.comment, expr: [{ text: rule.text }] } })),
  )
  const metainfo = { version: '1.0.6', release_name: 'Lester Gooch #5', json_schema_version: 1 }
  const objects = [{ metainfo }, { table: { family: 'ip6', name, handle: 1 } }, ...sets, ...chains, ...rules]
  return `${JSON.stringify({ nftables: objects })}\n`
}

type Tables = Map<string, FakeTable>

/** Works on copies of the tables it changes. */
function applyScript(before: Tables, script: string): Tables {
  const tables = new Map(before)
  const lines = script.split('\n').map(line => line.trim())
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!
    const block = /^table ip6 (\S+) \{$/.exec(line)
    if (line === '') continue
    else if (block !== null) at = readTable(tables, block[1]!, lines, at + 1)
    else runStatement(tables, line)
  }
  return tables
}

function runStatement(tables: Tables, line: string): void {
  const [, make] = /^(?:add )?table ip6 (\S+)$/.exec(line) ?? []
  const [, drop] = /^delete table ip6 (\S+)$/.exec(line) ?? []
  const element = /^(add|delete) element ip6 (\S+) (\S+) \{(.*)\}$/.exec(line)
  if (make !== undefined) copyOf(tables, make, true)
  else if (drop !== undefined) {
    if (!tables.delete(drop))
      throw new CommandFailure(1, `/dev/stdin:1:1-30: Error: No such file or directory; ${line}`)
  } else if (element !== null) {
    const [, verb, table, set, list] = element as unknown as [string, string, string, string, string]
    changeElements(copyOf(tables, table, false), verb, set, splitList(list))
  } else throw new CommandFailure(1, `/dev/stdin:1:1-4: Error: syntax error, unexpected ${line}`)
}

function changeElements(table: FakeTable, verb: string, name: string, list: readonly string[]): void {
  const set = table.sets.get(name)
  if (set === undefined) throw new CommandFailure(1, `Error: No such file or directory; set ${name}`)
  for (const element of list) {
    if (verb === 'add') set.elements.add(element)
    else if (!set.elements.delete(element))
      throw new CommandFailure(1, 'Error: Could not process rule: No such file or directory')
  }
}

/** Returns the table, ready to be changed. */
function copyOf(tables: Tables, name: string, make: boolean): FakeTable {
  const found = tables.get(name)
  if (found === undefined && !make) throw new CommandFailure(1, `Error: No such file or directory; table ${name}`)
  const sets = [...(found?.sets ?? [])].map(
    ([set, { type, elements }]) => [set, { type, elements: new Set(elements) }] as const,
  )
  const copy: FakeTable = { sets: new Map(sets), chains: new Map(found?.chains) }
  tables.set(name, copy)
  return copy
}

/** Reads the lines of a table's block; returns where its closing brace is. */
function readTable(tables: Tables, name: string, lines: readonly string[], from: number): number {
  const table = copyOf(tables, name, true)
  let at = from
  for (; lines[at] !== '}'; at++) {
    const [, kind, item] = /^(set|chain) (\S+) \{$/.exec(lines[at] ?? '') ?? []
    if (kind === undefined || item === undefined)
      throw new CommandFailure(1, `/dev/stdin:${at + 1}:1-4: Error: syntax error, unexpected ${lines[at]}`)
    const end = lines.indexOf('}', at)
    const body = lines.slice(at + 1, end)
    if (kind === 'set') table.sets.set(item, readSet(body))
    else table.chains.set(item, readChain(body))
    at = end
  }
  return at
}

function readSet(body: readonly string[]): { type: string; elements: Set<string> } {
  const type = body[0]!.replace(/^type(of)? /, '')
  const list = /^elements = \{(.*)\}$/.exec(body[1] ?? '')?.[1] ?? ''
  return { type, elements: new Set(splitList(list)) }
}

function readChain(body: readonly string[]): FakeTable['chains'] extends Map<string, infer C> ? C : never {
  const [head, ...rules] = body
  const hook = /^type (\S+) hook (\S+) priority (-?\d+); policy (\S+);$/.exec(head ?? '')
  if (hook === null) throw new CommandFailure(1, `/dev/stdin:1:1-4: Error: syntax error, unexpected ${head}`)
  return {
    type: hook[1]!,
    hook: hook[2]!,
    priority: Number(hook[3]),
    policy: hook[4]!,
    rules: rules.map(text => ({ text, comment: / comment "([^"]*)"$/.exec(text)?.[1] })),
  }
}

function splitList(list: string): string[] {
  return list
    .split(',')
    .map(element => element.trim())
    .filter(element => element !== '')
}
