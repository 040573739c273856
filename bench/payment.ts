import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildTemplate, templateBuildEnv } from '@blockhost/image/build-template.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { createLab } from '@blockhost/testkit/lab.ts'
import { missingForVms } from '@blockhost/testkit/vm-host.ts'
import { freshWallet } from '@blockhost/testkit/wallet.ts'
import { startChain } from '../e2e/demo/chain.ts'
import { allReach, buy, type Customer, connectTo, itemsOf, makeWallets, reaches } from '../e2e/demo/customer.ts'
import { eventually } from '../e2e/demo/expect.ts'
import { openShop, type Shop } from '../e2e/shop/shop.ts'
import type { BenchContext, BenchGroup, Figure } from './figure.ts'
import { round } from './statistics.ts'

/** From a payment to the question for the signature, on real VMs. */
export const payment: BenchGroup = {
  keys: [
    'vm.paymentToSshSeconds',
    'vm.paymentToSshSeconds.chain',
    'vm.paymentToSshSeconds.disk',
    'vm.paymentToSshSeconds.boot',
    'vm.paymentToSshSeconds.cloudInit',
    'vm.paymentToSshSeconds.mint',
  ],
  run: context => inShop(context, (shop, agentLines) => measureSingle(shop, agentLines, context)),
}

/** Twenty payments at once. */
export const parallel: BenchGroup = {
  keys: ['vm.parallel20Served'],
  isLong: true,
  run: context => inShop(context, async shop => ({ 'vm.parallel20Served': await measureParallel(shop, context) })),
}

async function inShop<T>(context: BenchContext, measure: (shop: Shop, agentLines: string[]) => Promise<T>): Promise<T> {
  const missing = missingForVms()
  if (missing !== undefined) throw new Error(`VMs can't run here: ${missing}`)
  await using lab = await createLab({ env: { NODE_COMPILE_CACHE: join(root, 'build/compile-cache') } })
  await using chain = await startChain(lab)
  const folder = join(root, 'build/vm-templates')
  context.note('making the VM template, unless there is one of the same parts')
  const exec = createExec({ env: templateBuildEnv })
  const { id } = await buildTemplate({ root, folder, exec, clock: systemClock })
  const agentLines: string[] = []
  await using shop = await openShop({
    ...{ machine: lab['host-a'], rpc: chain.rpc, rpcUrl: chain.rpcUrl, chainId: chain.chainId },
    ...{ owner: freshWallet(), template: { id, folder }, workFolder: join(root, 'build/bench') },
    ...{ ipv6Prefix: '2001:db8:5::/64', onAgentLine: line => agentLines.push(line) },
  })
  return await measure(shop, agentLines)
}

const root = fileURLToPath(new URL('..', import.meta.url))
const rounds = 2
const parallelCount = 20

// --- one at a time ------------------------------------------------------------------------------------------------------

/** When things happened, Unix ms. */
type Moments = Record<'mined' | 'begun' | 'started' | 'booted' | 'ready' | 'bound' | 'asked', number>

async function measureSingle(shop: Shop, agentLines: string[], { note }: BenchContext) {
  const runs: Moments[] = []
  for (const wallet of await makeWallets(shop, rounds)) {
    agentLines.length = 0
    const customer = await buy(shop, wallet, 1)
    const moments = await follow(shop, customer, agentLines)
    note(`${customer.vm}: SSH asks ${round((moments.asked - moments.mined) / 1000)} s after the payment`)
    runs.push(moments)
    await shop.contracts.cancel(customer.subscription)
    await reaches(shop, customer, 'ended')
  }
  runs.sort((a, b) => a.asked - a.mined - (b.asked - b.mined))
  const slower = runs.at(-1)!
  const part = (from: keyof Moments, to: keyof Moments): Figure => ({
    value: round((slower[to] - slower[from]) / 1000),
    unit: 's',
  })
  const ask = round((slower.asked - slower.bound) / 1000)
  return {
    'vm.paymentToSshSeconds': {
      ...part('mined', 'asked'),
      limit: 25,
      comparedWith: `the slower of ${rounds}, software emulation; after the parts below SSH asks within ${ask} s`,
    },
    'vm.paymentToSshSeconds.chain': { ...part('mined', 'begun'), comparedWith: 'the engine looks each second' },
    'vm.paymentToSshSeconds.disk': {
      ...part('begun', 'started'),
      comparedWith: 'overlay, seed, domain, firewall, start of QEMU',
    },
    'vm.paymentToSshSeconds.boot': { ...part('started', 'booted'), comparedWith: 'until the guest agent answers' },
    'vm.paymentToSshSeconds.cloudInit': { ...part('booted', 'ready'), comparedWith: 'until one could log in' },
    'vm.paymentToSshSeconds.mint': {
      ...part('ready', 'bound'),
      comparedWith: 'token minted in a 1 s block, and bound to the user',
    },
  }
}

/** Takes the moments from the logs of agent and engine, and from an SSH client on the host. */
async function follow(shop: Shop, customer: Customer, agentLines: readonly string[]): Promise<Moments> {
  const mined = Date.now() - (performance.now() - customer.boughtAt)
  const bound = await eventually(`${customer.vm} to be live`, () => stepTo(shop, customer, 'live'), {
    withinMs: 240_000,
  })
  const [ipv6] = (await shop.machine.exec('ip', ['-6', 'route', 'show', 'proto', '177'])).stdout.split(' ')
  await connectTo(shop.machine, { hostname: ipv6!, port: 22, username: 'admin' })
  const asked = Date.now()
  const actions = agentLines.map(line => JSON.parse(line) as AgentLine).filter(({ msg }) => msg === 'done')
  const first = actions.find(({ action }) => action === 'bridge-ensure')!
  return {
    ...{ mined, bound, asked },
    begun: Date.parse(first.time) - first.ms,
    started: Date.parse(actions.find(({ action }) => action === 'vm-start')!.time),
    booted: Date.parse(actions.find(({ action }) => action === 'vm-guest-exec')!.time),
    ready: stepTo(shop, customer, 'created')!,
  }
}

type AgentLine = { readonly time: string; readonly msg: string; readonly action: string; readonly ms: number }
type EngineLine = { readonly time: string; readonly msg: string; readonly subscription?: number; readonly to?: string }

/** Returns when the engine noted that a subscription came to a state, Unix ms. */
function stepTo({ engine }: Shop, { subscription }: Customer, state: string): number | undefined {
  const lines = engine.lines().map(line => JSON.parse(line) as EngineLine)
  const line = lines.find(({ subscription: id, to }) => id === Number(subscription) && to === state)
  return line === undefined ? undefined : Date.parse(line.time)
}

// --- many at once -------------------------------------------------------------------------------------------------------

async function measureParallel(shop: Shop, { note }: BenchContext): Promise<Figure> {
  const wallets = await makeWallets(shop, parallelCount)
  const start = performance.now()
  const customers = await Promise.all(wallets.map(wallet => buy(shop, wallet, 1)))
  await allReach(shop, customers, 'live', 480_000).catch(() => undefined) // what is missing is counted
  const live = (await itemsOf(shop, customers)).filter(item => item?.state === 'live')
  const served = new Set(live.map(item => item?.token))
  const seconds = Math.round((performance.now() - start) / 1000)
  note(`${served.size} of ${parallelCount} VMs run, each with a token, after ${seconds} s`)
  const running = (await shop.domains('running')).length
  return {
    value: Math.min(served.size, running),
    unit: 'served',
    limit: parallelCount,
    comparedWith: `bought at once, three made at a time: all running, each with its token, after ${seconds} s`,
  }
}
