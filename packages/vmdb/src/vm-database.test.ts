import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Clock, systemClock } from '@blockhost/kit/clock.ts'
import fc from 'fast-check'
import type { Processes } from './owner-process.ts'
import type { VmPools } from './pools.ts'
import { openVmDatabase, type VmDatabase } from './vm-database.ts'

const wallet = `0x${'Ab'.repeat(20)}`
const day = 86_400
const pools: VmPools = {
  vmid: { first: 100, last: 199 },
  ipv4: { network: '10.0.0.0/24', gateway: '10.0.0.1', first: '10.0.0.10', last: '10.0.0.19' },
  ipv6: { prefix: '2001:db8::/64' },
  restSeconds: 600,
}

function open(options: { pools?: VmPools; path?: string; processes?: Processes } = {}) {
  let now = 1_800_000_000
  const clock: Clock = { ...systemClock, now: () => now * 1000 }
  const db = openVmDatabase(
    options.path ?? ':memory:',
    options.pools ?? pools,
    clock,
    options.processes === undefined ? {} : { processes: options.processes },
  )
  const pass = (seconds: number) => {
    now += seconds
  }
  return { db, now: () => now, pass }
}

function reserve(db: VmDatabase, name: string, expiresAt = 1_900_000_000) {
  return db.reserveVm({ name, ownerWallet: wallet, expiresAt })
}

function end(db: VmDatabase, name: string) {
  db.markDestroying(name)
  return db.markDestroyed(name)
}

function temporaryPath(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'bh-vmdb-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'vms.db')
}

test('reserveVm: id, IPv4, IPv6 and Ethernet address come together', () => {
  const { db, now } = open()
  const vm = reserve(db, 'blockhost-005')
  assert.deepEqual(vm, {
    name: 'blockhost-005',
    vmid: 100,
    state: 'creating',
    mac: '52:54:0a:00:00:0a',
    ipv4: '10.0.0.10',
    ipv6: '2001:db8::105',
    ownerWallet: wallet.toLowerCase(),
    owner: wallet.toLowerCase(),
    username: 'admin',
    purpose: '',
    machineId: 'blockhost-005',
    expiresAt: 1_900_000_000,
    createdAt: now(),
    suspendedAt: undefined,
    destroyedAt: undefined,
    nftTokenId: undefined,
    nftMintedAt: undefined,
    extra: {},
  })
  assert.deepEqual(db.findVm('blockhost-005'), vm)
})

test('reserveVm: other names get IPv6 addresses beyond those of subscriptions; a small prefix is numbered from its pool', () => {
  assert.equal(reserve(open().db, 'web').ipv6, '2001:db8::100:0:0')
  const small = open({ pools: { ...pools, ipv6: { prefix: '2001:db8::/120', first: 2, last: 3 } } }).db
  assert.deepEqual(
    ['blockhost-005', 'web'].map(name => reserve(small, name).ipv6),
    ['2001:db8::2', '2001:db8::3'],
  )
  const { ipv6, ...without } = pools
  assert.equal(reserve(open({ pools: without }).db, 'web').ipv6, undefined)
})

test('reserveVm: an exhausted pool takes nothing from the others', () => {
  const { db } = open()
  for (let n = 0; n < 10; n++) reserve(db, `vm-${n}`)
  assert.throws(() => reserve(db, 'one-more'), { code: 'BH_VM_POOL_EXHAUSTED', retryable: true })
  assert.equal(db.findVm('one-more'), undefined)
  end(db, 'vm-3')
  assert.equal(db.allocateVmid(), 110)
})

test('reserveVm: a name that lives is refused, in the interrupted create of the same process it is taken up again', () => {
  const { db } = open()
  const vm = reserve(db, 'web')
  assert.deepEqual(reserve(db, 'web'), vm)
  const stranger = { name: 'web', ownerWallet: `0x${'cd'.repeat(20)}`, expiresAt: 1 }
  assert.throws(() => db.reserveVm(stranger), { code: 'BH_VM_EXISTS' })
  db.markActive('web')
  assert.throws(() => reserve(db, 'web'), { code: 'BH_VM_EXISTS' })
})

test('reserveVm, reapAbandoned: a VM that another process makes is its own while that runs', t => {
  const path = temporaryPath(t)
  const alive = new Set(['one', 'two'])
  const as = (self: string) => open({ path, processes: { self, isAlive: id => alive.has(id) } }).db
  const one = as('one')
  const two = as('two')
  const vm = reserve(one, 'web')
  assert.throws(() => reserve(two, 'web'), { code: 'BH_VM_BUSY', retryable: true })
  assert.deepEqual(two.reapAbandoned(), [])
  alive.delete('one')
  assert.deepEqual(reserve(two, 'web'), vm)
  alive.delete('two')
  assert.deepEqual(
    one.reapAbandoned().map(({ name, state }) => [name, state]),
    [['web', 'destroying']],
  )
  assert.equal(one.reapAbandoned().length, 0)
})

test('markDestroying: one process takes a VM away at a time; when it is gone, another goes on', t => {
  const path = temporaryPath(t)
  const alive = new Set(['one', 'two'])
  const as = (self: string) => open({ path, processes: { self, isAlive: id => alive.has(id) } }).db
  const one = as('one')
  const two = as('two')
  reserve(one, 'web')
  assert.throws(() => two.markDestroying('web'), { code: 'BH_VM_BUSY', retryable: true })
  one.markActive('web')
  const marked = one.markDestroying('web')
  assert.deepEqual(one.markDestroying('web'), marked, 'twice by the same')
  assert.throws(() => two.markDestroying('web'), { code: 'BH_VM_BUSY', retryable: true })
  alive.delete('one')
  two.markDestroying('web')
  alive.add('one')
  assert.throws(() => one.markDestroying('web'), { code: 'BH_VM_BUSY', retryable: true })
  two.markDestroyed('web')
  assert.equal(reserve(one, 'web').state, 'creating')
})

test('numbers rest: the same name has them again at once, others when they have rested', () => {
  const { db, pass } = open({ pools: { ...pools, vmid: { first: 100, last: 101 } } })
  reserve(db, 'a')
  reserve(db, 'b')
  end(db, 'a')
  assert.throws(() => reserve(db, 'c'), { code: 'BH_VM_POOL_EXHAUSTED' })
  const again = reserve(db, 'a')
  assert.deepEqual([again.vmid, again.ipv4], [100, '10.0.0.10'])
  end(db, 'a')
  pass(599)
  assert.throws(() => reserve(db, 'c'), { code: 'BH_VM_POOL_EXHAUSTED' })
  pass(1)
  assert.deepEqual([reserve(db, 'c').vmid, db.findVm('c')!.ipv4], [100, '10.0.0.10'])
})

test('states: only the allowed ways, and each step twice is fine', () => {
  const { db } = open()
  reserve(db, 'web')
  assert.throws(() => db.markSuspended('web'), { code: 'BH_VM_STATE' })
  assert.throws(() => db.markDestroyed('web'), { code: 'BH_VM_STATE' })
  const active = db.markActive('web')
  assert.deepEqual(db.markActive('web'), active)
  assert.throws(() => db.markDestroyed('web'), { code: 'BH_VM_STATE' })
  const suspended = db.markSuspended('web')
  assert.notEqual(suspended.suspendedAt, undefined)
  assert.deepEqual(db.markSuspended('web'), suspended)
  assert.equal(db.markActive('web', { expiresAt: 5 }).suspendedAt, undefined)
  assert.equal(db.findVm('web')!.expiresAt, 5)
  db.markDestroying('web')
  assert.throws(() => db.markActive('web'), { code: 'BH_VM_STATE' })
  const gone = db.markDestroyed('web')
  assert.deepEqual(db.markDestroyed('web'), gone)
  for (const change of [db.markActive, db.markSuspended, db.markDestroying])
    assert.throws(() => change('web'), { code: 'BH_VM_STATE' })
  assert.throws(() => db.setExpiry('web', 9), { code: 'BH_VM_STATE' })
  assert.throws(() => db.markActive('nobody'), { code: 'BH_VM_NOT_FOUND' })
})

test('vmsToSuspend: past expiry, not at it; an extension that comes in between wins', () => {
  const { db } = open()
  reserve(db, 'web', 1000)
  assert.deepEqual(db.vmsToSuspend(5000), [])
  db.markActive('web')
  assert.deepEqual(db.vmsToSuspend(1000), [])
  assert.deepEqual(
    db.vmsToSuspend(1001).map(vm => vm.name),
    ['web'],
  )
  db.setExpiry('web', 2000)
  assert.throws(() => db.markSuspended('web', { expiredAt: 1001 }), { code: 'BH_VM_NOT_EXPIRED' })
  assert.equal(db.markSuspended('web', { expiredAt: 2001 }).state, 'suspended')
})

test('vmsToDestroy: when the grace has passed since suspension and since expiry', () => {
  const { db, now } = open()
  reserve(db, 'web', 1000)
  db.markActive('web')
  db.markSuspended('web')
  const suspendedAt = now()
  assert.deepEqual(db.vmsToDestroy(suspendedAt + 7 * day, 7), [])
  assert.equal(db.vmsToDestroy(suspendedAt + 7 * day + 1, 7).length, 1)
  db.setExpiry('web', suspendedAt + day)
  assert.deepEqual(db.vmsToDestroy(suspendedAt + 7 * day + 1, 7), [])
  assert.equal(db.vmsToDestroy(suspendedAt + 8 * day + 1, 7).length, 1)
})

test('tokens: reserved in sequence, failed ones never again; the receipt decides', () => {
  const { db } = open()
  for (const name of ['a', 'b', 'c']) reserve(db, name)
  assert.deepEqual([db.reserveNftTokenId('a'), db.reserveNftTokenId('a'), db.reserveNftTokenId('b')], [0n, 0n, 1n])
  db.markNftFailed(1n)
  assert.equal(db.reserveNftTokenId('b'), 2n)
  assert.throws(() => db.reserveNftTokenId('c', 1), { code: 'BH_NFT_TOKEN_TAKEN' })
  const vm = db.markNftMinted('b', 5n, wallet)
  assert.equal(vm.nftTokenId, 5n)
  assert.deepEqual(db.markNftMinted('b', 5n, wallet), vm)
  assert.equal(db.findNftToken(2), undefined)
  assert.equal(db.findNftToken(5)?.status, 'minted')
  assert.throws(() => db.markNftMinted('c', 5n, wallet), { code: 'BH_NFT_TOKEN_TAKEN' })
  assert.throws(() => db.markNftFailed(5n), { code: 'BH_NFT_TOKEN_MINTED' })
  assert.throws(() => db.markNftFailed(77n), { code: 'BH_NFT_TOKEN_NOT_FOUND' })
  assert.equal(db.markNftMinted('c', 1n, wallet).nftTokenId, 1n)
})

test('allocateVmid: held until it is released', () => {
  const { db } = open({ pools: { ...pools, vmid: { first: 100, last: 101 } } })
  assert.deepEqual([db.allocateVmid(), db.allocateVmid()], [100, 101])
  assert.throws(() => db.allocateVmid(), { code: 'BH_VM_POOL_EXHAUSTED' })
  db.releaseVmid(100)
  db.releaseVmid(100)
  assert.equal(reserve(db, 'web').vmid, 100)
})

test('other pools: VMs keep what they have, and what they have is not handed out', t => {
  const path = temporaryPath(t)
  const before = open({ path }).db
  reserve(before, 'a')
  reserve(before, 'b')
  before.close()
  const moved: VmPools = {
    ...pools,
    ipv4: { network: '10.0.0.0/22', gateway: '10.0.0.1', first: '10.0.0.11', last: '10.0.0.13' },
    ipv6: { prefix: '2001:db8:1::/64' },
  }
  const { db } = open({ path, pools: moved })
  assert.equal(db.findVm('a')!.ipv4, '10.0.0.10')
  assert.deepEqual([reserve(db, 'c').ipv4, reserve(db, 'd').ipv4], ['10.0.0.12', '10.0.0.13'])
  assert.equal(db.findVm('c')!.ipv6, '2001:db8:1::100:0:0')
  end(db, 'a')
  assert.throws(() => reserve(db, 'e'), { code: 'BH_VM_POOL_EXHAUSTED' })
})

test('input: names, wallets and times are checked', () => {
  const { db } = open()
  for (const name of ['', '-x', 'a b', 'a\n', '../x', 'x'.repeat(64)])
    assert.throws(() => reserve(db, name), { code: 'BH_VM_INPUT_INVALID' }, JSON.stringify(name))
  assert.throws(() => db.reserveVm({ name: 'x', ownerWallet: '0x12', expiresAt: 1 }), { code: 'BH_VM_INPUT_INVALID' })
  for (const expiresAt of [-1, 1.5, Number.NaN])
    assert.throws(() => reserve(db, 'x', expiresAt), { code: 'BH_VM_INPUT_INVALID' })
  assert.equal(reserve(db, 'x', 2 ** 60).expiresAt, Number.MAX_SAFE_INTEGER)
})

test('any order of calls: no two living VMs share a number, and nothing is lost when all are gone', () => {
  const steps = fc.array(fc.record({ what: fc.constantFrom('reserve', 'end', 'wait'), who: fc.nat(14) }), {
    maxLength: 60,
  })
  fc.assert(
    fc.property(steps, operations => {
      const { db, pass } = open({ pools: { ...pools, ipv6: { prefix: '2001:db8::/124' } } })
      for (const { what, who } of operations) {
        if (what === 'wait') pass(who * 100)
        else if (what === 'reserve') ignore('BH_VM_POOL_EXHAUSTED', () => reserve(db, `vm-${who}`))
        else ignore('BH_VM_NOT_FOUND', () => db.findVm(`vm-${who}`)?.state !== 'destroyed' && end(db, `vm-${who}`))
        const living = db.listVms().filter(vm => vm.state !== 'destroyed')
        for (const key of ['name', 'vmid', 'ipv4', 'ipv6', 'mac'] as const)
          assert.equal(new Set(living.map(vm => vm[key])).size, living.length, key)
      }
      for (const vm of db.listVms()) if (vm.state !== 'destroyed') end(db, vm.name)
      pass(600)
      for (let n = 0; n < 10; n++) reserve(db, `new-${n}`)
    }),
    { numRuns: 60 },
  )
})

function ignore(code: string, work: () => unknown): void {
  try {
    work()
  } catch (error) {
    assert.equal((error as { code?: string }).code, code)
  }
}
