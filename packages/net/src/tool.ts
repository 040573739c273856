import { BlockHostError } from '@blockhost/kit/errors.ts'
import { type Exec, ExecError, type ExecOptions } from '@blockhost/kit/exec.ts'

/** What {@link runTool} needs to know beside the argv. */
export type ToolRun = ExecOptions & {
  /** What the command does, for the message: `set 12 peers on wg-broker`. */
  readonly doing: string
  /** What to do when it fails. */
  readonly hint?: string
}

/**
 * Runs a network tool and returns its standard output.
 *
 * @throws {BlockHostError} `BH_NETWORK_TOOL_FAILED` (retryable: the next reconciliation tries again), with status and the end of
 * what the tool said but not its argv, which holds ten thousand peers at times; `BH_NETWORK_TOOL_MISSING` (not retryable).
 */
export async function runTool(exec: Exec, command: string, args: readonly string[], run: ToolRun): Promise<string> {
  const { doing, hint, ...options } = run
  try {
    return (await exec(command, args, options)).stdout
  } catch (error) {
    if (!(error instanceof ExecError)) throw error
    throw isMissing(error) ? missing(command, doing) : failed(error, command, doing, hint)
  }
}

/** Debian packages of the tools, for the hint. */
const packages: Readonly<Record<string, string>> = {
  wg: 'wireguard-tools',
  ip: 'iproute2',
  nft: 'nftables',
  ndppd: 'ndppd',
  'wireguard-go': 'wireguard-go',
}

function isMissing(error: ExecError): boolean {
  return error.status === undefined && (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT'
}

function missing(command: string, doing: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_NETWORK_TOOL_MISSING',
    message: `Could not ${doing}: there is no program \`${command}\` on this machine`,
    hint: `Install it: apt-get install ${packages[command] ?? command}`,
    fields: { command },
  })
}

function failed(error: ExecError, command: string, doing: string, hint: string | undefined): BlockHostError {
  const said = (withoutBanner(error.stderr) || error.stdout.trim()).slice(-300)
  const how = error.status === undefined ? 'was ended or ran out of time' : `exited with ${error.status}`
  return new BlockHostError({
    code: 'BH_NETWORK_TOOL_FAILED',
    message: `Could not ${doing}: \`${command}\` ${how}${said === '' ? '' : `: ${said}`}`,
    ...(hint === undefined ? {} : { hint }),
    fields: { command, status: error.status },
    retryable: true,
  })
}

/** Leaves out drawn boxes: wireguard-go recommends the kernel's WireGuard in one, and says on standard output why it ends. */
function withoutBanner(text: string): string {
  return text.replace(/^[\u2500-\u257f].*$/gm, '').trim()
}
