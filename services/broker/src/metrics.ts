import type { Clock } from '@blockhost/kit/clock.ts'
import { Counter, Gauge, Registry } from 'prom-client'
import type { BrokerStatus } from './broker.ts'
import type { PeerView } from './peer-view.ts'

/** What the metrics are read from, at each scrape. */
export type MetricsDeps = {
  status: () => BrokerStatus
  leaseCount: () => number
  /** A failure leaves the peer gauges out and shows as `blockhost_broker_dataplane_up 0`. */
  peers: PeerView
  /** What the process uses: processor time so far, and memory. */
  usage: () => { cpuSeconds: number; rssBytes: number }
  clock: Clock
  version: string
}

/** Renders the metrics as Prometheus text. */
export type Metrics = () => Promise<{ text: string; contentType: string }>

/**
 * Makes the daemon's metrics, in a registry of their own. Values are read when somebody scrapes; nothing runs in between.
 * Names follow prometheus.io/docs/practices/naming; the list with meanings stands in the part's README.
 */
export function createMetrics(deps: MetricsDeps): Metrics {
  const registry = new Registry()
  const gauge = (name: string, help: string, labelNames: string[] = []) =>
    new Gauge({ name: `blockhost_broker_${name}`, help, labelNames, registers: [registry] })

  gauge('info', 'Version of the daemon; always 1', ['version']).set({ version: deps.version }, 1)
  const startTime = gauge('start_time_seconds', 'When the daemon started, Unix seconds')
  startTime.set(deps.clock.now() / 1000)
  const processGauges = createProcessGauges(registry, deps.usage)
  const leases = gauge('leases', 'Prefixes in use')
  const capacity = gauge('pool_capacity', 'Prefixes that can be in use')
  const resting = gauge('pool_resting', 'Freed prefixes that wait before somebody else may get them')
  const requests = gauge('requests', 'Requests that the database knows, by state', ['state'])
  const pending = gauge('outbox_pending', 'Transactions that are not mined yet')
  const head = gauge('head_block', 'Number of the newest block read')
  const lastRead = gauge('last_chain_read_seconds', 'When the chain was last read, Unix seconds')
  const chainUp = gauge('chain_up', 'Whether the last read of the chain worked')
  const dataplaneUp = gauge('dataplane_up', 'Whether tunnels and routes are as the database wants them')
  const balance = gauge('operator_balance_ether', 'What the operator wallet holds')
  const peers = gauge('peers', 'WireGuard peers, with or without a handshake ever', ['handshake'])
  const traffic = gauge('peer_bytes', 'Bytes through the tunnels since the interface was made', ['direction'])
  const counters = createCounters(registry)

  return async () => {
    const status = deps.status()
    processGauges()
    leases.set(deps.leaseCount())
    capacity.set(Number(status.poolCapacity))
    resting.set(status.resting)
    requests.reset()
    for (const [state, count] of Object.entries(status.requests)) requests.set({ state }, count)
    pending.set(status.outboxPending)
    chainUp.set(status.lastPollAt !== undefined && status.chainError === undefined ? 1 : 0)
    setIfKnown(head, status.headBlock === undefined ? undefined : Number(status.headBlock))
    setIfKnown(lastRead, status.lastPollAt === undefined ? undefined : status.lastPollAt / 1000)
    setIfKnown(balance, status.operatorBalanceWei === undefined ? undefined : Number(status.operatorBalanceWei) / 1e18)
    counters(status.counters)
    const read = await readPeers(deps)
    dataplaneUp.set(read !== undefined && status.dataplaneError === undefined ? 1 : 0)
    peers.reset()
    traffic.reset()
    for (const [handshake, count] of Object.entries(read?.handshakes ?? {})) peers.set({ handshake }, count)
    for (const [direction, bytes] of Object.entries(read?.bytes ?? {})) traffic.set({ direction }, Number(bytes))
    return { text: await registry.metrics(), contentType: registry.contentType }
  }
}

/** Sets `value`, or shows nothing for it rather than a number that was never true. */
function setIfKnown(gauge: Gauge, value: number | undefined): void {
  if (value === undefined) gauge.remove()
  else gauge.set(value)
}

/** prom-client's own process metrics would wake the event loop a hundred times a second; these cost nothing until scraped. */
function createProcessGauges(registry: Registry, usage: MetricsDeps['usage']): () => void {
  const gauge = (name: string, help: string) => new Gauge({ name, help, registers: [registry] })
  const memory = gauge('process_resident_memory_bytes', 'Memory of the process')
  const cpu = gauge('process_cpu_seconds_total', 'Processor time of the process')
  return () => {
    const { cpuSeconds, rssBytes } = usage()
    cpu.set(cpuSeconds)
    memory.set(rssBytes)
  }
}

/** One counter for each count since the start, named after it: `leased` becomes `blockhost_broker_leased_total`. */
function createCounters(registry: Registry): (counts: Readonly<Record<string, number>>) => void {
  const known = new Map<string, Counter>()
  const counterOf = (name: string): Counter => {
    const existing = known.get(name)
    if (existing !== undefined) return existing
    const words = name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
    const help = `Requests since the start: ${words.replaceAll('_', ' ')}`
    const made = new Counter({ name: `blockhost_broker_${words}_total`, help, registers: [registry] })
    known.set(name, made)
    return made
  }
  return counts => {
    for (const [name, count] of Object.entries(counts)) {
      const counter = counterOf(name)
      counter.reset()
      counter.inc(count)
    }
  }
}

type PeerTotals = { handshakes: { seen: number; never: number }; bytes: { received: bigint; sent: bigint } }

async function readPeers({ peers }: MetricsDeps): Promise<PeerTotals | undefined> {
  try {
    const totals: PeerTotals = { handshakes: { seen: 0, never: 0 }, bytes: { received: 0n, sent: 0n } }
    for (const peer of (await peers.read()).peers.values()) {
      totals.handshakes[peer.latestHandshake !== undefined ? 'seen' : 'never'] += 1
      totals.bytes.received += peer.rxBytes
      totals.bytes.sent += peer.txBytes
    }
    return totals
  } catch {
    return undefined // shown as dataplane_up 0; the reconciler logs the reason
  }
}
