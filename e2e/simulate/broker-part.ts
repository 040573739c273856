import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { brokerKeys } from './cast.ts'
import { type Part, readKeptSeeds } from './part.ts'
import { runSeed } from './run.ts'
import { renderEvent } from './world.ts'

/** The broker's simulator. Disposing of it removes its key file. */
export function openBrokerPart(): Part & Disposable {
  const folder = mkdtempSync(join(tmpdir(), 'simulate-'))
  const privateKeyFile = join(folder, 'wg.key')
  writeFileSync(privateKeyFile, `${brokerKeys.wireguardPrivate}\n`, { mode: 0o600 })
  return {
    name: 'broker',
    keptSeeds: readKeptSeeds(new URL('./seeds.txt', import.meta.url)),
    async run(seed) {
      const { violations, trace, turns, lives, requests, mostTransactions, faults } = await runSeed(seed, {
        privateKeyFile,
      })
      return {
        ...{ violations, trace: trace.map(renderEvent), faults },
        counts: { turns, lives, requests },
        peaks: { 'transactions for one request': mostTransactions },
      }
    },
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  }
}
