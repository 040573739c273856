import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { findBinding, parseTokenId, parseWalletList } from './user-binding.ts'

const passwd = [
  'root:x:0:0:root:/root:/bin/bash',
  'admin:x:1000:1000:nft=5:/home/admin:/bin/bash',
  'second:x:1001:1001:Some Name, nft=0x10 ,nft=7:/home/second:/bin/bash',
  'wrong:x:1002:1002:nft=five:/home/wrong:/bin/bash',
  'short:x:1003',
  'admin:x:0:0:nft=9:/root:/bin/bash',
  '',
].join('\n')

describe('findBinding', () => {
  it('reads the first nft= of the GECOS field of the first line of the user', () => {
    assert.deepEqual(findBinding(passwd, 'admin'), { kind: 'token', tokenId: 5n })
    assert.deepEqual(findBinding(passwd, 'second'), { kind: 'token', tokenId: 16n })
  })

  it('tells users without a token from names that are none', () => {
    for (const user of ['root', 'wrong']) assert.deepEqual(findBinding(passwd, user), { kind: 'unbound' }, user)
    for (const user of ['', 'adm', 'Admin', 'short', 'admin:x', '/home/admin', 'nft=5'])
      assert.deepEqual(findBinding(passwd, user), { kind: 'unknown' }, user)
  })

  it('never throws, whatever the file holds', () => {
    fc.assert(fc.property(fc.string(), fc.string(), (file, user) => void findBinding(file, user)))
  })
})

describe('parseTokenId', () => {
  it('reads decimal, 0x-hex and 64 bare hex digits alike', () => {
    assert.equal(parseTokenId(' 255 '), 255n)
    assert.equal(parseTokenId('0xFF'), 255n)
    assert.equal(parseTokenId('ff'.padStart(64, '0')), 255n)
    assert.equal(parseTokenId(`0x${'f'.repeat(64)}`), (1n << 256n) - 1n)
  })

  it('refuses what is no uint256', () => {
    for (const text of ['', '-1', '1.5', 'ff', '0x', `0x1${'0'.repeat(64)}`, String(1n << 256n), '5 6', '１'])
      assert.equal(parseTokenId(text), undefined, text)
  })
})

describe('parseWalletList', () => {
  const address = '0x19E7E376E7C213B7E7E7E46CC70A5DD086DAFF2A'
  const list = parseWalletList(`# who may in\n\n${address}:admin\n${address.slice(2).toLowerCase()} : backup\nnobody\n`)

  it('allows exactly the pairs that are listed, in any case of the address', () => {
    assert.ok(list.allows(address.toLowerCase(), 'admin'))
    assert.ok(list.allows(address, 'backup'))
    assert.equal(list.allows(address, 'root'), false)
    assert.equal(list.allows(address, 'Admin'), false)
    assert.equal(list.allows(`0x${'0'.repeat(40)}`, 'admin'), false)
  })

  it('names the lines that mean nothing', () => assert.deepEqual(list.badLines, [5]))
})
