/** The second act: host A sells VMs. */
import type { Demo, ShopDemo } from './context.ts'
import { access } from './steps/access.ts'
import { clean } from './steps/clean.ts'
import { engineKilled } from './steps/engine-killed.ts'
import { expiry } from './steps/expiry.ts'
import { open } from './steps/open.ts'
import { parallel } from './steps/parallel.ts'
import { purchase } from './steps/purchase.ts'
import { refuse } from './steps/refuse.ts'
import { ssh } from './steps/ssh.ts'
import { transfer } from './steps/transfer.ts'
import { vm } from './steps/vm.ts'

const steps: readonly [name: string, headline: string, work: (demo: ShopDemo) => Promise<string>][] = [
  ['purchase', 'somebody with a fresh wallet pays for a day of the plan', purchase],
  ['vm', 'a VM boots, and a token says whose it is', vm],
  ['access', 'the buyer learns from the token where the VM is', access],
  ['ssh', 'the buyer signs in over the internet with the wallet', ssh],
  ['refuse', 'others do not get in', refuse],
  ['transfer', 'the token is given to somebody else', transfer],
  ['parallel', 'three people buy at once', parallel],
  ['engine-killed', 'the engine dies while it makes a VM', engineKilled],
  ['expiry', 'the plan runs out, is renewed, and runs out again', expiry],
  ['clean', 'everything else is cancelled, and the prefix given back', clean],
]

/** Plays it. @returns Whether every step was good. */
export async function playShopAct(demo: Demo, signal: AbortSignal): Promise<boolean> {
  const { story } = demo
  let opened: ShopDemo | undefined
  const isOpen = await story.step('open', 'host A opens a shop for VMs', async () => {
    const result = await open(demo)
    opened = result.demo
    return result.detail
  })
  if (!isOpen || opened === undefined) return false
  await using shop = opened.shop
  for (const [name, headline, work] of steps) {
    if (signal.aborted) return false
    const shown = opened
    if (await story.step(name, headline, () => work(shown))) continue
    if (!signal.aborted) {
      story.complain(['', 'The engine’s last lines:', ...shop.engine.lines().slice(-15)])
      story.complain(['', 'The hypervisor’s:', ...shop.hypervisor.lastLines().split('\n').slice(-15)])
    }
    return false
  }
  return true
}
