import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { createFakeRootAgent } from '@blockhost/provisioners/libvirt/fake-root-agent.ts'
import { createLibvirtProvisioner } from '@blockhost/provisioners/libvirt/libvirt.ts'
import { atEveryCall } from '@blockhost/testkit/failure-point.ts'
import type { Processes } from '@blockhost/vmdb/owner-process.ts'
import { openVmDatabase, type VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { type CollectOptions, collect } from './collect.ts'

const start = 1_800_000_000
const day = 86_400
const everything: CollectOptions = { execute: true, suspend: true, destroy: true, graceDays: 7 }
const pools = {
  vmid: { first: 100, last: 999 },
  ipv4: { network: '192.168.122.0/24', gateway: '192.168.122.1' },
  ipv6: { prefix: '2001:db8::/64' },
}

/** A host with VMs that expire after so many days. */
async function makeHost(
  t: { after(work: () => void): void },
  expiryDays: Readonly<Record<string, number>>,
  processes?: Processes,
) {
  let wall = start
  let block = start
  const clock: Clock = { now: () => wall * 1000, monotonic: () => wall * 1000, sleep: () => Promise.resolve() }
  const vms: VmDatabase = openVmDatabase(':memory:', pools, clock, processes === undefined ? {} : { processes })
  t.after(() => vms.close())
  const agent = createFakeRootAgent()
  const config = { template: '0123456789abcdef', nameservers: ['192.0.2.53'] }
  const provisioner = createLibvirtProvisioner(config, { agent, addressesOf: name => vms.findVm(name), clock })
  const expiries = new Map<string, number>()
  for (const [name, days] of Object.entries(expiryDays)) {
    const expiresAt = start + days * day
    const vm = vms.reserveVm({ name, ownerWallet: `0x${'11'.repeat(20)}`, expiresAt })
    await provisioner.create({
      ...{ name, vmid: vm.vmid, vcpus: 1, memoryMiB: 512, diskGiB: 4, mac: vm.mac, userData: '#cloud-config\n' },
      ipv4: { address: vm.ipv4, prefixLength: 24, gateway: '192.168.122.1' },
      ipv6: undefined,
    })
    vms.markActive(name)
    expiries.set(name, expiresAt)
  }
  return {
    ...{ vms, agent, provisioner, expiries },
    /** Time passes, for everybody. */
    pass: (days: number) => {
      wall += days * day
      block += days * day
    },
    /** Only this machine's clock jumps. */
    jump: (days: number) => {
      wall += days * day
    },
    collect: (options: Partial<CollectOptions & { vms: VmDatabase }> = {}, look?: () => Promise<never>) =>
      collect(
        {
          vms: options.vms ?? vms,
          provisioner,
          clock,
          look: look ?? (() => Promise.resolve({ timestamp: block, expiries })),
        },
        { ...everything, ...options },
      ),
  }
}

const nothing = { suspended: [], destroyed: [], extended: [], failed: [] }
const [a, b, paid] = ['blockhost-001', 'blockhost-002', 'blockhost-003']

describe('collect', () => {
  test('suspends what has expired, destroys it after the grace, and leaves what is paid', async t => {
    const host = await makeHost(t, { [a]: 1, [b]: 100 })
    assert.deepEqual(await host.collect(), nothing)
    host.pass(2)
    assert.deepEqual(await host.collect(), { ...nothing, suspended: [a] })
    assert.equal(await host.provisioner.status(a), 'stopped')
    assert.deepEqual(await host.collect(), nothing, 'never twice')
    host.pass(6)
    assert.deepEqual(await host.collect(), nothing, 'never early')
    host.pass(2)
    assert.deepEqual(await host.collect(), { ...nothing, destroyed: [a] })
    assert.deepEqual(host.agent.leftovers(a), [])
    assert.equal(host.vms.findVm(a)!.state, 'destroyed')
    assert.equal(await host.provisioner.status(b), 'running')
  })

  test('without execute only says what it would do', async t => {
    const host = await makeHost(t, { [a]: 1 })
    host.pass(2)
    const before = host.agent.snapshot()
    assert.deepEqual(await host.collect({ execute: false }), { ...nothing, suspended: [a] })
    assert.equal(host.agent.snapshot(), before)
    assert.equal(host.vms.findVm(a)!.state, 'active')
  })

  test('a clock that jumped ahead takes nobody’s VM', async t => {
    const host = await makeHost(t, { [a]: 1 })
    host.jump(1000)
    assert.deepEqual(await host.collect(), nothing)
    assert.equal(host.vms.findVm(a)!.state, 'active')
  })

  test('a clock that went back only delays', async t => {
    const host = await makeHost(t, { [a]: 1 })
    host.pass(2)
    host.jump(-10)
    assert.deepEqual(await host.collect(), nothing)
    host.jump(10)
    assert.deepEqual(await host.collect(), { ...nothing, suspended: [a] })
  })

  test('an extension on chain that nobody told the database saves the VM, and is told to it', async t => {
    const host = await makeHost(t, { [a]: 1 })
    host.pass(2)
    host.expiries.set(a, start + 30 * day)
    assert.deepEqual(await host.collect(), { ...nothing, extended: [a] })
    assert.equal(host.vms.findVm(a)!.expiresAt, start + 30 * day)
    assert.equal(await host.provisioner.status(a), 'running')
  })

  test('an extension between decision and mark saves the VM', async t => {
    const host = await makeHost(t, { [a]: 1, [b]: 1 })
    host.pass(2)
    const list = host.provisioner.list
    // The database is told while the first VM is being suspended.
    host.provisioner.suspend = async name => {
      host.vms.setExpiry(name === a ? b : a, start + 50 * day)
    }
    const { suspended, extended } = await host.collect()
    assert.equal(suspended.length, 1)
    assert.equal(extended.length, 1)
    assert.equal((await list()).filter(({ power }) => power === 'running').length, 2)
  })

  test('a VM that was half gone when looked at, and made anew since, is left alone', async t => {
    const host = await makeHost(t, { [a]: 100, [b]: 1 })
    host.pass(20)
    host.vms.markDestroying(a)
    // While another VM is dealt with, somebody ends the first one and makes it anew.
    const suspendVm = host.provisioner.suspend
    host.provisioner.suspend = async name => {
      host.vms.markDestroyed(a)
      host.vms.reserveVm({ name: a, ownerWallet: `0x${'11'.repeat(20)}`, expiresAt: start + 100 * day })
      host.vms.markActive(a)
      await suspendVm(name)
    }
    const before = host.agent.leftovers(a)
    assert.deepEqual(await host.collect(), { ...nothing, suspended: [b], extended: [a] })
    assert.deepEqual(host.agent.leftovers(a), before)
    assert.equal(await host.provisioner.status(a), 'running')
  })

  test('a VM that another process is taking away is left to it', async t => {
    const alive = new Set(['engine', 'vm-gc'])
    const program = { self: 'engine', isAlive: (name: string) => alive.has(name) }
    const host = await makeHost(t, { [a]: 1 }, program)
    host.pass(20)
    host.vms.markDestroying(a)
    program.self = 'vm-gc'
    assert.deepEqual(await host.collect(), nothing)
    assert.equal(await host.provisioner.status(a), 'running')
    alive.delete('engine')
    assert.deepEqual(await host.collect(), { ...nothing, destroyed: [a] })
  })

  test('does nothing at all when the chain can not be read', async t => {
    const host = await makeHost(t, { [a]: 1 })
    host.pass(2)
    const error = new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message: 'no endpoint answers', retryable: true })
    await assert.rejects(
      host.collect({}, () => Promise.reject(error)),
      error,
    )
    assert.equal(host.vms.findVm(a)!.state, 'active')
  })

  const rounds = {
    suspension: { days: [2], left: ['disk', 'seed', 'domain'], state: 'suspended' },
    end: { days: [2, 10], left: [], state: 'destroyed' },
  } as const
  for (const [what, { days, left, state }] of Object.entries(rounds))
    test(`${what}: whichever call fails, or loses its answer, the next run ends it; paid VMs are untouched`, async t => {
      const makeError = () => new BlockHostError({ code: 'BH_SOCKET_TIMEOUT', message: 'no answer', retryable: true })
      const tried = await atEveryCall(makeError, async point => {
        const host = await makeHost(t, { [a]: 1, [b]: 1, [paid]: 100 })
        for (const [index, time] of days.entries()) {
          host.pass(time)
          if (index < days.length - 1) await host.collect()
        }
        const call = host.agent.call
        const writes = ['markSuspended', 'markDestroying', 'markDestroyed', 'setExpiry'] as const
        host.agent.call = point.wrap(host.agent, ['call']).call
        const vms = point.when === 'before' ? point.wrap(host.vms, writes) : host.vms
        const first = await host.collect({ vms }).catch(error => assert.equal(error, point.error))
        // One VM that fails does not keep the other.
        if (point.struck() !== undefined && first !== undefined) assert.equal(first.failed.length, 1)
        host.agent.call = call
        await host.collect()
        for (const name of [a, b]) {
          assert.deepEqual(host.agent.leftovers(name), left)
          assert.equal(await host.provisioner.status(name), state === 'destroyed' ? 'absent' : 'stopped')
          assert.equal(host.vms.findVm(name)!.state, state)
        }
        assert.deepEqual(host.agent.leftovers(paid), ['disk', 'seed', 'domain', 'network'])
        assert.equal(await host.provisioner.status(paid), 'running')
        assert.deepEqual(await host.collect(), nothing, 'never twice')
      })
      assert.ok(tried >= 10, `${tried} failures`)
    })
})
