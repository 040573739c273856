import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runSeed, type SeedResult } from './run.ts'
import type { FaultKind, Mutation } from './world.ts'

test('the same seed tells the same story, another one another', async () => {
  const tell = async (seed: string) => (await runSeed(seed)).trace.join('\n')
  const [first, again, other] = [await tell('7'), await tell('7'), await tell('8')]
  assert.equal(first, again)
  assert.notEqual(first, other)
})

test('things do go wrong: kills, reorganizations, RPC faults, a failing hypervisor, full disks', async () => {
  const results: SeedResult[] = []
  for (let seed = 1; seed <= 8; seed++) results.push(await runSeed(String(seed)))
  const sum = (kind: FaultKind) => results.reduce((total, { faults }) => total + faults[kind], 0)
  for (const kind of ['kill', 'reorg', 'rpc-down', 'logs-hidden', 'hypervisor-failed', 'disk-full', 'gc'] as const)
    assert.ok(sum(kind) > 0, `${kind} never happened`)
  assert.ok(results.every(({ purchases }) => purchases > 0))
  assert.ok(results.some(({ running }) => running > 0))
})

test('a broken engine is found out, with the rule that it breaks', async () => {
  const found = async (mutate: Mutation): Promise<readonly string[]> => {
    for (let seed = 1; seed <= 20; seed++) {
      const { violations } = await runSeed(String(seed), mutate)
      if (violations.length > 0) return violations.map(({ invariant }) => invariant)
    }
    return []
  }
  const finds = async (rule: string, mutate: Mutation) => {
    const rules = await found(mutate)
    assert.ok(rules.includes(rule), `${rule}: ${rules.join(', ') || 'nothing was found'}`)
  }
  await finds("expiry is the chain's to the second", {
    vms: real => ({ ...real, setExpiry: (name, expiresAt) => real.setExpiry(name, expiresAt + 1) }),
  })
  await finds('no VM ends that is paid for, or within its grace', { graceDays: 2 })
  await finds('one token for each purchase', {
    store: real => ({
      ...real,
      // The key of a mint no longer follows from the purchase alone.
      toMint: limit => real.toMint(limit).map((row, at) => ({ ...row, mintAttempts: real.after(0n, 99).length + at })),
      mintsOver: limit => real.mintsOver(limit).map(over => ({ ...over, state: 'reverted' as const })),
    }),
  })
})
