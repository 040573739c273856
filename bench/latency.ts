import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { startMachine } from '@blockhost/testkit/machine.ts'
import { decodeEventLog, type Hex, toEventHash } from 'viem'
import type { BenchGroup } from './figure.ts'
import { answer, makeUpstream, runInside } from './inside.ts'
import { type Stage, startStage } from './stage.ts'
import { median, round } from './statistics.ts'

/** A daemon with little to do. */
export const latency: BenchGroup = {
  keys: ['idle.rpcRoundTripsPerPoll', 'latency.blocksToAnswer'],
  async run({ folder }) {
    await using machine = await startMachine({ name: 'bench-latency' })
    await makeUpstream(machine)
    const { idle, blocks } = await runInside<Measured>(machine, import.meta.filename, { folder }, 180_000)
    return {
      'idle.rpcRoundTripsPerPoll': {
        value: round(idle.roundTrips / idle.polls),
        unit: 'round trips',
        limit: 1,
        comparedWith: `${idle.roundTrips} HTTP requests in ${idle.polls} polls, ${idle.calls} calls`,
      },
      'latency.blocksToAnswer': {
        value: Math.max(...blocks),
        unit: 'blocks',
        limit: 2,
        comparedWith: `the slowest of ${blocks.length} single requests, median ${median(blocks)}; 2 s blocks, poll each 1 s, 0 confirmations`,
      },
    }
  },
}

type Measured = {
  readonly idle: { roundTrips: number; polls: number; calls: number }
  /** Blocks from each request to its answer. */
  readonly blocks: number[]
}

const pollIntervalMs = 1_000

async function measure({ folder }: { folder: string }): Promise<Measured> {
  await using stage = await startStage({ folder: join(folder, 'latency'), blockTimeSeconds: 2 })
  await using daemon = await stage.startDaemon({ pollIntervalMs })
  await daemon.healthy()
  const idle = await measureIdle(stage)
  return { idle, blocks: await measureLatency(stage) }
}

/** A poll is a read of the contract; that there are as many as the interval allows is checked. */
async function measureIdle(stage: Stage): Promise<Measured['idle']> {
  const seconds = 15
  await sleep(2_000)
  stage.proxy.reset()
  await sleep(seconds * 1_000)
  const roundTrips = stage.proxy.roundTrips()
  const calls = stage.proxy.calls()
  const polls = calls.eth_call ?? 0
  const expected = (seconds * 1_000) / pollIntervalMs
  if (polls < expected - 3 || polls > expected + 1) throw new Error(`${polls} polls in ${seconds} s`)
  return { roundTrips, polls, calls: Object.values(calls).reduce((sum, count) => sum + count, 0) }
}

const requestCount = 12

/** Requests are sent at all phases of blocks and polls, and do not wait for each other. */
async function measureLatency(stage: Stage): Promise<number[]> {
  for (const host of await stage.makeHosts(requestCount)) {
    await stage.submit([host])
    await sleep(1_370)
  }
  await stage.untilAnswered(requestCount, 60_000)
  const asked = await blocksOf(stage, 'RequestSubmitted')
  const answered = await blocksOf(stage, 'ResponseSubmitted')
  return [...asked].map(([id, block]) => answered.get(id)! - block)
}

type Log = { readonly blockNumber: Hex; readonly topics: [Hex, ...Hex[]]; readonly data: Hex }

/** Block of each request's event. */
async function blocksOf(
  { anvil, requests }: Stage,
  eventName: 'RequestSubmitted' | 'ResponseSubmitted',
): Promise<Map<bigint, number>> {
  const event = brokerRequestsAbi.find(item => item.type === 'event' && item.name === eventName)
  if (event?.type !== 'event') throw new Error(`the contract has no event ${eventName}`)
  const filter = { address: requests, fromBlock: '0x0', topics: [toEventHash(event)] }
  const logs = (await anvil.rpc.call('eth_getLogs', [filter])) as Log[]
  return new Map(
    logs.map(({ blockNumber, topics, data }) => {
      const { args } = decodeEventLog({ abi: brokerRequestsAbi, eventName, topics, data })
      return [args.requestId, Number(blockNumber)]
    }),
  )
}

if (import.meta.main) await answer(measure)
