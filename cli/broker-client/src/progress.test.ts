import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createProgress } from './progress.ts'

function record(isTTY: boolean) {
  let text = ''
  let at = 0
  let redraw: (() => void) | undefined
  const stream = {
    isTTY,
    write: (more: string) => {
      text += more
    },
  }
  const progress = createProgress(
    stream,
    () => at,
    work => {
      redraw = work
      return () => {
        redraw = undefined
      }
    },
  )
  return {
    progress,
    text: () => text,
    pass: (ms: number) => {
      at += ms
      redraw?.()
    },
    screen: () => text.split('\n').map(line => line.split('\r\x1b[K').at(-1)),
  }
}

describe('createProgress', () => {
  it('writes a plain line for each step elsewhere than on a terminal', () => {
    const { progress, text, pass } = record(false)
    progress.step('one')
    pass(5000)
    progress.step('one')
    progress.note('by the way')
    progress.step('two')
    progress.end('failed')
    assert.equal(text(), 'broker-client: one\nbroker-client: by the way\nbroker-client: two\n')
  })

  it('rewrites one line with the elapsed seconds on a terminal', () => {
    const { progress, screen, pass } = record(true)
    progress.step('one')
    pass(3000)
    assert.deepEqual(screen(), ['… one  3 s'])
    progress.note('by the way')
    pass(1000)
    progress.step('two')
    pass(2000)
    progress.end('failed')
    pass(9000)
    progress.end('done')
    assert.deepEqual(screen(), ['  by the way', '✓ one  4 s', '✗ two  2 s', ''])
  })
})
