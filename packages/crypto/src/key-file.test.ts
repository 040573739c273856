import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { BlockHostError, describeError } from '@blockhost/kit/errors.ts'
import * as vectors from './broker-vectors.ts'
import { addressOf, generateKeyFile, parsePrivateKey, publicKeyOf, readKeyFile } from './key-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'blockhost-key-file-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const digits = vectors.serverPrivateKey.toHex()
const order = 'fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141'
const lastKey = 'fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140'

describe('parsePrivateKey', () => {
  it('takes 64 hex digits with 0x and blanks around', () => {
    for (const text of [digits, `0x${digits}`, `0X${digits}`, ` \t${digits}\r\n`, `\n0x${digits.toUpperCase()}\n`])
      assert.deepEqual(parsePrivateKey(text), { ok: true, privateKey: vectors.serverPrivateKey })
    assert.equal(parsePrivateKey(lastKey).ok, true)
  })

  it('refuses everything else and never repeats it', () => {
    const wrong = ['', '0x', digits.slice(1), `${digits}0`, `${digits}${digits}`, `0x0x${digits.slice(2)}`]
    wrong.push(`g${digits.slice(1)}`, `${digits.slice(0, 32)} ${digits.slice(33)}`, '0'.repeat(64), order)
    for (const text of wrong) {
      const parsed = parsePrivateKey(text)
      assert.equal(parsed.ok, false, text)
      if (!parsed.ok && text.length > 4) assert.ok(!parsed.reason.includes(text.slice(0, 8)))
    }
  })
})

describe('readKeyFile', () => {
  it('reads what generateKeyFile wrote', () => {
    const path = join(folder, 'new', 'server.key')
    const privateKey = generateKeyFile(path)
    assert.deepEqual(readKeyFile(path), privateKey)
  })

  it('names the file and not its content when it is wrong', () => {
    const path = join(folder, 'wrong.key')
    writeFileSync(path, `${digits}ff`)
    assert.throws(
      () => readKeyFile(path),
      (error: unknown) => {
        assert.ok(error instanceof BlockHostError)
        assert.equal(error.code, 'BH_KEY_FILE_INVALID')
        assert.equal(error.exitCode, 78)
        assert.ok(error.message.includes(path))
        assert.ok(!describeError(error).includes(digits.slice(0, 8)))
        return true
      },
    )
  })

  it('refuses a file above 1024 bytes and a missing one', () => {
    const path = join(folder, 'long.key')
    writeFileSync(path, digits + ' '.repeat(1000))
    assert.throws(() => readKeyFile(path), code('BH_FILE_TOO_LARGE'))
    assert.throws(() => readKeyFile(join(folder, 'missing.key')), code('BH_FILE_READ_FAILED'))
  })
})

describe('generateKeyFile', () => {
  it('writes 64 digits and a newline, mode 0600 whatever the umask', () => {
    const path = join(folder, 'mode.key')
    const before = process.umask(0)
    try {
      generateKeyFile(path)
    } finally {
      process.umask(before)
    }
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.match(readFileSync(path, 'utf8'), /^[0-9a-f]{64}\n$/)
  })

  it('keeps an existing key unless forced', () => {
    const path = join(folder, 'kept.key')
    const first = generateKeyFile(path)
    assert.throws(() => generateKeyFile(path), code('BH_FILE_EXISTS'))
    assert.deepEqual(readKeyFile(path), first)
    const second = generateKeyFile(path, { force: true })
    assert.notDeepEqual(second, first)
    assert.deepEqual(readKeyFile(path), second)
  })
})

describe('publicKeyOf and addressOf', () => {
  it('derive the published keys', () => {
    assert.equal(publicKeyOf(vectors.brokerPrivateKey).toHex(), vectors.brokerPublicKeyHex)
    assert.equal(publicKeyOf(vectors.serverPrivateKey).toHex(), vectors.serverPublicKeyHex)
  })

  it('derives the first account of the well-known development mnemonic', () => {
    const key = parsePrivateKey('ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80')
    assert.ok(key.ok)
    assert.equal(addressOf(key.privateKey), '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266')
  })

  it('refuse a key out of range', () => {
    assert.throws(() => publicKeyOf(new Uint8Array(32)), code('BH_ECIES_KEY_INVALID'))
    assert.throws(() => addressOf(new Uint8Array(31)), code('BH_ECIES_KEY_INVALID'))
  })
})

function code(expected: string): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === expected && !error.retryable
}
