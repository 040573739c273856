import { type Stats, statSync } from 'node:fs'
import { zeroAddress } from '@blockhost/chain/hex.ts'
import { createRpc } from '@blockhost/chain/rpc.ts'
import type { SubscriptionsSnapshot } from '@blockhost/chain/subscription-view.ts'
import { createSubscriptionsReader } from '@blockhost/chain/subscriptions-lens.ts'
import { addressOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import { type EngineConfig, readEngineConfig } from '@blockhost/engine/config.ts'
import { readReport } from '@blockhost/engine/report.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { messageOf } from '@blockhost/kit/errors.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { askEngine } from './engine-socket.ts'
import { bad, configurationCheck, type Finding, failed, good, warning } from './finding.ts'
import { checkGuestReach, checkGuestSecret } from './guest-reach.ts'

/** Beyond that, sign-in codes and signatures may be refused. */
const clockLimitSeconds = 60
/** A chain whose newest block is older than that is not followed, or stands still. */
const staleSeconds = 600

/**
 * Looks at everything the engine needs, and changes nothing.
 *
 * @param folder - The host's configuration.
 * @returns What was found, in the order of the checks. Never rejects.
 */
export async function examine(folder: string, clock: Clock): Promise<Finding[]> {
  const config = attempt(() => readEngineConfig(folder))
  if (config instanceof Error) return [failed(configurationCheck, config, `Correct the files in ${folder}.`)]
  const [chain, agent, engine, reach] = await Promise.all([
    checkChain(config, clock),
    checkAgent(config),
    checkEngine(config),
    checkGuestReach(config),
  ])
  return [
    good(configurationCheck, `${folder} can be used`),
    checkKey('key of the minter', config.minterKeyFile),
    checkKey('key that buyers encrypt to', config.serverKeyFile),
    ...chain,
    checkLease(config),
    checkTemplate(config),
    agent,
    engine,
    reach,
    checkGuestSecret(config),
    checkSubscriptions(config, clock),
  ]
}

function checkKey(what: string, path: string): Finding {
  const key = attempt(() => readKeyFile(path))
  if (key instanceof Error) return failed(what, key, `Put the key into ${path}, mode 0600.`)
  const mode = (statSync(path) as Stats).mode & 0o777
  if ((mode & 0o027) !== 0)
    return bad(what, `${path} has mode ${mode.toString(8)}: others may read or change it`, `Run: chmod 0600 ${path}`)
  return good(what, `${path}, address ${addressOf(key)}`)
}

// --- chain ------------------------------------------------------------------------------------------------------------

async function checkChain(config: EngineConfig, clock: Clock): Promise<Finding[]> {
  const minter = attempt(() => addressOf(readKeyFile(config.minterKeyFile)))
  const { chainId, rules } = config
  try {
    const rpc = createRpc({ urls: config.rpcUrls, chainId }, { clock, log: silentLog })
    const reader = createSubscriptionsReader(rpc, { subscriptions: rules.subscriptions, chainId })
    const wallets = minter instanceof Error ? [] : [minter]
    const lists = { cursor: 0n, max: 0, watchIds: [], tokenIds: [], wallets }
    const { snapshot } = await reader.snapshot({ subscriptions: rules.subscriptions, nft: rules.nft, ...lists })
    const ageSeconds = Math.round(clock.now() / 1000 - snapshot.timestamp)
    return [
      good('RPC', `chain ${chainId}, block ${snapshot.blockNumber}, ${snapshot.subscriptionCount} subscriptions`),
      checkClock(ageSeconds),
      checkSales(snapshot),
      checkMinter(config, snapshot, minter),
      checkBalance(config, snapshot, minter),
    ]
  } catch (error) {
    return [failed('RPC', error, 'Check rpc_url in web3-defaults.yaml, and the network.')]
  }
}

function checkClock(ageSeconds: number): Finding {
  if (ageSeconds < -clockLimitSeconds)
    return bad(
      'clock',
      `this machine is ${-ageSeconds} s behind the chain`,
      'Set the clock: `timedatectl set-ntp true`.',
    )
  if (ageSeconds > staleSeconds)
    return warning(
      'clock',
      `the newest block is ${ageSeconds} s old: the RPC endpoint is behind, the chain stands still, or this clock is ahead`,
      'Compare with another endpoint, and check `timedatectl`.',
    )
  return good('clock', `agrees with the chain (newest block ${ageSeconds} s ago)`)
}

function checkSales({ plans, purchasesPaused }: SubscriptionsSnapshot): Finding {
  const open = plans.filter(plan => plan.active).length
  if (purchasesPaused)
    return warning('sales', 'purchases are paused', 'Call setPurchasesPaused(false) when you want to sell.')
  if (open === 0) return warning('sales', 'no plan is open to buyers', 'Create a plan.')
  return good('sales', `${open} plans are open to buyers`)
}

function checkMinter({ rules }: EngineConfig, snapshot: SubscriptionsSnapshot, minter: string | Error): Finding {
  const what = 'right to mint'
  if (minter instanceof Error) return bad(what, 'the key of the minter can not be read', 'See above.')
  const holders = [snapshot.nftMinter, snapshot.nftOwner]
  if (holders.includes(minter.toLowerCase() as `0x${string}`)) return good(what, `${minter} may mint on ${rules.nft}`)
  const present = snapshot.nftMinter === zeroAddress ? 'nobody beside the owner' : snapshot.nftMinter
  return bad(
    what,
    `${minter} may not mint on ${rules.nft}; its minter is ${present}, its owner ${snapshot.nftOwner}`,
    `Let the owner call setMinter(${minter}).`,
  )
}

function checkBalance({ rules }: EngineConfig, { balances }: SubscriptionsSnapshot, minter: string | Error): Finding {
  const what = 'money of the minter'
  const wei = balances[0]
  if (wei === undefined || minter instanceof Error) return bad(what, 'not known', 'See above.')
  const ether = (Number(wei / 10n ** 9n) / 1e9).toFixed(6)
  const todo = `Send some ether to ${minter}; a token costs about 0.0002 at 1 gwei.`
  if (wei === 0n) return bad(what, 'there is none: no token can be minted', todo)
  return wei < rules.lowBalanceWei ? warning(what, `${ether} ether is left`, todo) : good(what, `${ether} ether`)
}

// --- host -------------------------------------------------------------------------------------------------------------

function checkLease({ hostIpv6, pools }: EngineConfig): Finding {
  const what = 'IPv6 lease'
  if (hostIpv6 !== undefined) return good(what, `${pools.ipv6?.prefix}, this host is ${hostIpv6}`)
  const todo = 'Run `broker-client request`, or write broker-allocation.json by hand.'
  return warning(what, 'there is none: VMs get IPv4 addresses only, which the internet can not reach', todo)
}

function checkTemplate({ provisioner, vmTemplate, folder }: EngineConfig): Finding {
  const what = 'VM template'
  if (provisioner === 'fake')
    return warning(what, 'VMs are only pretended (provisioner: fake)', 'Choose `provisioner: libvirt`.')
  if (vmTemplate !== undefined) return good(what, vmTemplate)
  return bad(what, 'none is chosen', `Build one and put its id into ${folder}/engine.yaml as vm_template.`)
}

const agentTodo = 'Run `systemctl status blockhost-root-agent`, and this command as root or as the user blockhost.'

async function checkAgent({ rootAgentSocket, provisioner }: EngineConfig): Promise<Finding> {
  const what = 'root agent and hypervisor'
  if (provisioner === 'fake') return good(what, 'not needed')
  try {
    const asked = { action: 'host-status', params: {} }
    const answer = await callFrame(rootAgentSocket, asked, { timeoutMs: 25_000, maxBytes: 65_536 })
    const fields = answer as { ok?: unknown; error?: unknown; libvirt?: unknown; accelerator?: unknown }
    if (fields.ok !== true) return bad(what, `the agent refuses: ${String(fields.error).slice(0, 300)}`, agentTodo)
    if (fields.libvirt !== true) return bad(what, 'libvirt does not answer', 'Run `systemctl status libvirtd`.')
    if (fields.accelerator === 'kvm') return good(what, 'both answer; KVM')
    return warning(what, 'both answer, but without KVM VMs are slow', 'Switch virtualization on in the firmware.')
  } catch (error) {
    return bad(what, messageOf(error), agentTodo)
  }
}

async function checkEngine({ socketPath }: EngineConfig): Promise<Finding> {
  const health = await askEngine(socketPath)
  if (health === undefined) return bad('engine', 'it does not run', 'Run `systemctl start blockhost-engine`.')
  if (health.healthy) return good('engine', `runs and is well, version ${health.version}`)
  return bad('engine', health.reasons.join('; '), 'See `journalctl -u blockhost-engine`.')
}

function checkSubscriptions({ databasePath }: EngineConfig, clock: Clock): Finding {
  const what = 'subscriptions'
  const report = attempt(() => readReport(databasePath, { all: false, nowMs: clock.now() }))
  if (report instanceof Error) return failed(what, report, 'Start the engine.')
  const trouble = report.items.filter(item => item.trouble)
  if (trouble.length === 0) return good(what, 'none needs a look')
  return warning(
    what,
    `${trouble.length} need a look, first ${trouble[0]!.vm}: ${trouble[0]!.words}`,
    'See `blockhost status`.',
  )
}

function attempt<T>(work: () => T): T | Error {
  try {
    return work()
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}
