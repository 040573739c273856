import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { addressAt, formatAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import { type Lab, labAddresses } from '@blockhost/testkit/lab.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { makeServiceUser } from '@blockhost/testkit/vm-host.ts'
import { freshWallet, type TestWallet } from '@blockhost/testkit/wallet.ts'
import type { Address, Hex } from 'viem'
import type { DemoChain } from './chain.ts'
import { eventually, expect } from './expect.ts'

/** A server behind NAT, with a wallet, an NFT contract of its own, a broker client, and one VM on its bridge. */
export type DemoHost = {
  readonly name: 'host-a' | 'host-b'
  readonly machine: Machine
  readonly vm: Machine
  /** Owner of the NFT contract. */
  readonly wallet: TestWallet
  readonly nft: Address
  /** Runs the shipped `broker-client` and returns what it wrote to standard output. */
  client(args: readonly string[], options?: { configDir?: string; timeoutMs?: number }): Promise<string>
  /** Reads `broker-allocation.json`. */
  lease(configDir?: string): HostLease
  /** Address of the VM inside the lease; what the world reaches. */
  vmAddress(): string
  /** Gives the VM its address, the way the host's operator does. */
  startVm(): Promise<void>
}

/** The documented keys of `broker-allocation.json` that the demo looks at. */
export type HostLease = {
  readonly prefix: string
  readonly gateway: string
  readonly broker_pubkey: string
  readonly broker_endpoint: string
  readonly request_id: number
  readonly wg_private_key: string
  readonly wg_public_key: string
}

/** Where the client keeps its things unless told otherwise. */
export const defaultConfigDir = '/etc/blockhost'
/** The host's wallet key; what the installer leaves there. */
export const walletKeyFile = `${defaultConfigDir}/deployer.key`

const clientProgram = fileURLToPath(new URL('../../cli/broker-client/bin/broker-client', import.meta.url))

/** Makes a host ready to ask: wallet with ether, NFT contract deployed from it, key file in place. */
export async function prepareHost(lab: Lab, chain: DemoChain, letter: 'a' | 'b', registry: Address): Promise<DemoHost> {
  const machine = lab[`host-${letter}`]
  const vm = lab[`vm-${letter}`]
  const wallet = freshWallet()
  await chain.fund(wallet.address, 10n)
  const nft = await chain.deployNft(wallet.privateKeyHex)
  await makeServiceUser(machine)
  writeKey(machine, wallet.privateKeyHex)
  const lease = (configDir = defaultConfigDir): HostLease =>
    JSON.parse(readFileSync(machine.path(`${configDir}/broker-allocation.json`), 'utf8'))
  const vmAddress = () => formatAddress(addressAt(parsePrefix(lease().prefix)!, 16n))
  return {
    name: `host-${letter}`,
    machine,
    vm,
    wallet,
    nft,
    client: async (args, { configDir = defaultConfigDir, timeoutMs = 60_000 } = {}) => {
      const globals = ['--rpc-url', chain.rpcUrl, '--chain-id', `${chain.chainId}`, '--registry-contract', registry]
      const full = [...globals, '--config-dir', configDir, ...args]
      return (await machine.exec(clientProgram, full, { timeoutMs })).stdout
    },
    lease,
    vmAddress,
    startVm: () => lab.giveAddress(letter, vmAddress()),
  }
}

function writeKey(machine: Machine, key: Hex): void {
  mkdirSync(machine.path(defaultConfigDir), { recursive: true, mode: 0o750 })
  writeFileSync(machine.path(walletKeyFile), `${key}\n`, { mode: 0o600 })
}

/** What `ping` counted. */
export type PingResult = { readonly sent: number; readonly received: number; readonly averageMs: number }

/** Pings, and returns what came back; nothing coming back is a result, not an error. */
export async function ping(from: Machine, to: string, count = 3, options: readonly string[] = []): Promise<PingResult> {
  const args = ['-q', '-n', '-i', '0.2', '-W', '1', '-c', `${count}`, ...options, to]
  const { stdout } = await from.exec('ping', args).catch(({ stderr }) => ({ stdout: `${stderr}` }))
  const counted = stdout.match(/(\d+) packets transmitted, (\d+) received/)
  const times = stdout.match(/= [\d.]+\/([\d.]+)\//)
  return { sent: count, received: Number(counted?.[2] ?? 0), averageMs: Number(times?.[1] ?? Number.NaN) }
}

/** Waits until an address answers from the internet, and returns how long that took in milliseconds. */
export async function reachedFromInternet(lab: Lab, address: string, withinMs = 20_000): Promise<number> {
  const startedAt = performance.now()
  await eventually(
    `${address} to answer pings from ${labAddresses.internet.ipv6}`,
    () => answersOnce(lab.internet, address),
    {
      withinMs,
      everyMs: 50,
    },
  )
  return performance.now() - startedAt
}

async function answersOnce(from: Machine, address: string): Promise<true | undefined> {
  await from.exec('ping', ['-q', '-n', '-c', '1', '-W', '1', address])
  return true
}

/** Ends the step unless every ping came back. */
export async function expectReached(from: Machine, address: string, count = 3): Promise<PingResult> {
  const result = await ping(from, address, count)
  expect(result.received === count, `${count} of ${count} pings from ${from.name} to ${address} answered`, result)
  return result
}

/** Ends the step if any ping came back. */
export async function expectSilent(from: Machine, address: string, options: readonly string[] = []): Promise<void> {
  const result = await ping(from, address, 2, options)
  expect(result.received === 0, `no answer from ${address} to ${from.name}`, result)
}
