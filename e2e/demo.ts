// `npm run demo`: the whole path, from a prefix of the broker to a login into a VM, told as it happens. See e2e/README.md.
import { dirname, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createLab } from '@blockhost/testkit/lab.ts'
import { missingForVms } from '@blockhost/testkit/vm-host.ts'
import { startChain } from './demo/chain.ts'
import type { Demo, Stage } from './demo/context.ts'
import { playShopAct } from './demo/shop-act.ts'
import { deploy } from './demo/steps/deploy.ts'
import { heal } from './demo/steps/heal.ts'
import { isolation } from './demo/steps/isolation.ts'
import { lease } from './demo/steps/lease.ts'
import { reach } from './demo/steps/reach.ts'
import { rekey } from './demo/steps/rekey.ts'
import { release } from './demo/steps/release.ts'
import { reorg } from './demo/steps/reorg.ts'
import { unused } from './demo/steps/unused.ts'
import { createStory, type Story, writeRecord } from './demo/story.ts'

const buildFolder = resolve(import.meta.dirname, '../build')
const recordFile = resolve(buildFolder, 'demo.json')

const steps: readonly [name: string, headline: string, work: (demo: Demo) => Promise<string>][] = [
  ['lease', 'two hosts behind NAT ask for IPv6 prefixes on chain and set their tunnels up', lease],
  ['reach', 'a server on the internet reaches a VM behind each of them', reach],
  ['isolation', 'one host neither reaches the other through the broker nor speaks in its name', isolation],
  ['rekey', 'a host changes its WireGuard key and keeps its prefix', rekey],
  ['heal', 'the broker dies and loses all it set up; its next start puts it back', heal],
  ['unused', 'a lease whose tunnel never comes up is taken back', unused],
  ['reorg', 'the chain drops a request that was answered; its lease is undone', reorg],
  ['release', 'both hosts give their prefixes back', release],
]

const deployHeadline = 'an operator puts a broker on chain and starts it'

/** Which of the two are played; `deploy` always is. */
type Acts = { readonly broker: boolean; readonly shop: boolean }

async function run(story: Story, signal: AbortSignal, acts: Acts): Promise<boolean> {
  // Compiled code of the commands is kept beside the record, so that each start after the first is as quick as an installed one's.
  await using lab = await createLab({ env: { NODE_COMPILE_CACHE: resolve(buildFolder, 'compile-cache') } })
  signal.addEventListener('abort', () => void lab[Symbol.asyncDispose]())
  story.title('Act 1: two hosts behind NAT get public IPv6 from a broker')
  story.tell('lab', 'ten machines: internet, upstream, carrier, broker, two NATs, two hosts, two VMs')
  await using chain = await startChain(lab)
  story.tell('lab', `chain ${chain.chainId} (anvil) at ${chain.rpcUrl}`)
  const demo = await firstStep({ lab, chain, story })
  if (demo === undefined) return false
  await using broker = demo.broker
  for (const [name, headline, work] of acts.broker ? steps : []) {
    if (signal.aborted) return false
    if (await story.step(name, headline, () => work(demo))) continue
    if (!signal.aborted) story.complain(['', 'The daemon’s last lines:', ...broker.log().slice(-25)])
    return false
  }
  if (!acts.shop) return true
  story.title('\nAct 2: host A sells VMs, from payment to a wallet-signed login')
  return await playShopAct(demo, signal)
}

async function firstStep(stage: Stage): Promise<Demo | undefined> {
  let demo: Demo | undefined
  await stage.story.step('deploy', deployHeadline, async () => {
    const done = await deploy(stage)
    demo = done.demo
    return done.detail
  })
  return demo
}

/** How long an interrupted step may take to notice. What it started ends with this process in any case. */
const unwindMs = 5_000

async function main(): Promise<number> {
  const flag = { type: 'boolean', default: false } as const
  const { values } = parseArgs({ options: { 'broker-only': flag, 'host-only': flag } })
  if (values['broker-only'] && values['host-only'])
    throw new Error('--broker-only and --host-only leave nothing to show')
  const acts = { broker: !values['host-only'], shop: !values['broker-only'] }
  const missing = acts.shop ? missingForVms() : undefined
  if (missing !== undefined) throw new Error(`${missing}. --broker-only plays the first act, which needs no VM.`)
  // The shipped commands find the Node that runs this.
  process.env.PATH = `${dirname(process.execPath)}:${process.env.PATH ?? ''}`
  const interrupted = new AbortController()
  const story = createStory(process.stdout, process.env, interrupted.signal)
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => interrupted.abort(name))
  const startedAt = performance.now()
  story.title('BlockHost: from a prefix on chain to a login with a wallet')
  const gaveUp = new Promise<false>(resolve => {
    interrupted.signal.addEventListener('abort', () => systemClock.sleep(unwindMs).then(() => resolve(false)))
  })
  const ok = await Promise.race([run(story, interrupted.signal, acts), gaveUp]).catch(error => {
    if (!interrupted.signal.aborted)
      story.complain([error instanceof Error ? (error.stack ?? error.message) : `${error}`])
    return false
  })
  writeRecord(recordFile, ok, story.steps)
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  if (interrupted.signal.aborted) {
    story.title(`\nStopped by ${interrupted.signal.reason}; everything it started is gone.`)
    return 130
  }
  story.title(
    ok
      ? `\nAll ${story.steps.length} steps passed in ${seconds} s; build/demo.json has the figures.`
      : `\nFailed after ${seconds} s.`,
  )
  return ok ? 0 : 1
}

async function start(): Promise<number> {
  try {
    return await main()
  } catch (error) {
    console.error(`demo: ${error instanceof Error ? error.message : error}`)
    return 2
  }
}

// At once: an interrupted step may still be waiting for something that is gone.
if (import.meta.main) process.exit(await start())
