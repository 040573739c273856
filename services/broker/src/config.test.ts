import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { generateKeyFile } from '@blockhost/crypto/key-file.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { parseConfig, readConfig } from './config.ts'

const requests = '0xCD75c00dBB3F05cF27f16699591f4256a798e694'
const broker = 'upstream_prefix = "2001:db8::/64"'
const wireguard = 'public_endpoint = "198.51.100.1:51820"'
const onchain = `enabled = true\nrpc_url = "https://rpc.example.net"\nchain_id = 11155111\nrequests_contract = "${requests}"`

describe('the documents and the example', () => {
  test('the example file is accepted, and its comments state the defaults', () => {
    const text = readFileSync(new URL('../config.example.toml', import.meta.url), 'utf8')
    const asIs = parseConfig(text, 'example')
    const spelledOut = parseConfig(text.replace(/^#([a-z_]+ = )/gm, '$1'), 'example')
    const { upstreamInterface, ...rest } = spelledOut.wireguard
    assert.equal(upstreamInterface, 'tb25255R64')
    assert.equal(spelledOut.onchain?.maxFeePerGasWei, 100_000_000_000n)
    assert.deepEqual(
      {
        ...spelledOut,
        wireguard: { ...rest, upstreamInterface: undefined },
        onchain: { ...spelledOut.onchain, maxFeePerGasWei: undefined },
      },
      asIs,
    )
    assert.deepEqual(asIs.warnings, [])
  })

  test('the file of the design document is accepted as it stands', () => {
    const config = parse({
      broker: 'upstream_prefix = "2a11:6c7:f04:276::/64"\nallocation_size = 120\nbroker_ipv6 = "2a11:6c7:f04:276::1"',
      wireguard: `interface = "wg-broker"\nlisten_port = 51820\nprivate_key_file = "/etc/blockhost-broker/wg-private.key"\n${wireguard}\nupstream_interface = "tb25255R64"`,
      api: 'listen = "0.0.0.0:8080"\ntls_enabled = false\ntls_cert = ""\ntls_key = ""',
      database: 'path = "/var/lib/blockhost-broker/ipam.db"',
      logging: 'level = "info"\nfile = "/var/log/blockhost-broker/broker.log"',
      onchain: `enabled = true\nrpc_url = "https://rpc.example.net"\nchain_id = 11155111\nprivate_key_file = "/etc/blockhost-broker/deployer.key"\necies_private_key_file = "/etc/blockhost-broker/ecies.key"\nrequests_contract = "${requests}"\npoll_interval_ms = 5000`,
    })
    assert.deepEqual(config, {
      upstreamPrefix: '2a11:6c7:f04:276::/64',
      allocationSize: 120,
      brokerAddress: '2a11:6c7:f04:276::1',
      keepDays: 30,
      quarantineDays: 7,
      tunnelTimeoutMs: 120_000,
      reconcileIntervalMs: 60_000,
      wireguard: {
        interface: 'wg-broker',
        listenPort: 51_820,
        privateKeyFile: '/etc/blockhost-broker/wg-private.key',
        publicEndpoint: '198.51.100.1:51820',
        upstreamInterface: 'tb25255R64',
        ndpMode: 'auto',
      },
      api: { host: '0.0.0.0', port: 8080, tls: undefined, allowRemote: false },
      databasePath: '/var/lib/blockhost-broker/ipam.db',
      logging: { level: 'info', file: '/var/log/blockhost-broker/broker.log' },
      onchain: {
        rpcUrls: ['https://rpc.example.net'],
        chainId: 11_155_111,
        operatorKeyFile: '/etc/blockhost-broker/deployer.key',
        eciesKeyFile: '/etc/blockhost-broker/ecies.key',
        requestsContracts: [requests],
        pollIntervalMs: 5000,
        busyPollIntervalMs: 1000,
        confirmations: 2,
        reorgDepth: 64,
        maxAnswersPerTransaction: 40,
        maxFeePerGasWei: undefined,
        stuckAfterMs: 90_000,
        lowBalanceWei: 50_000_000_000_000_000n,
      },
      limits: { acceptedCodeHashes: [], maxLeasesPerWallet: 0, requestsPerWalletPerDay: 0 },
      warnings: ['api.listen: 0.0.0.0 is open to other machines; other machines get /health only'],
    })
  })

  test('keys of earlier generations are accepted with a warning that says why they do nothing', () => {
    const config = parse({
      broker: `${broker}\nmax_allocations = 200`,
      api: 'listen_host = "127.0.0.1"\nlisten_port = 8081',
      onchain: `${onchain}\nregistry_contract = "0x0"\ntest_requests_contract = "0x0"\nlegacy_requests_contracts = ["0x0e5b567e7d5c5c36d8fd70de8129c35b473d0aaf"]`,
      dns: 'enabled = true\ndomain = "example.net"',
    })
    assert.deepEqual(config.warnings, [
      'dns is ignored: no name server is part of the broker',
      'broker.max_allocations is ignored: the number of leases is limited on chain: `blockhost-broker set-capacity`',
      'onchain.registry_contract is ignored: only clients look a broker up in the registry',
      'onchain.test_requests_contract is ignored: test leases are not made; list the contract in onchain.legacy_requests_contracts to answer it',
    ])
    assert.deepEqual(config.onchain?.requestsContracts, [requests, '0x0E5b567E7d5C5c36D8fD70DE8129c35B473d0Aaf'])
    assert.equal(config.api.port, 8081)
  })
})

describe('what is left out', () => {
  test('without [onchain] nothing is answered, and a warning says so', () => {
    const config = parse({ onchain: undefined })
    assert.equal(config.onchain, undefined)
    assert.deepEqual(config.warnings, ['onchain.enabled is not true: requests from the chain are not answered'])
  })

  test('the broker takes the first address of the prefix', () => {
    assert.equal(parse({ broker: 'upstream_prefix = "2001:db8:aa00::/40"' }).brokerAddress, '2001:db8:aa00::1')
  })

  test('local chains need no confirmations', () => {
    for (const chainId of [31_337, 1_337])
      assert.equal(parse({ onchain: onchain.replace('11155111', String(chainId)) }).onchain?.confirmations, 0)
  })

  test('several endpoints: rpc_url first, each once', () => {
    const config = parse({ onchain: `${onchain}\nrpc_urls = ["http://127.0.0.1:8545", "https://rpc.example.net"]` })
    assert.deepEqual(config.onchain?.rpcUrls, ['https://rpc.example.net', 'http://127.0.0.1:8545'])
  })

  test('the result is frozen at every level', () => {
    const config = parse({})
    assert.throws(() => Object.assign(config.wireguard, { interface: 'wg9' }), TypeError)
    assert.throws(() => Object.assign(config.onchain!.rpcUrls, ['x']), TypeError)
  })
})

describe('refused, naming the key, what was found and what was expected', () => {
  const refused: Record<string, [Sections, string]> = {
    'an unknown key with the one that was meant': [
      { broker: 'upstrem_prefix = "2001:db8::/64"' },
      'broker.upstream_prefix: is missing, expected an IPv6 prefix such as "2001:db8::/64"; broker.upstrem_prefix: is not a key of this file; did you mean broker.upstream_prefix?',
    ],
    'a key in the wrong section': [
      { broker: `${broker}\nlisten_port = 51820` },
      'broker.listen_port: is not a key of this file; did you mean wireguard.listen_port?',
    ],
    'a key like no other': [{ broker: `${broker}\nzebra = 1` }, 'broker.zebra: is not a key of this file'],
    'an unknown section': [{ loging: 'level = "info"' }, 'loging: is not a key of this file; did you mean logging?'],
    'a value where a section belongs': [
      { wireguard: undefined, '': 'wireguard = 5' },
      'wireguard: found a number, expected a section',
    ],
    'a missing section': [{ wireguard: undefined }, 'wireguard: is missing, expected a section of this name'],
    'a prefix that is none': [
      { broker: 'upstream_prefix = "2001:db8::"' },
      'broker.upstream_prefix: found "2001:db8::", expected an IPv6 prefix such as "2001:db8::/64"',
    ],
    'leases as large as the prefix': [
      { broker: `${broker}\nallocation_size = 64` },
      'broker.allocation_size: found 64, expected more than the 64 bits of broker.upstream_prefix: not a single lease would fit',
    ],
    'a broker address that would be leased to somebody': [
      { broker: `${broker}\nbroker_ipv6 = "2001:db8::101"` },
      'broker.broker_ipv6: found "2001:db8::101", expected an address in 2001:db8::/120, the part that is never leased',
    ],
    'a quoted number': [
      { wireguard: `${wireguard}\nlisten_port = "51820"` },
      'wireguard.listen_port: found "51820", expected a whole number from 1 to 65535',
    ],
    'an endpoint without a port': [
      { wireguard: 'public_endpoint = "198.51.100.1"' },
      'wireguard.public_endpoint: found "198.51.100.1", expected host:port such as "198.51.100.1:51820" or "[2001:db8::1]:51820"',
    ],
    'an endpoint that hosts cannot send to': [
      { wireguard: 'public_endpoint = "0.0.0.0:51820"' },
      'wireguard.public_endpoint: found "0.0.0.0:51820", expected host:port such as "198.51.100.1:51820" or "[2001:db8::1]:51820"',
    ],
    'an interface name that Linux would cut off': [
      { wireguard: `${wireguard}\ninterface = "wireguard-broker"` },
      'wireguard.interface: found "wireguard-broker", expected an interface name of 1 to 15 letters, digits, and . _ -',
    ],
    'an interface name that a command would take for an option': [
      { wireguard: `${wireguard}\ninterface = "-wg"` },
      'wireguard.interface: found "-wg", expected an interface name of 1 to 15 letters, digits, and . _ -',
    ],
    'one interface for both sides': [
      { wireguard: `${wireguard}\nupstream_interface = "wg-broker"` },
      'wireguard.upstream_interface: found "wg-broker", expected another interface than wireguard.interface',
    ],
    'answering neighbours on no interface': [
      { wireguard: `${wireguard}\nndp_mode = "kernel"` },
      'wireguard.upstream_interface: is missing, expected the interface whose neighbours kernel answers',
    ],
    'a relative path': [{ database: 'path = "ipam.db"' }, 'database.path: found "ipam.db", expected an absolute path'],
    'TLS without its files': [
      { api: 'tls_enabled = true\ntls_cert = "/etc/c.pem"' },
      'api.tls_key: is missing, expected a path when tls_enabled = true',
    ],
    'two listen addresses': [
      { api: 'listen = "127.0.0.1:8080"\nlisten_host = "127.0.0.1"' },
      'api.listen_host: says what api.listen says already; keep one of them',
    ],
    'a log level of another program': [
      { logging: 'level = "verbose"' },
      'logging.level: found "verbose", expected one of "error", "warn", "info", "debug"',
    ],
    'an address with a wrong checksum': [
      { onchain: onchain.replace('0xCD', '0xcD') },
      `onchain.requests_contract: found "0xcD75c00dBB3F05cF27f16699591f4256a798e694", expected a contract address: 0x and 40 hexadecimal digits`,
    ],
    'a poll interval that would hammer the endpoint': [
      { onchain: `${onchain}\npoll_interval_ms = 999` },
      'onchain.poll_interval_ms: found 999, expected a whole number from 1000 to 60000',
    ],
    'fewer re-checked blocks than confirmations': [
      { onchain: `${onchain}\nconfirmations = 10\nreorg_depth = 5` },
      'onchain.reorg_depth: found 5, expected at least onchain.confirmations',
    ],
    'a chain that is not named': [
      { onchain: 'enabled = true' },
      'onchain.rpc_url: is missing, expected an http:// or https:// address; onchain.chain_id: is missing, expected a number such as 11155111; onchain.requests_contract: is missing; `blockhost-broker deploy` makes one and prints its address',
    ],
    'a code hash that is an address': [
      { limits: `accepted_code_hashes = ["${requests}"]` },
      `limits.accepted_code_hashes: found ["${requests}"], expected a list, each a 32-byte hash: 0x and 64 hexadecimal digits`,
    ],
  }
  for (const [name, [sections, expected]] of Object.entries(refused))
    test(name, () => {
      const error = refusal(() => parse(sections))
      assert.equal(error.code, 'BH_CONFIG_INVALID')
      assert.equal(error.exitCode, 78)
      assert.equal(error.message, `/etc/c.toml can't be used: ${expected}`)
    })

  test('an endpoint address is never repeated: it may hold a key', () => {
    const error = refusal(() => parse({ onchain: onchain.replace('https://', 'wss://user:sesame@') }))
    assert.match(error.message, /onchain\.rpc_url: found a string that is not an http:\/\/ or https:\/\/ address/)
    assert.doesNotMatch(error.message, /sesame/)
  })

  test('text that is no TOML', () => {
    assert.match(refusal(() => parseConfig('broker]', '/etc/c.toml')).message, /the file is not valid TOML/)
  })
})

describe('accepted with a warning', () => {
  const warned: Record<string, [Sections, RegExp]> = {
    'host bits in the prefix': [
      { broker: 'upstream_prefix = "2001:db8::5/64"' },
      /^broker\.upstream_prefix has bits beyond its length; 2001:db8::\/64 is used$/,
    ],
    'a gateway outside the prefix': [{ broker: `${broker}\nbroker_ipv6 = "2001:db8:1::1"` }, /outside 2001:db8::\/64/],
    'a small pool': [{ broker: `${broker}\nallocation_size = 66` }, /only 3 leases of \/66 fit/],
    'an endpoint on another port': [
      { wireguard: `${wireguard}\nlisten_port = 51821` },
      /only behind a port forwarding/,
    ],
    'an endpoint of this machine': [{ wireguard: 'public_endpoint = "127.0.0.1:51820"' }, /no other machine can reach/],
    'everything open to everybody': [{ api: 'listen = "[::]:80"\nallow_remote = true' }, /anybody who reaches it/],
    'plain HTTP across the network': [{ onchain: onchain.replace('https', 'http') }, /can forge what the chain says/],
  }
  for (const [name, [sections, expected]] of Object.entries(warned))
    test(name, () => {
      const { warnings } = parse(sections)
      assert.equal(warnings.length, 1)
      assert.match(warnings[0]!, expected)
    })
})

describe('the files that it names', () => {
  test('missing and broken ones are all named; no content is shown', () => {
    withFiles((folder, text) => {
      rmSync(join(folder, 'wg-private.key'))
      writeFileSync(join(folder, 'ecies.key'), 'not the secret')
      const error = refusal(() => readConfig(text()))
      assert.equal(error.exitCode, 78)
      assert.match(error.message, /wireguard\.private_key_file: found no file \S+wg-private\.key; onchain\.ecies/)
      assert.doesNotMatch(error.message, /not the secret/)
    })
  })

  test('keys that others can read are a warning', () => {
    withFiles((folder, text) => {
      assert.deepEqual(readConfig(text()).warnings, [])
      chmodSync(join(folder, 'operator.key'), 0o640)
      const { warnings } = readConfig(text())
      assert.deepEqual(warnings, [
        `onchain.private_key_file: other users can read ${folder}/operator.key; \`chmod 600 ${folder}/operator.key\``,
      ])
    })
  })

  test('no configuration at all is an error that says what to do, never a set of defaults', () => {
    const error = refusal(() => readConfig('/nonexistent/config.toml'))
    assert.equal(error.code, 'BH_FILE_READ_FAILED')
    assert.equal(error.exitCode, 78)
    assert.equal(error.hint, 'Create /nonexistent/config.toml, or name another path.')
  })
})

type Sections = Readonly<Record<string, string | undefined>>

/** Parses a good configuration with some sections replaced, added, or (`undefined`) left out; '' is the top of the file. */
function parse(changes: Sections) {
  return parseConfig(render({ broker, wireguard, onchain, ...changes }), '/etc/c.toml')
}

function render(sections: Sections): string {
  const { '': top = '', ...named } = sections
  const tables = Object.entries(named).filter(([, body]) => body !== undefined)
  return [top, ...tables.map(([name, body]) => `[${name}]\n${body}`)].join('\n')
}

function withFiles(use: (folder: string, text: () => string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'broker-config-'))
  try {
    generateKeyFile(join(folder, 'operator.key'))
    generateKeyFile(join(folder, 'ecies.key'))
    writeFileSync(join(folder, 'wg-private.key'), `${generateKeyPair().privateKey}\n`, { mode: 0o600 })
    const keys = `private_key_file = "${folder}/operator.key"\necies_private_key_file = "${folder}/ecies.key"`
    const text = () => {
      const path = join(folder, 'config.toml')
      const own = `${wireguard}\nprivate_key_file = "${folder}/wg-private.key"`
      writeFileSync(path, render({ broker, wireguard: own, onchain: `${onchain}\n${keys}` }))
      return path
    }
    use(folder, text)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function refusal(work: () => unknown): BlockHostError {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof BlockHostError, String(error))
    return error
  }
  assert.fail('nothing was refused')
}
