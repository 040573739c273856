import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { describe, test } from 'node:test'
import type { Address, Hex } from '@blockhost/chain/hex.ts'
import { createOutbox } from '@blockhost/chain/outbox.ts'
import { outboxSchema } from '@blockhost/chain/outbox-store.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { memoryJournal } from '@blockhost/kit/steps.ts'
import type { MintDeps } from '@blockhost/mint-nft/mint.ts'
import { createFakeRootAgent, type FakeRootAgent } from '@blockhost/provisioners/libvirt/fake-root-agent.ts'
import { createLibvirtProvisioner } from '@blockhost/provisioners/libvirt/libvirt.ts'
import { atEveryCall, type FailurePoint } from '@blockhost/testkit/failure-point.ts'
import { createFakeTransactionPort } from '@blockhost/testkit/fake-transaction-port.ts'
import { isIdempotent, unwindsFromEveryStep } from '@blockhost/testkit/steps.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import { openVmDatabase } from '@blockhost/vmdb/vm-database.ts'
import { type GenerateDeps, type GenerateRequest, generateSteps, generateVm } from './generate.ts'

const nft = `0x${'cc'.repeat(20)}` as Address
const request: GenerateRequest = {
  name: 'blockhost-001',
  ownerWallet: `0x${'11'.repeat(20)}`,
  expiresAt: 1_900_000_000,
  purpose: '',
  username: 'admin',
  machineId: 'blockhost-001.1a2b3c4d',
  nftTokenId: undefined,
}
const pools = {
  vmid: { first: 100, last: 999 },
  ipv4: { network: '192.168.122.0/24', gateway: '192.168.122.1' },
}

/** A host whose chain mines at every look, unless told not to. */
function makeHost(options: { isMining?: boolean; token?: bigint; mayMint?: boolean } = {}) {
  let time = 1_800_000_000_000
  const clock: Clock = {
    now: () => time,
    monotonic: () => time,
    sleep: ms => {
      time += ms
      return Promise.resolve()
    },
  }
  const vms = openVmDatabase(':memory:', pools, clock)
  const agent = createFakeRootAgent()
  const config = { template: '0123456789abcdef', nameservers: ['192.0.2.53'] }
  const provisioner = createLibvirtProvisioner(config, { agent, addressesOf: name => vms.findVm(name), clock })
  const specOf = (vm: Vm) => ({
    ...{ name: vm.name, vmid: vm.vmid, vcpus: 1, memoryMiB: 512, diskGiB: 4, mac: vm.mac },
    ipv4: { address: vm.ipv4, prefixLength: 24, gateway: '192.168.122.1' },
    ipv6: undefined,
    userData: '#cloud-config\n',
  })
  const chain = createFakeTransactionPort()
  chain.world.reverts = () => options.mayMint === false
  const db = new DatabaseSync(':memory:')
  db.exec(outboxSchema)
  const settings = {
    confirmations: 0,
    stuckAfterMs: 60_000,
    maxFeePerGasWei: undefined,
    feeBumpPercent: 20,
    maxInFlight: 4,
  }
  const mintDeps: MintDeps = {
    nft,
    outbox: createOutbox(db, chain.port, settings, { clock, log: silentLog }),
    head: () => Promise.resolve(options.isMining === false ? chain.height() : chain.mine(1)),
    mintedTokens: (_nft: Address, hashes: readonly Hex[]) =>
      Promise.resolve(hashes.map(() => ({ tokenId: options.token ?? 5n, to: request.ownerWallet as Address }))),
    clock,
    timeoutMs: 20_000,
  }
  const requestOf = (vm: Vm) => ({
    ...{ owner: request.ownerWallet as Address, machineId: vm.machineId },
    ...{ userEncrypted: new Uint8Array(), publicSecret: '' },
  })
  const deps: GenerateDeps = { vms, provisioner, specOf, mint: { deps: mintDeps, requestOf } }
  return { agent, vms, deps, chain }
}

const neighbour: GenerateRequest = { ...request, name: 'blockhost-000', machineId: 'blockhost-000.1a2b3c4d' }

/** Lets the chain number tokens as they come. @returns How many there are. */
function numberTokens({ mint }: GenerateDeps): () => number {
  const hashes: Hex[] = []
  const numbered = (hash: Hex) => BigInt(hashes.includes(hash) ? hashes.indexOf(hash) : hashes.push(hash) - 1)
  Object.assign(mint!.deps, {
    mintedTokens: async (_nft: Address, of: readonly Hex[]) =>
      of.map(hash => ({ tokenId: numbered(hash), to: request.ownerWallet })),
  })
  return () => hashes.length
}

/** Everything that a call goes to, failing at one of them. A database that is called answers, or did nothing. */
function failingDeps({ vms, specOf, mint }: GenerateDeps, agent: FakeRootAgent, point: FailurePoint): GenerateDeps {
  const writes = ['reserveVm', 'markNftMinted', 'markActive', 'markDestroying', 'markDestroyed'] as const
  const { deps, requestOf } = mint!
  const config = { template: '0123456789abcdef', nameservers: ['192.0.2.53'] }
  const addressesOf = (name: string) => vms.findVm(name)
  return {
    ...{ vms: point.when === 'before' ? point.wrap(vms, writes) : vms, specOf },
    provisioner: createLibvirtProvisioner(config, { ...deps, agent: point.wrap(agent, ['call']), addressesOf }),
    mint: {
      deps: {
        ...point.wrap(deps, ['head', 'mintedTokens']),
        outbox: point.wrap(deps.outbox, point.when === 'before' ? ['enqueue', 'tick', 'cancelQueued'] : ['tick']),
      },
      requestOf,
    },
  }
}

describe('generateVm', () => {
  test('announces the VM with the token of the receipt bound to its user', async () => {
    const { agent, deps } = makeHost({ token: 42n })
    const vm = await generateVm(deps, request)
    assert.equal(vm.state, 'active')
    assert.equal(vm.nftTokenId, 42n)
    assert.equal(vm.expiresAt, request.expiresAt)
    assert.equal(agent.bindingOf(request.name, 'admin'), '42')
  })

  test('binds a token that was minted before, and mints none', async () => {
    const { agent, deps, chain } = makeHost()
    await generateVm(deps, { ...request, nftTokenId: 9n })
    assert.equal(agent.bindingOf(request.name, 'admin'), '9')
    assert.equal(chain.calls.send, 0)
  })

  test('a mint that the contract refuses leaves nothing behind', async () => {
    const { agent, vms, deps } = makeHost({ mayMint: false })
    await assert.rejects(generateVm(deps, request), { code: 'BH_MINT_FAILED' })
    assert.equal(agent.snapshot(), '')
    assert.equal(vms.findVm(request.name)!.state, 'destroyed')
  })

  test('a mint that is on its way keeps the VM; the same call goes on with it', async () => {
    const { agent, vms, deps, chain } = makeHost({ isMining: false })
    await assert.rejects(generateVm(deps, request), { code: 'BH_MINT_PENDING', retryable: true })
    assert.equal(vms.findVm(request.name)!.state, 'creating')
    const sent = chain.calls.sign
    chain.mine(1)
    const vm = await generateVm(deps, request)
    assert.equal(vm.state, 'active')
    assert.equal(agent.bindingOf(request.name, 'admin'), '5')
    assert.equal(chain.calls.sign, sent, 'one transaction')
  })

  test('a guest that does not take its token: nothing is announced', async () => {
    const { agent, vms, deps } = makeHost()
    const error = new BlockHostError({ code: 'BH_TEST', message: 'no' })
    const call = agent.call
    agent.call = (action, params, timeoutMs) =>
      JSON.stringify(params).includes('bind') ? Promise.reject(error) : call(action, params, timeoutMs)
    await assert.rejects(generateVm(deps, request), error)
    assert.equal(agent.snapshot(), '')
    assert.equal(vms.findVm(request.name)!.state, 'destroyed')
  })

  test('a name that is taken is refused, and the VM that has it is untouched', async () => {
    const { agent, vms, deps } = makeHost()
    await generateVm(deps, request)
    const before = agent.snapshot()
    await assert.rejects(generateVm(deps, request), { code: 'BH_VM_EXISTS' })
    assert.equal(agent.snapshot(), before)
    assert.equal(vms.findVm(request.name)!.state, 'active')
  })

  const failures = {
    passing: () => new BlockHostError({ code: 'BH_TEST', message: 'made to fail', retryable: true }),
    lasting: () => new Error('made to fail'),
  }
  for (const [kind, makeError] of Object.entries(failures))
    test(`whichever call fails (${kind}), or loses its answer: the same again ends with one VM and one token`, async () => {
      const tried = await atEveryCall(makeError, async point => {
        const { agent, vms, deps, chain } = makeHost()
        const tokens = numberTokens(deps)
        await generateVm(deps, neighbour)
        const before = agent.snapshot()
        const made = await generateVm(failingDeps(deps, agent, point), request).catch(() => undefined)
        const isKept = vms.findVm(request.name)?.state === 'creating'
        if (made === undefined && !isKept)
          assert.ok(['', 'disk'].includes(agent.leftovers(request.name).join()), 'something is left')
        const vm = made ?? (await generateVm(deps, request))
        assert.deepEqual([vm.state, vm.nftTokenId], ['active', 1n])
        assert.equal(agent.bindingOf(request.name, 'admin'), '1')
        assert.equal(tokens(), 2)
        assert.equal(chain.effects().length, 2, 'one mint for each VM')
        assert.ok(agent.snapshot().includes(before), 'the neighbour is as it was')
        await assert.rejects(generateVm(deps, request), { code: 'BH_VM_EXISTS' })
      })
      assert.ok(tried >= 30, `${tried} failures`)
    })

  test('unwinds from every step; twice is once', async () => {
    const makeWorld = () => {
      const { agent, vms, deps } = makeHost()
      const snapshot = () => {
        const vm = vms.findVm(request.name)
        return `${agent.snapshot()}\n${vm === undefined || vm.state === 'destroyed' ? 'no VM' : vm.state}`
      }
      return { steps: generateSteps(deps), context: request, journal: memoryJournal(), snapshot }
    }
    assert.equal(await unwindsFromEveryStep(makeWorld), 4)
    await isIdempotent(makeWorld)
  })
})
