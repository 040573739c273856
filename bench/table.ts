import { type Figure, isRate, reaches } from './figure.ts'

/** Returns the figures as an aligned table for a terminal, one line each; `comparedWith` goes last and is not cut. */
export function renderTable(figures: Readonly<Record<string, Figure>>): string {
  const rows = Object.entries(figures).map(([key, figure]) => [
    key,
    formatNumber(figure.value),
    figure.unit,
    figure.limit === undefined ? '' : `${isRate(figure.unit) ? '>=' : '<='} ${formatNumber(figure.limit)}`,
    verdict(figure),
    figure.comparedWith ?? '',
  ])
  const lines = [['key', 'value', 'unit', 'limit', '', 'compared with'], ...rows]
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map(line => line[column]!.length)))
  return `${lines.map(line => renderLine(line, widths)).join('\n')}\n`
}

/** Returns the keys of the figures that miss their limit. */
export function missedKeys(figures: Readonly<Record<string, Figure>>): string[] {
  return Object.entries(figures).flatMap(([key, figure]) => (reaches(figure) === false ? [key] : []))
}

function verdict(figure: Figure): string {
  const reached = reaches(figure)
  return reached === undefined ? '' : reached ? 'ok' : 'MISSED'
}

function renderLine(cells: readonly string[], widths: readonly number[]): string {
  const padded = cells.map((cell, column) =>
    rightAligned.has(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
  )
  return padded.join('  ').trimEnd()
}

const rightAligned = new Set([1, 3])

function formatNumber(value: number): string {
  return value.toLocaleString('en', { maximumFractionDigits: 3 })
}
