import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { openResponse } from '@blockhost/crypto/broker-messages.ts'
import { createDecryptor } from '@blockhost/crypto/ecies.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { addressAt, contains, formatAddress, parseAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import { publicKeyOf } from '@blockhost/net/wireguard.ts'
import { startMachine } from '@blockhost/testkit/machine.ts'
import { pingThroughTunnel } from '@blockhost/testkit/wireguard-peer.ts'
import { decodeEventLog, type Hex, hexToBytes, toEventHash } from 'viem'
import type { BenchGroup } from './figure.ts'
import { answer, brokerAddress, makeUpstream, runInside } from './inside.ts'
import { benchPool } from './leases.ts'
import { type BenchHost, type Stage, startStage, tunnelPort, until } from './stage.ts'
import { percentile, round } from './statistics.ts'

/** A thousand hosts ask in one block: how long until each one's tunnel carries a packet. */
export const burst: BenchGroup = {
  keys: ['burst.pingP50Seconds', 'burst.pingP99Seconds'],
  async run({ folder }) {
    await using machine = await startMachine({ name: 'bench-burst' })
    await makeUpstream(machine)
    // Every host calls from an address of its own (RFC 2544's range), as WireGuard counts handshakes by address.
    await machine.exec('ip', ['route', 'add', 'local', '198.18.0.0/15', 'dev', 'lo'])
    const { seconds, answeredSeconds, handshakeMs } = await runInside<Measured>(
      machine,
      import.meta.filename,
      { folder },
      180_000,
    )
    const at = (percent: number) =>
      `answer on the chain: ${round(percentile(answeredSeconds, percent))} s; the tunnel: ${round(percentile(handshakeMs, percent))} ms`
    return {
      'burst.pingP50Seconds': {
        value: round(percentile(seconds, 50)),
        unit: 's',
        limit: 5,
        comparedWith: `${seconds.length} hosts that look at the chain each 2 s, 1 s blocks; ${at(50)}`,
      },
      'burst.pingP99Seconds': { value: round(percentile(seconds, 99)), unit: 's', limit: 12, comparedWith: at(99) },
    }
  },
}

/** One number for each host. */
type Measured = {
  /** From the block with the requests to the echo reply through the tunnel. */
  readonly seconds: number[]
  /** From that block to the block with the answer. */
  readonly answeredSeconds: number[]
  /** From the first handshake message to the reply. */
  readonly handshakeMs: number[]
}

const hostCount = 1_000

async function measure({ folder }: { folder: string }): Promise<Measured> {
  await using stage = await startStage({ folder: join(folder, 'burst'), blockTimeSeconds: 1 })
  await using daemon = await stage.startDaemon({ pollIntervalMs: 1_000, rpcUrl: stage.anvil.url })
  await daemon.healthy()
  const hosts = await stage.makeHosts(hostCount)
  await stage.submit(hosts)
  await until('the requests to be mined', 30_000, async () => (await stage.count('getRequestCount')) === hostCount)
  const minedAt = performance.now()
  const brokerKey = readBrokerKey(folder)
  const measured: Measured = { seconds: [], answeredSeconds: [], handshakeMs: [] }
  const tunnels = await followAnswers(stage, async (id, payload) => {
    const answeredAt = performance.now()
    await nextLook(id)
    const host = hosts[Number(id) - 1]!
    const { handshakeMs, echoMs } = await connect(host, id, payload, brokerKey)
    measured.seconds.push((performance.now() - minedAt) / 1_000)
    measured.answeredSeconds.push((answeredAt - minedAt) / 1_000)
    measured.handshakeMs.push(handshakeMs + echoMs)
  })
  await Promise.all(tunnels)
  return measured
}

type Log = { readonly blockNumber: Hex; readonly topics: [Hex, ...Hex[]]; readonly data: Hex }

/**
 * Calls `use` for each answer as its block appears; one reader for all hosts, so that looking costs the machine little.
 *
 * @returns What the calls returned, once all are answered.
 */
async function followAnswers<T>(
  { anvil, requests }: Stage,
  use: (id: bigint, payload: Uint8Array) => Promise<T>,
): Promise<Promise<T>[]> {
  const event = brokerRequestsAbi.find(item => item.type === 'event' && item.name === 'ResponseSubmitted')
  if (event?.type !== 'event') throw new Error('the contract has no event ResponseSubmitted')
  const used: Promise<T>[] = []
  let next = 0n
  await until('all answers', 90_000, async () => {
    const head = await anvil.height()
    if (head < next) return false
    const range = { fromBlock: `0x${next.toString(16)}`, toBlock: `0x${head.toString(16)}` }
    const filter = { address: requests, topics: [toEventHash(event)], ...range }
    const logs = (await anvil.rpc.call('eth_getLogs', [filter])) as Log[]
    next = head + 1n
    for (const { topics, data } of logs) {
      const { args } = decodeEventLog({ abi: brokerRequestsAbi, eventName: 'ResponseSubmitted', topics, data })
      used.push(use(args.requestId, hexToBytes(args.responsePayload)))
    }
    return used.length >= hostCount
  })
  return used
}

const lookEachMs = 2_000

/** The client looks at the chain every two seconds, each host at a moment of its own. */
async function nextLook(id: bigint): Promise<void> {
  const phase = (Number(id) * 0.618_033_988_75 * lookEachMs) % lookEachMs
  const since = (performance.now() - phase) % lookEachMs
  await sleep(lookEachMs - since)
}

/** Does what the client does with its answer, up to the first packet through the tunnel. */
async function connect(host: BenchHost, id: bigint, payload: Uint8Array, brokerKey: string) {
  const opened = openResponse(createDecryptor(host.serverKey), payload, id)
  if (opened.kind !== 'good') throw new Error(`the answer to request ${id} is ${opened.kind}`)
  const { prefix: text, gateway, brokerPubkey } = opened.response
  const prefix = parsePrefix(text)!
  const isOurs = contains(parsePrefix(benchPool.upstreamPrefix)!, prefix) && brokerPubkey === brokerKey
  if (!isOurs || gateway !== brokerAddress) throw new Error(`the answer to request ${id} names ${text} and ${gateway}`)
  return pingThroughTunnel({
    privateKey: host.wireguard.privateKey,
    peerPublicKey: brokerPubkey,
    endpoint: { address: '127.0.0.1', port: tunnelPort },
    localAddress: `198.18.${Number(id) >> 8}.${Number(id) & 255}`,
    source: formatAddress(addressAt(prefix, 1n)),
    destination: formatAddress(parseAddress(gateway)!),
  })
}

function readBrokerKey(folder: string): string {
  return publicKeyOf(readTextFile(join(folder, 'burst', 'wg-private.key'), { what: 'key', maxBytes: 100 }).trim())
}

if (import.meta.main) await answer(measure)
