/** What every subcommand is given and gives back. */
import { createRpc, type Rpc } from '@blockhost/chain/rpc.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError, isRetryable, messageOf } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import type { System } from '@blockhost/net/system.ts'
import type { Globals } from './argv.ts'
import { interrupted } from './ask-messages.ts'
import type { Progress } from './progress.ts'

/** The world of one invocation. */
export type CommandDeps = {
  readonly globals: Globals
  readonly clock: Clock
  readonly progress: Progress
  readonly exec: Exec
  readonly system: System
  readonly signal: AbortSignal
  readonly isRoot: boolean
}

/** What a subcommand has to say; {@link CommandResult.json} with `--json`, the lines without. */
export type CommandResult = { readonly json: unknown; readonly text: readonly string[] }

/** Opens the chain: every endpoint of the command line, each held to the chain id. */
export function openRpc({ globals, clock }: CommandDeps, chainId: number): Rpc {
  return createRpc({ urls: globals.rpcUrls, chainId }, { clock, log: silentLog })
}

/** @throws {BlockHostError} `BH_NOT_ROOT` unless this is root: `wg-quick` would ask for a password. */
export function requireRoot(deps: CommandDeps, doing: string): void {
  if (!deps.isRoot)
    throw new BlockHostError({
      code: 'BH_NOT_ROOT',
      message: `Only root can ${doing}`,
      hint: 'Run the same command with sudo.',
    })
}

/**
 * Runs `work` until it gives a result, over problems that may pass.
 *
 * @param deadlineMs - Monotonic; the last problem is thrown once it is past.
 */
export async function persist<T>(
  deps: CommandDeps,
  options: { deadlineMs: number; pollIntervalMs: number },
  work: () => Promise<T>,
): Promise<T> {
  let told = ''
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!isRetryable(error) || deps.clock.monotonic() >= options.deadlineMs) throw error
      if (messageOf(error) !== told) deps.progress.note(`${messageOf(error)}; trying again`)
      told = messageOf(error)
    }
    await deps.clock.sleep(options.pollIntervalMs, deps.signal)
    if (deps.signal.aborted) throw interrupted()
  }
}
