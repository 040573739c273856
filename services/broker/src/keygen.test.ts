import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { addressOf, publicKeyOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import { publicKeyOf as wireGuardPublicKeyOf } from '@blockhost/net/wireguard.ts'
import { describeKeys, generateKeys } from './keygen.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'broker-keygen-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

test('generateKeys: makes four files with their final modes, and nothing else', () => {
  generateKeys(folder, { force: false })
  const modes = readdirSync(folder).map(name => [name, (statSync(join(folder, name)).mode & 0o777).toString(8)])
  assert.deepEqual(Object.fromEntries(modes), {
    'operator.key': '600',
    'ecies.key': '600',
    'wg-private.key': '600',
    'wg-public.key': '644',
  })
})

test('generateKeys: returns the public side of what it wrote', () => {
  const keys = generateKeys(folder, { force: false })
  assert.equal(keys.operatorAddress, addressOf(readKeyFile(join(folder, 'operator.key'))))
  assert.equal(keys.eciesPublicKey, `0x${publicKeyOf(readKeyFile(join(folder, 'ecies.key'))).toHex()}`)
  assert.equal(keys.wireguardPublicKey, wireGuardPublicKeyOf(read('wg-private.key').trim()))
  assert.equal(read('wg-public.key'), `${keys.wireguardPublicKey}\n`)
})

test('generateKeys: keeps keys that exist and makes the missing one', () => {
  const first = generateKeys(folder, { force: false })
  rmSync(join(folder, 'ecies.key'))
  const second = generateKeys(folder, { force: false })
  assert.equal(second.operatorAddress, first.operatorAddress)
  assert.equal(second.wireguardPublicKey, first.wireguardPublicKey)
  assert.notEqual(second.eciesPublicKey, first.eciesPublicKey)
  const made = Object.entries(second.files).filter(([, file]) => file.made)
  assert.deepEqual(
    made.map(([name]) => name),
    ['ecies.key'],
  )
})

test('generateKeys: replaces everything when forced', () => {
  const first = generateKeys(folder, { force: false })
  const second = generateKeys(folder, { force: true })
  assert.notEqual(second.operatorAddress, first.operatorAddress)
  assert.notEqual(second.eciesPublicKey, first.eciesPublicKey)
  assert.notEqual(second.wireguardPublicKey, first.wireguardPublicKey)
  assert.equal(read('wg-public.key'), `${second.wireguardPublicKey}\n`)
})

test('generateKeys: a broken key that exists is an error, never overwritten', () => {
  writeFileSync(join(folder, 'operator.key'), 'precious but torn')
  assert.throws(() => generateKeys(folder, { force: false }), { code: 'BH_KEY_FILE_INVALID' })
  assert.equal(read('operator.key'), 'precious but torn')
})

test('describeKeys: shows no private key', () => {
  const text = describeKeys(generateKeys(folder, { force: false }))
  for (const name of ['operator.key', 'ecies.key', 'wg-private.key'])
    assert.equal(text.includes(read(name).trim()), false, name)
})

function read(name: string): string {
  return readFileSync(join(folder, name), 'utf8')
}
