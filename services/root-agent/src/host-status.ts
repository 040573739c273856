import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { type ActionContext, defineAction } from './action.ts'

const programs = ['ip', 'nft', 'virsh', 'qemu-img', 'genisoimage', 'qm', 'virt-customize'] as const
/** Seen with libvirt 9.0: 25 s for a define in place of 50 ms. */
const unusableKvm =
  '/dev/kvm is there but can not run guests: libvirt asks QEMU anew for what it can do each time a VM is defined, which takes long. Take /dev/kvm away.'

const folders = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

/** `host-status {}`: what there is: programs, accelerator, bridge, prefix, libvirt. Changes nothing. */
export const hostStatus = defineAction({
  schema: z.strictObject({}),
  timeoutMs: 20_000,
  async run(_params, context) {
    const { host } = context
    const allocation = host.findAllocation()
    return {
      accelerator: host.accelerator,
      kvm: host.kvm,
      architecture: host.architecture,
      programs: Object.fromEntries(programs.map(name => [name, isInstalled(name)])),
      bridge: { name: host.config.network.bridge, addresses: await readAddresses(context) },
      ipv6_prefix: allocation?.prefix ?? null,
      knock_ports: host.config.firewall.knock_ports,
      libvirt: await readLibvirt(context),
      warnings: host.kvm === 'unusable' ? [unusableKvm] : [],
    }
  },
})

function isInstalled(name: string): boolean {
  return folders.some(folder => {
    try {
      accessSync(join(folder, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** `undefined` (left out of the answer) when there is no such bridge. */
async function readAddresses({ host, exec }: ActionContext): Promise<string[] | undefined> {
  try {
    const { stdout } = await exec('ip', ['-j', 'addr', 'show', 'dev', host.config.network.bridge])
    const links = z.array(linkSchema).parse(JSON.parse(stdout))
    return links.flatMap(link => link.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`))
  } catch {
    return undefined
  }
}

const linkSchema = z.looseObject({
  addr_info: z.array(z.looseObject({ local: z.string(), prefixlen: z.int() })).default([]),
})

async function readLibvirt({ host, exec }: ActionContext): Promise<boolean> {
  try {
    await exec('virsh', ['-c', host.config.vm.libvirt_uri, '-q', 'uri'])
    return true
  } catch {
    return false
  }
}
