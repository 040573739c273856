import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { type Action, defineAction } from './action.ts'
import { actions } from './actions.ts'
import { createAgent } from './agent.ts'
import { createFakeHost } from './fake-host.ts'

test('handle: the documented form of answers; unknown actions and malformed requests are refused', async t => {
  const { agent } = createFakeHost(t)
  assert.deepEqual(await agent.handle({ action: 'format-disk', params: {} }), {
    ok: false,
    error: 'Unknown action: format-disk',
    code: 'BH_ACTION_REFUSED',
    retryable: false,
  })
  for (const request of [
    null,
    5,
    'x',
    [],
    {},
    { action: 5 },
    { action: 'vm-list', params: [] },
    { action: 'vm-list', extra: 1 },
    { action: 'a\nb' },
    { action: '__proto__' },
    { action: 'constructor' },
  ]) {
    const answer = await agent.handle(request)
    assert.equal(answer.ok, false, JSON.stringify(request))
  }
  assert.deepEqual(await agent.handle({ action: 'vm-list' }), { ok: true, vms: [] })
})

test('handle: problems name the key and what was expected, never what was given', async t => {
  const { agent } = createFakeHost(t)
  const answer = await agent.handle({ action: 'vm-start', params: { name: 'SECRET\nvalue', 'evil\u001b[2J': 1 } })
  assert.ok(!answer.ok)
  assert.match(
    answer.error,
    /^invalid params: name: expected up to 63 .*\(top level\): there is a key that is not known$/,
  )
})

test('handle: a long action does not hold up others', async t => {
  const { host } = createFakeHost(t)
  const gate = Promise.withResolvers<void>()
  const table = new Map<string, Action>([
    [
      'slow',
      defineAction({
        schema: z.strictObject({}),
        timeoutMs: 1000,
        lane: 'slow',
        run: () => gate.promise.then(() => ({})),
      }),
    ],
    ['fast', defineAction({ schema: z.strictObject({}), timeoutMs: 1000, run: () => ({ output: 'x' }) })],
  ])
  const agent = createAgent(table, { host, exec: async () => ({ stdout: '', stderr: '' }) })
  const slow = agent.handle({ action: 'slow' })
  assert.deepEqual(await agent.handle({ action: 'fast' }), { ok: true, output: 'x' })
  assert.equal(agent.busy(), 1)
  gate.resolve()
  assert.deepEqual(await slow, { ok: true })
})

test('handle: commands get what is left of the action’s time; answers are limited', async t => {
  const { host } = createFakeHost(t)
  const given: (number | undefined)[] = []
  const table = new Map<string, Action>([
    [
      'two',
      defineAction({
        schema: z.strictObject({}),
        timeoutMs: 5000,
        run: async (_params, { exec }) => {
          await exec('a', [])
          await exec('b', [], { timeoutMs: 10 })
          return {}
        },
      }),
    ],
    [
      'late',
      defineAction({ schema: z.strictObject({}), timeoutMs: 0, run: async (_params, { exec }) => exec('a', []) }),
    ],
    [
      'long',
      defineAction({ schema: z.strictObject({}), timeoutMs: 9, run: () => ({ output: 'x'.repeat(2_000_000) }) }),
    ],
  ])
  const agent = createAgent(table, {
    host,
    exec: async (_command, _args, options) => {
      given.push(options?.timeoutMs)
      return { stdout: '', stderr: '' }
    },
  })
  await agent.handle({ action: 'two' })
  assert.ok(given[0]! > 0 && given[0]! <= 5000)
  assert.equal(given[1], 10)
  assert.equal(((await agent.handle({ action: 'late' })) as { code: string }).code, 'BH_ACTION_TIMEOUT')
  assert.equal(((await agent.handle({ action: 'long' })) as { code: string }).code, 'BH_ANSWER_TOO_LONG')
})

test('a program that is missing is an answer that says what to install', async t => {
  const { agent, missing } = createFakeHost(t)
  missing.add('virsh').add('qm')
  const answer = await agent.handle({ action: 'vm-status', params: { name: 'web' } })
  assert.deepEqual(answer, {
    ok: false,
    error: 'virsh is not installed on this machine',
    code: 'BH_PROGRAM_NOT_INSTALLED',
    retryable: false,
    hint: 'Install it: apt-get install libvirt-clients libvirt-daemon-system',
  })
  const qm = await agent.handle({ action: 'qm-start', params: { vmid: 100 } })
  assert.equal((qm as { code: string }).code, 'BH_PROGRAM_NOT_INSTALLED')
})

test('the fifteen documented actions are there', () => {
  const documented =
    'qm-start qm-stop qm-shutdown qm-destroy qm-create qm-importdisk qm-set qm-template ip6-route-add ip6-route-del iptables-open iptables-close virt-customize generate-wallet addressbook-save'
  for (const name of documented.split(' ')) assert.ok(actions.has(name), name)
})

test('long and short: what waits for guests and images is long, everything of the network is short', () => {
  const longOnes = [...actions].filter(([, action]) => action.timeoutMs > 60_000).map(([name]) => name)
  assert.deepEqual(longOnes.sort(), [
    'qm-create',
    'qm-destroy',
    'qm-importdisk',
    'qm-set',
    'qm-shutdown',
    'qm-start',
    'qm-stop',
    'qm-template',
    'virt-customize',
    'vm-destroy',
    'vm-guest-exec',
    'vm-shutdown',
  ])
})
