/** What one seed is about: sizes, times, and which things go wrong how often. */

import type { BrokerConfig } from '@blockhost/broker/config.ts'
import type { Address } from 'viem'
import { brokerKeys } from './cast.ts'
import type { ContractRules } from './contract.ts'
import type { Random } from './random.ts'

/** Everything that can go wrong. */
export const faultKinds = [
  'rpc-error',
  'rpc-timeout',
  'rpc-outage',
  'stale-endpoint',
  'hidden-receipt',
  'lost-answer-to-send',
  'reorg',
  'transaction-forgotten',
  'fee-spike',
  'underpriced',
  'no-funds',
  'kill',
  'kill-at-commit',
  'stop',
  'machine-restart',
  'command-failed',
  'command-failed-late',
  'command-outage',
  'disk-full',
  'clock-jump',
  'peers-flushed',
  'interface-deleted',
  'firewall-flushed',
  'ndppd-killed',
] as const
/** One of {@link faultKinds}. */
export type FaultKind = (typeof faultKinds)[number]

/** One seed's world. */
export type Scenario = {
  readonly hosts: number
  readonly config: BrokerConfig
  readonly rules: ContractRules
  readonly blockSeconds: number
  readonly endpoints: number
  readonly inclusion: number
  /** Base fee when nothing goes wrong any more, gwei; it begins at 10. */
  readonly lastBaseFeeGwei: number
  readonly hasWireGuardModule: boolean
  /** How long things go wrong, ms. */
  readonly stormMs: number
  /** Chance for faults that strike a call; mean time between strikes (ms) for those that come by themselves. 0: never. */
  readonly faults: Readonly<Record<FaultKind, number>>
  readonly maxReorgDepth: number
  /** Mean time between two acts of one host, ms. */
  readonly hostRestMs: number
}

/** Unix ms at which every world begins. */
export const worldStart = Date.UTC(2027, 0, 1)
/** The requests contract. */
export const contractAddress: Address = '0x00000000000000000000000000000000b10c0057'
/** The WireGuard interface. */
export const tunnelName = 'wg-broker'
/** The interface to the upstream. */
export const upstreamName = 'up0'

const minute = 60_000

/**
 * Draws a scenario. Each kind of fault is absent in about half of the seeds, rare or frequent in the others, so that some seeds show
 * one fault alone and some all of them at once.
 */
export function drawScenario(random: Random, files: { readonly privateKey: string }): Scenario {
  const maxReorgDepth = random.int(1, 5)
  const isShortLived = random.chance(0.15)
  return {
    hosts: random.pick([2, 3, 5, 8]),
    config: drawConfig(random, files),
    rules: {
      chainId: 31_337,
      address: contractAddress,
      owner: brokerKeys.operator,
      expirationSeconds: isShortLived ? random.int(200, 400) : 86_400,
    },
    blockSeconds: random.pick([1, 2, 2, 4, 4, 12]),
    endpoints: random.int(1, 3),
    inclusion: random.pick([0.5, 0.9, 1]),
    lastBaseFeeGwei: random.pick([10, 30, 90]),
    hasWireGuardModule: random.chance(0.7),
    stormMs: random.int(90, 240) * 1000,
    faults: drawFaults(random),
    maxReorgDepth,
    hostRestMs: random.pick([8_000, 25_000, 80_000]),
  }
}

/** EXTCODEHASH of most NFT contracts, and of the one that is another. */
export const codeHashes = { usual: `0x${'c0de'.repeat(16)}`, other: `0x${'0dd0'.repeat(16)}` } as const

function drawLimits(random: Random): BrokerConfig['limits'] {
  return {
    acceptedCodeHashes: random.chance(0.15) ? [codeHashes.usual] : [],
    maxLeasesPerWallet: random.pick([0, 1]),
    requestsPerWalletPerDay: random.chance(0.15) ? random.int(3, 8) : 0,
  }
}

/** Strikes a single call with this chance. */
const perCall: Partial<Record<FaultKind, readonly [rare: number, frequent: number]>> = {
  'rpc-error': [0.02, 0.2],
  'rpc-timeout': [0.01, 0.08],
  'hidden-receipt': [0.02, 0.2],
  'lost-answer-to-send': [0.1, 0.4],
  underpriced: [0.03, 0.2],
  kill: [0.002, 0.02],
  'kill-at-commit': [0.01, 0.05],
  stop: [0.01, 0.05],
  'command-failed': [0.02, 0.15],
  'command-failed-late': [0.02, 0.15],
  'disk-full': [0.01, 0.06],
}

/** Comes by itself, on average after so many ms. */
const perTime: Partial<Record<FaultKind, readonly [rare: number, frequent: number]>> = {
  'rpc-outage': [4 * minute, minute],
  'stale-endpoint': [minute, 10_000],
  reorg: [2 * minute, 15_000],
  'transaction-forgotten': [minute, 15_000],
  'fee-spike': [3 * minute, minute],
  'no-funds': [5 * minute, 2 * minute],
  'machine-restart': [4 * minute, minute],
  'command-outage': [3 * minute, minute],
  'clock-jump': [3 * minute, 40_000],
  'peers-flushed': [2 * minute, 30_000],
  'interface-deleted': [3 * minute, minute],
  'firewall-flushed': [2 * minute, 30_000],
  'ndppd-killed': [2 * minute, 30_000],
}

/** What changes the network behind the daemon's back, or keeps the daemon from changing it. */
const networkFaults: readonly FaultKind[] = [
  'machine-restart',
  'command-failed',
  'command-failed-late',
  'command-outage',
  'peers-flushed',
  'interface-deleted',
  'firewall-flushed',
  'ndppd-killed',
]

function drawFaults(random: Random): Record<FaultKind, number> {
  const calm = random.weighted({ none: 85, network: 10, all: 5 })
  const draws = faultKinds.map(kind => {
    const [rare, frequent] = perCall[kind] ?? perTime[kind]!
    const level = random.weighted(
      kind === 'reorg' ? { none: 3, rare: 3, frequent: 4 } : { none: 5, rare: 3, frequent: 2 },
    )
    const isOff = calm === 'all' || (calm === 'network' && networkFaults.includes(kind))
    return [kind, isOff || level === 'none' ? 0 : level === 'rare' ? rare : frequent]
  })
  return Object.fromEntries(draws)
}

/** Returns whether nobody but the daemon touches the network of a scenario, and all its commands work. */
export function hasCalmNetwork(scenario: Scenario): boolean {
  return networkFaults.every(kind => scenario.faults[kind] === 0)
}

/** Returns whether a kind comes by itself, and how often. */
export function isByTime(kind: FaultKind): boolean {
  return kind in perTime
}

function drawConfig(random: Random, files: { readonly privateKey: string }): BrokerConfig {
  const pool = random.weighted({ tiny: 3, small: 4, large: 2 })
  // 3, 7 or 2^56 leases beside the broker's own.
  const upstreamLength = { tiny: 120, small: 120, large: 64 }[pool]
  const allocationSize = { tiny: 122, small: 123, large: 120 }[pool]
  const ndpMode =
    pool === 'large' ? random.pick(['routed', 'ndppd'] as const) : random.pick(['routed', 'kernel', 'ndppd'] as const)
  const restDays = random.pick([0, 1, 6]) * (minute / 86_400_000)
  return {
    upstreamPrefix: `2001:db8:77::/${upstreamLength}`,
    allocationSize,
    brokerAddress: '2001:db8:77::1',
    keepDays: restDays,
    quarantineDays: restDays / 2,
    tunnelTimeoutMs: random.pick([20_000, 40_000, 60_000]),
    reconcileIntervalMs: random.pick([15_000, 30_000]),
    wireguard: {
      interface: tunnelName,
      listenPort: 51_820,
      privateKeyFile: files.privateKey,
      publicEndpoint: '198.51.100.1:51820',
      upstreamInterface: ndpMode === 'routed' ? undefined : upstreamName,
      ndpMode,
    },
    api: { host: '127.0.0.1', port: 8080, tls: undefined, allowRemote: false },
    databasePath: '',
    logging: { level: 'debug', file: undefined },
    onchain: {
      rpcUrls: [],
      chainId: 31_337,
      operatorKeyFile: '',
      eciesKeyFile: '',
      requestsContracts: [contractAddress],
      pollIntervalMs: random.pick([2000, 5000, 5000]),
      busyPollIntervalMs: random.pick([500, 1000]),
      confirmations: random.pick([0, 0, 1, 2, 6]),
      reorgDepth: random.int(10, 16),
      maxAnswersPerTransaction: random.pick([1, 3, 40]),
      maxFeePerGasWei: undefined,
      stuckAfterMs: random.pick([20_000, 60_000]),
      lowBalanceWei: 10n ** 16n,
    },
    limits: drawLimits(random.fork('limits')),
    warnings: [],
  }
}
