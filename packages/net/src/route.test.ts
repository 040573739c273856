import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parsePrefix } from './prefix.ts'
import { diffRoutes, type Route, renderRoutes } from './route.ts'

const prefix = (text: string) => parsePrefix(text)!
const route = (text: string, name = 'wg0'): Route => ({
  destination: prefix(text),
  interface: name,
  gateway: undefined,
})

test('diffRoutes: equal gives nothing', () => {
  const diff = diffRoutes('wg0', [prefix('2001:db8::100/120')], [route('2001:db8::100/120')])
  assert.deepEqual(diff, { remove: [], add: [] })
  assert.deepEqual(renderRoutes('wg0', diff), [])
})

test('diffRoutes: adds, removes, and moves a route that leads elsewhere', () => {
  const diff = diffRoutes(
    'wg0',
    [prefix('2001:db8::100/120'), prefix('2001:db8::200/119')],
    [route('2001:db8::100/120', 'up0'), route('2001:db8::400/118')],
  )
  assert.deepEqual(renderRoutes('wg0', diff), [
    'route del 2001:db8::100/120 dev up0 proto 176',
    'route del 2001:db8::400/118 dev wg0 proto 176',
    'route replace 2001:db8::100/120 dev wg0 proto 176',
    'route replace 2001:db8::200/119 dev wg0 proto 176',
  ])
})
