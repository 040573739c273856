import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openDatabase, transaction } from './sqlite.ts'

const first = (db: { exec(sql: string): void }) => db.exec('CREATE TABLE t (a INTEGER) STRICT')
const second = (db: { exec(sql: string): void }) => db.exec('INSERT INTO t VALUES (1)')

test('openDatabase: runs each migration once; a failing one changes nothing', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sqlite-'))
  const path = join(folder, 'sub', 'x.db')
  try {
    openDatabase(path, [first]).close()
    const failing = (db: { exec(sql: string): void }) => {
      second(db)
      throw new Error('broken')
    }
    assert.throws(() => openDatabase(path, [first, failing]), /broken/)
    const db = openDatabase(path, [first, second])
    assert.equal(db.prepare('SELECT COUNT(*) AS n FROM t').get()?.n, 1)
    assert.deepEqual({ ...db.prepare('PRAGMA synchronous').get() }, { synchronous: 2 })
    assert.deepEqual({ ...db.prepare('PRAGMA journal_mode').get() }, { journal_mode: 'wal' })
    db.close()
    assert.throws(() => openDatabase(path, [first]), { code: 'BH_DATABASE_TOO_NEW', exitCode: 78 })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('transaction: commits the result, or rolls back and throws on', () => {
  const db = openDatabase(':memory:', [first])
  assert.equal(
    transaction(db, () => {
      db.exec('INSERT INTO t VALUES (1)')
      return 7
    }),
    7,
  )
  assert.throws(() =>
    transaction(db, () => {
      db.exec('INSERT INTO t VALUES (2)')
      throw new Error('no')
    }),
  )
  assert.equal(db.prepare('SELECT COUNT(*) AS n FROM t').get()?.n, 1)
  assert.equal(db.isTransaction, false)
})

test('openDatabase: a path that can not be opened is named', () => {
  assert.throws(() => openDatabase('/dev/null/x.db', []), { code: 'BH_DATABASE_OPEN_FAILED' })
})
