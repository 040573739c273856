import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { hexToBytes } from '@blockhost/chain/hex.ts'
import { decryptAccessData } from '@blockhost/crypto/access-data.ts'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { assemble } from '@blockhost/engine/daemon.ts'
import type { Subscription } from '@blockhost/engine/subscription.ts'
import { type Clock, systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { createFakeProvisioner } from '@blockhost/testkit/fake-provisioner.ts'
import { testWallet } from '@blockhost/testkit/wallet.ts'
import { daySeconds, type EngineField, openEngine, startEngineField } from './engine/field.ts'

const limit = { timeout: 60_000 }
const [alice, bob, carol] = [testWallet(100), testWallet(101), testWallet(102)]

describe('engine', () => {
  let base: EngineField
  before(async () => {
    base = await startEngineField()
    await base.equip([alice, bob, carol])
    await base.keep()
  }, limit)
  after(() => base[Symbol.asyncDispose]())

  it('serves a purchase: VM, sealed token, bound guest, exact expiry', limit, async () => {
    await using field = await base.again()
    await field.buy(alice)
    await using living = openEngine(field)
    await living.until('alice is served', () => living.store.find(1n)?.state === 'live')
    const row = living.store.find(1n)!
    assert.equal(row.tokenId, 0n)
    assert.equal(await field.tokenOwner(0n), alice.address.toLowerCase())
    assert.match(
      living.provisioner.describe(),
      /^blockhost-001 running 10\.90\.0\.\d+ 2001:db8:1::101 routed admin=nft 0$/,
    )
    const { userEncrypted, publicSecret } = await field.accessData(0n)
    const key = hexToBytes(signMessage(publicSecret, alice.privateKey))
    const details = new TextDecoder().decode(decryptAccessData(key, hexToBytes(userEncrypted)))
    assert.deepEqual(JSON.parse(details), { hostname: '2001:db8:1::101', port: 22, username: 'admin' })
    const vm = living.vms.findVm('blockhost-001')!
    assert.deepEqual(
      [vm.state, vm.expiresAt, vm.nftTokenId, vm.ownerWallet],
      ['active', await field.expiryOf(1n), 0n, alice.address.toLowerCase()],
    )
    const { vcpus, memoryMiB, diskGiB } = living.provisioner.vms.get('blockhost-001')!.spec
    assert.deepEqual({ vcpus, memoryMiB, diskGiB }, { vcpus: 2, memoryMiB: 1024, diskGiB: 8 })
  })

  it('serves what was bought while it was down, each once, however often it is started', limit, async () => {
    await using field = await base.again()
    for (const buyer of [alice, bob, alice]) await field.buy(buyer)
    await field.anvil.mine(100)
    await field.buy(carol)
    const hypervisor = createFakeProvisioner()
    for (let start = 0; start < 3; start++) {
      await using living = openEngine(field, hypervisor)
      await living.until('all are served', () => living.store.countByState().live === 4)
      await living.engine.turn()
    }
    assert.equal(hypervisor.vms.size, 4)
    assert.equal(await field.totalTokens(), 4n)
    assert.equal(hypervisor.calls.filter(({ method }) => method === 'create').length, 4)
  })

  it('is cut off from the chain, and catches up', limit, async () => {
    await using field = await base.again()
    await using living = openEngine(field)
    await living.engine.turn()
    field.proxy.setFault(() => ({ kind: 'status', status: 503 }))
    await field.buy(alice)
    await living.engine.turn()
    assert.match(living.engine.status().problems.join(), /the chain could not be read/)
    field.proxy.setFault()
    await living.until('alice is served', () => living.store.find(1n)?.state === 'live')
    assert.deepEqual(living.engine.status().problems, [])
  })

  it('goes on where answers get lost: a mint whose answer never came is not minted again', limit, async () => {
    await using field = await base.again()
    await field.buy(alice)
    await using living = openEngine(field)
    let lost = 0
    field.proxy.setFault(methods => {
      if (!methods.includes('eth_sendRawTransaction') || lost > 2) return undefined
      lost += 1
      return { kind: 'drop-after' }
    })
    await living.until('alice is served', () => living.store.find(1n)?.state === 'live')
    assert.ok(lost > 0)
    assert.equal(await field.totalTokens(), 1n)
  })

  it('a failing create is told, tried again, and holds up nobody', limit, async () => {
    await using field = await base.again()
    for (const buyer of [alice, bob, carol]) await field.buy(buyer)
    await using living = openEngine(field)
    const { provisioner, store } = living
    let failures = 0
    provisioner.setFault(({ method, name }) => {
      if (method !== 'create' || name !== 'blockhost-001' || failures === 2) return undefined
      failures += 1
      const message = 'The disk is full'
      return { fail: new BlockHostError({ code: 'BH_DISK_FULL', message, retryable: true }) }
    })
    await living.until('the others are served', () => store.countByState().live === 2)
    const row = store.find(1n)!
    assert.deepEqual([row.state, row.errorCode, row.error], ['creating', 'BH_DISK_FULL', 'The disk is full'])
    await living.until('alice is served', () => store.find(1n)?.state === 'live')
    assert.equal(failures, 2)
    assert.deepEqual([store.find(1n)!.error, store.find(1n)!.attempts], [undefined, 0])
  })

  it('makes three VMs at a time, and one that hangs holds up nobody', limit, async () => {
    await using field = await base.again()
    for (let i = 0; i < 7; i++) await field.buy(alice)
    await using living = openEngine(field)
    const { provisioner, store } = living
    const { promise: hanging, resolve: release } = Promise.withResolvers<void>()
    provisioner.setFault(({ method, name }) => {
      if (method !== 'create') return undefined
      return name === 'blockhost-002' ? hanging : { delayMs: 20 }
    })
    await living.until('the others are served', () => store.countByState().live === 6)
    assert.equal(store.find(2n)?.state, 'creating')
    assert.equal(provisioner.creating.most, 3)
    release()
    await living.until('all are served', () => store.countByState().live === 7)
  })

  it(
    "extension: the chain's expiry to the second; expiry: suspended, resumed when paid, destroyed when not",
    limit,
    async () => {
      await using field = await base.again()
      await field.buy(alice, { days: 1 })
      await using living = openEngine(field)
      const { store, vms, provisioner } = living
      await living.until('alice is served', () => store.find(1n)?.state === 'live')
      await field.extend(1n, 3)
      const extended = await field.expiryOf(1n)
      await living.until('the extension arrives', () => vms.findVm('blockhost-001')?.expiresAt === extended)
      await field.passTo(extended - 1)
      await living.engine.turn()
      await living.engine.idle()
      assert.equal(store.find(1n)?.state, 'live', 'not a second early')
      await field.passTo(extended)
      await living.until('it is suspended', () => store.find(1n)?.state === 'suspended')
      assert.match(provisioner.describe(), /blockhost-001 stopped .* no route/)
      assert.equal(vms.findVm('blockhost-001')?.state, 'suspended')
      await field.extend(1n, 1)
      const renewed = await field.expiryOf(1n)
      await living.until('it is resumed', () => store.find(1n)?.state === 'live')
      assert.match(provisioner.describe(), /blockhost-001 running .* routed admin=nft 0/)
      assert.equal(vms.findVm('blockhost-001')?.expiresAt, renewed)
      await field.passTo(renewed)
      await living.until('it is suspended again', () => store.find(1n)?.state === 'suspended')
      await field.passTo(renewed + 7 * daySeconds - 1)
      await living.engine.turn()
      await living.engine.idle()
      assert.equal(store.find(1n)?.state, 'suspended', 'the whole grace')
      await field.passTo(renewed + 7 * daySeconds)
      await living.until('it is destroyed', () => store.find(1n)?.state === 'ended')
      assert.equal(provisioner.describe(), '')
      assert.equal(vms.findVm('blockhost-001')?.state, 'destroyed')
      await field.extend(1n, 1)
      await living.until('paid after its end, it is served again', () => store.find(1n)?.state === 'live')
      assert.match(provisioner.describe(), /blockhost-001 running .* admin=nft 0/)
      assert.equal(await field.totalTokens(), 1n)
    },
  )

  it('cancelled: destroyed, and the next buyer is not', limit, async () => {
    await using field = await base.again()
    for (const buyer of [alice, bob]) await field.buy(buyer)
    await using living = openEngine(field)
    await living.until('both are served', () => living.store.countByState().live === 2)
    await field.cancel(1n)
    await living.until('the first is gone', () => living.store.find(1n)?.state === 'ended')
    assert.deepEqual([...living.provisioner.vms.keys()], ['blockhost-002'])
    assert.equal(living.store.find(1n)?.reason, 'cancelled')
  })

  it('transfer: the VM has the new owner, also while it is suspended', limit, async () => {
    await using field = await base.again()
    await field.buy(alice, { days: 1 })
    await using living = openEngine(field)
    const { store, vms } = living
    await living.until('alice is served', () => store.find(1n)?.state === 'live')
    await field.transferToken(alice, bob.address, 0n)
    const ownerIs = (address: string) => () => vms.findVm('blockhost-001')?.ownerWallet === address.toLowerCase()
    await living.until('bob has it', ownerIs(bob.address))
    await field.passTo(await field.expiryOf(1n))
    await living.until('it is suspended', () => store.find(1n)?.state === 'suspended')
    await field.transferToken(bob, carol.address, 0n)
    await living.until('carol has it', ownerIs(carol.address))
    assert.equal(store.find(1n)?.state, 'suspended')
  })

  it('reorg: what was made for a dropped purchase is undone; what is bought again is served', limit, async () => {
    await using field = await base.again()
    await field.anvil.mine()
    await using living = openEngine(field)
    const { store, provisioner } = living
    await living.engine.turn()
    const before = await field.anvil.snapshot()
    await field.buy(alice)
    await living.until('alice has a VM', () => provisioner.vms.size === 1)
    await living.engine.idle()
    await field.anvil.revert(before)
    await field.buy(bob)
    await field.anvil.mine(12)
    await living.until('bob is served', () => isLive(store.find(1n), bob.address))
    await living.engine.idle()
    assert.deepEqual([...provisioner.vms.keys()], ['blockhost-001'])
    assert.equal(living.vms.findVm('blockhost-001')?.ownerWallet, bob.address.toLowerCase())
    const destroys = provisioner.calls.filter(({ method }) => method === 'destroy').length
    assert.equal(destroys, 1)
  })

  it('reorg: a purchase that is mined again keeps its VM and its token', limit, async () => {
    await using field = await base.again()
    await using living = openEngine(field)
    const { store, provisioner } = living
    await living.engine.turn()
    const before = await field.anvil.snapshot()
    await field.buy(alice)
    await living.until('alice has a VM', () => provisioner.vms.size === 1)
    await living.engine.idle()
    await field.anvil.revert(before)
    await field.anvil.mine(2)
    await living.until('the purchase is gone', () => store.find(1n)?.state === 'dropped')
    await field.buy(alice)
    await living.until('alice is served', () => store.find(1n)?.state === 'live')
    assert.equal(provisioner.calls.filter(({ method }) => method === 'create').length, 1)
    assert.equal(provisioner.calls.filter(({ method }) => method === 'destroy').length, 0)
    assert.equal(await field.totalTokens(), 1n)
    assert.equal(living.vms.findVm('blockhost-001')?.expiresAt, await field.expiryOf(1n))
  })

  it('a buyer without a key gets a VM and a token all the same, and status says what is missing', limit, async () => {
    await using field = await base.again()
    await field.buy(alice, { data: `0x${'ab'.repeat(65)}` })
    await using living = openEngine(field)
    await living.until('alice is served', () => living.store.find(1n)?.state === 'live')
    const row = living.store.find(1n)!
    assert.equal(row.access, 'needs-key')
    assert.match(row.accessProblem!, /publishes the signature itself/)
    assert.deepEqual(await field.accessData(0n), { userEncrypted: '0x', publicSecret: '' })
    assert.equal(living.engine.status().trouble.needsKey, 1)
  })

  it('a host that was restarted: paid VMs are started, expired ones are not', limit, async () => {
    await using field = await base.again()
    await field.buy(alice)
    const hypervisor = createFakeProvisioner()
    {
      await using living = openEngine(field, hypervisor)
      await living.until('alice is served', () => living.store.find(1n)?.state === 'live')
    }
    hypervisor.cutPower('blockhost-001')
    await using living = openEngine(field, hypervisor)
    await living.engine.turn()
    await living.until('it runs', () => hypervisor.vms.get('blockhost-001')?.power === 'running')
    await living.until('it is live', () => living.store.find(1n)?.state === 'live')
  })

  it('tryNow: ends every pause and tries what failed; the signal ends them too', limit, async () => {
    await using field = await base.again()
    const id = await field.buy(alice)
    await using living = openEngine(field)
    const { store } = living
    await living.until('alice is served', () => store.find(id)?.state === 'live')
    store.change(id, { state: 'resuming', error: 'The disk is full', attempts: 12, retryAt: Date.now() + 3_600_000 })
    // No pause of this clock ever ends by itself.
    const sleep: Clock['sleep'] = (ms, signal) =>
      signal === undefined ? systemClock.sleep(ms) : systemClock.sleep(2 ** 30, signal)
    const { vms, provisioner } = living
    const engine = assemble(field.config(), {
      store,
      vms,
      provisioner,
      clock: { ...systemClock, sleep },
      log: silentLog,
    })
    const stop = new AbortController()
    const running = engine.run(stop.signal)
    while (store.find(id)?.state !== 'live') {
      engine.tryNow()
      await systemClock.sleep(20)
    }
    stop.abort()
    await running
    assert.equal(store.find(id)?.error, undefined)
  })

  it('idle: one HTTP round trip a turn', limit, async () => {
    await using field = await base.again()
    await field.buy(alice)
    await using living = openEngine(field)
    await living.until('alice is served', () => living.store.find(1n)?.state === 'live')
    for (let i = 0; i < 3; i++) await living.engine.turn()
    field.proxy.reset()
    for (let i = 0; i < 5; i++) await living.engine.turn()
    assert.equal(field.proxy.roundTrips(), 5)
  })
})

function isLive(row: Subscription | undefined, wallet: string): boolean {
  return row?.state === 'live' && row.subscriber === wallet.toLowerCase()
}
