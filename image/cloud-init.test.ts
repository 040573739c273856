import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parse as parseToml } from 'smol-toml'
import { parse as parseYaml } from 'yaml'
import { cloudInitTemplates, type GuestSettings, readCloudInitTemplate, renderCloudInit } from './cloud-init.ts'

const settings: GuestSettings = {
  name: 'blockhost-007',
  username: 'admin',
  machineId: 'blockhost-007.1a2b3c4d',
  otpSecret: new Uint8Array(32).fill(7),
  otpLength: 6,
  otpTtlSeconds: 300,
  chainId: 31337,
  nftContract: `0x${'ab'.repeat(20)}`,
  rpcUrls: ['http://192.0.2.10:8545', 'http://[2001:db8::1]:8545'],
  pagePort: 8443,
  nameservers: ['192.0.2.53'],
}

type Document = {
  hostname: string
  users: { name: string; gecos: string; ssh_authorized_keys: string[] }[]
  write_files: { path: string; content: string; permissions?: string }[]
}

function render(template: string, changes: Partial<GuestSettings> = {}): Document {
  const text = renderCloudInit(template, { ...settings, ...changes })
  assert.ok(text.startsWith('#cloud-config\n'))
  return parseYaml(text) as Document
}

function fileOf(document: Document, path: string): string {
  return document.write_files.find(file => file.path === path)!.content
}

describe('renderCloudInit', () => {
  for (const name of cloudInitTemplates)
    test(`${name}: tells the guest everything that signing in needs`, () => {
      const document = render(readCloudInitTemplate(name))
      assert.equal(document.hostname, 'blockhost-007')
      assert.equal(document.users[0]!.gecos, '')
      assert.deepEqual(document.users[0]!.ssh_authorized_keys, [])
      const login = parseToml(fileOf(document, '/etc/pam_web3/config.toml')) as Record<string, object>
      assert.deepEqual({ ...login.machine }, { id: 'blockhost-007.1a2b3c4d', secret_key: '07'.repeat(32) })
      const service = parseToml(fileOf(document, '/etc/web3-auth/config.toml')) as Record<string, object>
      assert.deepEqual({ ...service.jsonrpc }, { rpc_urls: settings.rpcUrls })
      assert.equal(fileOf(document, '/etc/resolv.conf'), 'nameserver 192.0.2.53\n')
    })

  test('binds the token when it is known', () => {
    assert.equal(render(readCloudInitTemplate('nft-auth'), { nftTokenId: 42n }).users[0]!.gecos, 'nft=42')
  })

  test('a value with quotes, newlines and YAML in it stays a value', () => {
    const evil = `x"\n  - name: root\n    lock_passwd: false # '\${USERNAME}`
    const document = render(readCloudInitTemplate('nft-auth'), { machineId: evil })
    assert.equal(document.users.length, 1)
    const login = parseToml(fileOf(document, '/etc/pam_web3/config.toml')) as { machine: { id: string } }
    assert.equal(login.machine.id, evil)
  })

  test('leaves shell variables alone and substitutes inside texts', () => {
    const document = parseYaml(renderCloudInit(`runcmd: ["echo \${HOME} $USER \${VM_NAME} $$"]`, settings)) as unknown
    assert.deepEqual(document, { runcmd: [`echo \${HOME} $USER blockhost-007 $$`] })
  })

  test('refuses what is no mapping', () => {
    for (const text of ['- a', '"x"', 'a: [', '']) assert.throws(() => renderCloudInit(text, settings), /YAML mapping/)
  })
})

describe('readCloudInitTemplate', () => {
  test('refuses unknown names and ways out of the folder', () => {
    for (const name of ['none', '../cloud-init', 'nft-auth.yaml'])
      assert.throws(() => readCloudInitTemplate(name), { code: 'BH_CLOUD_INIT_UNKNOWN', exitCode: 78 })
  })
})
