/** `request` and `renew`. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Address, bytesToHex } from '@blockhost/chain/hex.ts'
import type { Rpc } from '@blockhost/chain/rpc.ts'
import { createTransactionPort } from '@blockhost/chain/transaction-port.ts'
import { encodeRequest } from '@blockhost/crypto/broker-messages.ts'
import { createDecryptor, encrypt } from '@blockhost/crypto/ecies.ts'
import { addressOf, generateKeyFile, publicKeyOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { formatPrefix, type Prefix, parsePrefix } from '@blockhost/net/prefix.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { checksum } from 'ox/Address'
import { type AllocationStore, fileAccess, formatAllocation, openAllocationStore } from './allocation.ts'
import { openAnswer } from './answer.ts'
import type { BrokerSelector, Command } from './argv.ts'
import { type AskDeps, type AskOutcome, ask } from './ask.ts'
import { type SelectedBroker, selectBroker } from './broker-selection.ts'
import { type CommandDeps, type CommandResult, openRpc, persist, requireRoot } from './command.ts'
import { type Intent, type IntentStore, openIntentStore } from './intent.ts'
import { takeLock } from './lock.ts'
import { findRegistry, requireRegistry } from './registry-address.ts'
import { readChainView, readFacts } from './requests-contract.ts'
import { checkTunnel, configureTunnel, confPath, restartTunnel, rewriteConf } from './tunnel.ts'
import { createWallet, createWalletPort, type Wallet } from './wallet.ts'

type AskCommand = Command & { name: 'request' | 'renew' }

/** Everything of one run that does not change. */
type Setting = {
  readonly command: AskCommand
  readonly rpc: Rpc
  readonly wallet: Wallet
  readonly intents: IntentStore
  readonly allocations: AllocationStore
  readonly deadlineMs: number
}

/**
 * Asks a broker for a prefix, or the same broker again with a new key, and saves what it grants.
 *
 * @throws {BlockHostError} those of `ask`, `selectBroker`, `takeLock`, key files and tunnel; `BH_REQUEST_UNFINISHED`, `BH_NOTHING_TO_RENEW`.
 */
export async function request(command: AskCommand, deps: CommandDeps): Promise<CommandResult> {
  const { globals } = deps
  if (command.configureWg) requireRoot(deps, 'bring the tunnel up')
  const registry = findRegistry(globals)
  const privateKey = readKeyFile(command.walletKey)
  using _lock = takeLock(globals.configDir)
  const rpc = openRpc(deps, registry.chainId)
  const port = createTransactionPort(rpc, { privateKey, address: addressOf(privateKey), chainId: registry.chainId })
  const setting: Setting = {
    command,
    rpc,
    wallet: createWallet(createWalletPort(port, rpc)),
    intents: openIntentStore(globals.configDir),
    allocations: openAllocationStore(globals.configDir, fileAccess(readGroups(), deps.isRoot)),
    deadlineMs: deps.clock.monotonic() + command.timeoutMs,
  }
  deps.progress.step('choosing the broker')
  const selected = await select(setting, deps, registry.registryContract)
  const outcome = await ask(planOf(setting, selected, deps), askDeps(setting, selected, deps))
  deps.progress.end('done')
  if (command.configureWg) await bringUp(command, outcome, deps)
  return report(setting, selected, outcome)
}

async function select(
  setting: Setting,
  deps: CommandDeps,
  registryContract: Address | undefined,
): Promise<SelectedBroker> {
  const { command, rpc, intents, allocations } = setting
  const intent = checkIntent(intents.find(), setting, deps)
  const contract = allocations.findContract()
  const remembered = contract?.ok ? contract.value : undefined
  if (contract?.ok === false) deps.progress.note(`broker-contract.json is not used: ${contract.problem}`)
  const saved = allocations.findAllocation()
  if (saved?.ok === false) deps.progress.note(`broker-allocation.json is not used: ${saved.problem}`)
  if (saved?.ok && saved.value.nftContract.toLowerCase() !== command.nftContract.toLowerCase())
    deps.progress.note(
      `the saved lease of the NFT contract ${saved.value.nftContract} will be replaced; it is not released by this`,
    )
  if (command.name === 'renew' && intent === undefined && remembered === undefined)
    throw nothingToRenew(deps.globals.configDir)
  const selector: BrokerSelector = command.name === 'request' ? command.broker : { kind: 'any', region: undefined }
  const query = {
    selector,
    nftContract: command.nftContract,
    registry: registryContract,
    intent,
    remembered,
    expectUpstream: readUpstream(command),
  }
  const needRegistry = () =>
    requireRegistry({ chainId: setting.wallet.chainId, registryContract }, deps.globals.configDir)
  const selected = await persist(deps, { deadlineMs: setting.deadlineMs, pollIntervalMs: command.pollIntervalMs }, () =>
    selectBroker(rpc, query, { progress: deps.progress, requireRegistry: needRegistry }),
  )
  if (
    remembered !== undefined &&
    remembered.requestsContract.toLowerCase() !== selected.broker.requestsContract.toLowerCase()
  )
    deps.progress.note(`the lease of the former broker (${remembered.requestsContract}) is not released by this`)
  return selected
}

/** An unfinished request is only gone on with by its own wallet, for its own NFT contract, on its own chain. */
function checkIntent(intent: Intent | undefined, { command, wallet }: Setting, deps: CommandDeps): Intent | undefined {
  if (intent === undefined) return undefined
  const differs =
    intent.nft_contract.toLowerCase() !== command.nftContract.toLowerCase()
      ? `for the NFT contract ${intent.nft_contract}`
      : intent.wallet.toLowerCase() !== wallet.address
        ? `of the wallet ${intent.wallet}`
        : intent.chain_id !== wallet.chainId
          ? `on chain ${intent.chain_id}`
          : undefined
  if (differs === undefined) {
    deps.progress.note('going on with an unfinished request')
    return intent
  }
  throw new BlockHostError({
    code: 'BH_REQUEST_UNFINISHED',
    message: `A request ${differs} is not finished in ${deps.globals.configDir}`,
    hint: 'Finish it first with its own --nft-contract, --wallet-key and --chain-id, give it up with `release --force`, or use another --config-dir.',
    fields: { nftContract: intent.nft_contract, wallet: intent.wallet, chainId: intent.chain_id },
  })
}

function nothingToRenew(configDir: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_NOTHING_TO_RENEW',
    message: `There is no ${join(configDir, 'broker-contract.json')} that says which broker to ask again`,
    hint: 'Run `broker-client request`; the prefix stays if the broker still keeps it for this NFT contract.',
  })
}

function readUpstream({ expectUpstream }: AskCommand): Prefix | undefined {
  if (expectUpstream === undefined) return undefined
  const prefix = parsePrefix(expectUpstream)
  if (prefix !== undefined) return prefix
  throw new BlockHostError({
    code: 'BH_USAGE',
    message: `--expect-upstream: \`${expectUpstream}\` is not an IPv6 prefix without host bits`,
    exitCode: exitCodes.usage,
  })
}

function planOf(
  { command, deadlineMs }: Setting,
  { broker, facts }: SelectedBroker,
  deps: CommandDeps,
): Parameters<typeof ask>[0] {
  return {
    purpose: command.name,
    nftContract: command.nftContract,
    broker,
    facts,
    brokerWallet: checksum(facts.owner),
    maxFeeWei: command.maxFeeWei,
    timeoutMs: Math.max(0, deadlineMs - deps.clock.monotonic()),
    pollIntervalMs: command.pollIntervalMs,
  }
}

function askDeps(setting: Setting, { broker, facts }: SelectedBroker, deps: CommandDeps): AskDeps {
  const { command, rpc, wallet, intents, allocations } = setting
  const { requestsContract } = broker
  const serverKey = openServerKey(deps)
  const serverPubkey = publicKeyOf(serverKey).toHex()
  const nftContract = checksum(command.nftContract)
  const opener = {
    decrypt: createDecryptor(serverKey),
    generation: facts.generation,
    ownKeys: () => {
      const saved = allocations.findAllocation()
      return [intents.find()?.wg_public_key, saved?.ok ? saved.value.wgPublicKey : undefined].filter(
        key => key !== undefined,
      )
    },
    rules: { expectUpstream: broker.expectUpstream },
  }
  return {
    wallet,
    view: guess =>
      readChainView(rpc, { requestsContract, nftContract: command.nftContract, wallet: wallet.address, guess }),
    facts: () => readFacts(rpc, requestsContract),
    openAnswer: (response, id) => openAnswer(opener, response, id),
    newKeyPair: generateKeyPair,
    encryptRequest: wgPubkey =>
      bytesToHex(
        encrypt(Uint8Array.fromHex(broker.brokerPubkey), encodeRequest({ wgPubkey, nftContract, serverPubkey })),
      ),
    intents,
    allocations,
    beforeSave: (allocation, previous) => {
      if (rewriteConf(allocation, previous, command)) deps.progress.note(`${confPath(command)} has the new key`)
    },
    clock: deps.clock,
    progress: deps.progress,
    signal: deps.signal,
  }
}

/** Made once; whoever has it can open every answer, so it is worth a backup. */
function openServerKey({ globals, progress }: CommandDeps): Uint8Array {
  const path = join(globals.configDir, 'server.key')
  if (existsSync(path)) return readKeyFile(path)
  progress.note(`made ${path}`)
  return generateKeyFile(path)
}

/** A tunnel that has a file stays one, with what `install` was told. */
async function bringUp(command: AskCommand, { allocation, replaced }: AskOutcome, deps: CommandDeps): Promise<void> {
  deps.progress.step(`bringing ${command.wgInterface} up`)
  if (rewriteConf(allocation, replaced, command))
    await restartTunnel(deps, command, (replaced ?? allocation).lease.prefix)
  else await configureTunnel(deps, allocation, { ...command, forwarding: true, defaultRoute: false })
  await checkTunnel(deps, allocation, command.wgInterface)
  deps.progress.end('done')
}

function readGroups(): string {
  return existsSync('/etc/group') ? readFileSync('/etc/group', 'utf8') : ''
}

function report({ command }: Setting, { broker }: SelectedBroker, { allocation, isNew }: AskOutcome): CommandResult {
  const { wg_private_key: _secret, ...shown } = JSON.parse(formatAllocation(allocation)) as Record<string, unknown>
  const text = [
    `Prefix: ${shown.prefix}`,
    `Gateway: ${shown.gateway}`,
    `Broker: ${shown.broker_endpoint} (${broker.requestsContract}${broker.brokerId === 0n ? '' : `, broker ${broker.brokerId}`})`,
    `Request: ${shown.request_id}${isNew ? '' : ' (the lease was there already)'}`,
    ...(broker.expectUpstream === undefined ? [] : [`Upstream: ${formatPrefix(broker.expectUpstream)}`]),
    ...(command.configureWg
      ? [`Tunnel: ${command.wgInterface} is up`]
      : command.name === 'request'
        ? ['Next: broker-client install']
        : [`Next: broker-client install (a running tunnel still has the old key)`]),
  ]
  return {
    json: { ...shown, requests_contract: broker.requestsContract, broker_id: Number(broker.brokerId), new: isNew },
    text,
  }
}
