import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from './clock.ts'
import { type Exec, ExecError } from './exec.ts'
import type { Log } from './log.ts'
import { silentLog } from './log.ts'
import { createNotifier, watchdogIntervalMs } from './notify.ts'

test('notifier: starts no process outside systemd', async () => {
  const { exec, calls } = recorder()
  const notifier = createNotifier({ env: {}, exec, clock: systemClock, log: silentLog })
  await notifier.ready('up')
  await notifier.reloading()
  await notifier.stopping()
  await notifier.keepAlive(new AbortController().signal)
  assert.deepEqual(calls, [])
})

test('notifier: sends each state as sd_notify assignments on one line each', async () => {
  const { exec, calls } = recorder()
  const notifier = createNotifier({ env: { NOTIFY_SOCKET: '/run/n' }, exec, clock: systemClock, log: silentLog })
  await notifier.ready('3 leases\nREADY=0')
  await notifier.reloading()
  await notifier.stopping()
  assert.deepEqual(calls, [
    'systemd-notify -- READY=1 STATUS=3 leases READY=0',
    'systemd-notify -- RELOADING=1 STATUS=Reading the configuration again',
    'systemd-notify -- STOPPING=1 STATUS=Stopping',
  ])
})

test('notifier: a failing systemd-notify is a warning, not a failure', async () => {
  const warnings: string[] = []
  const log: Log = { ...silentLog, warn: (_fields, message) => warnings.push(message) }
  const exec: Exec = async command => {
    throw new ExecError([command], 1, 'Failed to notify init system', 'exited with 1')
  }
  await createNotifier({ env: { NOTIFY_SOCKET: '/run/n' }, exec, clock: systemClock, log }).ready('up')
  assert.deepEqual(warnings, ['systemd was not told how the service is doing'])
})

test('notifier: keepAlive sends signs of life until it is stopped', async () => {
  const { exec, calls } = recorder()
  const stop = new AbortController()
  const slept: number[] = []
  const clock = {
    ...systemClock,
    sleep: async (ms: number) => {
      slept.push(ms)
      if (slept.length === 3) stop.abort()
    },
  }
  const env = { NOTIFY_SOCKET: '/run/n', WATCHDOG_USEC: '120000000' }
  await createNotifier({ env, exec, clock, log: silentLog }).keepAlive(stop.signal)
  assert.deepEqual(slept, [60_000, 60_000, 60_000])
  assert.deepEqual(calls, Array(2).fill('systemd-notify -- WATCHDOG=1'))
})

test('notifier: keepAlive tells the state of the moment', async () => {
  const { exec, calls } = recorder()
  const stop = new AbortController()
  let leases = 0
  const clock = {
    ...systemClock,
    sleep: async () => {
      leases += 1
      if (leases === 3) stop.abort()
    },
  }
  const env = { NOTIFY_SOCKET: '/run/n', WATCHDOG_USEC: '120000000' }
  await createNotifier({ env, exec, clock, log: silentLog }).keepAlive(stop.signal, () => `Serving\n${leases} leases`)
  assert.deepEqual(calls, [
    'systemd-notify -- WATCHDOG=1 STATUS=Serving 1 leases',
    'systemd-notify -- WATCHDOG=1 STATUS=Serving 2 leases',
  ])
})

test('watchdogIntervalMs: halves the interval, at least 100 ms, and ignores what is no number', () => {
  assert.equal(watchdogIntervalMs('30000000'), 15_000)
  assert.equal(watchdogIntervalMs('1000'), 100)
  for (const bad of [undefined, '', '0', '-5', 'soon']) assert.equal(watchdogIntervalMs(bad), undefined)
})

function recorder(): { exec: Exec; calls: string[] } {
  const calls: string[] = []
  const exec: Exec = async (command, args) => {
    calls.push([command, ...args].join(' '))
    return { stdout: '', stderr: '' }
  }
  return { exec, calls }
}
