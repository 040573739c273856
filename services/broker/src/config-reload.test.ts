import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parseConfig } from './config.ts'
import { reloadConfig, reloadPaths } from './config-reload.ts'

const example = readFileSync(new URL('../config.example.toml', import.meta.url), 'utf8')
const old = parse()

test('reloadConfig: the same file changes nothing', () => {
  assert.deepEqual(reloadConfig(old, parse()), { config: old, applied: [], waiting: [] })
})

test('reloadConfig: limits and intervals are in force at once', () => {
  const { config, applied, waiting } = reloadConfig(
    old,
    parse(
      ['#poll_interval_ms = 5000', 'poll_interval_ms = 2000'],
      ['#max_fee_per_gas_gwei = 100', 'max_fee_per_gas_gwei = 30'],
      ['#max_leases_per_wallet = 0', 'max_leases_per_wallet = 3'],
    ),
  )
  assert.deepEqual(applied, [
    'limits.max_leases_per_wallet',
    'onchain.poll_interval_ms',
    'onchain.max_fee_per_gas_gwei',
  ])
  assert.deepEqual(waiting, [])
  assert.equal(config.onchain?.pollIntervalMs, 2000)
  assert.equal(config.onchain?.maxFeePerGasWei, 30_000_000_000n)
  assert.equal(config.limits.maxLeasesPerWallet, 3)
})

test('reloadConfig: what is built in keeps its old value and is named, beside what changes at once', () => {
  const { config, applied, waiting } = reloadConfig(
    old,
    parse(
      ['#listen_port = 51820', 'listen_port = 51820'],
      ['#level = "info"', 'level = "debug"'],
      ['#listen = "127.0.0.1:8080"', 'listen = "[::1]:9090"'],
      ['chain_id = 11155111', 'chain_id = 1'],
    ),
  )
  assert.deepEqual(applied, ['logging.level'])
  assert.deepEqual(waiting, ['api.listen', 'onchain.chain_id'])
  assert.deepEqual(config.api, old.api)
  assert.equal(config.onchain?.chainId, 11_155_111)
  assert.equal(config.logging.level, 'debug')
})

test('reloadConfig: turning the chain on or off waits for a restart; the rest does not', () => {
  const { config, applied, waiting } = reloadConfig(
    old,
    parse(['enabled = true', 'enabled = false'], ['#keep_days = 30', 'keep_days = 31']),
  )
  assert.deepEqual(applied, ['leases.keep_days'])
  assert.deepEqual(waiting, ['onchain.enabled'])
  assert.deepEqual(config.onchain, old.onchain)
})

test('reloadConfig: knows every setting there is', () => {
  const { warnings: _, ...settings } = old
  const leaves = Object.entries(settings).flatMap(([key, value]) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.keys(value).map(inner => `${key}.${inner}`)
      : [key],
  )
  assert.deepEqual(leaves.toSorted(), reloadPaths.toSorted())
})

function parse(...changes: [from: string, to: string][]) {
  const text = changes.reduce((all, [from, to]) => {
    assert.ok(all.includes(from), `the example has no line ${from}`)
    return all.replace(from, to)
  }, example)
  return parseConfig(text, 'example')
}
