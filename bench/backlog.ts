import { join } from 'node:path'
import { startMachine } from '@blockhost/testkit/machine.ts'
import type { BenchGroup } from './figure.ts'
import { answer, makeUpstream, runInside } from './inside.ts'
import { startStage } from './stage.ts'
import { round } from './statistics.ts'

/** A daemon that comes back to a thousand waiting requests. */
export const backlog: BenchGroup = {
  keys: ['backlog.responsesPerSecond', 'backlog.rpcRoundTripsPerRequest'],
  async run({ folder }) {
    await using machine = await startMachine({ name: 'bench-backlog' })
    await makeUpstream(machine)
    const { seconds, roundTrips, calls } = await runInside<Measured>(machine, import.meta.filename, { folder }, 120_000)
    return {
      'backlog.responsesPerSecond': {
        value: round(requestCount / seconds),
        unit: '/s',
        limit: 100,
        comparedWith: `${requestCount} answers on the chain ${round(seconds)} s after the daemon was started, one block a second`,
      },
      'backlog.rpcRoundTripsPerRequest': {
        value: round(roundTrips / requestCount),
        unit: 'round trips',
        limit: 1,
        comparedWith: `${roundTrips} HTTP requests with ${Object.values(calls).reduce((sum, many) => sum + many, 0)} calls, start of the daemon included`,
      },
    }
  },
}

const requestCount = 1_000

type Measured = {
  readonly seconds: number
  readonly roundTrips: number
  readonly calls: Readonly<Record<string, number>>
}

async function measure({ folder }: { folder: string }): Promise<Measured> {
  await using stage = await startStage({ folder: join(folder, 'backlog'), blockTimeSeconds: 1 })
  await stage.submit(await stage.makeHosts(requestCount))
  while ((await stage.count('getRequestCount')) < requestCount) await stage.anvil.mine()
  const start = performance.now()
  await using _daemon = await stage.startDaemon()
  await stage.untilAnswered(requestCount, 90_000)
  const seconds = (performance.now() - start) / 1000
  return { seconds, roundTrips: stage.proxy.roundTrips(), calls: stage.proxy.calls() }
}

if (import.meta.main) await answer(measure)
