import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseArgv } from './argv.ts'

const etc = '/etc/blockhost-broker'

test('argv: every documented line, and those of earlier generations', () => {
  const lines: [string, unknown][] = [
    ['', { kind: 'run', configPath: undefined }],
    ['run', { kind: 'run', configPath: undefined }],
    ['-c /a.toml', { kind: 'run', configPath: '/a.toml' }],
    ['--config /a.toml run', { kind: 'run', configPath: '/a.toml' }],
    ['run --config=/a.toml', { kind: 'run', configPath: '/a.toml' }],
    ['--check-config', { kind: 'check-config', configPath: undefined, json: false }],
    ['--config /a.toml --check-config --json', { kind: 'check-config', configPath: '/a.toml', json: true }],
    ['-c /a.toml check-config', { kind: 'check-config', configPath: '/a.toml', json: false }],
    ['--version', { kind: 'version' }],
    ['--help', { kind: 'help' }],
    ['deploy -h', { kind: 'help' }],
    ['keygen', { kind: 'keygen', folder: etc, force: false, json: false }],
    ['keygen --dir /k --force --json', { kind: 'keygen', folder: '/k', force: true, json: true }],
    ['generate-key -o /k/operator.key', { kind: 'generate-key', path: '/k/operator.key', force: false, json: false }],
    ['set-fee 1000', { kind: 'set-fee', configPath: undefined, value: 1000n, json: false }],
    ['set-capacity 0 -c /a.toml', { kind: 'set-capacity', configPath: '/a.toml', value: 0n, json: false }],
    ['down', { kind: 'down', configPath: undefined, json: false }],
    ['withdraw-fees', { kind: 'withdraw-fees', configPath: undefined, to: undefined, json: false }],
  ]
  for (const [line, expected] of lines) assert.deepEqual(parse(line), expected, line)
})

test('argv: deploy, with everything and with the least', () => {
  const registry = '0xCD75c00dBB3F05cF27f16699591f4256a798e694'
  const least = { kind: 'deploy', configPath: undefined, json: false, rpcUrls: ['http://a'], chainId: 1 }
  const keys = { operatorKeyFile: `${etc}/operator.key`, eciesKeyFile: `${etc}/ecies.key` }
  const rest = {
    region: undefined,
    capacity: undefined,
    requestFeeWei: undefined,
    registry: undefined,
    requests: undefined,
    writeConfig: false,
  }
  assert.deepEqual(parse('deploy --rpc-url http://a --chain-id 1'), { ...least, ...keys, ...rest })
  const all = `--operator-key /o --ecies-key /e --region eu --capacity 5 --request-fee-wei 7 --registry ${registry} --requests ${registry} --write-config`
  assert.deepEqual(parse(`deploy-contracts --rpc-url http://a --rpc-url http://b --chain-id 1 --json ${all}`), {
    ...least,
    json: true,
    rpcUrls: ['http://a', 'http://b'],
    operatorKeyFile: '/o',
    eciesKeyFile: '/e',
    region: 'eu',
    capacity: 5n,
    requestFeeWei: 7n,
    registry,
    requests: registry,
    writeConfig: true,
  })
})

test('argv: what makes no sense is told, with what was found', () => {
  const lines: [string, RegExp][] = [
    ['token list', /There is no command "token"/],
    ['run now', /"now" is one word too many/],
    ['--verbose', /Unknown option '--verbose'/],
    ['keygen --rpc-url http://a', /Unknown option '--rpc-url'/],
    ['--config', /argument/],
    ['deploy --chain-id 1', /Expected --rpc-url URL/],
    ['deploy --rpc-url http://a', /Expected --chain-id N/],
    ['deploy --rpc-url http://a --chain-id sepolia', /--chain-id: found "sepolia", expected a whole number/],
    ['deploy --rpc-url http://a --chain-id 1 --registry 0x12', /--registry: found "0x12", expected 0x and 40/],
    ['set-fee', /Expected a number/],
    ['set-fee -5', /Unknown option '-5'/],
    ['set-fee 0.1', /set-fee: found "0.1", expected a whole number/],
    ['generate-key', /Expected --output PATH/],
  ]
  for (const [line, expected] of lines) {
    const command = parse(line)
    assert.equal(command.kind, 'usage', line)
    assert.match(command.kind === 'usage' ? command.problem : '', expected)
  }
})

function parse(line: string) {
  return parseArgv(line.split(' ').filter(word => word !== ''))
}
