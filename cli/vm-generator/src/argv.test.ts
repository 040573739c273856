import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseGeneratorArgs } from './argv.ts'

const owner = `0x${'aB'.repeat(20)}`

function args(...argv: string[]) {
  const parsed = parseGeneratorArgs(argv)
  if (!parsed.ok) assert.fail(parsed.message)
  return parsed.args
}

describe('parseGeneratorArgs', () => {
  test('only says what it would do unless told to apply; mints unless told not to', () => {
    const given = args('blockhost-001', '--owner-wallet', owner)
    assert.equal(given.apply, false)
    assert.equal(given.mint, true)
    assert.equal(given.cloudInit, 'nft-auth')
    assert.equal(args('x', '--owner-wallet', owner, '--skip-mint').mint, false)
  })

  test('takes the documented flags', () => {
    const flags = [
      '--cpu',
      '2',
      '--memory',
      '4096',
      '--disk',
      '40',
      '--expiry-days',
      '3',
      '--username',
      'bob',
      '--apply',
    ]
    const given = args('vm.1', '--owner-wallet', owner, ...flags, '--cloud-init', 'devbox', '--nft-token-id', '7')
    const { vcpus, memoryMiB, diskGiB, expiryDays, username, apply, cloudInit, nftTokenId, mint } = given
    assert.deepEqual(
      { vcpus, memoryMiB, diskGiB, expiryDays, username, apply, cloudInit, nftTokenId, mint },
      {
        ...{ vcpus: 2, memoryMiB: 4096, diskGiB: 40, expiryDays: 3, username: 'bob', apply: true },
        ...{ cloudInit: 'devbox', nftTokenId: 7n, mint: false },
      },
    )
  })

  test('refuses a signature on the command line, saying why', () => {
    const parsed = parseGeneratorArgs(['x', '--owner-wallet', owner, '--user-signature', `0x${'11'.repeat(65)}`])
    assert.match(parsed.ok ? '' : parsed.message, /would show a key to everybody/)
  })

  test('refuses what makes no sense', () => {
    for (const argv of [
      [],
      ['a', 'b', '--owner-wallet', owner],
      ['a'],
      ['../a', '--owner-wallet', owner],
      ['-a', '--owner-wallet', owner],
      ['a', '--owner-wallet', '0x12'],
      ['a', '--owner-wallet', owner, '--cpu', '0'],
      ['a', '--owner-wallet', owner, '--memory', '1e3'],
      ['a', '--owner-wallet', owner, '--username', 'root;x'],
      ['a', '--owner-wallet', owner, '--cloud-init-content', 'relative.yaml'],
      ['a', '--owner-wallet', owner, '--public-secret', 'x'],
      ['a', '--owner-wallet', owner, '--nope'],
    ])
      assert.equal(parseGeneratorArgs(argv).ok, false, argv.join(' '))
  })
})
