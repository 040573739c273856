import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createOutbox } from '@blockhost/chain/outbox.ts'
import { outboxSchema } from '@blockhost/chain/outbox-store.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { openDatabase } from '@blockhost/kit/sqlite.ts'
import { createFakeRootAgent, type FakeRootAgent } from '@blockhost/provisioners/libvirt/fake-root-agent.ts'
import { createLibvirtProvisioner } from '@blockhost/provisioners/libvirt/libvirt.ts'
import type { RootAgent } from '@blockhost/provisioners/libvirt/root-agent.ts'
import { atEveryCall, type FailurePoint } from '@blockhost/testkit/failure-point.ts'
import { createFakeTransactionPort } from '@blockhost/testkit/fake-transaction-port.ts'
import { openVmDatabase, type VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { type JobDeps, runJob } from './jobs.ts'
import { type Subscription, vmNameOf } from './subscription.ts'

const now = 1_800_000_000
const signal = new AbortController().signal
const buyer = `0x${'11'.repeat(20)}` as const
const pools = {
  vmid: { first: 100, last: 199 },
  ipv4: { network: '10.1.0.0/24', gateway: '10.1.0.1' },
  ipv6: { prefix: '2001:db8::/64' },
  restSeconds: 600,
}

function subscription(id: bigint, change: Partial<Subscription>): Subscription {
  return {
    ...{ id, subscriber: buyer, planId: 1, purchaseBlock: 5n, expiresAt: now + 1000, state: 'paid', changedBlock: 5n },
    ...{ reason: undefined, suspendedAt: undefined, data: undefined, dataAttempts: 0, dataRetryAt: 0 },
    ...{ access: undefined, accessProblem: undefined, hostname: undefined, txKey: undefined, mintAttempts: 0 },
    ...{ tokenId: undefined, tokenOwner: undefined, boundToken: undefined, vmExpiresAt: undefined, vmOwner: undefined },
    ...{ attempts: 0, retryAt: 0, error: undefined, errorCode: undefined },
    ...change,
  }
}

/** A host: what outlives the engine, and engines on it. */
function makeHost() {
  let process = 1
  const clock: Clock = { now: () => now * 1000, monotonic: () => 0, sleep: () => Promise.resolve() }
  const processes = {
    get self() {
      return `${process}`
    },
    isAlive: (id: string) => id === `${process}`,
  }
  const vms = openVmDatabase(':memory:', pools, clock, { processes })
  const agent = createFakeRootAgent()
  const port = createFakeTransactionPort().port
  const options = { confirmations: 1, stuckAfterMs: 60_000, feeBumpPercent: 20, maxInFlight: 4 }
  const outbox = createOutbox(openDatabase(':memory:', [db => db.exec(outboxSchema)]), port, options, {
    clock,
    log: silentLog,
  })
  const engine = (over: { agent?: RootAgent; vms?: VmDatabase } = {}): JobDeps => {
    const config = { template: '0123456789abcdef', nameservers: ['192.0.2.53'] }
    const addressesOf = (name: string) => vms.findVm(name)
    return {
      ...{ vms: over.vms ?? vms, outbox, username: 'admin', chainNow: () => now },
      provisioner: createLibvirtProvisioner(config, { agent: over.agent ?? agent, addressesOf, clock }),
      purposeOf: id => `subscription ${id} of this contract`,
      machineIdOf: name => `${name}.1a2b3c4d`,
      specOf: (_row, vm) => ({
        ...{ name: vm.name, vmid: vm.vmid, vcpus: 1, memoryMiB: 512, diskGiB: 4, mac: vm.mac, userData: '' },
        ipv4: { address: vm.ipv4, prefixLength: 24, gateway: '10.1.0.1' },
        ipv6: vm.ipv6 === undefined ? undefined : { address: vm.ipv6, gateway: 'fe80::1' },
      }),
    }
  }
  return { vms, agent, engine, restart: () => void process++ }
}

type Host = ReturnType<typeof makeHost>

/** Everything of a subscription, and everything else, as text. */
function look({ vms, agent }: Host, id: bigint) {
  const name = vmNameOf(id)
  const vm = vms.findVm(name)
  const row = vm && [vm.state, vm.ipv4, vm.ipv6, vm.expiresAt, vm.nftTokenId, vm.suspendedAt !== undefined].join(' ')
  const lines = agent.snapshot().split('\n')
  const own = lines.filter(line => line.startsWith(name))
  return {
    own: [...own, `bound to ${agent.bindingOf(name, 'admin')}`, `database: ${row}`].join('\n'),
    others: [...lines.filter(line => !line.startsWith(name)), ...vms.listVms().filter(other => other.name !== name)],
  }
}

const id = 7n
const paid = subscription(id, {})
const minted = subscription(id, { state: 'minted', tokenId: 3n, tokenOwner: buyer })
const expired = { expiresAt: now - 1, suspendedAt: now }
const jobs: Record<string, { before: readonly Subscription[]; row: Subscription; done: RegExp }> = {
  create: { before: [], row: paid, done: /disk seed domain network running\n.*\ndatabase: active/ },
  bind: { before: [paid], row: minted, done: /running\nbound to 3\ndatabase: active .* 3 false$/ },
  suspend: {
    before: [paid, minted],
    row: subscription(id, { state: 'suspending', ...expired }),
    done: /disk seed domain stopped\nbound to 3\ndatabase: suspended .* 1799999999 3 true$/,
  },
  resume: {
    before: [paid, minted, subscription(id, { state: 'suspending', ...expired })],
    row: subscription(id, { state: 'resuming', expiresAt: now + 5000 }),
    done: /network running\nbound to 3\ndatabase: active .* 1800005000 3 false$/,
  },
  'end of a cancelled one': {
    before: [paid, minted],
    row: subscription(id, { state: 'ending', reason: 'cancelled' }),
    done: /^bound to undefined\ndatabase: destroyed/,
  },
  'end of a suspended one': {
    before: [paid, minted, subscription(id, { state: 'suspending', ...expired })],
    row: subscription(id, { state: 'ending', reason: 'expired', ...expired }),
    done: /^bound to undefined\ndatabase: destroyed/,
  },
}

/** A host with a neighbour, on which these steps were taken. */
async function hostAfter(rows: readonly Subscription[]): Promise<Host> {
  const host = makeHost()
  for (const row of [subscription(6n, {}), subscription(6n, { state: 'minted', tokenId: 2n }), ...rows])
    await runJob(host.engine(), row, signal)
  return host
}

const makeErrors = {
  passing: () => new BlockHostError({ code: 'BH_TEST', message: 'made to fail', retryable: true }),
  lasting: () => new Error('made to fail'),
}
const writes = ['reserveVm', 'markActive', 'markSuspended', 'markDestroying', 'markDestroyed', 'markNftMinted'] as const

/** An engine on `host` one of whose calls fails. The database is in the same process: its answers do not get lost. */
function failingEngine({ engine, agent, vms }: Host, point: FailurePoint): JobDeps {
  return engine({
    agent: point.wrap(agent, ['call']),
    vms: point.when === 'before' ? point.wrap(vms, [...writes, 'setExpiry']) : vms,
  })
}

describe('runJob', () => {
  for (const [title, { before, row, done }] of Object.entries(jobs)) {
    test(`${title}: twice is once`, async () => {
      const host = await hostAfter(before)
      const neighbour = look(host, id).others
      const first = await runJob(host.engine(), row, signal)
      const { own, others } = look(host, id)
      assert.match(own, done)
      assert.deepEqual(others, neighbour)
      assert.deepEqual(await runJob(host.engine(), row, signal), first)
      assert.equal(look(host, id).own, own)
    })

    for (const [kind, makeError] of Object.entries(makeErrors))
      test(`${title}: whichever call fails (${kind}), or loses its answer, the next try ends as if nothing had been`, async () => {
        const whole = await hostAfter(before)
        const result = await runJob(whole.engine(), row, signal)
        const tried = await atEveryCall(makeError, async point => {
          const host = await hostAfter(before)
          const neighbour = look(host, id).others
          await runJob(failingEngine(host, point), row, signal).catch(error =>
            assert.ok(causesOf(error).includes(point.error), String(error)),
          )
          assert.deepEqual(look(host, id).others, neighbour, 'something foreign was touched')
          assert.deepEqual(await runJob(host.engine(), row, signal), result)
          assert.equal(look(host, id).own, look(whole, id).own)
          assert.deepEqual(look(host, id).others, neighbour)
        })
        assert.ok(tried >= 3, `${tried} failures`)
      })

    test(`${title}: killed after any call of the hypervisor, the next engine ends it`, async () => {
      const whole = await hostAfter(before)
      const begun = whole.agent.calls.length
      await runJob(whole.engine(), row, signal)
      const calls = whole.agent.calls.length - begun
      for (let last = 0; last < calls; last++) {
        const host = await hostAfter(before)
        const neighbour = look(host, id).others
        const { agent, died } = dyingAfter(host.agent, last)
        void runJob(host.engine({ agent }), row, signal)
        await died
        host.restart()
        await runJob(host.engine(), row, signal)
        assert.equal(look(host, id).own, look(whole, id).own, `killed after call ${last}`)
        assert.deepEqual(look(host, id).others, neighbour)
      }
    })
  }

  test('create: what fails leaves nothing behind but its reservation, and at most an empty disk', async () => {
    await atEveryCall(makeErrors.passing, async point => {
      const host = await hostAfter([])
      const isMade = await runJob(failingEngine(host, point), paid, signal).then(
        () => true,
        () => false,
      )
      const { state } = host.vms.findVm(vmNameOf(id)) ?? { state: 'absent' }
      if (isMade) return
      // What failed last is to announce a VM that runs.
      if (point.struck()?.startsWith('markActive')) return
      assert.ok(['absent', 'creating'].includes(state), state)
      assert.ok(['', 'disk'].includes(host.agent.leftovers(vmNameOf(id)).join()), host.agent.snapshot())
    })
  })

  test('a VM of the name that is not ours is neither taken over, bound, suspended, resumed nor removed', async () => {
    for (const state of ['creating', 'minted', 'suspending', 'resuming', 'ending'] as const) {
      const host = await hostAfter([])
      const foreign = { name: vmNameOf(id), ownerWallet: buyer, expiresAt: now, purpose: 'made by hand' }
      host.vms.reserveVm(foreign)
      host.vms.markActive(foreign.name)
      await host.engine().provisioner.create(host.engine().specOf(paid, host.vms.findVm(foreign.name)!))
      const before = look(host, id)
      await runJob(host.engine(), subscription(id, { state, tokenId: 3n }), signal).catch(error =>
        assert.equal(error.code, 'BH_VM_EXISTS'),
      )
      assert.deepEqual(look(host, id), before)
    }
  })
})

/** An agent whose call number `last` is the process's last: it has effect, and nobody hears of it. */
function dyingAfter(agent: FakeRootAgent, last: number): { agent: RootAgent; died: Promise<void> } {
  const { promise: died, resolve: die } = Promise.withResolvers<void>()
  let calls = 0
  const call: RootAgent['call'] = async (...args) => {
    const number = calls++
    const answer = await agent.call(...args).catch(() => ({ ok: true }))
    if (number < last) return answer as Awaited<ReturnType<RootAgent['call']>>
    die()
    return new Promise(() => undefined)
  }
  return { agent: { call }, died }
}

function causesOf(error: unknown): unknown[] {
  return error instanceof Error ? [error, ...causesOf(error.cause)] : []
}
