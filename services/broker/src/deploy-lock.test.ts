import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { generateKeyFile } from '@blockhost/crypto/key-file.ts'
import { takeLock } from '@blockhost/kit/lock.ts'
import { excludeDaemon } from './deploy-lock.ts'

let folder: string
const at = (name: string) => join(folder, name)
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bh-deploy-lock-'))
  generateKeyFile(at('operator.key'))
  generateKeyFile(at('other.key'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const wallet = () => ({ operatorKeyFile: at('operator.key'), chainId: 31337 })

/** Writes the daemon's configuration. */
function configure(onchain: string): string {
  const text = `[broker]
upstream_prefix = "2001:db8::/64"
broker_ipv6 = "2001:db8::1"
[wireguard]
public_endpoint = "192.0.2.1:51820"
upstream_interface = "eth0"
[database]
path = "${at('ipam.db')}"
[onchain]
${onchain}
`
  writeFileSync(at('config.toml'), text)
  return at('config.toml')
}

function onchain(change: { key?: string; chainId?: number } = {}): string {
  return `enabled = true
rpc_url = "http://127.0.0.1:8545"
chain_id = ${change.chainId ?? 31337}
private_key_file = "${at(change.key ?? 'operator.key')}"
ecies_private_key_file = "${at('other.key')}"
requests_contract = "0x${'ab'.repeat(20)}"`
}

test('excludeDaemon: refuses with exit 75 while the daemon runs, and keeps it away meanwhile', () => {
  const config = configure(onchain())
  const daemon = takeLock(at('ipam.db'), 'blockhost-broker')
  const refused = { code: 'BH_DAEMON_RUNS', exitCode: 75, message: /runs and sends with the same wallet 0x/ }
  assert.throws(() => excludeDaemon(config, wallet()), refused)
  daemon[Symbol.dispose]()
  const mine = excludeDaemon(config, wallet())
  assert.throws(() => takeLock(at('ipam.db'), 'blockhost-broker'), { code: 'BH_ALREADY_RUNNING' })
  mine[Symbol.dispose]()
  takeLock(at('ipam.db'), 'blockhost-broker')[Symbol.dispose]()
})

test('excludeDaemon: a configuration that can not be used now says nothing about the wallet', () => {
  using _daemon = takeLock(at('ipam.db'), 'blockhost-broker')
  const config = configure('enabled = "perhaps"')
  assert.throws(() => excludeDaemon(config, wallet()), { code: 'BH_DAEMON_RUNS' })
})

test('excludeDaemon: a daemon of another wallet, another chain or none does not matter', () => {
  using _daemon = takeLock(at('ipam.db'), 'blockhost-broker')
  for (const text of [onchain({ key: 'other.key' }), onchain({ chainId: 1 }), 'enabled = false'])
    excludeDaemon(configure(text), wallet())[Symbol.dispose]()
})

test('excludeDaemon: leaves no file where no daemon ever ran', () => {
  excludeDaemon(configure(onchain()), wallet())[Symbol.dispose]()
  assert.equal(existsSync(at('ipam.db.lock')), false)
})
