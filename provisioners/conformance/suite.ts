/** What every {@link Provisioner} must do, told as the life of one VM. Real hypervisors take minutes, so there is one life for all checks. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isRetryable } from '@blockhost/kit/errors.ts'
import { guestProgram, type Provisioner, type VmSpec } from '../provisioner.ts'

/** A provisioner and a way to see, past it, what there is. */
export type ConformanceSubject = AsyncDisposable & {
  readonly provisioner: Provisioner
  readonly spec: VmSpec
  /** Everything on the machine that belongs to a VM of that name, e.g. `disk`, `network`; empty when nothing is left. */
  leftovers(name: string): Promise<readonly string[]> | readonly string[]
  /** Whether traffic for the VM finds its way to it: route and firewall are there. */
  isRouted(name: string): Promise<boolean> | boolean
}

/** Registers the tests. @param make - Called once, when the tests run. */
export function conformance(title: string, make: () => Promise<ConformanceSubject> | ConformanceSubject): void {
  describe(`${title} conforms`, () => {
    test('the life of a VM, every deed done twice', async t => {
      await using subject = await make()
      const { name } = subject.spec
      await t.test('nothing: absent, not listed, destroyed without complaint', () => nothing(subject))
      await t.test('create: running, listed, routed, ready', () => create(subject))
      await t.test('guestExec: output and exit code are the program’s', () => guestExec(subject))
      await t.test('binding a token: written, replaced, taken back', () => binding(subject))
      await t.test('stop and start', () => stopAndStart(subject))
      await t.test('suspend and resume: the route goes and comes back', () => suspendAndResume(subject))
      await t.test('metrics: counters that do not go back', () => metrics(subject))
      await t.test('destroy: nothing left', () => destroy(subject))
      assert.deepEqual(await subject.leftovers(name), [])
    })
  })
}

async function nothing({ provisioner, spec, leftovers }: ConformanceSubject): Promise<void> {
  assert.equal(await provisioner.status(spec.name), 'absent')
  assert.equal(await isListed(provisioner, spec.name), undefined)
  await provisioner.destroy(spec.name)
  assert.deepEqual(await leftovers(spec.name), [])
}

async function create({ provisioner, spec, isRouted }: ConformanceSubject): Promise<void> {
  for (let time = 0; time < 2; time++) {
    await provisioner.create(spec)
    assert.equal(await provisioner.status(spec.name), 'running')
    assert.equal(await isListed(provisioner, spec.name), 'running')
    assert.equal(await isRouted(spec.name), true)
    assert.equal((await provisioner.guestExec(spec.name, [guestProgram, 'ready'])).exitCode, 0)
  }
}

async function guestExec({ provisioner, spec }: ConformanceSubject): Promise<void> {
  const words = ['one', '$HOME; two', '"three"'] as const
  const echoed = await provisioner.guestExec(spec.name, ['/bin/echo', ...words])
  assert.deepEqual(echoed, { exitCode: 0, stdout: `${words.join(' ')}\n`, stderr: '' })
  assert.equal((await provisioner.guestExec(spec.name, ['/bin/false'])).exitCode, 1)
}

async function binding({ provisioner, spec }: ConformanceSubject): Promise<void> {
  const guest = async (...argv: string[]) => {
    const { exitCode, stdout } = await provisioner.guestExec(spec.name, [guestProgram, ...argv])
    return { exitCode, stdout }
  }
  const none = { exitCode: 0, stdout: '' }
  assert.deepEqual(await guest('binding', 'admin'), none)
  for (const token of ['7', '7', '8']) assert.deepEqual(await guest('bind', 'admin', token), none)
  assert.deepEqual(await guest('binding', 'admin'), { exitCode: 0, stdout: '8\n' })
  assert.equal((await guest('bind', 'admin', '8,nft=9')).exitCode, 2)
  for (let time = 0; time < 2; time++) assert.deepEqual(await guest('unbind', 'admin'), none)
  assert.deepEqual(await guest('binding', 'admin'), none)
}

async function stopAndStart({ provisioner, spec }: ConformanceSubject): Promise<void> {
  for (let time = 0; time < 2; time++) {
    await provisioner.stop(spec.name)
    assert.equal(await provisioner.status(spec.name), 'stopped')
  }
  assert.equal(await isListed(provisioner, spec.name), 'stopped')
  await assert.rejects(provisioner.guestExec(spec.name, ['/bin/echo']), isRetryable)
  for (let time = 0; time < 2; time++) {
    await provisioner.start(spec.name)
    assert.equal(await provisioner.status(spec.name), 'running')
  }
}

async function suspendAndResume({ provisioner, spec, isRouted }: ConformanceSubject): Promise<void> {
  // On one that runs it only waits: a guest that still boots does not heed the power button.
  await provisioner.resume(spec.name)
  for (let time = 0; time < 2; time++) {
    await provisioner.suspend(spec.name)
    assert.equal(await provisioner.status(spec.name), 'stopped')
    assert.equal(await isRouted(spec.name), false)
  }
  for (let time = 0; time < 2; time++) {
    await provisioner.resume(spec.name)
    assert.equal(await provisioner.status(spec.name), 'running')
    assert.equal(await isRouted(spec.name), true)
  }
  assert.equal((await provisioner.guestExec(spec.name, [guestProgram, 'ready'])).exitCode, 0)
}

async function metrics({ provisioner, spec }: ConformanceSubject): Promise<void> {
  const first = await provisioner.metrics(spec.name)
  const second = await provisioner.metrics(spec.name)
  assert.equal(second.power, 'running')
  assert.ok(second.cpuNanoseconds >= first.cpuNanoseconds)
  await assert.rejects(provisioner.metrics('blockhost-999'), { code: 'BH_VM_ABSENT' })
}

async function destroy({ provisioner, spec, leftovers, isRouted }: ConformanceSubject): Promise<void> {
  for (let time = 0; time < 2; time++) {
    await provisioner.destroy(spec.name)
    assert.equal(await provisioner.status(spec.name), 'absent')
    assert.equal(await isListed(provisioner, spec.name), undefined)
    assert.equal(await isRouted(spec.name), false)
    assert.deepEqual(await leftovers(spec.name), [])
  }
}

async function isListed(provisioner: Provisioner, name: string): Promise<string | undefined> {
  return (await provisioner.list()).find(entry => entry.name === name)?.power
}
