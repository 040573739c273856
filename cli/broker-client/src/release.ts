/** `release`. */
import type { Hex } from '@blockhost/chain/hex.ts'
import type { Rpc } from '@blockhost/chain/rpc.ts'
import { createTransactionPort } from '@blockhost/chain/transaction-port.ts'
import { addressOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { type Allocation, type BrokerContract, openAllocationStore } from './allocation.ts'
import type { AddressText, Command } from './argv.ts'
import { interrupted, timedOut } from './ask-messages.ts'
import { type CommandDeps, type CommandResult, openRpc, persist, requireRoot } from './command.ts'
import { openIntentStore } from './intent.ts'
import { takeLock } from './lock.ts'
import { findRegistry } from './registry-address.ts'
import { readChainView, readFacts, releaseAllocationData } from './requests-contract.ts'
import { findStatus, removeTunnel } from './tunnel.ts'
import { createWallet, createWalletPort, type PreparedTransaction, type Wallet } from './wallet.ts'

type ReleaseCommand = Command & { name: 'release' }

/** What became of the lease on chain. */
type ChainOutcome = 'released' | 'already-free' | 'not-told' | 'failed'

/**
 * Gives the lease back: on chain with a wallet key (contracts of this generation let the NFT contract's owner), then here. Without a wallet key only
 * here, as the client of the later generation does.
 *
 * @throws {BlockHostError} `BH_RELEASE_TARGET_UNKNOWN`, `BH_RELEASE_BY_BROKER_ONLY`, `BH_TIMEOUT` and those of the wallet, none of them with `--force`.
 */
export async function release(command: ReleaseCommand, deps: CommandDeps): Promise<CommandResult> {
  if (command.cleanupWg) requireRoot(deps, 'take the tunnel down')
  const { configDir } = deps.globals
  using _lock = takeLock(configDir)
  const store = openAllocationStore(configDir, { mode: 0o600 })
  const found = store.findAllocation()
  const contract = store.findContract()
  const allocation = found?.ok ? found.value : undefined
  const outcome = await releaseOnChain(command, deps, allocation, contract?.ok ? contract.value : undefined)
  deps.progress.step('cleaning up here')
  if (command.cleanupWg) await removeTunnel(deps, command, allocation?.lease.prefix)
  else if ((await findStatus(deps, command.wgInterface)) !== undefined)
    deps.progress.note(`${command.wgInterface} is still up; --cleanup-wg takes it down`)
  store.removeAllocation()
  openIntentStore(configDir).remove()
  deps.progress.end('done')
  return report(command, outcome)
}

async function releaseOnChain(
  command: ReleaseCommand,
  deps: CommandDeps,
  allocation: Allocation | undefined,
  contract: BrokerContract | undefined,
): Promise<ChainOutcome> {
  if (command.walletKey === undefined) {
    deps.progress.note('without --wallet-key the broker is not told; it keeps the prefix for this NFT contract')
    return 'not-told'
  }
  try {
    const target = readTarget(command, allocation, contract)
    return await releaseTarget(command, deps, command.walletKey, target)
  } catch (error) {
    if (!command.force) throw error
    deps.progress.note(
      `not released on chain (${error instanceof Error ? error.message : error}); cleaning up here all the same`,
    )
    return 'failed'
  }
}

type Target = { readonly nftContract: AddressText; readonly requestsContract: AddressText }

function readTarget(
  command: ReleaseCommand,
  allocation: Allocation | undefined,
  contract: BrokerContract | undefined,
): Target {
  const nftContract = command.nftContract ?? allocation?.nftContract
  const requestsContract = command.requestsContract ?? contract?.requestsContract
  if (nftContract !== undefined && requestsContract !== undefined)
    return { nftContract: nftContract as AddressText, requestsContract }
  throw new BlockHostError({
    code: 'BH_RELEASE_TARGET_UNKNOWN',
    message: 'No file here says which lease to release',
    hint: 'Give --nft-contract and --requests-contract, or --force to clean up here only.',
  })
}

async function releaseTarget(
  command: ReleaseCommand,
  deps: CommandDeps,
  walletKey: string,
  target: Target,
): Promise<ChainOutcome> {
  const { chainId } = findRegistry(deps.globals)
  const privateKey = readKeyFile(walletKey)
  const rpc = openRpc(deps, chainId)
  const port = createTransactionPort(rpc, { privateKey, address: addressOf(privateKey), chainId })
  const wallet = createWallet(createWalletPort(port, rpc))
  const deadlineMs = deps.clock.monotonic() + command.timeoutMs
  deps.progress.step('looking at the lease on chain')
  const patience = { deadlineMs, pollIntervalMs: command.pollIntervalMs }
  const facts = await persist(deps, patience, () => readFacts(rpc, target.requestsContract))
  if (facts.generation !== 3 && facts.owner !== wallet.address) throw brokerOnly(target, facts.generation)
  const state: ReleaseState = { first: undefined, sent: undefined, signedAtMs: 0 }
  for (;;) {
    const outcome = await persist(deps, patience, () => step({ deps, rpc, wallet, target, state }))
    if (outcome !== undefined) return outcome
    if (deps.clock.monotonic() >= deadlineMs)
      throw timedOut(`request ${state.first} was not released on chain`, command.timeoutMs)
    await deps.clock.sleep(command.pollIntervalMs, deps.signal)
    if (deps.signal.aborted) throw interrupted()
  }
}

/** What is known after the looks so far. */
type ReleaseState = { first: bigint | undefined; sent: PreparedTransaction | undefined; signedAtMs: number }

type ReleaseRun = {
  readonly deps: CommandDeps
  readonly rpc: Rpc
  readonly wallet: Wallet
  readonly target: Target
  readonly state: ReleaseState
}

/** Pause before the same transaction is sent again, and before it is replaced by one that offers more. */
const resendAfterMs = 5000
const replaceAfterMs = 45_000

/** One look: done when the request found at first is not the live one any more; else the transaction is sent (again). */
async function step({ deps, rpc, wallet, target, state }: ReleaseRun): Promise<ChainOutcome | undefined> {
  const { mapped } = await readChainView(rpc, { ...target, wallet: wallet.address, guess: state.first })
  if (mapped === undefined || (state.first !== undefined && mapped.id !== state.first))
    return state.sent === undefined ? 'already-free' : 'released'
  state.first = mapped.id
  const now = deps.clock.monotonic()
  const waitedMs = now - state.signedAtMs
  if (state.sent !== undefined && waitedMs < resendAfterMs) return undefined
  if (state.sent === undefined || waitedMs > replaceAfterMs) {
    const call = { to: target.requestsContract, data: releaseAllocationData(target.nftContract), valueWei: 0n }
    state.sent = await (state.sent === undefined ? wallet.prepare(call, 'release the lease') : wallet.raise(state.sent))
    state.signedAtMs = now
  }
  deps.progress.step(`waiting for transaction ${state.sent.hash} to be mined`)
  await send(wallet, state.sent.raw)
  return undefined
}

/** Whether it was mined shows on the chain; here only what can never be mined counts. */
async function send(wallet: Wallet, raw: Hex): Promise<void> {
  const outcome = await wallet.send(raw)
  if (outcome.ok || (outcome.kind !== 'permanent' && outcome.kind !== 'insufficient-funds')) return
  throw new BlockHostError({
    code: 'BH_TRANSACTION_REFUSED',
    message: `The RPC endpoint refused the release: ${outcome.message}`,
    hint: 'Run it again; if that does not help, try another --rpc-url.',
  })
}

function brokerOnly({ requestsContract }: Target, generation: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_RELEASE_BY_BROKER_ONLY',
    message: `On the generation-${generation} contract ${requestsContract} only the broker can release a lease`,
    hint: "Ask the broker's operator; --force cleans up here without that.",
    fields: { requestsContract, generation },
  })
}

const outcomes: Readonly<Record<ChainOutcome, string>> = {
  released: 'released on chain',
  'already-free': 'there was nothing to release on chain',
  'not-told': 'not released on chain (no --wallet-key)',
  failed: 'not released on chain',
}

function report(command: ReleaseCommand, outcome: ChainOutcome): CommandResult {
  return {
    json: { chain: outcome, tunnel_removed: command.cleanupWg },
    text: [
      `Lease: ${outcomes[outcome]}; forgotten here`,
      ...(command.cleanupWg ? [`Tunnel: ${command.wgInterface} is gone`] : []),
    ],
  }
}
