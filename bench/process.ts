import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { openStore } from '@blockhost/broker/store.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { startMachine } from '@blockhost/testkit/machine.ts'
import type { BenchGroup } from './figure.ts'
import { answer, makeUpstream, runInside } from './inside.ts'
import { benchPool, fillStore } from './leases.ts'
import { startStage, until } from './stage.ts'
import { median, round, timeMs } from './statistics.ts'

const leaseCount = 10_000

/** What the programs weigh. */
export const programs: BenchGroup = {
  keys: ['daemon.rssMiB', 'cli.startMs'],
  async run({ folder }) {
    await using machine = await startMachine({ name: 'bench-process' })
    await makeUpstream(machine)
    const { rssMiB, bareMiB } = await runInside<Memory>(machine, import.meta.filename, { folder }, 120_000)
    const { client, node } = await measureStart()
    return {
      'daemon.rssMiB': {
        value: round(Math.max(...rssMiB)),
        unit: 'MiB',
        limit: 150,
        comparedWith: `most of ${rssMiB.length} looks in 20 s, all of them peers; node that does nothing: ${round(bareMiB)} MiB`,
      },
      'cli.startMs': {
        value: round(median(client)),
        unit: 'ms',
        limit: 80,
        comparedWith: `node -e 0: ${round(median(node))} ms, in turns`,
      },
    }
  },
}

type Memory = { readonly rssMiB: number[]; readonly bareMiB: number }

/** The daemon with 10,000 leases in its database, all of them peers of its interface, polling a chain. */
async function measureMemory({ folder }: { folder: string }): Promise<Memory> {
  const stageFolder = join(folder, 'process')
  await using stage = await startStage({ folder: stageFolder, blockTimeSeconds: 1 })
  const databasePath = join(stageFolder, 'filled.db')
  {
    using store = openStore(databasePath, benchPool, systemClock)
    fillStore(store, leaseCount)
  }
  await using daemon = await stage.startDaemon({ pollIntervalMs: 1_000, databasePath })
  await daemon.healthy()
  await until('all peers', 60_000, async () => (await countPeers()) === leaseCount)
  const rssMiB: number[] = []
  for (let look = 0; look < 20; look++) {
    // What an operator's tools ask for.
    for (const path of ['/api/status', '/api/allocations', '/metrics'])
      await (await fetch(`http://127.0.0.1:8080${path}`)).arrayBuffer()
    rssMiB.push(residentMiB(daemon.pid))
    await sleep(1_000)
  }
  const bareMiB = Number((await createExec()(process.execPath, ['-p', 'process.memoryUsage.rss()'])).stdout) / 1_048_576
  return { rssMiB, bareMiB }
}

async function countPeers(): Promise<number> {
  const { stdout } = await createExec()('wg', ['show', 'wg-broker', 'peers']).catch(() => ({ stdout: '' }))
  return stdout.split('\n').length - 1
}

function residentMiB(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1]) / 1024
}

const clientProgram = fileURLToPath(new URL('../cli/broker-client/bin/broker-client', import.meta.url))

/** From exec to exit, in turns; the first ones warm the disk and Node's compile cache. */
async function measureStart(): Promise<{ client: number[]; node: number[] }> {
  const exec = createExec()
  const measured = { client: [] as number[], node: [] as number[] }
  for (let run = -3; run < 25; run++) {
    const client = await timeMs(() => exec(clientProgram, ['--version']))
    const node = await timeMs(() => exec(process.execPath, ['-e', '0']))
    if (run < 0) continue
    measured.client.push(client)
    measured.node.push(node)
  }
  return measured
}

if (import.meta.main) await answer(measureMemory)
