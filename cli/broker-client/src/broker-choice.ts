/** Which broker of the registry is asked. Pure. */
import { isPublicKey } from '@blockhost/crypto/ecies.ts'
import type { RegisteredBroker } from './registry.ts'
import type { ContractFacts, ContractProbe } from './requests-contract.ts'

/** One entry with what its requests contract says about itself. */
export type Candidate = {
  readonly broker: RegisteredBroker
  readonly probe: ContractProbe
  /** Whether the NFT contract has a live request there already. Asking again takes no new place, and keeps the prefix. */
  readonly hasLive: boolean
}

/** An entry that may be asked. */
export type UsableBroker = Omit<Candidate, 'probe'> & { readonly facts: ContractFacts }

/** Either the entry may be asked, or one clause why not. */
export type Usability =
  | { readonly ok: true; readonly usable: UsableBroker }
  | { readonly ok: false; readonly problem: string }

/**
 * Says whether an entry may be asked: active, with a key that can be encrypted to, room left, and a requests contract that only the
 * registered operator can answer at. Without the last, whoever owns the contract would decide where the host's traffic goes.
 */
export function checkBroker({ broker, probe, hasLive }: Candidate): Usability {
  const no = (problem: string): Usability => ({ ok: false, problem })
  if (!broker.active) return no('it is not active')
  if (!isPublicKey(Uint8Array.fromHex(broker.encryptionPubkey)))
    return no('its encryption key is not a secp256k1 public key')
  if (!probe.ok) return no(`its requests contract can't be used: ${probe.problem}`)
  if (probe.facts.owner !== broker.operator)
    return no(`its requests contract is owned by ${probe.facts.owner}, not by its operator ${broker.operator}`)
  if (probe.facts.availableCapacity === 0n && !hasLive) return no('it is full')
  return { ok: true, usable: { broker, hasLive, facts: probe.facts } }
}

/** Outcome of {@link chooseBroker}: the one to ask, or what is wrong with each. */
export type BrokerChoice =
  | { readonly ok: true; readonly chosen: UsableBroker }
  | { readonly ok: false; readonly problems: readonly string[] }

/**
 * Chooses the usable broker that already has a live request of the NFT contract (a re-installed host gets its prefix back), else the one with the fewest
 * leases; the lowest id among equals.
 *
 * @param region - Exact text; `undefined`: any.
 */
export function chooseBroker(candidates: readonly Candidate[], region: string | undefined): BrokerChoice {
  const checked = candidates
    .filter(({ broker }) => region === undefined || broker.region === region)
    .map(candidate => ({ candidate, check: checkBroker(candidate) }))
  const usable = checked.flatMap(({ check }) => (check.ok ? [check.usable] : []))
  const [chosen] = usable.toSorted(
    (a, b) =>
      Number(b.hasLive) - Number(a.hasLive) || compare(loadOf(a), loadOf(b)) || compare(a.broker.id, b.broker.id),
  )
  if (chosen !== undefined) return { ok: true, chosen }
  return {
    ok: false,
    problems: checked.map(({ candidate, check }) => `broker ${candidate.broker.id}: ${check.ok ? '' : check.problem}`),
  }
}

/** What the contract counts is better than what the operator reports, which in the field is always 0. */
function loadOf({ broker, facts }: UsableBroker): bigint {
  return facts.liveRequests ?? broker.currentLoad ?? 0n
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}
