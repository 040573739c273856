import type { Clock } from '@blockhost/kit/clock.ts'
import { messageOf } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import type { Log } from '@blockhost/kit/log.ts'
import { createFirewall } from '@blockhost/net/firewall.ts'
import { applyIp, queryIp } from '@blockhost/net/ip.ts'
import { createLink, deleteLink } from '@blockhost/net/link.ts'
import { type NdpDecision, type ProxyNeighbor, parseProxyNeighbors, renderProxyNeighbors } from '@blockhost/net/ndp.ts'
import { createNdppd } from '@blockhost/net/ndppd.ts'
import { renderElements, renderFirewallRemoval } from '@blockhost/net/ruleset.ts'
import { localSystem, type System } from '@blockhost/net/system.ts'
import { createWireGuard, type PeerAction, type PeerStatus } from '@blockhost/net/wireguard.ts'
import { createClosing } from './dataplane-closing.ts'
import {
  type DataplaneRepair,
  diffDataplane,
  findConflict,
  findMissingUpstream,
  findStaleProxies,
} from './dataplane-diff.ts'
import { createFactReader } from './dataplane-facts.ts'
import { createLeaseReader, type LeasedPrefix } from './dataplane-lease.ts'
import { ndpLimitReached, prepareDataplane } from './dataplane-plan.ts'

/** One lease as the network must carry it. */
export type DataplaneLease = {
  /** RFC 5952 text. */
  readonly prefix: string
  /** WireGuard key of the host, base64. */
  readonly publicKey: string
  /** Where the host is reached first, `address:port` (no name); hosts behind NAT have none. */
  readonly endpoint?: string
}

/** One step of the leases: `set` adds a lease or changes its key; `remove` takes it away. */
export type DataplaneChange =
  | { readonly kind: 'set'; readonly lease: DataplaneLease; readonly previousPublicKey?: string }
  | { readonly kind: 'remove'; readonly lease: DataplaneLease }

/** What a reconciliation did. */
export type ReconcileReport = {
  /** One sentence for each kind of thing repaired; empty = nothing to do. */
  readonly changes: readonly string[]
}

/** What WireGuard knows of a host. */
export type DataplanePeer = {
  /** Unix seconds; `undefined` when there was none. */
  readonly latestHandshake: number | undefined
  readonly rxBytes: bigint
  readonly txBytes: bigint
  /** `address:port` it was last heard from. */
  readonly endpoint: string | undefined
}

/**
 * Everything of the broker that touches the network. Calls are carried out one after the other. Whatever fails throws and is healed by
 * the next reconciliation; each command may run twice.
 */
export interface Dataplane {
  /**
   * Makes interface, key, routes, kernel settings, NDP and firewall equal to `leases`: reads the facts (three processes), compares,
   * repairs. Writes nothing when there is nothing to do. A lease that can't be carried is logged and left out.
   *
   * @throws {BlockHostError} `BH_DATAPLANE_ADDRESS_CONFLICT` (exit 78) before it has changed anything, on the first call;
   * `BH_NDP_LIMIT`, `BH_UPSTREAM_INTERFACE_MISSING` after everything else was repaired; retryable errors of the tools.
   */
  reconcile(leases: readonly DataplaneLease[]): Promise<ReconcileReport>
  /**
   * Applies changes with one `wg`, one `nft` and (kernel NDP mode) one `ip` process, side by side, whatever the number of leases. When
   * leases are only removed, their tunnels are gone on return, their firewall elements a few milliseconds later.
   *
   * @throws {BlockHostError} retryable when anything failed, now or in the firewall's part of a removal before: the caller then reconciles. `BH_LEASE_NOT_CARRIABLE`, `BH_NDP_LIMIT`
   * (not retryable) before anything was changed.
   */
  change(changes: readonly DataplaneChange[]): Promise<void>
  /** Reads what WireGuard knows of each host, by public key. Throws when `wg` fails, never returns an empty map instead. */
  peers(): Promise<ReadonlyMap<string, DataplanePeer>>
  /** The interface's public key, base64. */
  readonly publicKey: string
  /** Which NDP mode is in force and why. */
  readonly ndp: NdpDecision
  /** Most leases that can be carried; `Infinity` but in kernel NDP mode. */
  readonly leaseLimit: number
  /**
   * Ends the work. Tunnels, firewall and NDP stay in force, `wireguard-go` and `ndppd` included, so that a restart of the broker does
   * not cut the hosts off; the next start takes them over.
   *
   * @param options.removeInterface - Takes all of it down instead. Default `false`.
   */
  close(options?: { removeInterface?: boolean }): Promise<void>
}

/** Configuration of the data plane; checked by {@link createDataplane}. */
export type DataplaneConfig = {
  readonly upstreamPrefix: string
  /** Length of every lease, in bits. */
  readonly allocationSize: number
  /** The broker's own address, which hosts get as their gateway (`broker_ipv6`). */
  readonly brokerAddress: string
  readonly interface: string
  /** UDP port; 0 lets the kernel choose. */
  readonly listenPort: number
  readonly privateKeyFile: string
  readonly upstreamInterface: string | undefined
  readonly ndpMode: 'auto' | 'routed' | 'kernel' | 'ndppd'
  /** TCP ports of this machine that hosts may reach through the tunnel. Default: none. */
  readonly allowedTcpPortsFromTunnel?: readonly number[]
  /** Folder for ndppd's configuration and pid file; must outlive the process. Default `/run/blockhost-broker`. */
  readonly runtimeFolder?: string
}

/** What the data plane works with. */
export type DataplaneDeps = {
  readonly exec: Exec
  readonly log: Log
  readonly clock: Clock
  /** Files and processes. Default: this machine. */
  readonly system?: System
}

/**
 * Makes the data plane; reads the private key, starts nothing.
 *
 * @throws {BlockHostError} `BH_DATAPLANE_CONFIG_INVALID`, `BH_WIREGUARD_KEY_INVALID`, `BH_FILE_READ_FAILED` (all exit 78).
 */
export function createDataplane(config: DataplaneConfig, deps: DataplaneDeps): Dataplane {
  const { exec, log, clock, system = localSystem } = deps
  const plan = prepareDataplane(config, name => system.hasProgram(name))
  const wireguard = createWireGuard({ exec, interface: plan.interface })
  const firewall = createFirewall({ exec, config: plan.firewall })
  const ndppd = createNdppd({ exec, system, clock, folder: plan.runtimeFolder, name: plan.interface })
  const factReader = createFactReader(plan, { exec, system, wireguard, firewall })
  const leaseReader = createLeaseReader(plan)
  const inTurn = createQueue()
  let isChecked = false
  let carried = new Set<string>()
  /** Where each host was last heard from, by public key. */
  const lastEndpoints = new Map<string, string>()

  const closing = createClosing(error =>
    log.warn({ error: messageOf(error) }, 'a prefix was not taken out of the firewall'),
  )

  async function reconcile(wanted: readonly DataplaneLease[]): Promise<ReconcileReport> {
    await closing.end()
    const { accepted, refused, failure } = leaseReader.readAll(wanted)
    for (const { prefix, problem } of refused) log.error({ prefix, problem }, 'a lease can not be carried')
    const facts = await factReader.read()
    const conflict = isChecked ? undefined : findConflict(plan, facts)
    if (conflict !== undefined) throw conflict
    isChecked = true
    noteEndpoints(facts.wireguard?.peers ?? [])
    const repair = diffDataplane(plan, accepted, facts)
    for (const warning of repair.warnings) log.warn({ interface: plan.interface }, warning)
    const changes = [...repair.changes, ...(await apply(repair))]
    carried = new Set(accepted.map(lease => lease.prefix.text))
    forgetEndpoints(new Set(accepted.map(lease => lease.peer.publicKey)))
    const trouble = findMissingUpstream(plan, facts) ?? failure
    if (trouble !== undefined) throw trouble
    return { changes }
  }

  /** The firewall first: nothing is forwarded before it stands. Then the interface, then the rest side by side. */
  async function apply(repair: DataplaneRepair): Promise<string[]> {
    const { interface: name } = plan
    const changes: string[] = []
    await firewall.apply(repair.firewallScript)
    if (repair.createLink) changes.push(`made the interface ${name} (${await createLink(exec, name)})`)
    for (const { path, value } of repair.sysctls) await system.write(path, `${value}\n`)
    const doing = `repair addresses, routes and NDP entries of ${name}`
    const [ndp] = await allOf([
      repair.ndppdConfig === undefined ? stopNdppd() : ndppd.ensure(repair.ndppdConfig),
      wireguard.apply(repair.peerActions.map(withLastEndpoint), repair.settings),
      applyIp(exec, repair.ipLines, doing),
    ])
    if (ndp !== undefined) changes.push(ndp)
    return changes
  }

  /**
   * A peer that had to be made anew gets the endpoint it was last seen at, so that the next packet for it opens the tunnel again;
   * else that waits until the host notices, which takes WireGuard 15 seconds or more.
   */
  function withLastEndpoint(action: PeerAction): PeerAction {
    const endpoint = action.kind === 'set' ? lastEndpoints.get(action.peer.publicKey) : undefined
    return action.kind === 'remove' || endpoint === undefined
      ? action
      : { ...action, peer: { ...action.peer, endpoint } }
  }

  function noteEndpoints(peers: readonly PeerStatus[]): void {
    for (const { publicKey, endpoint } of peers) if (endpoint !== undefined) lastEndpoints.set(publicKey, endpoint)
  }

  function forgetEndpoints(known: ReadonlySet<string>): void {
    for (const publicKey of lastEndpoints.keys()) if (!known.has(publicKey)) lastEndpoints.delete(publicKey)
  }

  async function stopNdppd(): Promise<string | undefined> {
    return (await ndppd.stop()) ? 'stopped ndppd' : undefined
  }

  async function change(changes: readonly DataplaneChange[]): Promise<void> {
    const { peers, remove, add } = leaseReader.fold(changes)
    const gone = remove.filter(prefix => carried.has(prefix.text))
    const fresh = add.filter(prefix => !carried.has(prefix.text))
    const count = carried.size - gone.length + fresh.length
    if (fresh.length > 0 && count > plan.leaseLimit) throw ndpLimitReached(plan, count)
    await closing.end([...remove, ...add])
    closing.check()
    const elements = (prefixes: readonly LeasedPrefix[]) => prefixes.map(prefix => prefix.element)
    const nft = firewall.apply(renderElements(plan.firewall, elements(remove), elements(add)))
    if (add.length === 0) closing.add(remove, nft)
    await allOf([
      wireguard.apply(peers),
      add.length === 0 ? undefined : nft,
      applyIp(exec, renderProxyNeighbors({ remove: proxies(remove), add: proxies(add) }), 'change NDP entries'),
    ])
    for (const prefix of gone) carried.delete(prefix.text)
    for (const prefix of fresh) carried.add(prefix.text)
  }

  /** Empty but in kernel NDP mode. */
  function proxies(prefixes: readonly LeasedPrefix[]): ProxyNeighbor[] {
    const { ndpInterface } = plan
    if (ndpInterface === undefined) return []
    return prefixes.flatMap(prefix => prefix.addresses.map(address => ({ address, interface: ndpInterface })))
  }

  async function peers(): Promise<ReadonlyMap<string, DataplanePeer>> {
    const { peers } = await wireguard.readStatus()
    noteEndpoints(peers)
    return new Map(peers.map(peer => [peer.publicKey, peer]))
  }

  async function takeDown(): Promise<void> {
    await ndppd.stop()
    const [answer] = await queryIp(exec, ['neigh show proxy'])
    const stale = findStaleProxies(plan, parseProxyNeighbors(answer!))
    await applyIp(exec, renderProxyNeighbors({ remove: stale, add: [] }), 'remove NDP entries')
    await deleteLink(exec, plan.interface)
    await firewall.apply(renderFirewallRemoval(plan.firewall))
  }

  return {
    publicKey: plan.publicKey,
    ndp: plan.ndp,
    leaseLimit: plan.leaseLimit,
    reconcile: leases => inTurn(() => reconcile(leases)),
    change: changes => inTurn(() => change(changes)),
    peers,
    close: ({ removeInterface = false } = {}) =>
      inTurn(async () => {
        await closing.end()
        if (removeInterface) await takeDown()
      }),
  }
}

/** Returns a function that runs tasks one after the other, whether or not the one before failed. */
function createQueue(): <T>(task: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve()
  return task => {
    const run = last.then(task, task)
    last = run.catch(() => undefined)
    return run
  }
}

/** Waits for all of them, so that nothing still runs when one has failed; then throws the first failure. */
async function allOf<T extends readonly (Promise<unknown> | undefined)[]>(
  tasks: readonly [...T],
): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(tasks)
  return await Promise.all(tasks)
}
