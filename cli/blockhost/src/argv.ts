import { parseArgs } from 'node:util'
import { configFolder } from '@blockhost/hostconfig/config-folder.ts'
import { messageOf } from '@blockhost/kit/errors.ts'

/** What a command line asks for. `folder`: of the host's configuration. */
export type Command =
  | { readonly kind: 'status'; readonly folder: string; readonly json: boolean; readonly all: boolean }
  | { readonly kind: 'doctor'; readonly folder: string; readonly json: boolean }
  | { readonly kind: 'help' | 'version' }
  /** Exit 2: the line can't be understood. */
  | { readonly kind: 'usage'; readonly problem: string }

/** What `--help` prints. */
export const helpText = `usage: blockhost status [--all] [--json] [--config-dir FOLDER]
       blockhost doctor [--json] [--config-dir FOLDER]
       blockhost help | --help | --version

status  what is bought, running and failing, and why. --all: every subscription
doctor  checks configuration, keys, chain, contracts, money, hypervisor, lease, what VMs reach and clock, and says what to do

  --config-dir FOLDER  default /etc/blockhost, or ./config when BLOCKHOST_DEV=1
  --json               for programs
  -h, --help           this

Exit status: 0 all is well, 1 something is not (doctor: a check is bad; status: the engine does not run),
2 wrong command line, 78 the configuration is missing or has to be changed.`

const options = {
  json: { type: 'boolean', default: false },
  all: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
  version: { type: 'boolean', short: 'V', default: false },
  'config-dir': { type: 'string' },
} as const

/** Reads a command line (without program and script). Pure but for `env`, which chooses the folder. */
export function parseArgv(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Command {
  try {
    const { values, positionals } = parseArgs({ args: [...argv], options, allowPositionals: true })
    const [kind, ...rest] = positionals
    if (values.help || kind === 'help') return { kind: 'help' }
    if (values.version) return { kind: 'version' }
    if (rest.length > 0) return usage(`"${rest[0]}" is one word too many.`)
    const common = { folder: values['config-dir'] ?? configFolder(env), json: values.json }
    if (kind === 'status') return { kind, ...common, all: values.all }
    if (kind === 'doctor') return values.all ? usage('`doctor` takes no --all.') : { kind, ...common }
    return usage(kind === undefined ? 'Expected `status` or `doctor`.' : `There is no command "${kind}".`)
  } catch (error) {
    // Node goes on about arguments that begin with a dash, which no command here takes.
    return usage(`${messageOf(error).replace(/\. To specify a positional .*$/, '')}.`.replace(/\.\.$/, '.'))
  }
}

function usage(problem: string): Command {
  return { kind: 'usage', problem }
}
