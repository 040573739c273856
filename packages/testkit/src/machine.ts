import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, connect as netConnect, type Server } from 'node:net'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { createExec, type Exec } from '@blockhost/kit/exec.ts'

/** What {@link startMachine} makes. */
export type MachineOptions = {
  /** Host name inside; also what error messages call it. */
  name: string
  /** Kernel settings of its network, set before it has an interface: `net.ipv6.conf.all.forwarding` to `1`. */
  sysctl?: Readonly<Record<string, string | number>>
  /** Environment of everything that runs inside, beside PATH and `LC_ALL=C`. Default: none. */
  env?: Readonly<Record<string, string>>
}

/** How {@link Machine.spawn} starts a process. */
export type SpawnInMachine = {
  /** Environment beside the machine's own. Default: none. */
  env?: Readonly<Record<string, string>>
  /** Called for each line of standard output and standard error. Default: lines are only kept, see `lastLines`. */
  onLine?: (line: string) => void
}

/** A process that runs inside a machine until it ends, is told to, or the machine is stopped. */
export type MachineProcess = {
  /** Its id inside the machine. */
  readonly pid: number
  /** Resolves when it ended. */
  readonly ended: Promise<{ status: number | null; signal: NodeJS.Signals | null }>
  /** Sends a signal; nothing happens when it has ended. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** Returns the last lines it printed, at most 200, oldest first. */
  lastLines(): readonly string[]
}

/** A way from the test's own process to a TCP service inside a machine. */
export type Forward = AsyncDisposable & {
  /** Port on this process's 127.0.0.1. */
  readonly port: number
}

/**
 * A small computer for tests: network, processes, host name, `/run`, `/etc`, `/var/cache`, `/var/lib` and `/var/log` of its
 * own (all but `/run` show the real ones and keep changes to themselves); everything else is the real file system.
 */
export type Machine = AsyncDisposable & {
  readonly name: string
  /** Put before an argv, it runs inside. */
  readonly prefix: readonly string[]
  /** Process whose namespaces they are, for `ip link … netns <pid>`. */
  readonly pid: number
  /** Runs a command inside. */
  readonly exec: Exec
  /** Starts a long-running process inside. */
  spawn(argv: readonly [string, ...string[]], options?: SpawnInMachine): Promise<MachineProcess>
  /** Returns where a file of the machine is found from outside. */
  path(insidePath: string): string
  /** Makes a TCP service inside (`host` as seen from inside) reachable from this process. */
  forward(port: number, host?: string): Promise<Forward>
}

/**
 * Starts a machine. It lives as long as this process at most: its first process reads a pipe that this process holds, and the
 * kernel ends everything inside with it (pid_namespaces(7)), also after `kill -9`. No name, link or mount exists outside, so
 * any number of labs run side by side and there is nothing to sweep.
 *
 * @throws {BlockHostError} `BH_MACHINE_FAILED` when namespaces can't be made (root is needed).
 */
export async function startMachine(options: MachineOptions): Promise<Machine> {
  const { name } = options
  const settings = Object.entries(options.sysctl ?? {}).flatMap(([key, value]) => [
    key.replaceAll('.', '/'),
    `${value}`,
  ])
  const anchor = spawn('unshare', [...namespaces, 'sh', '-euc', anchorScript, name, ...settings], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true, // a Ctrl-C of the terminal is ours to handle
  })
  const pid = await ready(anchor, name)
  const prefix = ['nsenter', `--target=${pid}`, '--net', '--mount', '--uts', `--pid=/proc/${pid}/ns/pid_for_children`]
  // A command whose nsenter is killed (timeout) must not stay behind.
  const inside = [...prefix, '--', 'setpriv', '--pdeathsig', 'KILL', '--']
  const env = options.env ?? {}
  const exec = createExec({ prefix: inside, env })
  const path = (insidePath: string) => `/proc/${pid}/root${insidePath}`
  const machine: Omit<Machine, 'forward' | typeof Symbol.asyncDispose> = {
    name,
    prefix: inside,
    pid,
    exec,
    spawn: (argv, spawnOptions) =>
      spawnInside(inside, exec, argv, { ...spawnOptions, env: { ...env, ...spawnOptions?.env } }),
    path,
  }
  let forwards = 0
  return {
    ...machine,
    forward: (port, host = '127.0.0.1') => forward(machine, port, host, `/run/forward-${++forwards}.sock`),
    [Symbol.asyncDispose]: () => stop(anchor),
  }
}

const namespaces = ['--net', '--mount', '--pid', '--uts', '--fork', '--kill-child=KILL', '--mount-proc', '--']

// The first process of the machine; $0 is its name, then setting and value in turn. A fresh /proc is writable also where the
// outer one is not (containers). A machine resolves its own name, as Debian's do: libvirt waits for that. `cat` ends when the pipe
// closes; as it ignores SIGCHLD, the kernel buries orphans for it.
const anchorScript = `
hostname "$0"
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
for folder in /etc /var/cache /var/lib /var/log; do
  own=/run/.machine$folder
  mkdir -p "$own/changed" "$own/work"
  mount -t overlay -o "lowerdir=$folder,upperdir=$own/changed,workdir=$own/work" overlay "$folder"
done
echo "127.0.1.1 $0" >>/etc/hosts
while [ $# -gt 0 ]; do
  echo "$2" >"/proc/sys/$1"
  shift 2
done
ip link set lo up
echo ready
exec env --ignore-signal=CHLD cat
`

async function ready(anchor: ChildProcess, name: string): Promise<number> {
  let complaint = ''
  anchor.stderr?.on('data', chunk => {
    complaint = `${complaint}${chunk}`.slice(-500)
  })
  const failure = (cause?: unknown) =>
    new BlockHostError({
      code: 'BH_MACHINE_FAILED',
      message: `The test machine ${name} did not start${complaint === '' ? '' : `: ${complaint.trim()}`}`,
      hint: 'It needs root, and a kernel with namespaces, overlay and veth.',
      cause,
    })
  return await new Promise((resolve, reject) => {
    anchor.once('error', cause => reject(failure(cause)))
    anchor.once('close', () => reject(failure()))
    anchor.stdout?.once('data', () => resolve(anchor.pid!))
  })
}

async function stop(anchor: ChildProcess): Promise<void> {
  if (anchor.exitCode !== null || anchor.signalCode !== null) return
  const closed = once(anchor, 'close')
  anchor.stdin?.end()
  // `unshare` waits for the first process, and the kernel for all others inside before that one is gone.
  await closed
}

async function spawnInside(
  prefix: readonly string[],
  exec: Exec,
  argv: readonly [string, ...string[]],
  options: SpawnInMachine = {},
): Promise<MachineProcess> {
  const lines: string[] = []
  const keep = (line: string) => {
    lines.push(line)
    if (lines.length > 200) lines.shift()
    options.onLine?.(line)
  }
  // The shell says which id the program gets and becomes it.
  const full = [...prefix, 'sh', '-c', 'echo $$ >&3; exec 3>&-; exec "$@"', 'sh', ...argv]
  const env = { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`, ...options.env, LC_ALL: 'C' }
  const settings: SpawnOptions = { env, stdio: ['ignore', 'pipe', 'pipe', 'pipe'], detached: true }
  const child = spawn(full[0]!, full.slice(1), settings)
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream! }).on('line', keep)
  const ended = new Promise<{ status: number | null; signal: NodeJS.Signals | null }>(resolve => {
    child.once('close', (status, signal) => resolve({ status, signal }))
  })
  const pid = await innerPid(child, argv, lines)
  return {
    pid,
    ended,
    lastLines: () => lines,
    kill: async signal => {
      if (child.exitCode !== null || child.signalCode !== null) return
      await exec('kill', ['-s', signal.replace(/^SIG/, ''), `${pid}`]).catch(error => {
        if (child.exitCode === null && child.signalCode === null) throw error
      })
    },
  }
}

async function innerPid(child: ChildProcess, argv: readonly string[], lines: readonly string[]): Promise<number> {
  const told = child.stdio[3] as Readable
  return await new Promise((resolve, reject) => {
    told.once('data', chunk => resolve(Number(chunk)))
    child.once('error', reject)
    child.once('close', () =>
      reject(
        new BlockHostError({
          code: 'BH_MACHINE_SPAWN_FAILED',
          message: `\`${argv.join(' ')}\` did not start: ${lines.join('; ')}`,
        }),
      ),
    )
  })
}

async function forward(
  machine: Pick<Machine, 'spawn' | 'path'>,
  port: number,
  host: string,
  socket: string,
): Promise<Forward> {
  const helper = fileURLToPath(new URL('machine-forward.ts', import.meta.url))
  const listening = Promise.withResolvers<void>()
  const argv = [process.execPath, helper, socket, host, `${port}`] as const
  const inner = await machine.spawn([...argv], { onLine: () => listening.resolve() })
  await Promise.race([listening.promise, inner.ended])
  const server = createServer(client => splice(client, netConnect(machine.path(socket))))
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    port: portOf(server),
    [Symbol.asyncDispose]: async () => {
      server.close()
      await inner.kill('SIGKILL')
      await inner.ended
    },
  }
}

/** Joins two streams both ways; the end or failure of one ends the other. */
export function splice(one: Readable & Writable, other: Readable & Writable): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.pipe(to)
    from.on('error', () => to.destroy())
    from.on('close', () => to.destroy())
  }
}

function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return address.port
}
