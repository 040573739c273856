import assert from 'node:assert/strict'
import { mkdtempSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { openLastKnown } from './last-known.ts'

const token = { chainId: 1, contract: '0x00000000000000000000000000000000000000aa', tokenId: 5n } as const
const owner = '0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a'
const dayMs = 86_400_000

describe('openLastKnown', () => {
  it('finds what was remembered, over a restart, for that token of that contract on that chain only', () => {
    const { open, folder } = setUp()
    open().remember(token, owner, 0)
    assert.equal(open().find(token)?.owner, owner)
    for (const other of [
      { tokenId: 6n },
      { chainId: 2 },
      { contract: '0x00000000000000000000000000000000000000ab' },
    ] as const)
      assert.equal(open().find({ ...token, ...other }), undefined)
    assert.equal(statSync(join(folder, 'ownership.json')).mode & 0o777, 0o600)
  })

  it('finds nothing older than configured, and nothing when the clock was set back', () => {
    const { open, world } = setUp()
    open().remember(token, owner, 0)
    world.nowMs += dayMs
    assert.ok(open().find(token))
    world.nowMs += 1
    assert.equal(open().find(token), undefined)
    world.nowMs -= 2 * dayMs
    assert.equal(open().find(token), undefined)
  })

  it('finds no one whose access is over meanwhile', () => {
    const { open, world } = setUp()
    open().remember(token, owner, world.nowMs / 1000 + 60)
    world.nowMs += 60_000
    assert.ok(open().find(token))
    world.nowMs += 1000
    assert.equal(open().find(token), undefined)
  })

  it('forgets, also on disk', () => {
    const { open } = setUp()
    open().remember(token, owner, 0)
    open().forget(token)
    assert.equal(open().find(token), undefined)
  })

  it('0 bridges nothing', () => {
    const { open, world } = setUp(0)
    open().remember(token, owner, 0)
    world.nowMs += 1
    assert.equal(open().find(token), undefined)
  })

  it('a damaged or foreign file counts as empty, one that can not be written is no failure', () => {
    const { open, folder } = setUp()
    for (const text of [
      '',
      '{',
      '[]',
      'null',
      '{"v":2,"tokens":{}}',
      `{"v":1,"tokens":{"1:${token.contract}:5":{"owner":5}}}`,
    ]) {
      writeFileSync(join(folder, 'ownership.json'), text)
      assert.equal(open().find(token), undefined, text)
    }
    const lost = openLastKnown(join(folder, 'missing'), dayMs, { clock: setUp().clock, log: silentLog })
    lost.remember(token, owner, 0)
    assert.ok(lost.find(token))
  })

  it('keeps a bounded number of tokens, the newest', () => {
    const { open, world } = setUp()
    const known = open()
    for (let id = 0n; id < 100n; id++) {
      world.nowMs += 1
      known.remember({ ...token, tokenId: id }, owner, 0)
    }
    assert.equal(open().find({ ...token, tokenId: 10n }), undefined)
    assert.ok(open().find({ ...token, tokenId: 99n }))
  })
})

function setUp(lastKnownMs = dayMs) {
  const folder = mkdtempSync(join(tmpdir(), 'last-known-'))
  const world = { nowMs: 1_700_000_000_000 }
  const clock: Clock = { now: () => world.nowMs, monotonic: () => 0, sleep: async () => undefined }
  return { open: () => openLastKnown(folder, lastKnownMs, { clock, log: silentLog }), world, folder, clock }
}
