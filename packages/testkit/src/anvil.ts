/** A real EVM for tests: foundry's anvil (https://getfoundry.sh/anvil/reference/anvil/). */
import { type ChildProcess, spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Hex } from '@blockhost/chain/hex.ts'
import { createRpc, type Rpc } from '@blockhost/chain/rpc.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'

/** Options of {@link startAnvil}. */
export type AnvilOptions = {
  /** A block each so many seconds. Default: one for each transaction, at once. */
  readonly blockTimeSeconds?: number
  /** Default 31337. */
  readonly chainId?: number
  /** Unix seconds of the first block. Default: now. */
  readonly timestamp?: number
  /** Address to listen on. Default 127.0.0.1. */
  readonly host?: string
  /** Default 0: a free one. */
  readonly port?: number
  /** Put before the command line, e.g. `['ip', 'netns', 'exec', 'lab-1']`. The helpers then need a way to reach `url`. */
  readonly prefix?: readonly string[]
  /** More of anvil's own arguments. */
  readonly args?: readonly string[]
}

/** A running chain. Disposing of it ends the process. */
export type Anvil = AsyncDisposable & {
  readonly url: string
  readonly port: number
  readonly chainId: number
  readonly pid: number
  /** To ask the chain anything. */
  readonly rpc: Rpc
  /** Mines so many blocks. Default 1. */
  mine(blocks?: number): Promise<void>
  /** Whether each transaction gets a block at once. */
  setAutomine(on: boolean): Promise<void>
  /**
   * Replaces the last `depth` blocks by as many with `replacement` in them: raw transactions and the offset (0-based) of the block
   * each goes into. What was mined in the old ones is gone unless it is replaced.
   */
  reorg(depth: number, replacement?: readonly (readonly [raw: Hex, block: number])[]): Promise<void>
  /** Remembers the state; the id is for `revert`. */
  snapshot(): Promise<Hex>
  /** Goes back to a remembered state, which is forgotten. */
  revert(id: Hex): Promise<void>
  /** Unix seconds of the next block; later than the last one's. */
  setNextBlockTimestamp(seconds: number): Promise<void>
  /** Takes a transaction out of the pool. */
  dropTransaction(hash: Hex): Promise<void>
  /** Height of the chain. */
  height(): Promise<bigint>
  /** Gives an account money, wei. */
  setBalance(address: string, wei: bigint): Promise<void>
}

const readyTimeoutMs = 30_000

/**
 * Starts anvil and waits until it answers.
 *
 * @throws {BlockHostError} `BH_ANVIL_MISSING` when its package is not installed; `BH_ANVIL_FAILED` with what it said.
 */
export async function startAnvil(options: AnvilOptions = {}): Promise<Anvil> {
  const { host = '127.0.0.1', chainId = 31337, prefix = [] } = options
  const argv = [...prefix, findAnvil(), ...argumentsOf({ ...options, host, chainId })]
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] })
  const end = () => void child.kill('SIGKILL')
  process.once('exit', end)
  child.once('exit', () => process.removeListener('exit', end))
  try {
    const port = await listeningPort(child)
    return createAnvil(child, `http://${host}:${port}`, port, chainId)
  } catch (error) {
    end()
    throw error
  }
}

/** Returns the path of anvil's program for this machine: the binary itself, as npm's wrapper would outlive a kill. */
export function findAnvil(): string {
  const machine = { x64: 'amd64', arm64: 'arm64' }[process.arch as string]
  const name = `@foundry-rs/anvil-${process.platform}-${machine}`
  try {
    return join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'bin', 'anvil')
  } catch (cause) {
    throw new BlockHostError({
      code: 'BH_ANVIL_MISSING',
      message: `The package ${name} is not installed`,
      hint: 'Run `npm ci` with optional dependencies.',
      cause,
    })
  }
}

function argumentsOf(options: AnvilOptions & { host: string; chainId: number }): string[] {
  const { host, port = 0, chainId, blockTimeSeconds, timestamp, args = [] } = options
  const argv = ['--host', host, '--port', `${port}`, '--chain-id', `${chainId}`]
  if (blockTimeSeconds !== undefined) argv.push('--block-time', `${blockTimeSeconds}`)
  if (timestamp !== undefined) argv.push('--timestamp', `${timestamp}`)
  return [...argv, ...args]
}

/** Reads anvil's output for good: a full pipe would stop it. */
function listeningPort(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let said = ''
    const fail = (why: string) => {
      clearTimeout(timer)
      const message = `anvil ${why}: ${said.trim().slice(-400) || 'it said nothing'}`
      reject(new BlockHostError({ code: 'BH_ANVIL_FAILED', message }))
    }
    const timer = setTimeout(() => fail(`was not ready within ${readyTimeoutMs} ms`), readyTimeoutMs)
    child.once('error', error => fail(`could not be started (${error.message})`))
    child.once('exit', status => fail(`ended with status ${status}`))
    child.stderr!.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4000)
    })
    child.stdout!.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4000)
      const port = /Listening on \S*:(\d+)/.exec(said)?.[1]
      if (port === undefined) return
      clearTimeout(timer)
      resolve(Number(port))
    })
  })
}

function createAnvil(child: ChildProcess, url: string, port: number, chainId: number): Anvil {
  const rpc = createRpc({ urls: [url], timeoutMs: 30_000 }, { clock: systemClock, log: silentLog })
  const tell = async (method: string, ...params: readonly unknown[]) => void (await rpc.call(method, params))
  return {
    url,
    port,
    chainId,
    pid: child.pid!,
    rpc,
    mine: (blocks = 1) => tell('anvil_mine', `0x${blocks.toString(16)}`),
    setAutomine: on => tell('evm_setAutomine', on),
    reorg: (depth, replacement = []) => tell('anvil_reorg', depth, replacement),
    snapshot: async () => (await rpc.call('evm_snapshot', [])) as Hex,
    revert: id => tell('evm_revert', id),
    setNextBlockTimestamp: seconds => tell('evm_setNextBlockTimestamp', seconds),
    dropTransaction: hash => tell('anvil_dropTransaction', hash),
    height: async () => BigInt((await rpc.call('eth_blockNumber', [])) as string),
    setBalance: (address, wei) => tell('anvil_setBalance', address, `0x${wei.toString(16)}`),
    [Symbol.asyncDispose]: () => stop(child),
  }
}

function stop(child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    child.once('exit', () => resolve())
    child.kill('SIGKILL') // it has nothing to save
  })
}
