/** What can be checked of a page without eyes. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const standards = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

/**
 * Runs axe-core on what the page shows, every rule of WCAG 2.2 AA and its best practices.
 *
 * @returns What it found, one line for each rule and element; and what it could not decide, but for the rules of `undecided`.
 */
export async function findBarriers(tab: Page): Promise<string[]> {
  if ((await tab.evaluate('typeof axe')) === 'undefined') await tab.evaluate(`${axe}; undefined`)
  const run = `axe.run({ runOnly: ${JSON.stringify(standards)}, resultTypes: ['violations', 'incomplete'] })`
  const { violations, incomplete } = (await tab.evaluate(run)) as { violations: Rule[]; incomplete: Rule[] }
  return [...violations, ...incomplete].flatMap(({ id, help, nodes }) =>
    nodes.map(({ target }) => `${id} (${help}): ${target.join(' ')}`),
  )
}

type Rule = { id: string; help: string; nodes: { target: string[] }[] }

/**
 * Returns what is wider than the window or cut off, targets below 44 px, text below 4.5:1 (WCAG 2.2, 1.4.3), and controls, icons and
 * the ring around what has the focus below 3:1 (1.4.11).
 */
export async function findFaults(tab: Page): Promise<string[]> {
  return (await tab.evaluate(faults)) as string[]
}

const faults = `(() => {
  const faults = []
  if (document.documentElement.scrollWidth > innerWidth) faults.push('the page is wider than the window')
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  const rgb = color => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = color
    canvas.fillRect(0, 0, 1, 1)
    return [...canvas.getImageData(0, 0, 1, 1).data]
  }
  const luminance = color => {
    const [r, g, b] = rgb(color).map(v => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const contrast = (one, other) => {
    const [a, b] = [luminance(one), luminance(other)].sort((x, y) => y - x)
    return (a + 0.05) / (b + 0.05)
  }
  const isOpaque = color => rgb(color)[3] === 255
  const backgroundOf = e => {
    for (; e; e = e.parentElement) if (isOpaque(getComputedStyle(e).backgroundColor)) return getComputedStyle(e).backgroundColor
    return 'white'
  }
  const need = (e, what, one, other, least) => {
    const ratio = contrast(one, other)
    if (ratio < least) faults.push(e.tagName + '#' + e.id + '.' + e.getAttribute('class') + ': ' + what + ' has contrast ' + ratio.toFixed(2))
  }
  for (const e of document.querySelectorAll('body *')) {
    const box = e.getBoundingClientRect()
    if (box.width === 0 || !e.checkVisibility() || e.closest('.visually-hidden, symbol')) continue
    const style = getComputedStyle(e)
    const hasText = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim() !== '')
    if (hasText) need(e, 'text', style.color, backgroundOf(e), 4.5)
    if (e.matches('svg.icon')) need(e, 'icon', style.color, backgroundOf(e), 3)
    if (e.matches('.button:not(.plain)')) {
      const edge = isOpaque(style.borderTopColor) ? style.borderTopColor : style.backgroundColor
      need(e, 'edge', edge, backgroundOf(e.parentElement), 3)
    }
    if (e.matches(':focus-visible')) {
      if (style.outlineStyle !== 'solid' || parseFloat(style.outlineWidth) < 2) faults.push(e.id + ' has the focus and does not show it')
      need(e, 'focus ring', style.outlineColor, backgroundOf(e.parentElement), 3)
    }
    if (e.matches('button, summary') && box.height < 44) faults.push(e.tagName + '#' + e.id + ' is ' + box.height + ' px high')
    if (e.scrollWidth > e.clientWidth + 1 && style.display !== 'inline') faults.push(e.tagName + '#' + e.id + ' is cut off')
    if (box.right > innerWidth + 1 || box.left < -1) faults.push(e.tagName + '#' + e.id + ' sticks out')
  }
  return faults
})()`

/** Notes how far things jump while nobody does anything (the Layout Instability API); before the page is opened. */
export const watchShifts = `(() => {
  window.testShift = 0
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.testShift += entry.value
  }).observe({ type: 'layout-shift', buffered: true })
})()`

/** Returns the sum of the jumps since the page was opened; 0 is none, 0.1 is what search engines still call good. */
export async function readShift(tab: Page): Promise<number> {
  return (await tab.evaluate('window.testShift')) as number
}
