import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatAddress } from '@blockhost/net/prefix.ts'
import { z } from 'zod'
import { defineAction } from './action.ts'
import { refused } from './errors.ts'
import { int, ipv4, ipv6, mac, vmName } from './params.ts'
import { giveToQemu } from './qemu-user.ts'
import { vmFiles } from './vm-files.ts'

const maxUserDataBytes = 128 * 1024

const userData = z
  .string()
  .refine(text => Buffer.byteLength(text) <= maxUserDataBytes, `expected at most ${maxUserDataBytes} bytes`)
  .refine(text => /^(?:#cloud-config|#!)/.test(text), 'expected to begin with #cloud-config or #!')
  .refine(text => !text.includes('\0'), 'expected text')

const network = z.strictObject({
  mac,
  ipv4: z.strictObject({ address: ipv4, prefix_length: int(1, 30), gateway: ipv4 }),
  ipv6: z.strictObject({ address: ipv6 }).optional(),
  nameservers: z
    .array(z.union([ipv4, ipv6]))
    .min(1)
    .max(4),
})

/** Addresses of a VM as its seed tells them. */
export type SeedNetwork = z.output<typeof network>

/**
 * `vm-seed-write {name, user_data, network}`: writes the NoCloud seed (cloudinit.readthedocs.io, datasource NoCloud) of a VM: an ISO 9660
 * image labelled `cidata` with `user-data` as given, and `meta-data` and `network-config` as the agent makes them. What is in user_data
 * runs as root in that VM and nowhere else. Only root and the VM's QEMU can read the image.
 */
export const vmSeedWrite = defineAction({
  schema: z.strictObject({ name: vmName, user_data: userData, network }),
  timeoutMs: 30_000,
  lane: ({ name }) => `vm:${name}`,
  async run({ name, user_data, network }, { host, exec }) {
    if (network.ipv4.address === network.ipv4.gateway) throw refused('network.ipv4.address: it is the gateway')
    const { seed } = vmFiles(host, name)
    const folder = join(host.config.paths.vms, `.${name}.seed`)
    const files = {
      'user-data': user_data,
      'meta-data': renderMetaData(name, user_data),
      'network-config': renderNetworkConfig(network),
    }
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder, { mode: 0o700 })
    try {
      for (const [file, text] of Object.entries(files))
        writeFileSync(join(folder, file), text, { mode: 0o600, flag: 'wx' })
      const image = join(folder, 'seed.iso')
      const paths = Object.keys(files).map(file => join(folder, file))
      await exec('genisoimage', ['-quiet', '-output', image, '-volid', 'cidata', '-joliet', '-rock', ...paths])
      chmodSync(image, 0o600)
      giveToQemu(host, image)
      renameSync(image, seed)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
    return {}
  },
})

/** Renders `meta-data`. The instance id changes with the user data, which makes cloud-init run again. */
export function renderMetaData(name: string, userData: string): string {
  const digest = createHash('sha256').update(userData).digest('hex').slice(0, 16)
  return `instance-id: ${name}-${digest}\nlocal-hostname: ${name}\n`
}

/**
 * Renders `network-config` (version 2). IPv6: a /128, with the link-local address of the bridge as the router, so that nothing is
 * assumed to be on the link.
 */
export function renderNetworkConfig({ mac, ipv4, ipv6, nameservers }: SeedNetwork): string {
  const addresses = [`${ipv4.address}/${ipv4.prefix_length}`, ...(ipv6 === undefined ? [] : [`${ipv6.address}/128`])]
  const routes = [
    { to: '0.0.0.0/0', via: ipv4.gateway },
    ...(ipv6 === undefined ? [] : [{ to: '::/0', via: bridgeLinkLocal }]),
  ]
  const config = {
    version: 2,
    ethernets: {
      eth0: {
        match: { macaddress: mac },
        'set-name': 'eth0',
        dhcp4: false,
        dhcp6: false,
        'accept-ra': false,
        addresses,
        routes,
        nameservers: { addresses: nameservers },
      },
    },
  }
  return `${JSON.stringify(config, undefined, 2)}\n` // JSON is YAML
}

/** The bridge's link-local address, the VMs' IPv6 router. */
export const bridgeLinkLocal = 'fe80::1'

/** Returns the link-local address that follows from an Ethernet address (RFC 4291 appendix A, modified EUI-64). */
export function eui64LinkLocal(mac: string): string {
  const bytes = mac.split(':').map(byte => Number.parseInt(byte, 16))
  const id = [bytes[0]! ^ 2, bytes[1]!, bytes[2]!, 0xff, 0xfe, bytes[3]!, bytes[4]!, bytes[5]!]
  return formatAddress(id.reduce((address, byte) => (address << 8n) | BigInt(byte), 0xfe80_0000_0000_0000n))
}
