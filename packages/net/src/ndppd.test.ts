import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { createNdppd } from './ndppd.ts'
import type { System } from './system.ts'

const folder = '/run/test'
const configPath = `${folder}/ndppd-wg0.conf`
const pidPath = `${folder}/ndppd-wg0.pid`

/** A machine on which ndppd writes its pid file `startsAfter` looks later; `Infinity`: it dies at once. */
function machine(startsAfter = 0) {
  const files = new Map<string, string>()
  const events: string[] = []
  let nextPid = 100
  let wait = startsAfter
  let starting: number | undefined
  const system: System = {
    read: async path => {
      if (path === pidPath && starting !== undefined && wait-- === 0) {
        files.set(pidPath, `${starting}\n`)
        files.set(`/proc/${starting}/cmdline`, `ndppd\0-d\0-c\0${configPath}\0-p\0${pidPath}\0`)
        starting = undefined
      }
      return files.get(path)
    },
    write: async (path, text) => {
      events.push(`write ${path}`)
      files.set(path, text)
    },
    signal: (pid, name) => {
      events.push(`${name} ${pid}`)
      files.delete(`/proc/${pid}/cmdline`)
    },
    hasProgram: () => true,
  }
  const exec: Exec = async (command, args) => {
    events.push([command, ...args].join(' '))
    starting = nextPid++
    wait = startsAfter
    return { stdout: '', stderr: '' }
  }
  let now = 0
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    sleep: async ms => {
      now += ms
    },
  }
  const ndppd = createNdppd({ exec, system, clock, folder, name: 'wg0' })
  return { ndppd, files, events }
}

const start = `ndppd -d -c ${configPath} -p ${pidPath}`

describe('createNdppd', () => {
  test('starts once, and not again while it runs with the same configuration', async () => {
    const { ndppd, events } = machine(3)
    assert.equal(await ndppd.ensure('a'), 'started ndppd')
    assert.equal(await ndppd.ensure('a'), undefined)
    assert.deepEqual(events, [`write ${configPath}`, start])
  })
  test('starts again with another configuration', async () => {
    const { ndppd, events } = machine()
    await ndppd.ensure('a')
    assert.equal(await ndppd.ensure('b'), 'restarted ndppd')
    assert.deepEqual(events.slice(2), ['SIGTERM 100', `write ${configPath}`, start])
  })
  test('starts again when it died, without writing the same file again', async () => {
    const { ndppd, files, events } = machine()
    await ndppd.ensure('a')
    files.delete('/proc/100/cmdline')
    assert.equal(await ndppd.ensure('a'), 'started ndppd')
    assert.deepEqual(events.slice(2), [start])
  })
  test('a pid that another program got is not ours to stop', async () => {
    const { ndppd, files, events } = machine()
    files.set(pidPath, '55\n')
    files.set('/proc/55/cmdline', '/usr/bin/ndppd\0-c\0/etc/ndppd.conf\0')
    assert.equal(await ndppd.stop(), false)
    files.set('/proc/55/cmdline', `vi\0${configPath}\0`)
    assert.equal(await ndppd.stop(), false)
    files.set(pidPath, '../self')
    assert.equal(await ndppd.stop(), false)
    assert.deepEqual(events, [])
  })
  test('one that does not stay is an error that says where to look', async () => {
    await assert.rejects(machine(Number.POSITIVE_INFINITY).ndppd.ensure('a'), {
      code: 'BH_NDPPD_FAILED',
      retryable: true,
    })
  })
})
