import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parseConfig } from './config.ts'
import { setConfigValues } from './config-write.ts'

test('setConfigValues: replaces what is in force, uncomments what is not, adds the rest, keeps comments', () => {
  const text = '# top\n[a]\nkeep = 1 # why\nold = "x"\n# old = "example"\n#quiet = 5\n\n[b]\nold = 2\n'
  assert.equal(
    setConfigValues(text, 'a', { old: 'y "z"', quiet: 6, fresh: true }),
    '# top\n[a]\nkeep = 1 # why\nold = "y \\"z\\""\n# old = "example"\nquiet = 6\nfresh = true\n\n[b]\nold = 2\n',
  )
})

test('setConfigValues: adds a section at the end', () => {
  assert.equal(setConfigValues('[a]\nx = 1\n', 'b', { y: 2 }), '[a]\nx = 1\n\n[b]\ny = 2\n')
  assert.equal(setConfigValues('', 'b', { y: 2 }), '\n[b]\ny = 2\n')
})

test('setConfigValues: what it makes of the example is a configuration with these values', () => {
  const example = readFileSync(new URL('../config.example.toml', import.meta.url), 'utf8')
  const contract = '0xCD75c00dBB3F05cF27f16699591f4256a798e694'
  const text = setConfigValues(example, 'onchain', {
    enabled: true,
    rpc_url: 'http://127.0.0.1:8545',
    chain_id: 31337,
    private_key_file: '/k/operator.key',
    requests_contract: contract,
  })
  const { onchain } = parseConfig(text, 'written')
  assert.deepEqual(onchain?.rpcUrls, ['http://127.0.0.1:8545'])
  assert.equal(onchain?.chainId, 31_337)
  assert.equal(onchain?.operatorKeyFile, '/k/operator.key')
  assert.deepEqual(onchain?.requestsContracts, [contract])
  assert.equal(text.split('\n').length, example.split('\n').length)
})
