import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { readConfig } from './config.ts'

const folder = mkdtempSync(join(tmpdir(), 'auth-config-'))
const contract = '0x00000000000000000000000000000000000000AA'
const nft = `[machine]\nid = "vm.12345678"\n[auth]\nmode = "nft"\n[blockchain]\nnft_contract = "${contract}"\n`
const rpc = '[jsonrpc]\nrpc_url = "https://rpc.example"\n'

describe('readConfig', () => {
  it('has the documented defaults', () => {
    const config = read(rpc, nft)
    assert.deepEqual(config, {
      machine: { id: 'vm.12345678', secret: undefined },
      mode: 'nft',
      otp: { length: 6, ttlMs: 300_000 },
      signingUrl: undefined,
      walletsPath: '/etc/pam_web3/wallets',
      rescueWalletsPath: '/etc/web3-auth/rescue-wallets',
      passwdPath: '/etc/passwd',
      socketPath: '/run/web3-auth/web3-auth.sock',
      stateFolder: '/var/lib/web3-auth',
      idleExitMs: 60_000,
      graceMs: 10_000,
      lastKnownMs: 86_400_000,
      chainDeadlineMs: 10_000,
      chain: {
        chainId: undefined,
        contract: contract.toLowerCase(),
        backend: { kind: 'jsonrpc', urls: ['https://rpc.example'], timeoutMs: 4000 },
      },
      page: { enabled: true, host: '::', port: 8443 },
      limits: { perSource: 10, perUser: 60 },
      logLevel: 'info',
    })
    assert.ok(Object.isFrozen(config))
  })

  it('the examples can be used, and their commented lines are the defaults', () => {
    const example = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))
    const files = { service: example('config.example.toml'), login: example('login.example.toml') }
    const whole = (path: string) =>
      readFileSync(path, 'utf8').replace(/^#(?=\w+ = )(?!default_|signing_url|secret_key|api_|rpc_urls)/gm, '')
    assert.deepEqual(read(whole(files.service), whole(files.login)), readConfig(files))
  })

  it('takes the files of earlier generations', () => {
    const service =
      'socket_path = "/run/x.sock"\nbackend = "etherscan"\ndefault_chain_id = 5\ndefault_contract = "' +
      `${contract}"\n[jsonrpc]\nrpc_url = "http://x"\ntimeout_seconds = 30\n[etherscan]\napi_url = "https://e.example"\napi_key = "K"\n`
    const login =
      `[machine]\nid = "blockhost-001"\nsecret_key = "0x${'ab'.repeat(32)}"\n[auth]\nmode = "nft"\nsigning_url = "https://s/"\n` +
      'otp_length = 8\notp_ttl_seconds = 120\nnft_lookup = "passwd"\n[blockchain]\nsocket_path = "/run/y.sock"\nchain_id = 1\n' +
      `nft_contract = "${contract}"\ntimeout_seconds = 10\n[ldap]\nserver = "ldap://x"\n`
    const config = read(service, login)
    assert.equal(config.socketPath, '/run/x.sock')
    assert.equal(config.signingUrl, 'https://s')
    assert.equal(config.machine.secret?.length, 32)
    assert.deepEqual(config.chain, {
      chainId: 1,
      contract: contract.toLowerCase(),
      backend: { kind: 'etherscan', apiUrl: 'https://e.example', apiKey: 'K', timeoutMs: 4000 },
    })
  })

  it('the mode wallet needs no chain', () => {
    assert.equal(read('', '[machine]\nid = "vm"\n[auth]\nmode = "wallet"\n').chain, undefined)
  })

  it('names file, key and what was expected', () => {
    const wallet = '[machine]\nid = "vm"\n[auth]\nmode = "wallet"\n'
    for (const [service, login, message] of [
      ['', nft, /service\.toml .*jsonrpc\.rpc_url is needed/],
      [rpc, nft.replace('nft_contract', '#'), /login\.toml .*blockchain\.nft_contract is needed/],
      ['backend = "etherscan"\n', nft, /etherscan\.api_url is needed/],
      ['bakend = "x"\n', wallet, /service\.toml .*bakend/],
      ['[page]\nport = 70000\n', wallet, /page\.port/],
      ['socket_path = "run/x"\n', wallet, /socket_path: expected an absolute path/],
      [
        '',
        wallet.replace('[auth]', 'secret_key = "CHANGE_ME"\n[auth]'),
        /machine\.secret_key: expected 16 to 64 bytes/,
      ],
      ['', wallet.replace('"vm"', '"a vm"'), /machine\.id: expected 1 to 128 printable/],
      ['', `${wallet}otp_ttl_seconds = 301\n`, /auth\.otp_ttl_seconds/],
      ['', `${wallet}nft_lookup = "ldap"\n`, /auth\.nft_lookup: users are looked up in \/etc\/passwd only/],
      ['', 'x', /login\.toml .*not valid TOML/],
    ] as const)
      assert.throws(
        () => read(service, login),
        (error: unknown) => error instanceof BlockHostError && error.exitCode === 78 && message.test(error.message),
        message.source,
      )
  })
})

function read(service: string, login: string) {
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  return readConfig({ service: write('service.toml', service), login: write('login.toml', login) })
}
