/** An OpenSSH client on a terminal of its own, as a person uses it. */
import { spawn } from 'node:child_process'
import type { Machine } from '@blockhost/testkit/machine.ts'

/** What SSH showed before it asks. */
export type Shown = {
  readonly code: string
  readonly message: string
  readonly url: string | undefined
  readonly text: string
}

/** How a connection ended. */
export type Ended = {
  /** All that was on the terminal. */
  readonly screen: string
  /** Whether the command ran on the server. */
  readonly in: boolean
  /** From the answer to the first output of the command, milliseconds; absent when it never came. */
  readonly answerMs?: number | undefined
}

/** A connection that waits for an answer. */
export type Connection = {
  readonly shown: Shown
  /** Types a line. */
  answer(line: string): Promise<Ended>
}

const question = /(paste|Paste) the signature: $/

/**
 * Connects from a machine to sshd and waits until it asks.
 *
 * @param address - Where sshd listens. Default: on the machine itself.
 * @returns The connection, or how it ended when it was refused without a question.
 */
export async function connectSsh(machine: Machine, user: string, address = '127.0.0.1'): Promise<Connection | Ended> {
  const command = [...sshCommand, `${user}@${address}`, `'echo "in as $(id -un)"'`].join(' ')
  const argv = [...machine.prefix, 'script', '--quiet', '--flush', '--return', '--command', command, '/dev/null']
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
  let screen = ''
  let answeredAt = 0
  let inAt: number | undefined
  const asked = Promise.withResolvers<void>()
  child.stdout.on('data', chunk => {
    screen += String(chunk).replaceAll('\r', '')
    if (question.test(screen)) asked.resolve()
    if (inAt === undefined && screen.includes(`in as ${user}`)) inAt = performance.now()
  })
  const ended = new Promise<Ended>(resolve =>
    child.once('close', () => {
      resolve({ screen, in: inAt !== undefined, answerMs: inAt === undefined ? undefined : inAt - answeredAt })
    }),
  )
  const early = await Promise.race([asked.promise, ended])
  if (early !== undefined) return early
  return {
    shown: readShown(screen),
    answer: line => {
      answeredAt = performance.now()
      child.stdin.write(`${line}\n`)
      return ended
    },
  }
}

const sshCommand = [
  'ssh -F none -tt',
  '-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null',
  '-o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1',
]

function readShown(screen: string): Shown {
  const line = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(screen)?.[1]
  const message = line('Or sign this text with your wallet')
  const code = line('Code')
  if (message === undefined || code === undefined) throw new Error(`SSH showed no code:\n${screen}`)
  return { code, message, url: line('Sign at'), text: screen }
}
