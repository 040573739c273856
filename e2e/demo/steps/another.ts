import { readFileSync } from 'node:fs'
import type { Address, Hex } from 'viem'
import type { Demo } from '../context.ts'
import { type HostLease, walletKeyFile } from '../host.ts'

/** Lets host-b ask for a prefix for one more NFT contract of its, kept apart from its own lease. */
export async function askForAnother(
  { chain, story, b }: Demo,
  purpose: string,
): Promise<{ nft: Address; lease: HostLease }> {
  const key = readFileSync(b.machine.path(walletKeyFile), 'utf8').trim() as Hex
  const nft = await chain.deployNft(key)
  const configDir = `/etc/blockhost-${purpose}`
  story.tell('host-b', `broker-client request --nft-contract ${nft} --config-dir ${configDir}`)
  const args = ['request', '--nft-contract', nft, '--wallet-key', walletKeyFile, '--poll-interval', '0.5']
  await b.client(args, { configDir })
  return { nft, lease: b.lease(configDir) }
}
