import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import type { VmPools } from './pools.ts'
import { openVmDatabase } from './vm-database.ts'

const wallet = `0x${'ab'.repeat(20)}`
const pools: VmPools = {
  vmid: { first: 100, last: 199 },
  ipv4: { network: '192.168.122.0/24', gateway: '192.168.122.1', first: '192.168.122.200', last: '192.168.122.250' },
  ipv6: { prefix: '2001:db8::/120' },
}

function open() {
  return openVmDatabase(':memory:', pools, { ...systemClock, now: () => 1_800_000_000_000 })
}

/** As the first generation wrote it. */
const firstGeneration = {
  vms: {
    'blockhost-001': {
      vm_name: 'blockhost-001',
      vmid: 100,
      ip_address: '192.168.122.200',
      ipv6_address: '2001:DB8::0002',
      expires_at: '2026-03-10T12:00:00.123456+00:00',
      owner: 'admin',
      status: 'active',
      created_at: '2026-02-08T12:00:00.000001+00:00',
      purpose: 'subscription',
      wallet_address: '0xABababABABABABABABABABABABABABABABABABab',
    },
    'blockhost-002': {
      vm_name: 'blockhost-002',
      vmid: 101,
      ip_address: '192.168.122.201',
      ipv6_address: null,
      expires_at: '2026-02-10T12:00:00Z',
      owner: 'admin',
      status: 'suspended',
      created_at: '2026-02-08T12:00:00Z',
      purpose: '',
      wallet_address: null,
      suspended_at: '2026-02-10T13:00:00Z',
    },
    old: {
      vm_name: 'old',
      vmid: 100,
      ip_address: '192.168.122.200',
      ipv6_address: null,
      expires_at: '2026-01-10T12:00:00',
      owner: '',
      status: 'destroyed',
      created_at: '2026-01-01T12:00:00Z',
      purpose: '',
      wallet_address: null,
      destroyed_at: '2026-01-20T13:00:00Z',
    },
  },
  next_vmid: 102,
  allocated_ips: ['192.168.122.200', '192.168.122.201', '192.168.122.222'],
  allocated_ipv6: ['2001:db8::2'],
  reserved_nft_tokens: {
    '0': {
      vm_name: 'blockhost-001',
      status: 'minted',
      reserved_at: '2026-02-08T12:00:00Z',
      owner_wallet: wallet,
      minted_at: '2026-02-08T12:01:00Z',
    },
    '1': {
      vm_name: 'blockhost-002',
      status: 'failed',
      reserved_at: '2026-02-08T12:00:00Z',
      failed_at: '2026-02-08T12:01:00Z',
    },
  },
}

/** As the latest generation wrote it: no token map, more keys, and one that is the engine's own. */
const latest = {
  vms: {
    'blockhost-007': {
      vm_name: 'blockhost-007',
      vmid: 0,
      ip_address: '192.168.122.210',
      ipv6_address: '2001:db8::10',
      expires_at: '2026-05-10T12:00:00.000000+00:00',
      owner: wallet,
      status: 'active',
      created_at: '2026-04-10T12:00:00.000000+00:00',
      purpose: '',
      wallet_address: wallet,
      username: 'alice',
      network_mode: 'broker',
      nft_token_id: 7,
      nft_minted: true,
      nft_minted_at: '2026-04-10T12:01:00.000000+00:00',
      gecos_synced: true,
      subscription_id: 7,
    },
  },
  next_vmid: 100,
  allocated_ips: ['192.168.122.210'],
  allocated_ipv6: ['2001:db8::10'],
}

test('import: the first generation’s file, with its tokens', () => {
  const db = open()
  const report = db.importVmsJson(JSON.stringify(firstGeneration))
  assert.deepEqual({ ...report, notes: [] }, { vms: 2, destroyed: 1, tokens: 2, notes: [] })
  assert.deepEqual(report.notes, ['192.168.122.222 were allocated to no VM and are free now'])
  const vm = db.findVm('blockhost-001')!
  assert.deepEqual(
    [vm.state, vm.vmid, vm.ipv6, vm.ownerWallet, vm.nftTokenId, vm.expiresAt],
    ['active', 100, '2001:db8::2', wallet, 0n, Date.UTC(2026, 2, 10, 12, 0, 1) / 1000],
  )
  assert.equal(db.findVm('blockhost-002')!.suspendedAt, Date.UTC(2026, 1, 10, 13) / 1000)
  assert.equal(db.findVm('old')!.state, 'destroyed')
  assert.equal(db.reserveVm({ name: 'new', ownerWallet: wallet, expiresAt: 1 }).vmid, 102)
  assert.equal(db.findVm('new')!.ipv4, '192.168.122.202')
  assert.equal(db.findVm('new')!.ipv6, '2001:db8::3')
  assert.equal(db.reserveNftTokenId('new'), 2n)
})

test('import: the latest generation’s file; an id of 0 is replaced, unknown keys are kept', () => {
  const db = open()
  const report = db.importVmsJson(JSON.stringify(latest))
  assert.deepEqual(report.notes, ['blockhost-007 has VM id 100 in place of 0'])
  const vm = db.findVm('blockhost-007')!
  assert.deepEqual(
    [vm.username, vm.nftTokenId, vm.extra],
    ['alice', 7n, { network_mode: 'broker', gecos_synced: true, subscription_id: 7 }],
  )
})

test('export: what an import of it makes is the same database', () => {
  const db = open()
  db.importVmsJson(JSON.stringify(firstGeneration))
  db.importVmsJson(JSON.stringify(latest))
  db.reserveVm({ name: 'being-made', ownerWallet: wallet, expiresAt: 1 })
  db.markDestroying('blockhost-002')
  const text = db.exportVmsJson()
  const copy = open()
  copy.importVmsJson(text)
  const known = (of: typeof db) =>
    of
      .listVms()
      .filter(vm => vm.state !== 'creating')
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  assert.deepEqual(known(copy), known(db))
  const file = JSON.parse(text)
  assert.deepEqual(Object.keys(file), ['vms', 'next_vmid', 'allocated_ips', 'allocated_ipv6', 'reserved_nft_tokens'])
  assert.equal(file.next_vmid, 104)
  assert.equal(file.vms['blockhost-002'].status, 'suspended')
  assert.equal(file.vms['blockhost-001'].created_at, '2026-02-08T12:00:00.000000+00:00')
  assert.ok(file.allocated_ips.includes('192.168.122.202'), 'addresses of VMs being made are allocated')
})

test('import: nothing happens when two VMs have one address, one NFT, or a field is wrong; all is said at once', () => {
  const db = open()
  const [one, two] = [firstGeneration.vms['blockhost-001'], firstGeneration.vms['blockhost-002']]
  const bad = {
    ...firstGeneration,
    vms: { a: one, b: { ...two, ip_address: one.ip_address, ipv6_address: '2001:db8::2' } },
  }
  assert.throws(
    () => db.importVmsJson(JSON.stringify(bad)),
    /vms\.b: a has 192\.168\.122\.200 too; vms\.b: a has 2001:db8::2 too/,
  )
  const wrong = { vms: { a: { ...one, status: 'running', expires_at: 'soon' } } }
  assert.throws(
    () => db.importVmsJson(JSON.stringify(wrong)),
    /vms\.a\.expires_at: expected an ISO 8601 time; vms\.a\.status/,
  )
  const seven = latest.vms['blockhost-007']
  const twice = { vms: { a: seven, b: { ...seven, ip_address: '192.168.122.211', ipv6_address: null } } }
  assert.throws(() => db.importVmsJson(JSON.stringify(twice)), /vms\.b: a has NFT 7 too/)
  for (const text of ['', '[]', '{"vms":{"../x":{}}}', '{"vms":{"x y":{}}}'])
    assert.throws(() => db.importVmsJson(text), { code: 'BH_VMS_JSON_INVALID' }, text)
  assert.deepEqual(db.listVms(), [])
})

test('import: into a database that has such a VM is refused', () => {
  const db = open()
  db.importVmsJson(JSON.stringify(latest))
  assert.throws(() => db.importVmsJson(JSON.stringify(latest)), { code: 'BH_VMS_JSON_INVALID', exitCode: 78 })
})
