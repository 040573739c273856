import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { createFakeProvisioner } from '@blockhost/testkit/fake-provisioner.ts'
import type { VmState } from '@blockhost/vmdb/vm.ts'
import { comparePower } from './power.ts'
import { openStore } from './store.ts'
import { type State, vmNameOf } from './subscription.ts'

const clock: Clock = { now: () => 1_000, monotonic: () => 0, sleep: async () => undefined }

async function world(powers: Readonly<Record<number, readonly [State, 'running' | 'stopped' | 'absent']>>) {
  const store = openStore(':memory:', clock)
  const provisioner = createFakeProvisioner()
  for (const [key, [state, power]] of Object.entries(powers)) {
    const id = BigInt(key)
    const view = {
      id,
      subscriber: '0xabababababababababababababababababababab',
      planId: 1,
      expiresAt: 9,
      purchaseBlock: 1n,
    } as const
    store.add({ ...view, cancelled: false, planActive: true, planRenewable: true }, 1n)
    store.change(id, { state })
    if (power === 'absent') continue
    const ipv4 = { address: `10.0.0.${key}`, prefixLength: 24, gateway: '10.0.0.254' }
    const size = { vcpus: 1, memoryMiB: 1, diskGiB: 1, userData: '' }
    await provisioner.create({ ...size, name: vmNameOf(id), vmid: Number(key), mac: `m${key}`, ipv4, ipv6: undefined })
    if (power === 'stopped') provisioner.cutPower(vmNameOf(id))
  }
  const busy = new Set<bigint>()
  const known = new Map<bigint, VmState>(Object.keys(powers).map(key => [BigInt(key), 'active']))
  const compare = () =>
    comparePower({ store, provisioner, log: silentLog, isBusy: id => busy.has(id), vmState: id => known.get(id) })
  return { store, provisioner, compare, busy, known, state: (id: bigint) => store.find(id)!.state }
}

describe('comparePower', () => {
  it('starts what is paid and off, stops what is not paid and on, leaves the rest alone', async () => {
    const { compare, state, store } = await world({
      1: ['live', 'stopped'],
      2: ['suspended', 'running'],
      3: ['live', 'running'],
      4: ['suspended', 'stopped'],
      5: ['ending', 'stopped'],
      6: ['minting', 'stopped'],
    })
    assert.equal(await compare(), 3)
    assert.deepEqual([1n, 2n, 3n, 4n, 5n, 6n].map(state), [
      'resuming',
      'suspending',
      'live',
      'suspended',
      'ending',
      'resuming',
    ])
    assert.equal(await compare(), 0)
    assert.equal(store.find(1n)?.errorCode, 'BH_VM_OFF')
    assert.equal(store.countProblems().failing, 0)
  })

  it('tells of a VM that is gone, makes nothing anew, and takes it back when the VM is there', async () => {
    const { compare, store, provisioner } = await world({ 1: ['live', 'absent'] })
    await compare()
    assert.deepEqual([store.find(1n)?.state, store.find(1n)?.errorCode], ['live', 'BH_VM_LOST'])
    const ipv4 = { address: '10.0.0.1', prefixLength: 24, gateway: '10.0.0.254' }
    const size = { vcpus: 1, memoryMiB: 1, diskGiB: 1, userData: '' }
    await provisioner.create({ ...size, name: 'blockhost-001', vmid: 1, mac: 'm', ipv4, ipv6: undefined })
    await compare()
    assert.equal(store.find(1n)?.errorCode, undefined)
  })

  it('makes anew what is paid, and ends what is not, where the VM database says that it was taken away', async () => {
    const { compare, known, state, store } = await world({ 1: ['live', 'absent'], 2: ['suspended', 'absent'] })
    known.clear()
    assert.equal(await compare(), 2)
    assert.deepEqual([state(1n), state(2n)], ['resuming', 'ending'])
    assert.deepEqual([store.find(2n)?.reason, store.find(2n)?.error], ['expired', undefined])
  })

  it('leaves alone what a step is working on', async () => {
    const { compare, busy, state } = await world({ 1: ['live', 'stopped'] })
    busy.add(1n)
    assert.equal(await compare(), 0)
    assert.equal(state(1n), 'live')
  })
})
