import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { BlockHostError } from '@blockhost/kit/errors.ts'
import fc from 'fast-check'
import { addressbookFile } from './addressbook.ts'
import { adminCommandsFile } from './admin-commands.ts'
import { blockhostConfigFile, planSize } from './blockhost-config.ts'
import { brokerAllocationFile } from './broker-allocation.ts'
import { type ConfigFile, configFolder, findConfigFile, readConfigFile } from './config-folder.ts'
import { dbConfigFile, vmDatabasePath, vmPools } from './db-config.ts'
import { revenueShareFile } from './revenue-share.ts'
import { web3ConfigFile } from './web3-config.ts'

const parse = <T>(file: ConfigFile<T>, text: string): T => file.parse(text, `/etc/blockhost/${file.name}`)
const wallet = `0x${'ab'.repeat(20)}`
const publicKey = `0x04${'12'.repeat(64)}`

test('configFolder: the working folder only with BLOCKHOST_DEV=1', () => {
  assert.equal(configFolder({}, '/home/a'), '/etc/blockhost')
  assert.equal(configFolder({ BLOCKHOST_DEV: '0' }, '/home/a'), '/etc/blockhost')
  assert.equal(configFolder({ BLOCKHOST_DEV: '1' }, '/home/a'), '/home/a/config')
})

test('readConfigFile, findConfigFile: from a folder; only find may miss', t => {
  const folder = mkdtempSync(join(tmpdir(), 'bh-hostconfig-'))
  t.after(() => rmSync(folder, { recursive: true }))
  assert.throws(() => readConfigFile(dbConfigFile, folder), { code: 'BH_FILE_READ_FAILED', exitCode: 78 })
  assert.equal(findConfigFile(brokerAllocationFile, folder), undefined)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'db.yaml'), 'gc_grace_days: 3\n')
  assert.equal(readConfigFile(dbConfigFile, folder).gcGraceDays, 3)
})

test('readConfigFile: a missing file points to its example', t => {
  const folder = mkdtempSync(join(tmpdir(), 'bh-hostconfig-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'web3-defaults.yaml')
  assert.throws(
    () => readConfigFile(web3ConfigFile, folder),
    (error: BlockHostError) => {
      const example = /^Copy (\/.*\/examples\/web3-defaults\.yaml) to /.exec(error.hint ?? '')?.[1]
      assert.match(readFileSync(example!, 'utf8'), /subscription_contract/)
      return error.hint!.includes(` to ${path} and fill it in`)
    },
  )
})

test('the examples: can be used once the placeholders are filled in', () => {
  const example = (name: string) =>
    readFileSync(new URL(`../examples/${name}`, import.meta.url), 'utf8')
      .replaceAll('<0x and 40 hex digits>', wallet)
      .replace('<your endpoint>', 'rpc.example.net')
  const web3 = parse(web3ConfigFile, example('web3-defaults.yaml'))
  assert.deepEqual([web3.rpcUrls, web3.nftContract], [['https://rpc.example.net'], wallet])
  assert.deepEqual(planSize(parse(blockhostConfigFile, example('blockhost.yaml')), 7), {
    vcpus: 1,
    memoryMiB: 1024,
    diskGiB: 10,
  })
  assert.equal(parse(dbConfigFile, example('db.yaml')).gcGraceDays, 7)
  // And with all that is commented out.
  for (const file of [web3ConfigFile, blockhostConfigFile, dbConfigFile] as ConfigFile<unknown>[])
    parse(
      file,
      example(file.name)
        .replace(/^#(?! \S)/gm, '')
        .replace('public_secret: ""', 'public_secret: "x"'),
    )
})

test('db.yaml: the documented file', () => {
  const db = parse(
    dbConfigFile,
    `db_file: /var/lib/blockhost/vms.json
terraform_dir: /var/lib/blockhost/terraform
vmid_range: {start: 100, end: 999}
ip_pool: {network: '192.168.122.0/24', start: 200, end: 250, gateway: '192.168.122.1'}
ipv6_pool: {start: 2, end: 254}
default_expiry_days: 30
gc_grace_days: 7
`,
  )
  assert.deepEqual(vmPools(db, { prefix: '2001:db8::/120' }), {
    vmid: { first: 100, last: 999 },
    ipv4: { network: '192.168.122.0/24', gateway: '192.168.122.1', first: '192.168.122.200', last: '192.168.122.250' },
    ipv6: { prefix: '2001:db8::/120', first: 2, last: 254 },
  })
  assert.equal(vmDatabasePath(db), '/var/lib/blockhost/vms.db')
  assert.ok(Object.isFrozen(db.ipPool))
})

test('db.yaml: later spellings, bounds as text or addresses, networks of other sizes, an empty file', () => {
  const pool = (yaml: string) => parse(dbConfigFile, `ip_pool: ${yaml}\n`).ipPool
  assert.deepEqual(parse(dbConfigFile, 'vmid_pool: {start: "5", end: 6}\n').vmidRange, { start: 5, end: 6 })
  assert.deepEqual(pool('{network: 10.0.0.0/24, start: "200", end: 10.0.0.250, gateway: 10.0.0.1}').first, '10.0.0.200')
  assert.deepEqual(
    pool('{network: 192.168.1.128/25, start: 200, end: 220, gateway: 192.168.1.129}').last,
    '192.168.1.220',
  )
  assert.deepEqual(pool('{network: 192.168.4.0/22, start: 300, gateway: 192.168.4.1}'), {
    network: '192.168.4.0/22',
    gateway: '192.168.4.1',
    first: '192.168.5.44',
    last: '192.168.7.254',
  })
  assert.equal(parse(dbConfigFile, '{}').ipPool.first, '192.168.122.200')
})

test('messages name file, key and what was expected', () => {
  const fails = (file: ConfigFile<unknown>, text: string, message: RegExp) =>
    assert.throws(
      () => parse(file, text),
      (error: Error & { code: string; exitCode: number }) => {
        assert.equal(error.code, 'BH_CONFIG_INVALID')
        assert.equal(error.exitCode, 78)
        assert.ok(error.message.startsWith(`/etc/blockhost/${file.name} can't be used: `))
        assert.match(error.message, message)
        return true
      },
    )
  fails(dbConfigFile, 'gc_grace_days: soon\n', /gc_grace_days: expected a whole number from 0 to 36500/)
  fails(
    dbConfigFile,
    'ip_pool: {network: 10.0.0.0/24, start: 300}\n',
    /ip_pool\.start: expected an address in 10\.0\.0\.0\/24/,
  )
  fails(
    dbConfigFile,
    'ip_pool: {network: 10.0.0.0/24, gateway: 10.1.0.1}\n',
    /ip_pool\.gateway: expected an address in 10\.0\.0\.0\/24/,
  )
  fails(dbConfigFile, 'vmid_range: {start: 9, end: 5}\n', /vmid_range: expected start to be at most end/)
  fails(dbConfigFile, 'db_file: /var/../etc/passwd\n', /db_file: expected an absolute path/)
  fails(dbConfigFile, 'a: 1\na: 2\n', /it is not valid YAML/)
  fails(
    web3ConfigFile,
    `blockchain: {chain_id: 1, rpc_url: "http://x", nft_contract: ${wallet}}\n`,
    /blockchain\.nft_contract/,
  )
  fails(
    web3ConfigFile,
    'blockchain: {chain_id: custom, rpc_url: "file:///x"}\n',
    /chain_id: expected a whole.*rpc_url: expected/,
  )
  fails(blockhostConfigFile, 'admin: {wallet_address: "0x12"}\n', /admin\.wallet_address: expected an address/)
  fails(blockhostConfigFile, 'plans: {gold: {cpu: 1}}\n', /plans/)
  fails(brokerAllocationFile, '{"prefix": "2001:db8::1/64"}', /prefix: expected an IPv6 prefix/)
  fails(addressbookFile, '{"admin": {"address": "0x1"}}', /admin\.address: expected an address/)
  fails(addressbookFile, '{', /it is not valid JSON/)
  fails(
    revenueShareFile,
    '{"enabled": true, "total_percent": 1, "recipients": [{"role": "dev", "percent": 0.4}]}',
    /recipients: expected the shares to add up/,
  )
  fails(
    adminCommandsFile,
    '{"commands": {"x": {"action": "run", "params": {"allowed_ports": [22]}}}}',
    /commands\.x\.action: expected the action "knock"/,
  )
})

test('web3-defaults.yaml: the documented file; contracts may be empty until they are deployed; several endpoints', () => {
  const web3 = parse(
    web3ConfigFile,
    `blockchain: {chain_id: '11155111', rpc_url: 'https://rpc.example', nft_contract: '${wallet}', subscription_contract: '', usdc_address: null}
auth: {otp_length: 6, otp_ttl_seconds: 300, public_secret: 'blockhost-access'}
signing_page: {html_path: '/usr/share/libpam-web3-tools/signing-page/index.html'}
deployer: {private_key_file: '/etc/blockhost/deployer.key'}
server: {public_key: '${publicKey}'}
`,
  )
  assert.deepEqual(
    [web3.chainId, web3.rpcUrls, web3.nftContract, web3.subscriptionContract, web3.usdcAddress, web3.serverPublicKey],
    [11155111, ['https://rpc.example'], wallet, undefined, undefined, publicKey],
  )
  const several = parse(
    web3ConfigFile,
    'blockchain: {chain_id: 1, rpc_url: ["https://a.example", "wss://b.example"]}\n',
  )
  assert.deepEqual(several.rpcUrls, ['https://a.example', 'wss://b.example'])
})

test('blockhost.yaml: the documented file; plan sizes', () => {
  const config = parse(
    blockhostConfigFile,
    `server: {address: '${wallet}', key_file: '/etc/blockhost/server.key'}
deployer: {key_file: '/etc/blockhost/deployer.key'}
proxmox: {node: pve, storage: local-lvm, bridge: vmbr0}
server_public_key: '${publicKey}'
public_secret: 'blockhost-access'
admin: {wallet_address: '${wallet}', max_command_age: 300, destination_mode: 'self'}
fund_manager: {min_withdrawal_usd: 0}
plans: {default: {memory: 1024}, 2: {cpu: 4, memory: 8192, disk: 80}}
`,
  )
  assert.equal(config.admin?.destinationMode, 'self')
  assert.equal(config.fundManager.minWithdrawalUsd, 0)
  assert.equal(config.fundManager.fundCycleIntervalHours, 24)
  assert.deepEqual(planSize(config, 2n), { vcpus: 4, memoryMiB: 8192, diskGiB: 80 })
  assert.deepEqual(planSize(config, 1n), { vcpus: 1, memoryMiB: 1024, diskGiB: 20 })
  assert.deepEqual(planSize(parse(blockhostConfigFile, '{}'), 1n), { vcpus: 1, memoryMiB: 2048, diskGiB: 20 })
})

test('broker-allocation.json: a lease, and the wizard’s manual mode; the private key is not passed on', () => {
  const lease = parse(
    brokerAllocationFile,
    JSON.stringify({
      prefix: '2001:DB8:0::/64',
      gateway: '2001:db8::1',
      broker_pubkey: 'k',
      broker_endpoint: 'b:51820',
      nft_contract: wallet,
      request_id: 4,
      wg_private_key: 'secret',
      broker_wallet: wallet,
      dns_zone: '',
    }),
  )
  assert.deepEqual(
    [lease.prefix, lease.hostAddress, lease.mode, lease.brokerWallet, lease.dnsZone],
    ['2001:db8::/64', '2001:db8::1', 'broker', wallet, undefined],
  )
  assert.ok(!JSON.stringify(lease).includes('secret'))
  const manual = parse(
    brokerAllocationFile,
    '{"prefix": "2001:db8::/56", "broker_node": "", "registry": "", "mode": "manual"}',
  )
  assert.equal(manual.mode, 'manual')
})

test('addressbook.json, revenue-share.json, admin-commands.json: the documented files', () => {
  const book = parse(
    addressbookFile,
    JSON.stringify({ admin: { address: wallet }, server: { address: wallet, keyfile: '/etc/blockhost/deployer.key' } }),
  )
  assert.equal(book.server?.keyfile, '/etc/blockhost/deployer.key')
  const share = {
    enabled: true,
    total_percent: 1,
    recipients: ['dev', 'broker', 'x'].map(role => ({ role, percent: 0.3333 })),
  }
  assert.deepEqual(parse(revenueShareFile, JSON.stringify(share)), {
    enabled: true,
    totalPpm: 10_000,
    recipients: ['dev', 'broker', 'x'].map(role => ({ role, ppm: 3333 })),
  })
  assert.equal(
    parse(revenueShareFile, '{"enabled":true,"total_bps":50,"recipients":[{"role":"dev","bps":50}]}').totalPpm,
    5000,
  )
  assert.equal(parse(revenueShareFile, '{"enabled":true,"recipients":[]}').enabled, false)
  const commands = parse(
    adminCommandsFile,
    '{"commands":{"open":{"action":"knock","description":"d","params":{"allowed_ports":[22,8006],"default_duration":300}}}}',
  )
  assert.deepEqual(commands.commands.open, {
    action: 'knock',
    description: 'd',
    allowedPorts: [22, 8006],
    defaultDurationSeconds: 300,
    maxDurationSeconds: 300,
  })
})

test('any JSON value is parsed or refused with BH_CONFIG_INVALID', () => {
  const files: ConfigFile<unknown>[] = [
    dbConfigFile,
    web3ConfigFile,
    blockhostConfigFile,
    brokerAllocationFile,
    addressbookFile,
    revenueShareFile,
    adminCommandsFile,
  ]
  fc.assert(
    fc.property(fc.constantFrom(...files), fc.json(), (file, text) => {
      try {
        parse(file, text)
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'BH_CONFIG_INVALID')
      }
    }),
    { numRuns: 300 },
  )
})
