import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { Store } from '@blockhost/broker/store.ts'
import { brokerKeys } from './cast.ts'
import type { Mutation } from './life.ts'
import { runSeed, type SeedResult } from './run.ts'
import { renderEvent } from './world.ts'

const folder = mkdtempSync(join(tmpdir(), 'blockhost-simulate-'))
after(() => rmSync(folder, { recursive: true }))
const privateKeyFile = join(folder, 'wg.key')
writeFileSync(privateKeyFile, `${brokerKeys.wireguardPrivate}\n`, { mode: 0o600 })

test('the same seed tells the same story, another one another', async () => {
  const tell = async (seed: string) => (await runSeed(seed, { privateKeyFile })).trace.map(renderEvent).join('\n')
  const [first, again, other] = [await tell('7'), await tell('7'), await tell('8')]
  assert.equal(first, again)
  assert.notEqual(first, other)
})

test('things do go wrong: kills, reorgs, failing commands, full disks', async () => {
  const results: SeedResult[] = []
  for (let seed = 1; seed <= 10; seed++) results.push(await runSeed(String(seed), { privateKeyFile }))
  const sum = (kind: keyof SeedResult['faults']) => results.reduce((total, { faults }) => total + faults[kind], 0)
  for (const kind of ['kill', 'reorg', 'command-failed', 'disk-full', 'rpc-error', 'peers-flushed'] as const)
    assert.ok(sum(kind) > 0, `${kind} never happened`)
  assert.ok(results.every(({ requests, lives }) => requests > 0 && lives > 0))
})

test('a broken daemon is found out, with the rule that it breaks', async () => {
  const found = async (store: (real: Store) => Store): Promise<string> => {
    const mutate: Mutation = { store }
    for (let seed = 1; seed <= 40; seed++) {
      const { violations } = await runSeed(String(seed), { privateKeyFile, mutate })
      if (violations[0] !== undefined) return violations[0].invariant
    }
    return 'nothing'
  }
  assert.equal(
    await found(real => ({ ...real, release: (lease, reason) => real.release(lease, reason, undefined) })),
    'a prefix rests before another NFT contract gets it',
  )
  assert.equal(await found(real => ({ ...real, audit: () => undefined })), 'every refusal is in the audit log')
})
