import { parseArgs } from 'node:util'
import { messageOf } from '@blockhost/kit/errors.ts'
import { defaultPaths } from './paths.ts'

/** One command line of `web3-auth-svc`. */
export type Command =
  | {
      readonly kind: 'serve' | 'check-config'
      readonly paths: { readonly service: string; readonly login: string }
      /** Replaces the configured socket. */
      readonly socketPath: string | undefined
    }
  | { readonly kind: 'help' | 'version' }
  | { readonly kind: 'usage'; readonly problem: string }

/** What `--help` prints. */
export const helpText = `web3-auth-svc: signs users of this machine in by their wallets (pam_web3.so asks it)

usage: web3-auth-svc [options]

  -c, --config FILE        the service's configuration (${defaultPaths.service})
      --login-config FILE  who signs in and how (${defaultPaths.login})
  -s, --socket PATH        listen here instead of the configured socket
  -f, --foreground         accepted for earlier units; it always runs in the foreground
      --check-config       read both files, say what is wrong, and end
      --help, --version

Started by systemd sockets, it ends by itself when nobody signs in.
Exit codes: 0 ended, 1 failed, 2 usage, 75 try again, 78 fix the configuration.`

/** Reads a command line, without program and script. */
export function parseArgv(argv: readonly string[]): Command {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        config: { type: 'string', short: 'c', default: defaultPaths.service },
        'login-config': { type: 'string', default: defaultPaths.login },
        socket: { type: 'string', short: 's' },
        foreground: { type: 'boolean', short: 'f' },
        'check-config': { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean', short: 'V' },
      },
    })
    if (values.help) return { kind: 'help' }
    if (values.version) return { kind: 'version' }
    const paths = { service: values.config, login: values['login-config'] }
    return { kind: values['check-config'] ? 'check-config' : 'serve', paths, socketPath: values.socket }
  } catch (error) {
    return { kind: 'usage', problem: messageOf(error) }
  }
}
