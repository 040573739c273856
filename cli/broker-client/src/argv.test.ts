import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Command, type Globals, helpText, parseArgv } from './argv.ts'

const registry = '0x5FbDB2315678afecb367f032d93F642f64180aa3'
const nft = '0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512'
const key = '/etc/blockhost/deployer.key'

function parse(line: string, env: Record<string, string> = {}): { globals: Globals; command: Command } {
  const parsed = parseArgv(line.split(' ').filter(Boolean), env)
  assert.ok(parsed.ok, parsed.ok ? '' : parsed.message)
  return parsed
}

function refuse(line: string, env: Record<string, string> = {}): string {
  const parsed = parseArgv(line.split(' ').filter(Boolean), env)
  assert.ok(!parsed.ok, `${line} was accepted`)
  return parsed.message
}

function command<N extends Command['name']>(line: string, name: N): Command & { name: N } {
  const parsed = parse(line).command
  assert.equal(parsed.name, name)
  return parsed as Command & { name: N }
}

describe('shapes of earlier callers', () => {
  it("reads the first installer's line: globals before the subcommand", () => {
    const { globals, command } = parse(
      `--registry-contract ${registry} request --nft-contract ${nft} --wallet-key ${key} --timeout 120`,
    )
    assert.equal(globals.registryContract, registry)
    assert.deepEqual(command, {
      name: 'request',
      nftContract: nft,
      walletKey: key,
      maxFeeWei: 0n,
      expectUpstream: undefined,
      configureWg: false,
      timeoutMs: 120_000,
      pollIntervalMs: 2000,
      wgInterface: 'wg-broker',
      wgConfDir: '/etc/wireguard',
      broker: { kind: 'any', region: undefined },
    })
  })

  it('reads the line of the root agent', () => {
    const renew = command(`renew --nft-contract ${nft} --wallet-key ${key} --configure-wg`, 'renew')
    assert.equal(renew.configureWg, true)
  })

  it('reads install and release of every generation', () => {
    assert.equal(command('install', 'install').wgInterface, 'wg-broker')
    assert.equal(command('install --wg-interface wg7', 'install').wgInterface, 'wg7')
    const first = command(
      `release --nft-contract ${nft} --wallet-key ${key} --requests-contract ${registry} --cleanup-wg --force`,
      'release',
    )
    assert.deepEqual(
      [first.nftContract, first.requestsContract, first.cleanupWg, first.force],
      [nft, registry, true, true],
    )
    const latest = command('release --cleanup-wg --wg-interface wg1', 'release')
    assert.deepEqual([latest.walletKey, latest.cleanupWg, latest.force], [undefined, true, false])
  })

  it('takes --chains-config, which has no meaning here', () => {
    assert.equal(parse('--chains-config /etc/x.json list-brokers').command.name, 'list-brokers')
  })
})

describe('global options', () => {
  it('may stand before, after, and with an equals sign', () => {
    for (const line of [
      '--json --config-dir /x list-brokers',
      'list-brokers --json --config-dir /x',
      'list-brokers --config-dir=/x --json',
    ]) {
      const { globals } = parse(line)
      assert.deepEqual([globals.json, globals.configDir], [true, '/x'])
    }
  })

  it('does not take the value of an option for the subcommand', () => {
    assert.equal(parse('--config-dir request list-brokers').command.name, 'list-brokers')
  })

  it('come from the environment unless given', () => {
    const env = { ETH_RPC_URL: 'http://a,http://b', ETH_CHAIN_ID: '31337', BROKER_REGISTRY_CONTRACT: registry }
    assert.deepEqual(parse('list-brokers', env).globals, {
      json: false,
      rpcUrls: ['http://a', 'http://b'],
      chainId: 31337,
      registryContract: registry,
      configDir: '/etc/blockhost',
    })
    assert.deepEqual(parse('list-brokers --rpc-url http://c --chain-id 5', env).globals.rpcUrls, ['http://c'])
    assert.equal(parse('list-brokers --chain-id 5', env).globals.chainId, 5)
    assert.equal(parse('list-brokers', { ETH_CHAIN_ID: '' }).globals.chainId, undefined)
  })

  it('default to the documented endpoint', () => {
    assert.match(parse('list-brokers').globals.rpcUrls[0] ?? '', /^https:.*sepolia/)
  })
})

describe('request', () => {
  const base = `request --nft-contract ${nft} --wallet-key ${key}`

  it('chooses the broker in one of three ways', () => {
    assert.deepEqual(command(`${base} --region eu-west`, 'request').broker, { kind: 'any', region: 'eu-west' })
    assert.deepEqual(command(`${base} --broker-id 3`, 'request').broker, { kind: 'id', brokerId: 3n })
    const pubkey = `04${'Ab'.repeat(64)}`
    assert.deepEqual(command(`${base} --requests-contract ${registry} --broker-pubkey 0x${pubkey}`, 'request').broker, {
      kind: 'direct',
      requestsContract: registry,
      brokerPubkey: pubkey.toLowerCase(),
    })
  })

  it('refuses half a direct pair and two ways at once', () => {
    refuse(`${base} --requests-contract ${registry}`)
    refuse(`${base} --broker-pubkey ${'02'.repeat(33)}`)
    refuse(`${base} --requests-contract ${registry} --broker-pubkey ${'02'.repeat(33)} --broker-id 1`)
    refuse(`${base} --region eu --broker-id 1`)
  })

  it('refuses keys of a length that no public key has', () => {
    for (const length of [0, 31, 32, 34, 63, 66])
      refuse(`${base} --requests-contract ${registry} --broker-pubkey 0x${'04'.repeat(length)}`)
  })

  it('takes fractions of a second from half a second on', () => {
    assert.equal(command(`${base} --poll-interval 0.5`, 'request').pollIntervalMs, 500)
    for (const wrong of ['0.4', '-1', '1e3', 'x', 'Infinity', '']) refuse(`${base} --poll-interval=${wrong}`)
    for (const wrong of ['0', '604801', 'NaN']) refuse(`${base} --timeout ${wrong}`)
  })

  it('reads the fee as exact wei', () => {
    assert.equal(command(`${base} --max-fee-wei 1000000000000000001`, 'request').maxFeeWei, 1_000_000_000_000_000_001n)
    for (const wrong of ['1.5', '-1', '0x10', '1e18']) refuse(`${base} --max-fee-wei=${wrong}`)
  })
})

describe('refusals', () => {
  it('names what is missing', () => {
    assert.match(refuse(''), /Name a subcommand/)
    assert.match(refuse(`request --wallet-key ${key}`), /--nft-contract/)
    assert.match(refuse(`renew --nft-contract ${nft}`), /--wallet-key/)
  })

  it('names what is not known', () => {
    assert.match(refuse('frobnicate'), /frobnicate/)
    assert.match(refuse('constructor'), /no subcommand/)
    assert.match(refuse('status --broker-id 1'), /--broker-id/)
    assert.match(refuse('status extra'), /extra/)
  })

  it('takes no address that is not one', () => {
    for (const wrong of ['0x12', `${nft}0`, nft.slice(2), `0x${'g'.repeat(40)}`])
      refuse(`status --nft-contract ${wrong}`)
  })

  it('takes no interface name that a command could read as something else', () => {
    for (const wrong of ['-f', '.', '..', 'a/b', 'sixteen-letters-', 'a;b', 'a\nb'])
      refuse(`install --wg-interface=${wrong}`)
  })

  it('takes no RPC endpoint that is not HTTP, and does not repeat it (it may hold a key)', () => {
    for (const wrong of ['file:///etc/passwd', 'secret-token', 'ws://x']) {
      const message = refuse(`list-brokers --rpc-url ${wrong}`)
      assert.ok(!message.includes(wrong))
    }
  })

  it('says how to report itself', () => {
    const parsed = parseArgv(['--json', 'nothing'], {})
    assert.deepEqual([parsed.ok, !parsed.ok && parsed.json], [false, true])
  })
})

describe('help', () => {
  it('lists every subcommand, and each has its own', () => {
    for (const name of ['request', 'status', 'list-brokers', 'install', 'configure', 'renew', 'release']) {
      assert.match(helpText(), new RegExp(`^  ${name} `, 'm'))
      assert.match(helpText(name), new RegExp(`usage: broker-client .* ${name} `))
      assert.equal(parse(`${name} --help`).command.name, 'help')
    }
  })

  it('wins over what is missing', () => {
    assert.equal(parse('request -h').command.name, 'help')
    assert.equal(parse('--version').command.name, 'version')
  })
})
