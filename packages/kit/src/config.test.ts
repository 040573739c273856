import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { parseTomlConfig } from './config.ts'

const schema = z.strictObject({ broker: z.strictObject({ size: z.int().min(1, 'expected at least 1') }) })

test('parseTomlConfig: returns the checked values, frozen at every level', () => {
  const config = parseTomlConfig('[broker]\nsize = 3', schema, 'c.toml')
  assert.deepEqual(config, { broker: { size: 3 } })
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.broker))
})

test('parseTomlConfig: names the file and every wrong key', () => {
  assert.throws(() => parseTomlConfig('[broker]\nsize = 0', schema, 'c.toml'), {
    code: 'BH_CONFIG_INVALID',
    exitCode: 78,
    message: "c.toml can't be used: broker.size: expected at least 1",
  })
  assert.throws(() => parseTomlConfig('[broker', schema, 'c.toml'), /c\.toml can't be used: the file is not valid TOML/)
})
