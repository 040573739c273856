/**
 * A Linux kernel for tests: what `ip`, `wg`, `nft`, `wireguard-go` and `ndppd` do to it, as far as this house calls them, and what they
 * print. It keeps state, takes time from nobody, starts nothing.
 *
 * Where it lies: no packets flow, so firewall rules are kept as text and never judged; `wg` accepts any endpoint; `nft` knows one table
 * family, applies elements in the spelling it was given and reads the layout of our own scripts only; link-local addresses, duplicate
 * address detection and router advertisements do not exist; a program in the background never fails by itself.
 */
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { type Exec, ExecError } from '@blockhost/kit/exec.ts'
import type { System } from '@blockhost/net/system.ts'
import { runIp } from './fake-kernel-ip.ts'
import { runNft } from './fake-kernel-nft.ts'
import {
  addLink,
  CommandFailure,
  type FakeKernelState,
  type FakeLink,
  removeLink,
  startProcess,
} from './fake-kernel-state.ts'
import { renderPeer, runWg } from './fake-kernel-wg.ts'

/** The fake machine. */
export type FakeKernel = {
  readonly exec: Exec
  readonly system: System
  readonly state: FakeKernelState
  /** Notes a handshake with a peer, as its traffic would; returns whether there is such a peer on an interface that is up. */
  handshake(publicKey: string, unixSeconds: number): boolean
  /** Removes the peers of an interface, as somebody with `wg` might. */
  flushPeers(name: string): void
  /** Deletes an interface. */
  deleteLink(name: string): void
  /** Deletes all firewall tables. */
  flushFirewall(): void
  /** Ends a running program, e.g. `ndppd`. Returns whether one ran. */
  kill(program: string): boolean
  /** Restarts the machine: everything but its Ethernet interfaces is gone. */
  reboot(): void
  /** Returns links, peers, routes, NDP entries and sets as text, a line each. */
  render(): string
}

/** What the machine has. */
export type FakeKernelOptions = {
  /** Names of interfaces that are there from the start, up, with addresses (`address/length`). */
  readonly ethernet: Readonly<Record<string, readonly string[]>>
  /** Without the module `ip link add type wireguard` fails and `wireguard-go` makes the interface. Default `true`. */
  readonly hasWireGuardModule?: boolean
  /** Programs that are installed beside ip, wg and nft. Default: none. */
  readonly programs?: readonly string[]
}

/** Makes a machine that has just started. */
export function createFakeKernel(options: FakeKernelOptions): FakeKernel {
  const { hasWireGuardModule = true, programs = [] } = options
  const state: FakeKernelState = {
    links: new Map(),
    routes: new Map(),
    proxies: new Set(),
    tables: new Map(),
    processes: new Map(),
    files: new Map(),
    nextIndex: 2,
    nextPid: 1000,
  }
  boot()

  function boot(): void {
    state.files.set('/proc/sys/net/ipv6/conf/all/forwarding', '0\n')
    for (const [name, addresses] of Object.entries(options.ethernet)) {
      const link = addLink(state, name, 'ethernet')
      link.up = true
      for (const address of addresses) link.addresses.add(address)
    }
  }

  function run(command: string, args: readonly string[], input: string): string {
    switch (command) {
      case 'ip':
        return runIp(state, args, input, { hasWireGuardModule })
      case 'wg':
        return runWg(state, args)
      case 'nft':
        return runNft(state, args, input)
      case 'wireguard-go':
        return runWireGuardGo(args[0]!)
      case 'ndppd':
        return runNdppd(args)
      default:
        throw new CommandFailure(127, `${command}: command not found`)
    }
  }

  function runWireGuardGo(name: string): string {
    if (state.links.has(name)) throw new CommandFailure(1, `Failed to create TUN device: device or resource busy`)
    addLink(state, name, 'wireguard')
    startProcess(state, ['wireguard-go', name], () => removeLink(state, name))
    return ''
  }

  function runNdppd(args: readonly string[]): string {
    const pidPath = args[args.indexOf('-p') + 1]!
    const pid = startProcess(state, ['ndppd', ...args], () => undefined)
    state.files.set(pidPath, `${pid}\n`)
    return ''
  }

  function end(pid: number): void {
    const process = state.processes.get(pid)
    if (process === undefined) return
    state.processes.delete(pid)
    process.onEnd()
  }

  const exec: Exec = async (command, args, { input = '' } = {}) => {
    const argv = [command, ...args]
    if (!isInstalled(command)) throw new ExecError(argv, undefined, '', 'could not be started', missingProgram())
    try {
      const stdout = run(command, args, typeof input === 'string' ? input : Buffer.from(input).toString())
      endOrphans()
      return { stdout, stderr: '' }
    } catch (error) {
      if (!(error instanceof CommandFailure)) throw error
      throw new ExecError(argv, error.status, error.message, `exited with ${error.status}`)
    }
  }

  /** wireguard-go ends when its interface is deleted. */
  function endOrphans(): void {
    for (const { pid, argv } of state.processes.values())
      if (argv[0] === 'wireguard-go' && !state.links.has(argv[1]!)) state.processes.delete(pid)
  }

  function isInstalled(command: string): boolean {
    return ['ip', 'wg', 'nft', ...programs].includes(command)
  }

  const system: System = {
    read: async path => {
      const pid = /^\/proc\/(\d+)\/cmdline$/.exec(path)?.[1]
      if (pid === undefined) return state.files.get(path)
      const argv = state.processes.get(Number(pid))?.argv
      return argv === undefined ? undefined : `${argv.join('\0')}\0`
    },
    write: async (path, text) => {
      if (path.startsWith('/proc/') && !state.files.has(path)) throw noSuchSetting(path)
      state.files.set(path, text)
    },
    signal: pid => end(pid),
    hasProgram: isInstalled,
  }

  const wireguardLinks = () => [...state.links.values()].filter(link => link.wireguard !== undefined)

  return {
    exec,
    system,
    state,
    handshake(publicKey, unixSeconds) {
      for (const link of wireguardLinks()) {
        const peer = link.wireguard!.peers.get(publicKey)
        if (peer === undefined || !link.up || link.wireguard!.privateKey === undefined) continue
        peer.latestHandshake = unixSeconds
        peer.endpoint ??= '192.0.2.7:41641'
        return true
      }
      return false
    },
    flushPeers: name => state.links.get(name)?.wireguard?.peers.clear(),
    deleteLink(name) {
      removeLink(state, name)
      endOrphans()
    },
    flushFirewall: () => state.tables.clear(),
    kill(program) {
      const found = [...state.processes.values()].find(({ argv }) => argv[0] === program)
      if (found !== undefined) end(found.pid)
      return found !== undefined
    },
    reboot() {
      for (const store of [state.links, state.routes, state.proxies, state.processes, state.files]) store.clear()
      state.tables = new Map()
      boot()
    },
    render: () => render(state),
  }
}

function render(state: FakeKernelState): string {
  const lines = [
    ...[...state.links.values()].flatMap(renderLink),
    ...[...state.routes.values()].map(
      ({ destination, dev, protocol }) => `route ${destination} dev ${dev} proto ${protocol}`,
    ),
    ...[...state.proxies].map(entry => `neigh proxy ${entry.replace(' ', ' dev ')}`),
    ...[...state.tables].flatMap(([table, { sets }]) =>
      [...sets].map(([set, { elements }]) => `nft ${table} ${set} { ${[...elements].join(', ')} }`),
    ),
    ...[...state.processes.values()].map(({ pid, argv }) => `process ${pid} ${argv.join(' ')}`),
  ]
  return `${lines.join('\n')}\n`
}

function renderLink(link: FakeLink): string[] {
  const peers = [...(link.wireguard?.peers.values() ?? [])].map(
    peer => `  peer ${renderPeer(peer).replaceAll('\t', ' ')}`,
  )
  return [
    `link ${link.index} ${link.name} ${link.up ? 'up' : 'down'} ${[...link.addresses].join(' ')}`.trim(),
    ...peers,
  ]
}

function missingProgram(): Error {
  return Object.assign(new Error('spawn ENOENT'), { code: 'ENOENT' })
}

function noSuchSetting(path: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_KERNEL_SETTING_FAILED',
    message: `Could not write to ${path}: there is no such setting`,
    retryable: true,
  })
}
