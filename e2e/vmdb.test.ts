import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { systemClock } from '@blockhost/kit/clock.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import { openVmDatabase, type VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { fieldPools, fieldWallet } from './vmdb/field.ts'

/** Two hundred and fifty starts of the same program: compiled once. */
const compileCache = join(tmpdir(), 'bh-vmdb-compile-cache')
const creator = fileURLToPath(new URL('./vmdb/creator.ts', import.meta.url))

function makeFolder(t: TestContext): { database: string; journal: (prefix: string) => string } {
  const folder = mkdtempSync(join(tmpdir(), `bh-vmdb-${process.pid}-`))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return { database: join(folder, 'vms.db'), journal: prefix => join(folder, `${prefix}.jsonl`) }
}

function startCreator(t: TestContext, args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, [creator, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_COMPILE_CACHE: compileCache },
  })
  t.after(() => child.kill('SIGKILL'))
  return child
}

type Note = { word: 'reserved' | 'active' | 'destroyed'; name: string; vmid: number; ipv4: string; ipv6: string }

/** Reads what a creator noted; the last line may be cut. */
function readJournal(path: string): Note[] {
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8').split('\n')
  return lines.slice(0, -1).map(line => JSON.parse(line) as Note)
}

/** No two living VMs share a number, and the free space is exactly what nobody has: the whole pool can be taken. */
function checkNumbers(db: VmDatabase): Vm[] {
  const living = db.listVms().filter(vm => vm.state !== 'destroyed')
  for (const key of ['name', 'vmid', 'ipv4', 'ipv6'] as const)
    assert.equal(new Set(living.map(vm => vm[key])).size, living.length, `${key} doubled`)
  return living
}

function checkNothingLost(db: VmDatabase, notes: readonly Note[]): void {
  const last = new Map<string, Note['word']>()
  for (const note of notes) {
    last.set(note.name, note.word)
    if (note.word !== 'reserved') continue
    const vm = db.findVm(note.name)
    assert.deepEqual([vm?.vmid, vm?.ipv4, vm?.ipv6], [note.vmid, note.ipv4, note.ipv6], `${note.name} was lost`)
  }
  const order = ['creating', 'active', 'destroying', 'destroyed']
  for (const [name, word] of last) {
    const state = db.findVm(name)!.state
    const atLeast = order.indexOf(word === 'reserved' ? 'creating' : word)
    assert.ok(order.indexOf(state) >= atLeast, `${name} is ${state} although it was ${word}`)
  }
}

test('fifty creators at once, from the first open of a new database on: nothing lost, nothing doubled', async t => {
  const { database, journal } = makeFolder(t)
  const prefixes = Array.from({ length: 50 }, (_, n) => `c${n}`)
  const children = prefixes.map(prefix => startCreator(t, [database, journal(prefix), prefix, '6']))
  const codes = await Promise.all(children.map(async child => (await once(child, 'exit'))[0]))
  assert.deepEqual(
    codes,
    prefixes.map(() => 0),
  )
  using db = openVmDatabase(database, fieldPools, systemClock)
  const notes = prefixes.flatMap(prefix => readJournal(journal(prefix)))
  checkNothingLost(db, notes)
  assert.equal(notes.filter(note => note.word === 'reserved').length, 300)
  assert.equal(checkNumbers(db).length, 200)
})

test('two hundred creators killed with SIGKILL at random points: nothing lost, nothing doubled, the abandoned are found', async t => {
  const { database, journal } = makeFolder(t)
  let kills = 0
  const runOne = async (prefix: string) => {
    const child = startCreator(t, [database, journal(prefix), prefix, '100000'])
    await once(child.stdout!, 'data')
    const exit = once(child, 'exit')
    const timer = setTimeout(() => child.kill('SIGKILL'), Math.random() * 40)
    const [, signal] = await exit
    clearTimeout(timer)
    assert.equal(signal, 'SIGKILL')
    kills++
  }
  const lane = async (lane: number) => {
    for (let n = 0; n < 50; n++) await runOne(`k${lane}-${n}`)
  }
  await Promise.all([0, 1, 2, 3].map(lane))
  assert.equal(kills, 200)

  using db = openVmDatabase(database, fieldPools, systemClock)
  const prefixes = [0, 1, 2, 3].flatMap(l => Array.from({ length: 50 }, (_, n) => `k${l}-${n}`))
  const notes = prefixes.flatMap(prefix => readJournal(journal(prefix)))
  assert.ok(notes.length > 200, `only ${notes.length} steps were done`)
  checkNothingLost(db, notes)
  checkNumbers(db)
  const creating = db.listVms({ state: 'creating' }).map(vm => vm.name)
  assert.deepEqual(
    db.reapAbandoned().map(vm => vm.name),
    creating,
  )
  t.diagnostic(`${notes.length} steps noted, ${creating.length} VMs abandoned half-made`)
  for (const vm of db.listVms()) {
    if (vm.state === 'destroyed') continue
    db.markDestroying(vm.name)
    db.markDestroyed(vm.name)
  }
  // Each reservation wakes at most a hundred numbers that have rested; in the end the pools are whole again.
  const reserve = (name: string) => db.reserveVm({ name, ownerWallet: fieldWallet, expiresAt: 2_000_000_000 })
  for (let n = 0; n < notes.length / 20; n++) {
    reserve(`waking-${n}`)
    db.markDestroying(`waking-${n}`)
    db.markDestroyed(`waking-${n}`)
  }
  const fresh = reserve('fresh')
  assert.deepEqual([fresh.vmid, fresh.ipv4, fresh.ipv6], [100, '10.0.0.2', '2001:db8::2'])
})
