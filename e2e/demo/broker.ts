import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Lab, labAddresses } from '@blockhost/testkit/lab.ts'
import type { Forward, Machine } from '@blockhost/testkit/machine.ts'
import type { Address } from 'viem'
import { supervise } from '../shop/supervisor.ts'
import type { DemoChain } from './chain.ts'
import { eventually, expect } from './expect.ts'

/** The broker's operator: its machine, its configuration, and its daemon under a supervisor that acts as systemd does. */
export type DemoBroker = AsyncDisposable & {
  readonly machine: Machine
  readonly registry: Address
  readonly requests: Address
  /** Ends the daemon at once (SIGKILL); the supervisor starts it again after `restartMs`. */
  killDaemon(): Promise<void>
  /** How often the daemon was started. */
  starts(): number
  /** Leases as the daemon's own API lists them. */
  leases(): Promise<readonly ApiLease[]>
  /** What the kernel of the broker holds, read with the usual tools. */
  kernel(): Promise<KernelFacts>
  /** What the kernel held before the first lease. */
  readonly emptyKernel: KernelFacts
  /** The last lines of the daemon's log. */
  log(): readonly string[]
}

/** A lease as `GET /api/allocations` shows it. */
export type ApiLease = { prefix: string; pubkey: string; nft_contract: string; status: string }

/** Everything a lease leaves on the broker's machine. */
export type KernelFacts = {
  /** Peer's public key -> its allowed addresses. */
  readonly peers: ReadonlyMap<string, string>
  /** Peers that have had a handshake. */
  readonly handshakes: ReadonlySet<string>
  /** Everything the kernel holds, one fact a line: peers, routes, proxy NDP entries, and the firewall with its sets. */
  readonly lines: readonly string[]
}

/** Settings of the demo that differ from an operator's, so that it need not wait as long. */
export const demoTimes = { tunnelTimeoutS: 10, reconcileS: 5, restartMs: 1000, pollMs: 1000 } as const

/** The tunnel interface on the broker's machine. */
export const tunnelInterface = 'wg-broker'

const program = fileURLToPath(new URL('../../services/broker/bin/blockhost-broker', import.meta.url))
const etc = '/etc/blockhost-broker'
const configFile = `${etc}/config.toml`

/** What `deploy` needs to be told and what it found out. */
export type BrokerPlan = { lab: Lab; chain: DemoChain; registry: Address; requests: Address }

/** Runs the shipped `blockhost-broker` once and returns its standard output. */
export async function runBroker(machine: Machine, args: readonly string[]): Promise<string> {
  return (await machine.exec(program, args, { timeoutMs: 60_000 })).stdout
}

/** Returns the configuration the operator would write: the documented keys, and shorter waits than the defaults. */
export function brokerConfig(chain: DemoChain, requests: Address): string {
  const { broker } = labAddresses
  return `[broker]
upstream_prefix = "${broker.prefix}"
allocation_size = 120
broker_ipv6 = "${broker.ipv6}"

[leases]
tunnel_timeout_s = ${demoTimes.tunnelTimeoutS} # default 120; short, so that the demo need not wait two minutes

[wireguard]
interface = "${tunnelInterface}"
listen_port = 51820
private_key_file = "${etc}/wg-private.key"
public_endpoint = "${broker.ipv4}:51820"
upstream_interface = "upstream0"
reconcile_interval_s = ${demoTimes.reconcileS} # default 60

[api]
listen = "127.0.0.1:8080"

[database]
path = "/var/lib/blockhost-broker/ipam.db"

[onchain]
enabled = true
rpc_url = "${chain.rpcUrl}"
chain_id = ${chain.chainId}
private_key_file = "${etc}/operator.key"
ecies_private_key_file = "${etc}/ecies.key"
requests_contract = "${requests}"
poll_interval_ms = ${demoTimes.pollMs} # default 5000
confirmations = 0 # default 2 on a public chain
`
}

/** Starts the daemon under its supervisor and waits until it says that it is healthy. */
export async function startBroker({ lab, chain, registry, requests }: BrokerPlan): Promise<DemoBroker> {
  const machine = lab.broker
  mkdirSync(machine.path(etc), { recursive: true })
  writeFileSync(machine.path(configFile), brokerConfig(chain, requests), { mode: 0o640 })
  await runBroker(machine, ['--config', configFile, '--check-config'])
  const supervisor = supervise(machine, [program, '--config', configFile], demoTimes.restartMs)
  await supervisor.start()
  let api: Forward | undefined
  const get = async <T>(path: string): Promise<T> => {
    api ??= await machine.forward(8080)
    const response = await fetch(`http://127.0.0.1:${api.port}${path}`)
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`)
    return (await response.json()) as T
  }
  await eventually('the daemon to be healthy', () => get('/health'))
  const emptyKernel = await settledKernel(machine)
  return {
    machine,
    registry,
    requests,
    killDaemon: supervisor.kill,
    starts: supervisor.starts,
    leases: () => get<ApiLease[]>('/api/allocations'),
    kernel: () => readKernel(machine),
    emptyKernel,
    log: supervisor.lines,
    [Symbol.asyncDispose]: async () => {
      await supervisor.stop()
      await api?.[Symbol.asyncDispose]()
    },
  }
}

/** Waits until the daemon has set up what it sets up without any lease: the same twice, a moment apart. */
async function settledKernel(machine: Machine): Promise<KernelFacts> {
  let last = ''
  return await eventually(
    'the daemon to have set its network up',
    async () => {
      const facts = await readKernel(machine)
      const text = facts.lines.join('\n')
      const settled = text === last && /^route /m.test(text) && /^firewall /m.test(text)
      last = text
      return settled ? facts : undefined
    },
    { everyMs: 300 },
  )
}

async function readKernel(machine: Machine): Promise<KernelFacts> {
  const run = async (command: string, args: readonly string[]) =>
    (await machine.exec(command, args)).stdout.split('\n').filter(line => line !== '')
  const [dump, routes, proxies, firewall] = await Promise.all([
    run('wg', ['show', tunnelInterface, 'dump']),
    run('ip', ['-6', 'route', 'show', 'dev', tunnelInterface]),
    run('ip', ['-6', 'neigh', 'show', 'proxy', 'dev', 'upstream0']),
    run('nft', ['--stateless', 'list', 'ruleset']),
  ])
  const peers = dump.slice(1).map(line => line.split('\t'))
  return {
    peers: new Map(peers.map(fields => [fields[0]!, fields[3]!])),
    handshakes: new Set(peers.filter(fields => fields[4] !== '0').map(fields => fields[0]!)),
    lines: [
      ...peers.map(fields => `peer ${fields[0]} ${fields[3]}`).sort(),
      ...routes.map(line => `route ${line}`),
      ...proxies.map(line => `neighbor ${line}`).sort(),
      ...firewall.map(line => `firewall ${line.trim()}`),
    ],
  }
}

/** Ends the step unless the kernel holds exactly what it held `before`; says what is missing and what is too much. */
export function expectSameKernel(before: KernelFacts, now: KernelFacts): void {
  const missing = before.lines.filter(line => !now.lines.includes(line))
  const added = now.lines.filter(line => !before.lines.includes(line))
  const seen = [...missing.map(line => `missing: ${line}`), ...added.map(line => `too much: ${line}`)]
  expect(
    seen.length === 0,
    'the kernel to hold what it held before',
    `${seen.length} differences: ${seen.slice(0, 5).join('; ')}`,
  )
}
