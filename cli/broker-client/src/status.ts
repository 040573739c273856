/** `status`. Always exits 0: whatever can't be found out is said. */
import { existsSync } from 'node:fs'
import { zeroAddress } from '@blockhost/chain/hex.ts'
import { isoTime } from '@blockhost/kit/clock.ts'
import { messageOf } from '@blockhost/kit/errors.ts'
import { type Allocation, type BrokerContract, formatAllocation, openAllocationStore } from './allocation.ts'
import type { AddressText, Command } from './argv.ts'
import { type CommandDeps, type CommandResult, openRpc } from './command.ts'
import { openIntentStore } from './intent.ts'
import { findRegistry } from './registry-address.ts'
import { readChainView, readFacts } from './requests-contract.ts'
import { confPath, findStatus } from './tunnel.ts'

type StatusCommand = Command & { name: 'status' }

/** Shows the saved lease, an unfinished request, the live request on chain where contract and NFT contract are known, and the tunnel. */
export async function status(command: StatusCommand, deps: CommandDeps): Promise<CommandResult> {
  const store = openAllocationStore(deps.globals.configDir, { mode: 0o600 })
  const found = store.findAllocation()
  const contract = store.findContract()
  const allocation = found?.ok ? found.value : undefined
  const saved = found?.ok === false ? { problem: found.problem } : allocation && savedFacts(allocation)
  const unfinished = readUnfinished(deps.globals.configDir)
  const chain = await chainFacts(command, deps, allocation, contract?.ok ? contract.value : undefined)
  const tunnel = await tunnelFacts(command, deps)
  return {
    json: { lease: saved ?? null, unfinished: unfinished ?? null, chain: chain ?? null, tunnel: tunnel ?? null },
    text: [
      ...lines('Lease', saved, 'none saved'),
      ...lines('Unfinished request', unfinished),
      ...lines('On chain', chain),
      ...lines('Tunnel', tunnel, `${command.wgInterface} is not up`),
    ],
  }
}

type Facts = Readonly<Record<string, unknown>>

function savedFacts(allocation: Allocation): Facts {
  const { wg_private_key: _secret, ...shown } = JSON.parse(formatAllocation(allocation)) as Record<string, unknown>
  return shown
}

function readUnfinished(configDir: string): Facts | undefined {
  try {
    const intent = openIntentStore(configDir).find()
    return (
      intent && {
        nft_contract: intent.nft_contract,
        requests_contract: intent.requests_contract,
        transaction: intent.transaction.hash,
        request_id: intent.request_id === undefined ? null : Number(intent.request_id),
        wg_public_key: intent.wg_public_key,
        created_at: intent.created_at,
      }
    )
  } catch (error) {
    return { problem: messageOf(error) }
  }
}

async function chainFacts(
  command: StatusCommand,
  deps: CommandDeps,
  allocation: Allocation | undefined,
  contract: BrokerContract | undefined,
): Promise<Facts | undefined> {
  const nftContract = command.nftContract ?? allocation?.nftContract
  const requestsContract = command.requestsContract ?? contract?.requestsContract
  if (nftContract === undefined || requestsContract === undefined || !/^0x[0-9a-fA-F]{40}$/.test(nftContract))
    return undefined
  try {
    return {
      requests_contract: requestsContract,
      ...(await readLive(deps, requestsContract, nftContract as AddressText, allocation)),
    }
  } catch (error) {
    return { requests_contract: requestsContract, problem: messageOf(error) }
  }
}

async function readLive(
  deps: CommandDeps,
  requestsContract: AddressText,
  nftContract: AddressText,
  allocation: Allocation | undefined,
): Promise<Facts> {
  const rpc = openRpc(deps, findRegistry(deps.globals).chainId)
  const facts = await readFacts(rpc, requestsContract)
  const view = await readChainView(rpc, {
    requestsContract,
    nftContract,
    wallet: zeroAddress,
    guess: allocation?.requestId,
  })
  const { mapped } = view
  if (mapped === undefined) return { generation: facts.generation, request_id: null, status: 'none' }
  return {
    generation: facts.generation,
    request_id: Number(mapped.id),
    status: mapped.status,
    is_saved_lease: mapped.id === allocation?.requestId,
    submitted_at: isoTime(mapped.submittedAt * 1000),
  }
}

async function tunnelFacts(command: StatusCommand, deps: CommandDeps): Promise<Facts | undefined> {
  const state = await findStatus(deps, command.wgInterface)
  if (state === undefined) return undefined
  const peer = state.peers[0]
  return {
    interface: command.wgInterface,
    public_key: state.publicKey ?? null,
    broker_pubkey: peer?.publicKey ?? null,
    endpoint: peer?.endpoint ?? null,
    latest_handshake: peer?.latestHandshake === undefined ? null : isoTime(peer.latestHandshake * 1000),
    received_bytes: Number(peer?.rxBytes ?? 0n),
    sent_bytes: Number(peer?.txBytes ?? 0n),
    conf: existsSync(confPath(command)) ? confPath(command) : null,
  }
}

function lines(title: string, facts: Facts | undefined, absent?: string): string[] {
  if (facts === undefined) return absent === undefined ? [] : [`${title}: ${absent}`]
  return [
    `${title}:`,
    ...Object.entries(facts).map(
      ([name, value]) => `  ${name.replaceAll('_', ' ')}: ${value === null || value === '' ? '-' : value}`,
    ),
  ]
}
