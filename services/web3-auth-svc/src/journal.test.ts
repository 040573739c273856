import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { systemClock as clock } from '@blockhost/kit/clock.ts'
import { createLog, type Log } from '@blockhost/kit/log.ts'
import { createJournal } from './journal.ts'

const name = 'web3-auth-svc'

describe('createJournal', () => {
  it('writes the lines that the log of every other service has', () => {
    const folder = mkdtempSync(join(tmpdir(), 'journal-'))
    try {
      const file = join(folder, 'log')
      const ours: string[] = []
      for (const log of [
        createLog({ name, level: 'info', file }),
        createJournal({ name, level: 'info', clock, write: line => ours.push(line) }),
      ])
        say(log)
      const timeless = (text: string) => text.replace(/"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"/g, '"time":""')
      assert.equal(timeless(ours.join('')), timeless(readFileSync(file, 'utf8')))
      assert.equal(ours.length, 3)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('takes numbers that JSON has no word for', () => {
    const lines: string[] = []
    createJournal({ name, level: 'debug', clock, write: line => lines.push(line) }).debug({ tokenId: 7n }, 'm')
    assert.equal(JSON.parse(lines[0]!).tokenId, '7')
  })
})

function say(log: Log): void {
  log.debug({ user: 'admin' }, 'hidden')
  log.info({}, 'ready')
  log.warn({ user: 'admin', rhost: undefined, pagePort: 8443, list: ['a', null] }, 'with "quotes" and\nlines')
  log.error({ problem: 'ü\u0007' }, 'no')
}
