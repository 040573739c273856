import type { Address } from '@blockhost/chain/hex.ts'
import type { Outbox } from '@blockhost/chain/outbox.ts'
import type { SubscriptionsReader, SubscriptionsSnapshot } from '@blockhost/chain/subscription-view.ts'
import { backoffMs, type Clock } from '@blockhost/kit/clock.ts'
import { exitCodes, messageOf, toExitCode } from '@blockhost/kit/errors.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { Provisioner, VmSpec } from '@blockhost/provisioners/provisioner.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import type { VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import type { OpenPurchase } from './access.ts'
import { createFollower, type FollowCounters, type FollowRules } from './follow.ts'
import { runJob } from './jobs.ts'
import { enqueueMints, settleMints } from './mint.ts'
import { comparePower } from './power.ts'
import { fetchPurchases, searchAgain } from './purchases.ts'
import { createRunner, type Limits } from './runner.ts'
import type { Store } from './store.ts'
import { type State, type Subscription, vmNameOf } from './subscription.ts'

/** The part of the configuration that the loop works by. */
export type EngineRules = FollowRules & {
  readonly subscriptions: Address
  readonly nft: Address
  readonly pollIntervalMs: number
  readonly busyPollIntervalMs: number
  readonly parallel: Limits
  /** How often the hypervisor is compared with what should run. */
  readonly powerIntervalMs: number
  readonly lowBalanceWei: bigint
  readonly username: string
  readonly sshPort: number
}

/** The world of the engine; everything it touches comes in here. */
export type EngineDeps = {
  readonly store: Store
  readonly vms: VmDatabase
  readonly provisioner: Provisioner
  readonly chain: SubscriptionsReader
  /** Of the minter's key. */
  readonly outbox: Outbox
  readonly minter: Address
  readonly openPurchase: OpenPurchase
  /** @throws {BlockHostError} when the VM can't be described, e.g. as its template is unknown. */
  specOf(subscription: Subscription, vm: Vm): VmSpec
  machineIdOf(name: string): string
  readonly clock: Clock
  readonly log: Log
  /** Chance for the pauses after failures, in [0, 1); default `Math.random`. */
  readonly random?: () => number
}

/** Facts for `/health`, `/metrics` and `blockhost status`. */
export type EngineStatus = {
  readonly headBlock: bigint | undefined
  /** Unix ms of the last good read of the chain. */
  readonly lastPollAt: number | undefined
  /** What does not work at the moment, in words. */
  readonly problems: readonly string[]
  readonly minterBalanceWei: bigint | undefined
  readonly subscriptions: Readonly<Partial<Record<State, number>>>
  readonly trouble: { readonly failing: number; readonly needsKey: number; readonly withoutData: number }
  readonly jobsRunning: number
  readonly outboxPending: number
  readonly counters: FollowCounters & { readonly jobsDone: number; readonly jobsFailed: number }
}

/** The engine's loop. */
export type Engine = {
  /** Runs turns until `signal` aborts; jobs under way are waited for. Throws only what no turn can survive. */
  run(signal: AbortSignal): Promise<void>
  /** One turn: read the chain, decide, tell the VM database, fetch purchase data, mint, start jobs. */
  turn(): Promise<{ readonly more: boolean; readonly error: unknown }>
  /** Tries everything that failed at once, as somebody may have mended it; as many beside each other as ever. */
  tryNow(): void
  /** Waits until no job runs. */
  idle(): Promise<void>
  status(): EngineStatus
}

const mintsPerTurn = 200
const syncsPerTurn = 500
/** No step that failed waits longer. */
const longestPauseMs = 3_600_000

/**
 * Makes the engine. SQLite is intent; chain and hypervisor are facts; each turn closes the difference. Every step is durable before its
 * effects are visible, and every effect may be repeated, so a kill at any moment is healed by the next turn.
 */
export function createEngine(rules: EngineRules, deps: EngineDeps): Engine {
  const { store, vms, clock, log, provisioner, chain, outbox, random = Math.random } = deps
  const problems = new Map<string, unknown>()
  let wake = new AbortController()
  /** Ends every pause, also the one after a failed turn. */
  let hurry = new AbortController()
  let latest: { head: bigint; snapshot: SubscriptionsSnapshot; atMs: number } | undefined
  let lastPollAt: number | undefined
  let powerComparedAt = Number.NEGATIVE_INFINITY
  /** How far the wall clock is ahead of the monotonic one. */
  let clockAheadMs: number | undefined

  const runner = createRunner({
    ...{ store, clock, log, random },
    run: (row, signal) => runJob(jobDeps, row, signal),
    onForget: id => follower.readAgainFrom(id),
    onEnd: () => wake.abort(),
  })
  const findVm = (id: bigint) => {
    const vm = vms.findVm(vmNameOf(id))
    return vm === undefined || vm.state === 'destroyed' || vm.purpose !== purposeOf(id) ? undefined : vm
  }
  const follower = createFollower({
    ...{ store, chain, clock, log, minter: deps.minter, subscriptions: rules.subscriptions, nft: rules.nft },
    isBusy: runner.isBusy,
    vmState: id => findVm(id)?.state,
  })
  const purposeOf = (id: bigint) => `subscription ${id} of ${rules.subscriptions.toLowerCase()}`
  const jobDeps = {
    ...{ vms, provisioner, outbox, purposeOf, username: rules.username, chainNow: follower.chainNow },
    ...{ specOf: deps.specOf, machineIdOf: deps.machineIdOf },
  }
  const mintDeps = {
    ...{ store, outbox, chain, nft: rules.nft, findVm, sshPort: rules.sshPort, clock, log, random },
    openPurchase: deps.openPurchase,
  }

  async function turn(): Promise<{ more: boolean; error: unknown }> {
    let more = false
    await attempt('what waits for a time that never comes could not be found', heedClock)
    await attempt('the chain could not be read', async () => {
      const result = await follower.poll(rules)
      lastPollAt = clock.now()
      if (result === undefined) return
      more = result.more
      noteSnapshot(result.snapshot)
      latest = { head: result.head, snapshot: result.snapshot, atMs: clock.monotonic() }
    })
    await attempt('the VM database could not be told', async () => tellVmDatabase())
    await attempt('steps could not be begun', startJobs)
    await attempt('purchase data could not be looked for', async () => {
      if (latest !== undefined)
        more = (await fetchPurchases({ store, chain, clock, log, random }, heightsOf(latest))) || more
    })
    await attempt('access tokens could not be minted', mint)
    await attempt('the hypervisor could not be asked', compareWithHypervisor)
    await attempt('steps could not be begun', startJobs)
    return { more, error: [...problems.values()].find(problem => typeof problem !== 'string') }
  }

  // --- parts of a turn --------------------------------------------------------------------------------------------------

  function noteSnapshot(snapshot: SubscriptionsSnapshot): void {
    const minter = deps.minter.toLowerCase()
    const mayMint = snapshot.nftMinter === minter || snapshot.nftOwner === minter
    note('minter', mayMint, `${deps.minter} may not mint: neither owner nor minter of the NFT contract ${rules.nft}`)
    const balance = snapshot.balances[0] ?? 0n
    note('balance', balance >= rules.lowBalanceWei, `the minter ${deps.minter} runs low: ${balance} wei`)
  }

  /** Notes a condition; told once when it begins and once when it ends. */
  function note(key: string, isGood: boolean, text: string): void {
    if (!isGood && !problems.has(key)) log.warn({}, text)
    if (!isGood) problems.set(key, text)
    else if (problems.delete(key)) log.info({}, `over: ${text}`)
  }

  /** Expiry and owner go to the VM database, where other programs look. Durable: what was not told is told next time. */
  function tellVmDatabase(): void {
    for (const row of store.unsynced(syncsPerTurn)) {
      const name = vmNameOf(row.id)
      const owner = row.tokenOwner ?? row.subscriber
      if (findVm(row.id) === undefined) {
        store.change(row.id, { vmExpiresAt: row.expiresAt, vmOwner: owner })
        continue
      }
      const vm = vms.setExpiry(name, row.expiresAt)
      if (vm.ownerWallet !== owner) vms.setOwner(name, owner)
      // Another program may have suspended it meanwhile by the expiry it knew.
      const isAsleep = vm.state === 'suspended' && row.state === 'live' && row.expiresAt > follower.chainNow()
      store.change(row.id, {
        vmExpiresAt: row.expiresAt,
        vmOwner: owner,
        ...(isAsleep ? { state: 'resuming' } : {}),
      })
    }
  }

  /** Pauses end by the wall clock, as they outlive the process. Where that was set back, what waits is due at once. */
  async function heedClock(): Promise<void> {
    const nowMs = clock.now()
    const aheadMs = nowMs - clock.monotonic()
    const isBack = clockAheadMs !== undefined && aheadMs < clockAheadMs - 1000
    if (clockAheadMs === undefined || isBack) store.wake(isBack ? nowMs : nowMs + longestPauseMs)
    clockAheadMs = aheadMs
  }

  async function startJobs(): Promise<void> {
    runner.start(rules.parallel)
  }

  async function mint(): Promise<void> {
    if (latest === undefined) return
    const mayMint = !problems.has('minter')
    if (mayMint) enqueueMints(mintDeps, mintsPerTurn)
    if (outbox.pending() > 0) {
      for (const row of await outbox.tick({ blockNumber: latest.head })) {
        const level = row.state === 'reverted' ? 'warn' : 'debug'
        log[level](
          { note: row.note, state: row.state, hash: row.hash, nonce: row.nonce, detail: row.detail },
          'transaction',
        )
      }
    }
    await settleMints(mintDeps, mintsPerTurn)
  }

  async function compareWithHypervisor(): Promise<void> {
    if (clock.monotonic() - powerComparedAt < rules.powerIntervalMs) return
    powerComparedAt = clock.monotonic()
    await comparePower({ store, provisioner, log, isBusy: runner.isBusy, vmState: id => findVm(id)?.state })
  }

  // --- loop -------------------------------------------------------------------------------------------------------------

  async function run(signal: AbortSignal): Promise<void> {
    const stop = () => {
      wake.abort()
      hurry.abort()
    }
    signal.addEventListener('abort', stop, { once: true })
    for (let failures = 0; !signal.aborted; ) {
      wake = new AbortController()
      hurry = new AbortController()
      const { more, error } = await turn()
      if (lastPollAt === undefined && toExitCode(error) === exitCodes.badConfig) throw error
      failures = error === undefined ? 0 : failures + 1
      if (more && failures === 0) continue
      if (!signal.aborted) await pause(failures)
    }
    signal.removeEventListener('abort', stop)
    await runner.stop()
  }

  /** A job that ends may leave something to mint, so the pause is then a short one. */
  async function pause(failures: number): Promise<void> {
    if (failures > 0) {
      const limits = { baseMs: Math.min(rules.pollIntervalMs, 2_000), maxMs: 60_000 }
      return clock.sleep(backoffMs(failures - 1, limits, random), hurry.signal)
    }
    const ms = isBusy() ? Math.min(rules.pollIntervalMs, rules.busyPollIntervalMs) : rules.pollIntervalMs
    const begun = clock.monotonic()
    await clock.sleep(ms, wake.signal)
    const rest = Math.min(ms, rules.busyPollIntervalMs) - (clock.monotonic() - begun)
    if (rest > 0) await clock.sleep(rest, hurry.signal)
  }

  function isBusy(): boolean {
    return outbox.pending() > 0 || runner.busy() > 0
  }

  function tryNow(): void {
    searchAgain(store)
    const count = store.wakeFailed()
    if (count > 0) log.info({ count }, 'what failed is tried now')
    powerComparedAt = Number.NEGATIVE_INFINITY
    wake.abort()
    hurry.abort()
  }

  async function idle(): Promise<void> {
    while (runner.busy() > 0) await clock.sleep(5)
  }

  /** Runs one part of a turn; a failure is told once, kept for the status, and does not stop the other parts. */
  async function attempt(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work()
      if (problems.delete(what)) log.info({}, `${what}; it works again`)
    } catch (error) {
      if (messageOf(problems.get(what)) !== messageOf(error)) log.warn({ error: messageOf(error) }, what)
      problems.set(what, error)
    }
  }

  function status(): EngineStatus {
    return {
      headBlock: latest?.head,
      lastPollAt,
      problems: [...problems].map(([what, problem]) =>
        typeof problem === 'string' ? problem : `${what}: ${messageOf(problem)}`,
      ),
      minterBalanceWei: latest?.snapshot.balances[0],
      subscriptions: store.countByState(),
      trouble: store.countProblems(),
      jobsRunning: runner.busy(),
      outboxPending: outbox.pending(),
      counters: { ...follower.counters, jobsDone: runner.counters.done, jobsFailed: runner.counters.failed },
    }
  }

  return { run, turn, tryNow, idle, status }
}

function heightsOf({ head, snapshot }: { head: bigint; snapshot: SubscriptionsSnapshot }) {
  return { head, blockNumber: snapshot.blockNumber }
}
