import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { memoryJournal, type Step } from '@blockhost/kit/steps.ts'
import { atEveryCall, type FailurePoint } from '@blockhost/testkit/failure-point.ts'
import { finishesFromEveryStep, isIdempotent, type StepsWorld, unwindsFromEveryStep } from '@blockhost/testkit/steps.ts'
import { conformance } from '../conformance/suite.ts'
import type { Provisioner, VmSpec } from '../provisioner.ts'
import { createFakeRootAgent, type FakeRootAgentOptions } from './fake-root-agent.ts'
import { createLibvirtProvisioner, createSteps, destroySteps, type Host, resumeSteps, suspendSteps } from './libvirt.ts'

const spec: VmSpec = {
  name: 'blockhost-001',
  vmid: 101,
  vcpus: 1,
  memoryMiB: 512,
  diskGiB: 4,
  mac: '52:54:c0:a8:7a:c8',
  ipv4: { address: '192.168.122.200', prefixLength: 24, gateway: '192.168.122.1' },
  ipv6: { address: '2001:db8::101', gateway: 'fe80::1' },
  userData: '#cloud-config\n',
}

function makeHost(options: FakeRootAgentOptions = {}) {
  const agent = createFakeRootAgent(options)
  let time = 0
  const clock: Clock = {
    now: () => time,
    monotonic: () => time,
    sleep: ms => {
      time += ms
      return Promise.resolve()
    },
  }
  const config = { template: '0123456789abcdef', nameservers: ['192.168.122.1'] }
  const addressesOf = () => ({ mac: spec.mac, ipv4: spec.ipv4.address, ipv6: spec.ipv6?.address })
  const host: Host = { agent, clock, config, addressesOf }
  return { agent, clock, host, provisioner: createLibvirtProvisioner(config, host) }
}

conformance('libvirt over a fake root agent', () => {
  const { agent, provisioner } = makeHost({ bootLooks: 3 })
  return {
    provisioner,
    spec,
    leftovers: name => agent.leftovers(name),
    isRouted: name => agent.leftovers(name).includes('network'),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
})

/** Makes worlds in which a workflow runs after a VM was made, or not. */
function worlds<Context>(stepsOf: (host: Host) => Step<Context>[], context: Context, isMade: boolean) {
  return async (): Promise<StepsWorld<Context>> => {
    const { agent, host, provisioner } = makeHost()
    if (isMade) await provisioner.create(spec)
    return { steps: stepsOf(host), context, journal: memoryJournal(), snapshot: agent.snapshot }
  }
}

describe('workflows', () => {
  test('create leaves nothing behind, whichever step fails; twice is once', async () => {
    assert.equal(await unwindsFromEveryStep(worlds(createSteps, spec, false)), 14)
    await isIdempotent(worlds(createSteps, spec, false))
  })

  for (const [title, stepsOf] of [
    ['destroy', destroySteps],
    ['suspend', suspendSteps],
    ['resume', resumeSteps],
  ] as const)
    test(`${title} goes on wherever it failed; twice is once`, async () => {
      assert.ok((await finishesFromEveryStep(worlds(stepsOf, spec.name, true))) >= 4)
    })

  test('create takes back what a call did that then failed', async () => {
    for (const action of ['vm-seed-write', 'vm-define', 'vm-network-add', 'vm-start']) {
      const { agent, provisioner } = makeHost()
      agent.failOn(action, { error: timeout, when: 'after' })
      await assert.rejects(provisioner.create(spec), timeout)
      assert.equal(agent.snapshot(), '', `${action} left something`)
    }
  })

  test('create that fails on a VM that was there before takes nothing of it away', async () => {
    for (const action of ['vm-disk-create', 'vm-seed-write', 'vm-define', 'vm-network-add', 'vm-start']) {
      const { agent, provisioner } = makeHost()
      await provisioner.create(spec)
      const before = agent.snapshot()
      agent.failOn(action, { error: timeout, when: 'before' })
      await assert.rejects(provisioner.create(spec), timeout)
      assert.equal(agent.snapshot(), before, `failing ${action}`)
    }
  })

  test('what a killed create left is finished by the next', async () => {
    const { agent, host, provisioner } = makeHost()
    for (const step of createSteps(host).slice(0, 3)) await step.do(spec)
    await provisioner.create(spec)
    assert.deepEqual(agent.leftovers(spec.name), ['disk', 'seed', 'domain', 'network'])
    await provisioner.destroy(spec.name)
    assert.equal(agent.snapshot(), '')
  })
})

describe('every call of the root agent made to fail', () => {
  const neighbour: VmSpec = { ...spec, name: 'blockhost-002', vmid: 102, mac: '52:54:c0:a8:7a:c9' }
  const isOurs = (line: string) => line.startsWith(spec.name)

  /** A host with a neighbour, and with our VM as far as `before` makes it. */
  async function makeWorld(before: (provisioner: Provisioner) => Promise<void>, point?: FailurePoint) {
    const { agent, clock, host, provisioner } = makeHost({ bootLooks: 1 })
    await provisioner.create(neighbour)
    await before(provisioner)
    const failing = { ...host, clock, agent: point?.wrap(agent, ['call']) ?? agent }
    return {
      provisioner,
      failing: createLibvirtProvisioner(host.config, failing),
      lines: () => agent.snapshot().split('\n'),
    }
  }

  const made = (provisioner: Provisioner) => provisioner.create(spec)
  const workflows = {
    create: { before: async () => undefined, run: made },
    destroy: { before: made, run: p => p.destroy(spec.name) },
    'destroy of a suspended one': {
      before: p => made(p).then(() => p.suspend(spec.name)),
      run: p => p.destroy(spec.name),
    },
    suspend: { before: made, run: p => p.suspend(spec.name) },
    resume: { before: p => made(p).then(() => p.suspend(spec.name)), run: p => p.resume(spec.name) },
    start: { before: p => made(p).then(() => p.stop(spec.name)), run: p => p.start(spec.name) },
  } satisfies Record<string, Record<'before' | 'run', (provisioner: Provisioner) => Promise<void>>>

  for (const [title, { before, run }] of Object.entries(workflows))
    test(`${title}: the same call again ends as if nothing had been, and the neighbour is untouched`, async () => {
      const whole = await makeWorld(before)
      await run(whole.provisioner)
      const done = whole.lines()
      await run(whole.provisioner)
      assert.deepEqual(whole.lines(), done, 'twice is once')
      const tried = await atEveryCall(makeTimeout, async point => {
        const { provisioner, failing, lines } = await makeWorld(before, point)
        const untouched = lines().filter(line => !isOurs(line))
        await run(failing).catch(error => assert.ok(causes(error).includes(point.error), String(error)))
        assert.deepEqual(
          lines().filter(line => !isOurs(line)),
          untouched,
        )
        await run(provisioner)
        assert.deepEqual(lines(), done)
      })
      assert.ok(tried >= 4, `${tried} failures`)
    })

  test('create: what fails leaves nothing, but for a disk whose answer was lost', async () => {
    const left = new Set<string>()
    await atEveryCall(makeTimeout, async point => {
      const { failing, lines } = await makeWorld(workflows.create.before, point)
      const isMade = await failing.create(spec).then(
        () => true,
        () => false,
      )
      for (const line of lines().filter(isOurs)) if (!isMade) left.add(line)
    })
    assert.deepEqual([...left], [`${spec.name}: disk stopped`])
  })
})

const makeTimeout = () => new BlockHostError({ code: 'BH_SOCKET_TIMEOUT', message: 'no answer', retryable: true })

function causes(error: unknown): unknown[] {
  return error instanceof Error ? [error, ...causes(error.cause)] : []
}

const timeout = makeTimeout()

describe('libvirt', () => {
  test('the firewall is there before the guest can send anything', async () => {
    const { agent, provisioner } = makeHost()
    await provisioner.create(spec)
    await provisioner.suspend(spec.name)
    await provisioner.resume(spec.name)
    const order = agent.calls.filter(call => call === 'vm-network-add' || call === 'vm-start')
    assert.deepEqual(order, ['vm-network-add', 'vm-start', 'vm-network-add', 'vm-start'])
  })

  test('start brings route and firewall back after a restart of the host', async () => {
    const { agent, provisioner } = makeHost()
    await provisioner.create(spec)
    const before = agent.snapshot()
    agent.restartHost()
    await provisioner.start(spec.name)
    assert.equal(agent.snapshot(), before)
  })

  test('cuts the power of a guest that does not heed the button', async () => {
    const { agent, provisioner } = makeHost({ deafToShutdown: true })
    await provisioner.create(spec)
    await provisioner.stop(spec.name)
    assert.equal(await provisioner.status(spec.name), 'stopped')
    assert.deepEqual(agent.calls.slice(-3, -1), ['vm-shutdown', 'vm-stop'])
  })

  test('gives up on a guest that never answers, and takes it away', async () => {
    const { agent, provisioner } = makeHost({ bootLooks: Number.MAX_SAFE_INTEGER })
    await assert.rejects(provisioner.create(spec), { code: 'BH_VM_NOT_READY', retryable: true })
    assert.equal(agent.snapshot(), '')
  })

  test('stops waiting when told to, and takes the VM away', async () => {
    const { agent, provisioner } = makeHost({ bootLooks: Number.MAX_SAFE_INTEGER })
    await assert.rejects(provisioner.create(spec, AbortSignal.abort()), { code: 'BH_INTERRUPTED' })
    assert.equal(agent.snapshot(), '')
  })
})
