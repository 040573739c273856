/** What to offer for gas. Pure. */
import type { Fees } from './transaction.ts'

/** What gas costs at the moment, wei. */
export type FeeMarket = {
  /** Base fee of the newest block (EIP-1559); absent where the chain has none. */
  readonly baseFeeWei: bigint | undefined
  /** What the node suggests as tip; where there is no base fee, as the whole gas price. */
  readonly tipWei: bigint
}

/** Nodes drop a replacement that pays less than 10 % (geth) to 12.5 % more, on both fees. */
const minBumpPerMille = 125n

/**
 * Returns what a new transaction offers: twice the base fee plus the tip, so that it stays valid for six full blocks.
 *
 * @param capWei - Most to pay for a unit of gas; absent: no limit.
 * @returns `undefined` when the cap is below what the newest block asks.
 */
export function firstFees(market: FeeMarket, capWei: bigint | undefined): Fees | undefined {
  const { baseFeeWei, tipWei } = market
  if (baseFeeWei === undefined) {
    return capWei !== undefined && tipWei > capWei ? undefined : { type: 'legacy', gasPriceWei: tipWei }
  }
  if (capWei !== undefined && baseFeeWei > capWei) return undefined
  const maxFeePerGasWei = atMost(2n * baseFeeWei + tipWei, capWei)
  return { type: 'eip1559', maxFeePerGasWei, maxPriorityFeePerGasWei: atMost(tipWei, maxFeePerGasWei) }
}

/**
 * Returns what a replacement offers: `bumpPercent` (at least 12.5) more than `previous` on every fee, or the market if that is more.
 *
 * @returns `undefined` when that is above the cap.
 */
export function raisedFees(
  previous: Fees,
  market: FeeMarket,
  bumpPercent: number,
  capWei: bigint | undefined,
): Fees | undefined {
  const bump = atLeast(BigInt(Math.ceil(bumpPercent * 10)), minBumpPerMille)
  const raise = (wei: bigint) => (wei * (1000n + bump) + 999n) / 1000n
  const wanted = firstFees(market, undefined)!
  const least = mostPaid(previous)
  const most = atLeast(raise(least), mostPaid(wanted))
  if (capWei !== undefined && raise(least) > capWei) return undefined
  const offered = atMost(most, capWei)
  if (previous.type === 'legacy') return { type: 'legacy', gasPriceWei: offered }
  const tip = atLeast(raise(previous.maxPriorityFeePerGasWei), market.tipWei)
  return { type: 'eip1559', maxFeePerGasWei: offered, maxPriorityFeePerGasWei: atMost(tip, offered) }
}

/** Returns the most a transaction may be charged for a unit of gas, wei. */
export function mostPaid(fees: Fees): bigint {
  return fees.type === 'legacy' ? fees.gasPriceWei : fees.maxFeePerGasWei
}

function atMost(value: bigint, limit: bigint | undefined): bigint {
  if (limit === undefined) return value
  return value < limit ? value : limit
}

function atLeast(value: bigint, floor: bigint): bigint {
  return value > floor ? value : floor
}
