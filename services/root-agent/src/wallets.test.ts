import assert from 'node:assert/strict'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createFakeHost } from './fake-host.ts'

const one = `0x${'11'.repeat(20)}`
const two = `0x${'22'.repeat(20)}`

function open(t: TestContext) {
  const fake = createFakeHost(t)
  const folder = fake.config.paths.config
  const bookPath = join(folder, 'addressbook.json')
  const call = async (action: string, params: object) =>
    (await fake.agent.handle({ action, params })) as Record<string, unknown>
  const book = () => JSON.parse(readFileSync(bookPath, 'utf8'))
  const setBook = (value: unknown) =>
    writeFileSync(bookPath, typeof value === 'string' ? value : JSON.stringify(value), { mode: 0o640 })
  return { ...fake, folder, call, book, setBook }
}

test('generate-wallet: a key for the group, and its entry beside the others', async t => {
  const { call, folder, book, setBook } = open(t)
  setBook({ admin: { address: one } })
  const answer = await call('generate-wallet', { name: 'hot' })
  assert.equal(answer.keyfile, join(folder, 'hot.key'))
  assert.match(String(answer.address), /^0x[\da-fA-F]{40}$/)
  assert.equal(statSync(join(folder, 'hot.key')).mode & 0o777, 0o640)
  assert.match(readFileSync(join(folder, 'hot.key'), 'utf8'), /^[\da-f]{64}\n$/)
  assert.deepEqual(book(), {
    admin: { address: one },
    hot: { address: answer.address, keyfile: join(folder, 'hot.key') },
  })
  assert.equal((await call('generate-wallet', { name: 'hot' })).code, 'BH_WALLET_EXISTS')
})

test('generate-wallet: goes on after an interruption, with the key that is there', async t => {
  const { call, book, setBook } = open(t)
  const { address } = await call('generate-wallet', { name: 'hot' })
  setBook({})
  assert.equal((await call('generate-wallet', { name: 'hot' })).address, address)
  assert.equal(book().hot.address, address)
})

test('generate-wallet: reserved names, other names for files, a broken book', async t => {
  const { call, setBook } = open(t)
  for (const name of [
    'admin',
    'server',
    'dev',
    'broker',
    'deployer',
    'minter',
    'owner',
    '../x',
    'a.key',
    'A',
    '',
    'a\n',
    '-a',
    'x'.repeat(33),
    'a/b',
  ])
    assert.equal((await call('generate-wallet', { name })).code, 'BH_ACTION_REFUSED', name)
  setBook('{ broken')
  assert.equal((await call('generate-wallet', { name: 'hot' })).code, 'BH_CONFIG_INVALID')
})

test('addressbook-save: adds and changes, loses nothing; reserved entries only as they are', async t => {
  const { call, book, setBook, folder } = open(t)
  const server = { address: one, keyfile: join(folder, 'deployer.key') }
  setBook({ admin: { address: one }, server, old: { address: two } })
  assert.equal(
    (await call('addressbook-save', { entries: { friend: { address: two }, admin: { address: one }, server } })).ok,
    true,
  )
  assert.deepEqual(Object.keys(book()), ['admin', 'server', 'old', 'friend'])
  for (const entries of [
    { admin: { address: two } },
    { server: { address: one } },
    { dev: { address: two } },
    { broker: { address: two } },
  ])
    assert.equal((await call('addressbook-save', { entries })).code, 'BH_ACTION_REFUSED')
  assert.equal((await call('addressbook-save', { entries: {}, remove: ['admin'] })).code, 'BH_ACTION_REFUSED')
  assert.equal((await call('addressbook-save', { remove: ['old', 'none'] })).ok, true)
  assert.deepEqual(Object.keys(book()), ['admin', 'server', 'friend'])
})

test('addressbook-save: refuses other key files, addresses and names', async t => {
  const { call, folder } = open(t)
  const save = (name: string, entry: object) => call('addressbook-save', { entries: { [name]: entry } })
  for (const keyfile of [
    '/etc/shadow',
    `${folder}/../x.key`,
    `${folder}x/a.key`,
    `${folder}/a.key\n`,
    `${folder}/sub/a.key`,
    'a.key',
  ])
    assert.equal((await save('a', { address: one, keyfile })).code, 'BH_ACTION_REFUSED', keyfile)
  assert.equal((await save('a', { address: '0x1' })).code, 'BH_ACTION_REFUSED')
  assert.equal((await save('a', { address: one, extra: 1 })).code, 'BH_ACTION_REFUSED')
  assert.equal((await save('A b', { address: one })).code, 'BH_ACTION_REFUSED')
  assert.equal((await save('a', { address: one, keyfile: `${folder}/a.key` })).ok, true)
})

test('calls at once lose nothing', async t => {
  const { call, book } = open(t)
  const names = Array.from({ length: 20 }, (_, n) => `w${n}`)
  await Promise.all(names.map(name => call('addressbook-save', { entries: { [name]: { address: one } } })))
  assert.deepEqual(Object.keys(book()).sort(), names.sort())
})
