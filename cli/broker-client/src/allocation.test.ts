import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { parsePrefix } from '@blockhost/net/prefix.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import {
  type Allocation,
  type BrokerContract,
  fileAccess,
  formatAllocation,
  formatContract,
  openAllocationStore,
} from './allocation.ts'
import { parseLease } from './lease.ts'

const folder = mkdtempSync(join(tmpdir(), 'bc-allocation-'))
const path = join(folder, 'broker-allocation.json')
const contractPath = join(folder, 'broker-contract.json')
after(() => rmSync(folder, { recursive: true }))

const brokerKey = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='
const keys = generateKeyPair()
const parsed = parseLease(
  {
    prefix: '2001:db8:1:2::100/120',
    gateway: '2001:db8:1:2::2',
    brokerPubkey: brokerKey,
    brokerEndpoint: '198.51.100.1:51820',
  },
  { expectUpstream: undefined },
)
assert.ok(parsed.ok)
const allocation: Allocation = {
  lease: parsed.value,
  nftContract: '0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512',
  requestId: 7n,
  wgPrivateKey: keys.privateKey,
  wgPublicKey: keys.publicKey,
  allocatedAtMs: Date.UTC(2026, 10, 20, 6, 45, 3, 120),
  brokerWallet: '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266',
}
const contract: BrokerContract = {
  requestsContract: '0x5FbDB2315678afecb367f032d93F642f64180aa3',
  brokerPubkey: `04${'ab'.repeat(64)}`,
  brokerId: 3n,
  expectUpstream: parsePrefix('2001:db8:1:2::/64')!,
}
const store = openAllocationStore(folder, { mode: 0o600 })

function change(over: Record<string, unknown>): void {
  writeFileSync(path, JSON.stringify({ ...JSON.parse(formatAllocation(allocation)), ...over }))
}

describe('broker-allocation.json', () => {
  it('has the keys of the earlier generation, in its spelling', () => {
    assert.equal(
      formatAllocation(allocation),
      `{
  "prefix": "2001:db8:1:2::100/120",
  "gateway": "2001:db8:1:2::2",
  "broker_pubkey": "${brokerKey}",
  "broker_endpoint": "198.51.100.1:51820",
  "nft_contract": "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512",
  "request_id": 7,
  "wg_private_key": "${keys.privateKey}",
  "wg_public_key": "${keys.publicKey}",
  "allocated_at": "2026-11-20T06:45:03.120000+00:00",
  "broker_wallet": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
  "dns_zone": ""
}
`,
    )
  })

  it('is found as saved, and gone when removed', () => {
    assert.equal(store.findAllocation(), undefined)
    store.saveAllocation(allocation)
    assert.deepEqual(store.findAllocation(), { ok: true, value: allocation })
    assert.equal(statSync(path).mode & 0o777, 0o600)
    store.removeAllocation()
    assert.equal(store.findAllocation(), undefined)
  })

  it('is read as the first generation wrote it: without dns_zone, wallet unknown', () => {
    change({ dns_zone: undefined, broker_wallet: '' })
    const found = store.findAllocation()
    assert.ok(found?.ok && found.value.brokerWallet === '' && found.value.lease.dnsZone === '')
  })

  it('is not used when any field that root would act on is not what it should be', () => {
    const changes = [
      { mode: 'manual', broker_node: '', registry: '' },
      { broker_endpoint: '198.51.100.1:51820\nPostUp = id' },
      { broker_pubkey: brokerKey.slice(1) },
      { prefix: '::/0' },
      { gateway: '2001:db8:1:2::101' },
      { wg_private_key: undefined },
      { wg_private_key: `${keys.privateKey}\n` },
      { wg_public_key: brokerKey },
      { request_id: '7' },
      { request_id: -1 },
      { dns_zone: 'a b' },
    ]
    for (const over of changes) {
      change(over)
      assert.equal(store.findAllocation()?.ok, false, JSON.stringify(over))
    }
    for (const text of ['', '[]', 'null', '{', '7']) {
      writeFileSync(path, text)
      assert.equal(store.findAllocation()?.ok, false, text)
    }
  })
})

describe('broker-contract.json', () => {
  it('is found as saved', () => {
    store.saveContract(contract)
    assert.deepEqual(store.findContract(), { ok: true, value: contract })
    assert.deepEqual(Object.keys(JSON.parse(formatContract({ ...contract, expectUpstream: undefined }))), [
      'requests_contract',
      'broker_pubkey',
      'broker_id',
    ])
  })

  it('takes the earlier spellings and refuses what can not be used', () => {
    const plain = JSON.parse(formatContract(contract))
    writeFileSync(
      contractPath,
      JSON.stringify({ ...plain, broker_pubkey: `0x${contract.brokerPubkey.toUpperCase()}`, broker_id: null }),
    )
    assert.deepEqual(store.findContract(), { ok: true, value: { ...contract, brokerId: 0n } })
    for (const over of [{ requests_contract: '0x1' }, { broker_pubkey: 'ab' }, { expect_upstream: 'x' }]) {
      writeFileSync(contractPath, JSON.stringify({ ...plain, ...over }))
      assert.equal(store.findContract()?.ok, false)
    }
  })
})

describe('fileAccess', () => {
  const groups = 'root:x:0:\nblockhosts:x:7:\nblockhost:x:998:alice,bob\n'

  it('gives the group blockhost its read bit where there is one', () => {
    assert.deepEqual(fileAccess(groups, true), { mode: 0o640, gid: 998 })
    assert.deepEqual(fileAccess('root:x:0:\nxblockhost:x:5:\n', true), { mode: 0o600 })
    assert.deepEqual(fileAccess(groups, false), { mode: 0o600 })
  })

  it('is in force on disk, with nothing left beside', {
    skip: process.getuid?.() !== 0 && 'giving a file to another group needs root',
  }, () => {
    const dir = join(folder, 'grouped')
    openAllocationStore(dir, { mode: 0o640, gid: 998 }).saveAllocation(allocation)
    const { mode, gid, uid } = statSync(join(dir, 'broker-allocation.json'))
    assert.deepEqual([mode & 0o777, uid, gid], [0o640, 0, 998])
    assert.deepEqual(readdirSync(dir), ['broker-allocation.json'])
  })
})
