/** Benchmarks that need a network of their own: the same file, run once more inside a machine of the test kit. */
import { existsSync, writeFileSync } from 'node:fs'
import {
  createDataplane,
  type Dataplane,
  type DataplaneConfig,
  type DataplaneLease,
} from '@blockhost/broker/dataplane.ts'
import { createPool, prefixAt } from '@blockhost/broker/pool.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createExec, type Exec } from '@blockhost/kit/exec.ts'
import { type Log, silentLog } from '@blockhost/kit/log.ts'
import { localSystem, type System } from '@blockhost/net/system.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { benchPool, newLease } from './leases.ts'

/** Runs `file` (a module's `import.meta.filename`) inside and returns what its {@link answer} told. */
export async function runInside<T>(machine: Machine, file: string, question: unknown, timeoutMs: number): Promise<T> {
  const { stdout } = await machine.exec(process.execPath, [file], { input: JSON.stringify(question), timeoutMs })
  return JSON.parse(stdout) as T
}

/** The other end of {@link runInside}: reads the question from standard input, prints the answer. */
export async function answer<Q, T>(work: (question: Q) => Promise<T>): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  const result = await work(JSON.parse(Buffer.concat(chunks).toString('utf8')) as Q)
  process.stdout.write(JSON.stringify(result))
}

/** Address of the broker on its upstream link. */
export const brokerAddress = '2001:db8:1:2::2'

/** Gives a machine the upstream interface of a broker; its other end stays in the same machine. */
export async function makeUpstream(machine: Machine): Promise<void> {
  const lines = [
    'link add upstream0 type veth peer name upstream1',
    `addr add ${brokerAddress}/64 dev upstream0 nodad`,
    'link set upstream0 up',
    'link set upstream1 up',
  ]
  await machine.exec('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` })
}

/** Returns the first leases of {@link benchPool} with new keys; 255 of them are all of ::100 to ::ffff. */
export function firstLeases(count: number): DataplaneLease[] {
  const pool = createPool(benchPool.upstreamPrefix, benchPool.allocationSize)
  return Array.from({ length: count }, (_, at) => ({
    prefix: prefixAt(pool, at + 1),
    publicKey: newLease(1n).publicKey,
  }))
}

/** A broker's data plane and everything it starts and writes. */
export type CountedDataplane = {
  readonly dataplane: Dataplane
  /** Command lines since they were last emptied. */
  readonly spawned: string[]
  /** Files and kernel settings written, signals sent. */
  readonly written: string[]
  readonly exec: Exec
}

/** Makes the data plane of this network namespace; its key is made when it is not there yet. */
export function createCountedDataplane(config: Partial<DataplaneConfig> = {}, log: Log = silentLog): CountedDataplane {
  const privateKeyFile = `/run/${config.interface ?? 'wg-broker'}.key`
  if (!existsSync(privateKeyFile)) writeFileSync(privateKeyFile, generateKeyPair().privateKey, { mode: 0o600 })
  const spawned: string[] = []
  const written: string[] = []
  const exec = createExec({ onSpawn: argv => spawned.push(argv.join(' ').slice(0, 200)) })
  const system: System = {
    ...localSystem,
    write: (path, text) => {
      written.push(path)
      return localSystem.write(path, text)
    },
    signal: (pid, name) => {
      written.push(`${name} ${pid}`)
      localSystem.signal(pid, name)
    },
  }
  const dataplane = createDataplane(
    {
      ...benchPool,
      brokerAddress,
      interface: 'wg-broker',
      listenPort: 51820,
      privateKeyFile,
      upstreamInterface: 'upstream0',
      ndpMode: 'auto',
      ...config,
    },
    { exec, log, clock: systemClock, system },
  )
  return { dataplane, spawned, written, exec }
}

/** Returns whether a command line of the data plane changes anything. */
export function isWrite(argv: string): boolean {
  return !/^(wg show|ip -6 -j|nft -j list)/.test(argv)
}
