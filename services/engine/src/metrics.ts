import type { EngineStatus } from './engine.ts'
import { states } from './subscription.ts'

/** Renders the engine's status for Prometheus (text format 0.0.4). */
export function createMetricsText(
  status: EngineStatus,
  usage: { cpuSeconds: number; rssBytes: number },
  nowMs: number,
): string {
  const { counters, trouble, lastPollAt } = status
  const lines: string[] = []
  const add = (name: string, type: 'gauge' | 'counter', help: string, values: [labels: string, value: number][]) => {
    lines.push(`# HELP blockhost_engine_${name} ${help}`, `# TYPE blockhost_engine_${name} ${type}`)
    for (const [labels, value] of values) lines.push(`blockhost_engine_${name}${labels} ${value}`)
  }
  const byState = states.map((state): [string, number] => [`{state="${state}"}`, status.subscriptions[state] ?? 0])
  add('subscriptions', 'gauge', 'Subscriptions by how far they are.', byState)
  add('trouble', 'gauge', 'Subscriptions that a person may look at.', [
    ['{kind="failing"}', trouble.failing],
    ['{kind="needs_key"}', trouble.needsKey],
    ['{kind="without_data"}', trouble.withoutData],
  ])
  add('problems', 'gauge', 'What does not work at the moment.', [['', status.problems.length]])
  add('jobs_running', 'gauge', 'Steps under way.', [['', status.jobsRunning]])
  add('outbox_pending', 'gauge', 'Transactions not final yet.', [['', status.outboxPending]])
  const seconds = lastPollAt === undefined ? -1 : (nowMs - lastPollAt) / 1000
  add('chain_age_seconds', 'gauge', 'Since the chain was last read; -1: never.', [['', seconds]])
  if (status.headBlock !== undefined) add('head_block', 'gauge', 'Newest block seen.', [['', Number(status.headBlock)]])
  if (status.minterBalanceWei !== undefined)
    add('minter_balance_ether', 'gauge', 'Money for minting.', [['', Number(status.minterBalanceWei) / 1e18]])
  const counts = Object.entries(counters).map(([kind, value]): [string, number] => [`{kind="${kind}"}`, value])
  add('events_total', 'counter', 'What happened since the start.', counts)
  add('cpu_seconds_total', 'counter', 'Processor time.', [['', usage.cpuSeconds]])
  add('resident_bytes', 'gauge', 'Memory.', [['', usage.rssBytes]])
  return `${lines.join('\n')}\n`
}
