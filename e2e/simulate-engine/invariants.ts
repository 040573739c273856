/** What must hold whenever the engine acts, and what must hold once nothing goes wrong any more. */
import { type Address, bytesToHex, type Hex, hexToBytes } from '@blockhost/chain/hex.ts'
import type { SubscriptionView } from '@blockhost/chain/subscription-view.ts'
import { decryptAccessData, parseConnectionDetails } from '@blockhost/crypto/access-data.ts'
import type { OpenPurchase } from '@blockhost/engine/access.ts'
import type { Store } from '@blockhost/engine/store.ts'
import { subscriptionIdOf, vmNameOf } from '@blockhost/engine/subscription.ts'
import type { FakeCall, FakeProvisioner } from '@blockhost/testkit/fake-provisioner.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import type { VmDatabase } from '@blockhost/vmdb/vm-database.ts'
import type { Violation } from '../simulate/part.ts'
import type { SimulatedChain, Token, View } from './chain.ts'

/** What the invariants look at: the truth, past the engine. */
export type Facts = {
  readonly chain: SimulatedChain
  readonly provisioner: FakeProvisioner
  readonly vms: VmDatabase
  readonly store: Store
  readonly confirmations: number
  readonly graceSeconds: number
}

/** Looks on while the engine acts. */
export type Witness = {
  /** Returns the VM database as somebody uses it who acts by `views`: each decision must be right by one of them. */
  watch(vms: VmDatabase, views: () => readonly View[]): VmDatabase
  /** Before the hypervisor does something. */
  asked(call: FakeCall): void
  /** After each turn. */
  turnEnded(): void
}

/** Makes the witness. Every violation goes to `fail`. */
export function createWitness(facts: Facts, fail: (violation: Violation) => void): Witness {
  const { chain, vms, store, confirmations, graceSeconds } = facts
  const boughtBy = new Map<string, string>()
  const confirmed = new Set<string>()
  const check = (isRight: boolean, invariant: string, detail: string) => {
    if (!isRight) fail({ invariant, detail })
  }

  function noteConfirmed(views: readonly View[]): void {
    for (const { state, height } of views)
      for (const { id, subscriber, purchaseBlock } of state.subscriptions)
        if (height - purchaseBlock >= BigInt(confirmations)) confirmed.add(`${vmNameOf(id)} ${subscriber}`)
  }

  function mayMake(name: string, buyer: string, views: readonly View[]): boolean {
    noteConfirmed(chain.served)
    return confirmed.has(`${name} ${buyer}`) && views.some(view => isPaid(find(view, name, buyer), view))
  }

  const maySuspend = (name: string, views: readonly View[]) =>
    views.some(view => !isPaid(find(view, name, boughtBy.get(name)), view))

  function mayEnd(vm: Vm, views: readonly View[]): boolean {
    // What nobody was given the key of holds nobody's data, and has no grace.
    const isHandedOver = vm.nftTokenId !== undefined || vm.state === 'suspended'
    const grace = isHandedOver ? graceSeconds : 0
    return views.some(view => {
      const bought = find(view, vm.name, boughtBy.get(vm.name))
      return bought === undefined || bought.cancelled || bought.expiresAt + grace <= view.timestamp
    })
  }

  return {
    watch: (target, views) => ({
      ...target,
      reserveVm(input) {
        const buyer = input.ownerWallet
        check(mayMake(input.name, buyer, views()), 'a VM is made for a confirmed, paid purchase', input.name)
        const vm = target.reserveVm(input)
        boughtBy.set(vm.name, buyer)
        return vm
      },
      markSuspended(name, unless) {
        const isNew = target.findVm(name)?.state === 'active'
        const vm = target.markSuspended(name, unless)
        if (isNew) check(maySuspend(name, views()), 'no VM is suspended before its expiry', describe(vm))
        return vm
      },
      markDestroying(name, unless) {
        const before = target.findVm(name)
        const vm = target.markDestroying(name, unless)
        if (before !== undefined && before.state !== 'destroying')
          check(mayEnd(before, views()), 'no VM ends that is paid for, or within its grace', describe(before))
        return vm
      },
    }),
    asked({ method, name }) {
      const allowed = statesBefore[method]
      const state = allowed === undefined ? undefined : (vms.findVm(name)?.state ?? 'destroyed')
      if (state !== undefined)
        check(allowed!.includes(state), 'what is done was decided before', `${method} ${name} while it is ${state}`)
    },
    turnEnded() {
      for (const row of store.after(0n, 1000))
        check(row.errorCode !== 'BH_VM_NUMBER_TAKEN', 'no two VMs share a number', `${row.id}: ${row.error}`)
      const keys = chain.view().state.tokens.map(({ to, description }) => `${description} of ${to}`)
      const twice = keys.find((key, at) => keys.indexOf(key) !== at)
      check(twice === undefined, 'one token for each purchase', `twice: ${twice}`)
    },
  }
}

/** What the VM database says before the hypervisor is told. */
const statesBefore: Partial<Record<FakeCall['method'], readonly Vm['state'][]>> = {
  create: ['creating'],
  suspend: ['suspended', 'destroying'],
  resume: ['suspended', 'active'],
  destroy: ['destroying', 'destroyed'],
}

function find({ state }: View, name: string, buyer: string | undefined): SubscriptionView | undefined {
  const view = state.subscriptions[Number(subscriptionIdOf(name)) - 1]
  return view?.subscriber === buyer ? view : undefined
}

function isPaid(bought: SubscriptionView | undefined, { timestamp }: View): boolean {
  return bought !== undefined && !bought.cancelled && bought.expiresAt > timestamp
}

function describe({ name, state, expiresAt, ownerWallet }: Vm): string {
  return `${name}, ${state}, expiry ${expiresAt}, of ${ownerWallet}`
}

// --- at rest ------------------------------------------------------------------------------------------------------------

/** Who buys. */
export const buyers = Array.from({ length: 6 }, (_, i): Address => `0x${`${i + 1}${i + 1}`.repeat(20)}`)

/** Returns purchase data as a buyer writes it: who it is, and a byte of chance. */
export function purchaseDataOf(buyer: Address, chance: number): Uint8Array {
  return Uint8Array.of(buyers.indexOf(buyer), chance)
}

/** Reads the simulator's purchase data. */
export const openPurchase: OpenPurchase = (data, subscriber) => {
  if (buyers[data[0]!] !== subscriber) return { ok: false, problem: 'the public secret was made for another wallet' }
  return { ok: true, key: { signature: keyOf(data), publicSecret: `${secretPrefix}${bytesToHex(data)}` } }
}

const secretPrefix = 'libpam-web3:'

function keyOf(data: Uint8Array): Uint8Array {
  return new Uint8Array(65).fill(data[0]!).fill(data[1]!, 1, 2)
}

/** Returns what is wrong with a world at rest: VMs = paid live subscriptions, one token each, expiry that of the chain to the second. */
export function findProblems(facts: Facts): Violation[] {
  const { chain, provisioner, vms } = facts
  const problems: Violation[] = []
  const view = chain.view()
  for (const bought of view.state.subscriptions) {
    const say = (invariant: string) => problems.push({ invariant, detail: tell(facts, bought) })
    if (isPaid(bought, view)) checkPaid(facts, bought, say)
    else checkUnpaid(facts, bought, say)
  }
  const sold = BigInt(view.state.subscriptions.length)
  for (const [name, { power }] of provisioner.vms) {
    if (subscriptionIdOf(name)! > sold) problems.push({ invariant: 'every VM was bought', detail: name })
    const { state } = vms.findVm(name) ?? { state: 'unknown' }
    if (state !== (power === 'running' ? 'active' : 'suspended'))
      problems.push({
        invariant: 'hypervisor and VM database agree',
        detail: `${name} is ${power}, the database: ${state}`,
      })
  }
  for (const { name, state } of vms.listVms())
    if (state !== 'destroyed' && !provisioner.vms.has(name))
      problems.push({ invariant: 'hypervisor and VM database agree', detail: `${name} is ${state} and absent` })
  if (chain.port.pool().length > 0) problems.push({ invariant: 'no transaction waits for ever', detail: '' })
  return problems
}

type Say = (invariant: string) => void

function checkPaid({ chain, provisioner, vms, store }: Facts, bought: SubscriptionView, say: Say): void {
  const name = vmNameOf(bought.id)
  const { tokens, owners } = chain.view().state
  const vm = vms.findVm(name)
  const real = provisioner.vms.get(name)
  const row = store.find(bought.id)
  if (real?.power !== 'running' || !real.routed) say('what is paid for runs and is reached')
  if (vm?.state !== 'active') say('the VM database knows what runs')
  if (vm?.expiresAt !== bought.expiresAt) say("expiry is the chain's to the second")
  if (row?.state !== 'live' || row.error !== undefined) say('the engine has nothing left to do')
  const mine = idsOf(tokens, bought)
  if (mine.length !== 1) say('one token for each purchase')
  const [id] = mine
  if (id === undefined) return
  if (real?.bindings.admin !== String(id)) say('the guest is bound to the token')
  if (vm?.nftTokenId !== id) say('the VM database knows the token')
  if (vm?.ownerWallet !== owners.get(id)) say('the VM database knows the owner')
  if (hostnameIn(tokens[Number(id)]!) !== (vm?.ipv6 ?? vm?.ipv4)) say('the token says where the VM is, to its buyer')
}

function checkUnpaid(
  { chain, provisioner, vms, store, graceSeconds }: Facts,
  bought: SubscriptionView,
  say: Say,
): void {
  const name = vmNameOf(bought.id)
  const real = provisioner.vms.get(name)
  const row = store.find(bought.id)
  if (idsOf(chain.view().state.tokens, bought).length > 1) say('one token for each purchase')
  if (row?.error !== undefined) say('the engine has nothing left to do')
  if (real === undefined) return
  if (real.power === 'running') say('what is not paid for does not run')
  if (real.routed) say('what is not paid for is not reached')
  if (bought.cancelled) say('what is cancelled is gone')
  if (vms.findVm(name)?.expiresAt !== bought.expiresAt) say("expiry is the chain's to the second")
  const since = Math.max(bought.expiresAt, row?.suspendedAt ?? 0)
  if (chain.view().timestamp >= since + graceSeconds) say('after its grace a VM is gone')
}

function idsOf(tokens: readonly Token[], { id, subscriber }: SubscriptionView): bigint[] {
  const description = `Access to ${vmNameOf(id)}`
  return tokens.flatMap((token, at) =>
    token.to === subscriber && token.description === description ? [BigInt(at)] : [],
  )
}

/** Reads the token as its buyer does, with the key that its public secret asks for. */
function hostnameIn({ sealed, publicSecret, to }: Token): string | undefined {
  const data = hexToBytes(publicSecret.slice(secretPrefix.length) as Hex)
  if (buyers[data[0]!] !== to) return undefined
  const text = new TextDecoder().decode(decryptAccessData(keyOf(data), hexToBytes(sealed)))
  return parseConnectionDetails(text)?.hostname
}

function tell({ chain, vms, store }: Facts, { id, expiresAt, cancelled }: SubscriptionView): string {
  const name = vmNameOf(id)
  const vm = vms.findVm(name)
  const row = store.find(id)
  return [
    `${name}: chain time ${chain.view().timestamp}, expiry ${expiresAt}${cancelled ? ', cancelled' : ''}`,
    `VM database ${vm?.state}, expiry ${vm?.expiresAt}, token ${vm?.nftTokenId}, owner ${vm?.ownerWallet}`,
    `engine ${row?.state}, ${row?.reason ?? 'no reason'}, token ${row?.tokenId}, suspended ${row?.suspendedAt}, ${row?.error ?? 'no error'}`,
  ].join('; ')
}
