import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { parseArgv } from './argv.ts'
import { runTool } from './tool.ts'

const main = fileURLToPath(new URL('main.ts', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'pam-web3-tool-'))
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text, { mode: 0o600 })
  return join(folder, name)
}

// Published vectors.
const key = file('key', `${'11'.repeat(32)}\n`)
const signature = file('signature', `0x${'42'.repeat(65)}\n`)
const details = '{"hostname": "2001:db8::2", "port": 22, "username": "admin"}'
const accessData =
  '0x000102030405060708090a0b7c36127b0c3cec9d6642732c6f279e995a45991b35088387ba40f2bfe1374c16c8822e43e1b297b61c9296' +
  '96e44babe255d0097cc96278f6d285b7665c4c530083c0e4c4c062d125fa057b76'
const ephemeral =
  '04466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276728176c3c6431f8eeda4538dc37c865e2784f3a9e77d0' +
  '44f33e407797e1278a'
const noble = `${ephemeral}000102030405060708090a0b87f37c3a864c15a1e05f7596208bd531c935d0ed357b39cf839713c9c833`
const ecies = `${ephemeral}000102030405060708090a0b0c0d0e0fa6e84fa30439e348296b880823ea497e8e6d7ca0514b8bcff782b71dcd6a`
const publicKey =
  '044f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa385b6b1b8ead809ca67454d9683fcf2ba03456d6fe2c4a' +
  'be2b07f0fbdbb2f1c1'

describe('subcommands', () => {
  it('decrypt-symmetric: reads the published vector, with and without 0x, from argv and from a file', () => {
    for (const more of [
      ['-c', accessData],
      ['-c', accessData.slice(2)],
      ['--ciphertext-file', file('ciphertext', `${accessData}\n`)],
    ])
      assert.equal(run('decrypt-symmetric', '--signature-file', signature, ...more), details)
  })

  it('encrypt-symmetric: prints one 0x… that decrypts to the text', () => {
    const blob = run('encrypt-symmetric', '--signature-file', signature, '--plaintext-file', file('text', 'a\nb'))
    assert.match(blob, /^0x[0-9a-f]+$/)
    assert.equal(run('decrypt-symmetric', '--signature-file', signature, '-c', blob), 'a\nb')
  })

  it('decrypt: each scheme under each of its names, noble when none is named', () => {
    const text = 'server-prod-01'
    assert.equal(run('decrypt', '-f', key, '-c', noble), text)
    for (const [names, blob] of [
      [['noble', 'noble-secp256k1', 'auto'], noble],
      [['ecies', 'secp256k1', 'auto'], ecies],
    ] as const)
      for (const name of names) assert.equal(run('decrypt', '-s', name, '-f', key, '-c', `0x${blob}`), text, name)
    const hint = (words: RegExp) => (error: unknown) =>
      code('BH_ECIES_MESSAGE_INVALID')(error) && words.test((error as BlockHostError).hint ?? '')
    assert.throws(() => run('decrypt', '-f', key, '-c', ecies), hint(/Try `-s auto`/))
    assert.throws(() => run('decrypt', '-s', 'auto', '-f', key, '-c', '00'), hint(/neither scheme/))
  })

  it('decrypt x25519: reads what MetaMask writes, in its three forms', () => {
    const bob = file('bob', '7e5374ec2ef0d91761a6e72fdf8f6ac665519bfdf6da0a2329cf0d804514b816')
    assert.equal(run('wallet-encryption-key', '-f', bob), 'C5YMNdqE4kLgxQhJO1MfuQcHP5hjVSXzamzd/TxlR0U=')
    const message = JSON.stringify({
      version: 'x25519-xsalsa20-poly1305',
      nonce: '1dvWO7uOnBnO7iNDJ9kO9pTasLuKNlej',
      ephemPublicKey: 'FBH1/pAEHOOW14Lu3FWkgV3qOEcuL78Zy+qW1RwzMXQ=',
      ciphertext: 'f8kBcl/NCyf3sybfbwAKk/np2Bzt9lRVkZejr6uh5FgnNlH/ic62DZzy',
    })
    const forms = [message, `0x${Buffer.from(message).toString('hex')}`, Buffer.from(message).toString('base64')]
    for (const scheme of ['x25519', 'eth_decrypt', 'nacl'])
      for (const form of forms)
        assert.equal(run('decrypt', '-s', scheme, '-f', bob, '-c', form), 'My name is Satoshi Buterin')
    for (const wrong of ['', '{}', message.replace('f8kB', 'f9kB'), message.replace('1dvW', '')])
      assert.throws(() => run('decrypt', '-s', 'nacl', '-f', bob, '-c', wrong), code('BH_ETH_DECRYPT_FAILED'), wrong)
    assert.throws(() => run('decrypt', '-s', 'nacl', '-f', key, '-c', message), code('BH_ETH_DECRYPT_FAILED'))
  })

  it('generate-keypair: a file of mode 0600 that is never replaced unasked; the public key on request', () => {
    const path = join(folder, 'new.key')
    const shown = run('generate-keypair', '-o', path, '--show-pubkey')
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal(run('derive-pubkey', '-f', path), shown)
    const first = readFileSync(path, 'utf8')
    assert.throws(
      () => run('generate-keypair', '-o', path),
      (error: unknown) => code('BH_FILE_EXISTS')(error) && /--force/.test((error as BlockHostError).hint ?? ''),
    )
    assert.equal(run('generate-keypair', '-o', path, '--force'), '')
    assert.notEqual(readFileSync(path, 'utf8'), first)
    assert.match(run('generate-keypair'), /^[0-9a-f]{64}$/)
    const nowhere = join(folder, 'misstyped', 'new.key')
    assert.throws(() => run('generate-keypair', '-o', nowhere), /there is no folder/)
    assert.equal(existsSync(join(folder, 'misstyped')), false)
  })

  it('derive-pubkey: 65 bytes', () => assert.equal(run('derive-pubkey', '-f', key), publicKey))

  it('says which input can’t be used, never what it holds', () => {
    const bad = file('bad', `${'11'.repeat(31)}zz`)
    for (const args of [
      ['derive-pubkey', '-f', bad],
      ['derive-pubkey', '-f', join(folder, 'missing')],
      ['decrypt-symmetric', '--signature-file', bad, '-c', accessData],
      ['decrypt', '-f', key, '-c', 'zz'],
      ['decrypt', '-f', key, '-c', ''],
    ])
      assert.throws(
        () => run(...args),
        (error: unknown) => code('BH_TOOL_INPUT_INVALID')(error) && !String(error).includes('1111'),
        args.join(' '),
      )
  })
})

describe('parseArgv', () => {
  it('refuses secrets on the command line, naming the other way', () => {
    for (const [args, instead] of [
      [['encrypt-symmetric', '-s', '0x42', '-p', 'x'], '--signature-file'],
      [['encrypt-symmetric', '--signature-file', 'f', '-p', 'x'], '--plaintext-file'],
      [['derive-pubkey', '-k', '11'], '--private-key-file'],
      [['decrypt', '--private-key', '11', '-c', '22'], '--private-key-file'],
    ] as const) {
      const command = parseArgv(args)
      assert.equal(command.kind, 'usage')
      assert.match(command.kind === 'usage' ? command.problem : '', new RegExp(`secret .* use ${instead}$`))
    }
  })

  it('helps with all, with one subcommand, and with none that is not there', () => {
    const text = (...args: string[]) => {
      const command = parseArgv(args)
      return command.kind === 'help' ? command.text : command.kind
    }
    for (const all of ['help', '--help', '-h'])
      assert.match(text(all), /generate-keypair.*decrypt-symmetric.*Exit codes/s)
    for (const one of [
      ['help', 'decrypt'],
      ['decrypt', '--help'],
      ['decrypt', '-f', 'k', '-h'],
    ]) {
      assert.match(text(...one), /decrypt .*SCHEME/)
      assert.doesNotMatch(text(...one), /generate-keypair/)
    }
    assert.equal(text('help', 'toString'), 'usage')
    for (const line of text('help').split('\n')) assert.ok(line.length <= 96, line)
  })

  it('names what there is instead', () => {
    const problem = (...args: string[]) => (parseArgv(args) as { problem: string }).problem
    assert.match(problem(), /a subcommand is needed: generate-keypair, derive-pubkey, /)
    assert.match(problem('derive-key'), /there is no subcommand derive-key; there are generate-keypair, derive-pubkey/)
    assert.match(problem('decrypt', '-s', 'rot13', '-f', 'k', '-c', 'a'), /there are noble, .*auto/)
    assert.match(problem('derive-pubkey'), /-f FILE \(--private-key-file\) is needed/)
  })

  it('says what is missing, unknown or asked for twice', () => {
    for (const args of [
      [],
      ['nonsense'],
      ['decrypt', '-f', 'k'],
      ['decrypt', '-f', 'k', '-c', 'a', '--ciphertext-file', 'b'],
      ['decrypt', '-s', 'rot13', '-f', 'k', '-c', 'a'],
      ['decrypt', '-f', '-', '--ciphertext-file', '-'],
      ['derive-pubkey'],
      ['derive-pubkey', '--what'],
    ])
      assert.equal(parseArgv(args).kind, 'usage', args.join(' '))
  })
})

describe('the program', () => {
  it('prints bare values, reads standard input, and exits by what happened', () => {
    const input = `0x${'42'.repeat(65)}`
    const args = [main, 'decrypt-symmetric', '--signature-file', '-', '-c', accessData]
    assert.equal(execFileSync(process.execPath, args, { input, encoding: 'utf8' }), `${details}\n`)
    const status = (...words: string[]) => spawnSync(process.execPath, [main, ...words]).status
    assert.equal(status('help'), 0)
    assert.equal(status(), 2)
    assert.equal(status('decrypt', '--help'), 0)
    assert.equal(status('decrypt', '-k', '11'), 2)
    assert.equal(status('decrypt', '-f', key, '-c', ecies), 1)
    assert.equal(status('derive-pubkey', '-f', join(folder, 'missing')), 78)
  })
})

function run(...args: string[]): string {
  const command = parseArgv(args)
  if (command.kind === 'usage' || command.kind === 'help' || command.kind === 'version') throw new Error(command.kind)
  const result = runTool(command)
  return typeof result === 'string' ? result : new TextDecoder().decode(result)
}

function code(expected: string): (error: unknown) => boolean {
  return error => error instanceof BlockHostError && error.code === expected
}
