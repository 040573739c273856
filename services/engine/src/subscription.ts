import type { Address } from '@blockhost/chain/hex.ts'

/** How far a subscription is; see schema.sql. */
export const states = [
  'seen',
  'paid',
  'creating',
  'created',
  'minting',
  'minted',
  'live',
  'suspending',
  'suspended',
  'resuming',
  'ending',
  'ended',
  'dropped',
] as const
/** One of {@link states}. */
export type State = (typeof states)[number]

/** Why a subscription's VM ends, or ended. `expired-unserved`: it ran out before a VM could be made. */
export type EndReason = 'cancelled' | 'expired' | 'expired-unserved' | 'reorg'

/** A subscription as the engine knows it. Chain times are Unix seconds, `retryAt` and `dataRetryAt` Unix milliseconds. */
export type Subscription = {
  readonly id: bigint
  readonly subscriber: Address
  readonly planId: number
  readonly purchaseBlock: bigint
  readonly expiresAt: number
  readonly state: State
  readonly reason: EndReason | undefined
  readonly changedBlock: bigint
  readonly suspendedAt: number | undefined
  readonly data: Uint8Array | undefined
  readonly dataAttempts: number
  readonly dataRetryAt: number
  readonly access: 'sealed' | 'needs-key' | undefined
  readonly accessProblem: string | undefined
  readonly hostname: string | undefined
  readonly txKey: string | undefined
  readonly mintAttempts: number
  readonly tokenId: bigint | undefined
  readonly tokenOwner: Address | undefined
  readonly boundToken: bigint | undefined
  readonly vmExpiresAt: number | undefined
  readonly vmOwner: Address | undefined
  readonly attempts: number
  readonly retryAt: number
  readonly error: string | undefined
  readonly errorCode: string | undefined
}

/** What may change of a subscription; `undefined` empties a value. */
export type SubscriptionChange = {
  readonly [K in Exclude<keyof Subscription, 'id' | 'subscriber'>]?: Subscription[K] | undefined
}

/** Returns the name of a subscription's VM: `blockhost-` and the id with at least three digits. */
export function vmNameOf(id: bigint): string {
  return `blockhost-${String(id).padStart(3, '0')}`
}

/** Returns the subscription that a VM's name belongs to. */
export function subscriptionIdOf(vmName: string): bigint | undefined {
  const digits = /^blockhost-(\d{3,15})$/.exec(vmName)?.[1]
  return digits === undefined || vmNameOf(BigInt(digits)) !== vmName ? undefined : BigInt(digits)
}

/** Returns the state of a VM that runs and is paid for, by what its owner still lacks. */
export function runningState({ tokenId, boundToken }: Pick<Subscription, 'tokenId' | 'boundToken'>): State {
  if (tokenId === undefined) return 'created'
  return boundToken === tokenId ? 'live' : 'minted'
}
