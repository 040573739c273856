/** Hosts that want a prefix, by the book and not. */

import { requestStatus } from '@blockhost/chain/snapshot.ts'
import type { FakeKernel } from '@blockhost/testkit/fake-kernel.ts'
import type { Address } from 'viem'
import { flawedPayload, flaws, goodPayload, type Identity, openAnswer, truthOf } from './cast.ts'
import type { SimChain } from './chain.ts'
import { type ContractRequest, liveRequest } from './contract.ts'
import type { Random } from './random.ts'
import type { World } from './world.ts'

/** How a host deals with its tunnel. */
export type Character =
  /** Brings it up soon after the answer and keeps it up. */
  | 'steady'
  /** Brings it up about when the broker gives up on it. */
  | 'late'
  /** Never does. */
  | 'absent'
  /** Brings it up, and one day leaves it down for good. */
  | 'leaving'

/** One simulated host. */
export type Host = {
  readonly identity: Identity
  readonly character: Character
  /** What its WireGuard runs with: the last answer it could read. */
  tunnel:
    | { readonly prefix: string; readonly publicKey: string; readonly upAt: number; readonly downAt: number }
    | undefined
  /** Whether it still does things; afterwards it only keeps its tunnel. */
  isActing: boolean
}

/** What hosts live in. */
export type HostSurroundings = {
  readonly world: World
  readonly random: Random
  readonly chain: SimChain
  readonly kernel: FakeKernel
  /** Unix seconds on the broker's machine, as its kernel stamps handshakes. */
  readonly machineSeconds: () => number
  readonly restMs: number
  readonly tunnelTimeoutMs: number
  readonly others: () => readonly Host[]
}

/** Makes a host and sets it going. */
export function startHost(identity: Identity, around: HostSurroundings): Host {
  const { world, chain, kernel, restMs } = around
  const random = around.random.fork(identity.name)
  const character = random.weighted<Character>({ steady: 5, late: 1, absent: 2, leaving: 1 })
  const host: Host = { identity, character, tunnel: undefined, isActing: true }
  const { name, nftContract } = identity
  const seen = new Set<string>()
  let keyNumber = 0
  let waitingSince: number | undefined

  world.after(random.between(0, restMs), function act(): void {
    if (!host.isActing) return
    doSomething()
    world.after(-Math.log(1 - random.next()) * restMs, act)
  })
  world.after(random.between(0, 4000), function tick(): void {
    readAnswer()
    if (host.isActing) loseThePatience()
    keepTunnel()
    world.after(random.between(3000, 5000), tick)
  })

  function live(): ContractRequest | undefined {
    return liveRequest(chain.head().state, nftContract)
  }

  function owner(): Address {
    return chain.head().state.nfts.get(nftContract)!.owner
  }

  function doSomething(): void {
    if (live() === undefined) {
      if (random.chance(0.7)) request('wants a prefix')
    } else acts[random.weighted(actWeights)]()
  }

  const acts: Record<Act, () => void> = {
    nothing: () => undefined,
    rekey: () => requestWithNewKey('changes its key'),
    again: () => request('asks again'),
    twice: () => {
      request('asks twice')
      requestWithNewKey('asks twice')
    },
    release: () => submit({ kind: 'releaseAllocation', nftContract }, 'releases'),
    flawed: () => {
      const flaw = random.pick(flaws)
      submit({ kind: 'submitRequest', nftContract, payload: flawedPayload(identity, flaw, ownKey()) }, `sends: ${flaw}`)
    },
    huge: () => submit({ kind: 'submitRequest', nftContract, payload: huge }, 'sends too much'),
    steal: () => {
      const victim = random.pick(around.others()).tunnel
      if (victim === undefined) return
      const payload = goodPayload(identity, victim.publicKey)
      submit({ kind: 'submitRequest', nftContract, payload }, 'steals a key')
    },
    give: () => {
      const to = identity.wallets.find(wallet => wallet !== owner())!
      submit({ kind: 'transferOwnership', nftContract, to }, 'gives its nft away')
    },
    expire: () => submit({ kind: 'markExpired', ids: [live()!.id] }, 'marks its request expired'),
  }

  function requestWithNewKey(why: string): void {
    keyNumber += 1
    request(why)
  }

  function request(why: string): void {
    submit({ kind: 'submitRequest', nftContract, payload: goodPayload(identity, ownKey()) }, why)
    waitingSince = world.now()
  }

  function submit(call: Parameters<SimChain['submit']>[1], why: string): void {
    world.note(name, why)
    chain.submit(owner(), call, name)
  }

  function ownKey(): string {
    return identity.wireguardKeys[keyNumber % identity.wireguardKeys.length]!
  }

  /** A client asks again when nothing comes. */
  function loseThePatience(): void {
    const current = live()
    if (current?.status === requestStatus.approved) waitingSince = undefined
    if (waitingSince === undefined || world.now() - waitingSince < patienceMs) return
    requestWithNewKey('is tired of waiting')
  }

  function readAnswer(): void {
    const current = live()
    if (current?.response === undefined || seen.has(current.response)) return
    seen.add(current.response)
    const truth = truthOf(current.payload)
    if (truth.kind === 'bad') return
    const opened = openAnswer(identity, current.id, current.response)
    // A stolen public key is of no use.
    if (opened.kind !== 'good' || !identity.wireguardKeys.includes(truth.publicKey)) return
    const { prefix } = opened.response
    const upAt = world.now() + delayOf(character, random, around.tunnelTimeoutMs)
    const downAt = character === 'leaving' ? upAt + random.between(20_000, 200_000) : Number.POSITIVE_INFINITY
    host.tunnel = { prefix, publicKey: truth.publicKey, upAt, downAt }
    world.note(name, `reads the answer to #${current.id}: ${prefix}`)
  }

  function keepTunnel(): void {
    const { tunnel } = host
    if (tunnel === undefined || world.now() < tunnel.upAt || world.now() > tunnel.downAt) return
    const peer = kernel.state.links
      .values()
      .find(link => link.wireguard !== undefined)
      ?.wireguard?.peers.get(tunnel.publicKey)
    const seconds = around.machineSeconds()
    if (peer === undefined || Math.abs(seconds - peer.latestHandshake) < 120) return
    if (kernel.handshake(tunnel.publicKey, seconds)) world.note(name, `handshake with ${tunnel.publicKey.slice(0, 6)}`)
  }

  return host
}

/** What a host with a live request does next. */
type Act = keyof typeof actWeights

const actWeights = {
  nothing: 3,
  rekey: 3,
  again: 1,
  twice: 1,
  release: 2,
  flawed: 1,
  huge: 0.5,
  steal: 0.7,
  give: 0.5,
  expire: 0.5,
}

const patienceMs = 180_000
const huge = new Uint8Array(4097)

function delayOf(character: Character, random: Random, timeoutMs: number): number {
  switch (character) {
    case 'absent':
      return Number.POSITIVE_INFINITY
    case 'late':
      return random.between(0.7, 1.3) * timeoutMs
    default:
      return random.between(0, 8000)
  }
}
