import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createLog } from './log.ts'

test('createLog: JSON lines with level, time, name, fields and msg; quiet below its level; reopens for logrotate', () => {
  const folder = mkdtempSync(join(tmpdir(), 'log-'))
  const file = join(folder, 'sub', 'broker.log')
  try {
    const log = createLog({ name: 'broker', level: 'info', file })
    log.debug({}, 'hidden')
    log.warn({ prefix: '2001:db8::/64' }, 'shown')
    log.setLevel('debug')
    log.debug({}, 'shown too')
    const lines = readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
    assert.deepEqual(
      lines.map(({ level, name, msg, prefix }) => ({ level, name, msg, prefix })),
      [
        { level: 'warn', name: 'broker', msg: 'shown', prefix: '2001:db8::/64' },
        { level: 'debug', name: 'broker', msg: 'shown too', prefix: undefined },
      ],
    )
    assert.match(lines[0].time, /^\d{4}-\d\d-\d\dT.*Z$/)
    assert.equal(statSync(file).mode & 0o777, 0o640)
    renameSync(file, `${file}.1`)
    log.reopen()
    log.info({}, 'after')
    assert.match(readFileSync(file, 'utf8'), /"after"/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
