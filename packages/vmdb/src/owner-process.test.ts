import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemProcesses } from './owner-process.ts'

test('systemProcesses: this process lives', () => {
  const processes = systemProcesses()
  assert.match(processes.self, /^[\da-f-]{36} \d+ \d+$/)
  assert.equal(processes.isAlive(processes.self), true)
})

test('systemProcesses: gone, a zombie, another one of the same number, or one before a reboot, does not live', t => {
  const proc = mkdtempSync(join(tmpdir(), 'bh-proc-'))
  t.after(() => rmSync(proc, { recursive: true }))
  mkdirSync(join(proc, 'sys/kernel/random'), { recursive: true })
  mkdirSync(join(proc, '7'))
  const boot = (id: string) => writeFileSync(join(proc, 'sys/kernel/random/boot_id'), `${id}\n`)
  const stat = (state: string, start: number) =>
    writeFileSync(join(proc, '7/stat'), `7 (a (b) c) ${state} ${'0 '.repeat(18)}${start} 0\n`)
  boot('first')
  stat('S', 1234)
  const { self } = systemProcesses(7, proc)
  assert.equal(self, 'first 7 1234')
  const lives = () => systemProcesses(7, proc).isAlive(self)
  assert.equal(lives(), true)
  stat('Z', 1234)
  assert.equal(lives(), false)
  stat('S', 1235)
  assert.equal(lives(), false)
  stat('S', 1234)
  boot('second')
  assert.equal(lives(), false)
  boot('first')
  rmSync(join(proc, '7'), { recursive: true })
  assert.equal(lives(), false)
})
