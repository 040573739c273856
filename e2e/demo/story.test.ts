import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { expect } from './expect.ts'
import { createStory } from './story.ts'

function setup(options: { isTTY?: boolean; env?: Record<string, string>; signal?: AbortSignal } = {}) {
  let text = ''
  const stream = { isTTY: options.isTTY ?? false, write: (part: string) => (text += part) }
  const story = createStory(stream, options.env ?? {}, options.signal ?? new AbortController().signal)
  return { story, text: () => text.replace(/\d+\.\d s/g, '0.0 s') }
}

describe('createStory', () => {
  it('tells who does what, and how the step ended, without escape codes where nobody looks', async () => {
    const { story, text } = setup()
    const ok = await story.step('reach', 'a server reaches a VM', async () => {
      story.tell('internet', 'pings vm-a')
      return 'ping6 0.5 ms'
    })
    assert.equal(ok, true)
    assert.equal(
      text(),
      '\nreach: a server reaches a VM\n    0.0 s  internet  pings vm-a\n ✔ reach (0.0 s): ping6 0.5 ms\n',
    )
    assert.deepEqual(story.steps, [{ name: 'reach', ok: true, ms: story.steps[0]?.ms, detail: 'ping6 0.5 ms' }])
  })

  it('says what was expected and what was seen when a step fails', async () => {
    const { story, text } = setup()
    const ok = await story.step('release', 'gives back', async () => {
      expect(false, 'no peer', ['key'])
      return 'never'
    })
    assert.equal(ok, false)
    assert.ok(text().endsWith(' ✖ release (0.0 s)\n     expected no peer\n     saw      ["key"]\n'))
    assert.equal(story.steps[0]?.detail, 'expected no peer; saw ["key"]')
  })

  it('leaves out how a command got into its machine', async () => {
    const { story } = setup()
    const argv = 'nsenter --target=12 --net --pid=/proc/12/ns/pid_for_children -- setpriv --pdeathsig KILL -- wg show'
    await story.step('heal', '', () => Promise.reject(new Error(`\`${argv}\` exited with 1`)))
    assert.equal(story.steps[0]?.detail, '`wg show` exited with 1')
  })

  it('calls a step that ends badly after a Ctrl-C interrupted', async () => {
    const interrupted = new AbortController()
    const { story } = setup({ signal: interrupted.signal })
    await story.step('lease', '', () => {
      interrupted.abort('SIGINT')
      return Promise.reject(new Error('wg was ended by SIGINT'))
    })
    assert.deepEqual(story.steps[0]?.detail, 'interrupted')
  })

  it('colors on a terminal, unless NO_COLOR is set', () => {
    for (const [env, colored] of [
      [{}, true],
      [{ NO_COLOR: '1' }, false],
      [{ TERM: 'dumb' }, false],
    ] as const) {
      const { story, text } = setup({ isTTY: true, env })
      story.title('BlockHost')
      assert.equal(text().includes('\u001b['), colored)
    }
  })
})
