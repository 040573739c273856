import { parseArgs } from 'node:util'

/** What `vm-gc` was asked for. */
export type GcArgs = {
  readonly execute: boolean
  readonly suspend: boolean
  readonly destroy: boolean
  /** Absent: `gc_grace_days` of db.yaml. */
  readonly graceDays: number | undefined
  readonly json: boolean
}

/** Outcome of {@link parseGcArgs}; `help` and usage errors are texts. */
export type ParsedGcArgs =
  | { readonly ok: true; readonly args: GcArgs }
  | { readonly ok: false; readonly help: boolean; readonly message: string }

/** The help of `vm-gc`. */
export const gcUsage = `usage: vm-gc [--execute] [--suspend-only | --destroy-only] [--grace-days N] [--json]

Suspends VMs whose subscription has run out, and destroys those whose grace is over. Says what it would do unless told --execute.

  --execute        do it
  --suspend-only   only suspend
  --destroy-only   only destroy
  --grace-days N   days between suspension and end (default: gc_grace_days of db.yaml)
  --json           only the last line
  --verbose, -v    accepted, without effect

The last line is BLOCKHOST_RESULT: and one JSON object. Exit codes: 0 done, 1 a VM failed, 2 usage, 75 try again, 78 configuration
`

/** Reads the command line. Pure. */
export function parseGcArgs(argv: readonly string[]): ParsedGcArgs {
  let values: ReturnType<typeof parse>
  try {
    values = parse(argv)
  } catch (error) {
    return { ok: false, help: false, message: (error as Error).message.split('\n')[0]! }
  }
  if (values.help === true) return { ok: false, help: true, message: gcUsage }
  const [suspendOnly, destroyOnly] = [values['suspend-only'] === true, values['destroy-only'] === true]
  if (suspendOnly && destroyOnly) return wrong('--suspend-only and --destroy-only exclude each other')
  const days = values['grace-days']
  if (days !== undefined && !/^\d{1,5}$/.test(days))
    return wrong('--grace-days: expected a number of days from 0 to 99999')
  const graceDays = days === undefined ? undefined : Number(days)
  const [execute, json] = [values.execute === true, values.json === true]
  return { ok: true, args: { execute, suspend: !destroyOnly, destroy: !suspendOnly, graceDays, json } }
}

function wrong(message: string): ParsedGcArgs {
  return { ok: false, help: false, message }
}

function parse(argv: readonly string[]) {
  const flag = { type: 'boolean' } as const
  return parseArgs({
    args: [...argv],
    options: {
      execute: flag,
      'suspend-only': flag,
      'destroy-only': flag,
      'grace-days': { type: 'string' },
      json: flag,
      verbose: { type: 'boolean', short: 'v' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values
}
