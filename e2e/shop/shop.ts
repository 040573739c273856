/** A host that sells VMs: libvirt, root agent and engine as shipped, on one machine of a lab. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Rpc } from '@blockhost/chain/rpc.ts'
import { publicKeyOf, readKeyFile } from '@blockhost/crypto/key-file.ts'
import { hideKvm } from '@blockhost/testkit/hide-kvm.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { startVmHost, type VmHost } from '@blockhost/testkit/vm-host.ts'
import { freshWallet, type TestWallet } from '@blockhost/testkit/wallet.ts'
import { deployHostContracts, type HostContracts, type HostRoles } from './contracts.ts'
import { type Supervisor, supervise } from './supervisor.ts'

/** What {@link openShop} is told. */
export type ShopPlan = {
  readonly machine: Machine
  /** The chain as this process reaches it. */
  readonly rpc: Rpc
  /** The chain as the host and its VMs reach it. */
  readonly rpcUrl: string
  readonly chainId: number
  /** Owner of the contracts, and the NFT contract if it has one. */
  readonly owner: TestWallet
  readonly nft?: HostRoles['nft']
  /** Id and folder of the template that VMs start from. */
  readonly template: { readonly id: string; readonly folder: string }
  /** Folder on a disk, in which the shop makes one of its own. */
  readonly workFolder: string
  /** The host's prefix, where no broker gave one. */
  readonly ipv6Prefix?: string
  /** Called for each line of the root agent's log. */
  readonly onAgentLine?: (line: string) => void
}

/** A subscription as `blockhost status --json` shows it. */
export type ShopItem = {
  readonly id: number
  readonly vm: string
  readonly state: string
  readonly token: number | null
  readonly words: string
  readonly expires: string
}

/** An open shop. Disposing of it ends its VMs and daemons; the machine stays. */
export type Shop = AsyncDisposable & {
  readonly machine: Machine
  readonly contracts: HostContracts
  readonly hypervisor: VmHost
  /** Public half of `server.key`, which buyers encrypt to. */
  readonly publicKey: Uint8Array
  readonly engine: Supervisor
  /** Runs the shipped `blockhost status --all --json`. */
  status(): Promise<readonly ShopItem[]>
  /** Names of the VMs that libvirt knows; `running` ones only when asked. */
  domains(which?: 'running'): Promise<readonly string[]>
}

/** How the shop's settings differ from the defaults, so that nobody has to wait as long. */
export const shopTimes = { pollMs: 1000, restartMs: 1000, graceDays: 1 } as const

const program = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const blockhostProgram = program('cli/blockhost/bin/blockhost')
const etc = '/etc/blockhost'

/** Deploys the host's contracts, writes its configuration, and starts libvirt, the root agent and the engine. */
export async function openShop(plan: ShopPlan): Promise<Shop> {
  const { machine, rpc, owner, nft, template, workFolder, ipv6Prefix, onAgentLine } = plan
  const minter = freshWallet()
  const contracts = await deployHostContracts(rpc, { owner, minter, ...(nft === undefined ? {} : { nft }) })
  await hideKvm(machine)
  await using stack = new AsyncDisposableStack() // ends what was started when the rest fails
  const hypervisor = stack.use(
    await startVmHost(machine, {
      ...{ templates: template.folder, workFolder, db: [`gc_grace_days: ${shopTimes.graceDays}`] },
      ...(ipv6Prefix === undefined ? {} : { ipv6Prefix }),
      ...(onAgentLine === undefined ? {} : { onAgentLine }),
    }),
  )
  writeConfiguration(plan, contracts)
  const serverKey = await writeKeys(machine, minter)
  await machine.exec('mkdir', [sourceInside])
  await machine.exec('mount', ['--bind', program(''), sourceInside])
  const engine = supervise(machine, engineCommand, shopTimes.restartMs)
  stack.defer(engine.stop)
  await engine.start()
  const owned = stack.move()
  const virsh = ['-c', 'qemu:///system', '-q', 'list', '--name'] as const
  return {
    ...{ machine, contracts, hypervisor, engine, publicKey: publicKeyOf(serverKey) },
    status: async () => JSON.parse((await machine.exec(blockhostProgram, ['status', '--all', '--json'])).stdout).items,
    domains: async which => {
      const { stdout } = await machine.exec('virsh', which === 'running' ? virsh : [...virsh, '--all'])
      return stdout.split('\n').filter(line => line !== '')
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Where the machine has this tree, too: the tree itself may lie in a folder that is closed to others. */
const sourceInside = '/run/source'

/** As its unit runs it. */
const engineCommand = [
  'setpriv',
  '--reuid=blockhost',
  '--regid=blockhost',
  '--clear-groups',
  '--bounding-set=-all',
  '--inh-caps=-all',
  `${sourceInside}/services/engine/bin/blockhost-engine`,
] as const

function writeConfiguration({ machine, rpcUrl, chainId, template }: ShopPlan, contracts: HostContracts): void {
  const put = (name: string, lines: readonly string[]) =>
    writeFileSync(machine.path(join(etc, name)), `${lines.join('\n')}\n`, { mode: 0o644 })
  put('web3-defaults.yaml', [
    'blockchain:',
    `  chain_id: ${chainId}`,
    `  rpc_url: ${rpcUrl}`,
    `  nft_contract: "${contracts.nft}"`,
    `  subscription_contract: "${contracts.subscriptions}"`,
    'signing_page: { port: 8443 }',
  ])
  put('blockhost.yaml', ['plans:', '  1: { cpu: 1, memory: 512, disk: 4 }'])
  put('engine.yaml', [
    `vm_template: ${template.id}`,
    'confirmations: 0 # default 2 on a public chain',
    `poll_interval_ms: ${shopTimes.pollMs} # default 5000`,
    `busy_poll_interval_ms: ${shopTimes.pollMs / 2} # default 1000`,
    'power_check_seconds: 5 # default 60',
    'nameservers: ["192.0.2.53"]',
  ])
}

/** Makes the engine's two keys readable for it. @returns `server.key`, which `broker-client` may have made. */
async function writeKeys(machine: Machine, minter: TestWallet): Promise<Uint8Array> {
  const minterKey = machine.path(join(etc, 'minter.key'))
  const serverKey = machine.path(join(etc, 'server.key'))
  writeFileSync(minterKey, `${minter.privateKeyHex}\n`, { mode: 0o640 })
  if (!existsSync(serverKey)) writeFileSync(serverKey, `${freshWallet().privateKeyHex}\n`, { mode: 0o640 })
  const keys = ['minter.key', 'server.key'].map(name => join(etc, name))
  await machine.exec('chgrp', ['blockhost', etc, ...keys])
  await machine.exec('chmod', ['640', ...keys])
  await machine.exec('install', ['-d', '-o', 'blockhost', '-g', 'blockhost', '-m', '750', '/run/blockhost-engine'])
  return readKeyFile(serverKey)
}
