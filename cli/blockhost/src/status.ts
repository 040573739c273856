import type { Report, ReportItem } from '@blockhost/engine/report.ts'
import { type State, states } from '@blockhost/engine/subscription.ts'
import type { EngineHealth } from './engine-socket.ts'

/** Renders the status for a terminal: the engine, how many subscriptions are where, and what a person should look at. */
export function renderStatus(
  report: Report,
  health: EngineHealth | undefined,
  options: { all: boolean; nowMs: number },
): string {
  const trouble = report.items.filter(item => item.trouble)
  const others = report.items.filter(item => !item.trouble)
  return [
    renderEngine(health),
    `Subscriptions: ${renderCounts(report.counts)}`,
    ...section('Needs a look', trouble, options.nowMs),
    ...section(options.all ? 'All others' : 'Under way', others, options.nowMs),
    ...(report.omitted === 0 ? [] : ['', `${report.omitted} more are not shown: \`blockhost status --all\``]),
  ].join('\n')
}

/** Returns the status for `--json`. */
export function statusToJson(report: Report, health: EngineHealth | undefined): object {
  const engine = health === undefined ? { running: false } : { running: true, ...health }
  return { engine, subscriptions: report.counts, items: report.items, omitted: report.omitted }
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

function section(title: string, items: readonly ReportItem[], nowMs: number): string[] {
  if (items.length === 0) return []
  return ['', `${title}:`, ...items.map(item => renderItem(item, nowMs))]
}

function renderItem({ vm, plan, words, retry, expires }: ReportItem, nowMs: number): string {
  const next = retry === null ? '' : `; next try ${renderWait(Date.parse(retry) - nowMs)}`
  return `  ${vm}  plan ${plan}, until ${expires.slice(0, 16)}Z: ${words}${next}`
}

function renderWait(ms: number): string {
  if (ms < 1_000) return 'now'
  if (ms < 90_000) return `in ${Math.round(ms / 1000)} s`
  return ms < 5_400_000 ? `in ${Math.round(ms / 60_000)} min` : `in ${Math.round(ms / 3_600_000)} h`
}
