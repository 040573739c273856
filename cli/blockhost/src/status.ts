import type { Report, ReportItem } from '@blockhost/engine/report.ts'
import { type State, states } from '@blockhost/engine/subscription.ts'
import type { EngineHealth } from './engine-socket.ts'

/** Renders the status for a terminal: the engine, how many subscriptions are where, and what a person should look at. */
export function renderStatus(report: Report, health: EngineHealth | undefined, options: { all: boolean }): string {
  const trouble = report.items.filter(item => item.trouble)
  const others = report.items.filter(item => !item.trouble)
  return [
    renderEngine(health),
    `Subscriptions: ${renderCounts(report.counts)}`,
    ...section('Needs a look', trouble),
    ...section(options.all ? 'All others' : 'Under way', others),
  ].join('\n')
}

/** Returns the status for `--json`. */
export function statusToJson(report: Report, health: EngineHealth | undefined): object {
  const engine = health === undefined ? { running: false } : { running: true, ...health }
  return { engine, subscriptions: report.counts, items: report.items }
}

function renderEngine(health: EngineHealth | undefined): string {
  if (health === undefined) return 'Engine: not running (start it with `systemctl start blockhost-engine`)'
  if (health.healthy) return `Engine: running and well, version ${health.version}`
  return ['Engine: running, but', ...health.reasons.map(reason => `  - ${reason}`)].join('\n')
}

const names: Partial<Record<State, string>> = {
  live: 'running',
  seen: 'unconfirmed',
  creating: 'being made',
  created: 'without token',
}

function renderCounts(counts: Report['counts']): string {
  const some = states.filter(state => (counts[state] ?? 0) > 0)
  return some.length === 0 ? 'none yet' : some.map(state => `${counts[state]} ${names[state] ?? state}`).join(', ')
}

function section(title: string, items: readonly ReportItem[]): string[] {
  if (items.length === 0) return []
  return ['', `${title}:`, ...items.map(renderItem)]
}

function renderItem({ vm, plan, words, retry, expires }: ReportItem): string {
  const next = retry === null ? '' : `; next try ${retry}`
  return `  ${vm}  plan ${plan}, until ${expires.slice(0, 16)}Z: ${words}${next}`
}
