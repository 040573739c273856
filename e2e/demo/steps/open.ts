import { fileURLToPath } from 'node:url'
import { buildTemplate, templateBuildEnv } from '@blockhost/image/build-template.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { openShop } from '../../shop/shop.ts'
import type { Demo, ShopDemo } from '../context.ts'
import { walletKeyFile } from '../host.ts'
import { hostFacts } from '../host-facts.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

/** Host A gets its prefix back, makes what VMs start from, deploys its contracts, and starts its daemons. */
export async function open(demo: Demo): Promise<{ demo: ShopDemo; detail: string }> {
  const { chain, story, a } = demo
  story.tell('host-a', 'asks the broker for a prefix: broker-client request, broker-client install')
  await a.client(['request', '--nft-contract', a.nft, '--wallet-key', walletKeyFile, '--poll-interval', '0.5'])
  await a.client(['install'])
  const { prefix } = a.lease()

  story.tell('host-a', 'needs a template that VMs start from')
  const folder = `${root}build/vm-templates`
  const exec = createExec({ env: templateBuildEnv })
  const note = (text: string) => story.tell('host-a', `makes ${text}`)
  const template = await buildTemplate({ root, folder, exec, clock: systemClock, note })
  const size = `${Math.round(template.bytes / 2 ** 20)} MiB`
  story.tell('host-a', `has it: ${template.id}, ${size}${template.cached ? ', from an earlier run' : ''}`)

  const shop = await openShop({
    ...{ machine: a.machine, rpc: chain.rpc, rpcUrl: chain.rpcUrl, chainId: chain.chainId },
    ...{ owner: a.wallet, nft: a.nft, template: { id: template.id, folder }, workFolder: `${root}build/demo` },
  })
  story.tell('host-a', 'deploys its contracts, and sells the plan `small` for a dollar a day')
  story.tell('host-a', 'runs libvirtd, blockhost-root-agent and, as the user blockhost, blockhost-engine')
  story.tell('', '(/dev/kvm can not be used here: VMs run in software emulation, which makes them slow to boot)')
  const made = template.cached ? 'template there already' : `template made in ${template.buildSeconds} s (${size})`
  const emptyHost = await hostFacts(shop)
  return { demo: { ...demo, shop, emptyHost, customers: [] }, detail: `${prefix}; ${made}` }
}
