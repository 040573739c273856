import { isAbsolute, normalize } from 'node:path'
import { parseTomlConfig } from '@blockhost/kit/config.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { logLevels } from '@blockhost/kit/log.ts'
import { z } from 'zod'
import { deviceName, int, port } from './params.ts'
import { privateNetwork } from './private-network.ts'
import { checkTrusted } from './trusted-path.ts'

const path = z
  .string()
  .refine(
    text => isAbsolute(text) && normalize(text) === text && !/[\0\n"'<>&]/.test(text),
    'expected an absolute, plain path',
  )

/** `/etc/blockhost/root-agent.toml`; every key has a default, so an empty file will do. */
export const configSchema = z.strictObject({
  log_level: z.enum(logLevels).default('info'),
  socket: z
    .strictObject({
      path: path.default('/run/blockhost/root-agent.sock'),
      group: z.string().min(1).default('blockhost'),
      max_connections: int(1, 1024).default(64),
      receive_timeout_ms: int(100, 60_000).default(10_000),
    })
    .prefault({}),
  paths: z
    .strictObject({
      config: path.default('/etc/blockhost'),
      state: path.default('/var/lib/blockhost'),
      templates: path.default('/var/lib/blockhost/templates'),
      vms: path.default('/var/lib/blockhost/vms'),
      build: path.default('/var/lib/blockhost/template-build'),
      packages: path.default('/var/lib/blockhost/template-packages'),
    })
    .prefault({}),
  network: z
    .strictObject({
      bridge: deviceName.default('br-blockhost'),
      route_devices: z.array(deviceName).default([]),
      host_tcp_ports: z.array(port).default([]),
      host_udp_ports: z.array(port).default([]),
      allowed_private: z.array(privateNetwork).max(256).default([]),
      masquerade: z.boolean().default(true),
    })
    .prefault({}),
  firewall: z.strictObject({ knock_ports: z.array(port).default([]) }).prefault({}),
  vm: z
    .strictObject({
      accelerator: z.enum(['auto', 'kvm', 'qemu']).default('auto'),
      disk_cache: z.enum(['none', 'writeback', 'unsafe']).default('none'),
      max_vcpus: int(1, 512).default(16),
      max_memory_mib: int(64, 16_777_216).default(65_536),
      max_disk_gib: int(1, 65_536).default(1024),
      libvirt_uri: z.enum(['qemu:///system', 'qemu:///session']).default('qemu:///system'),
    })
    .prefault({}),
  proxmox: z
    .strictObject({
      storages: z
        .array(z.string().regex(/^[a-z][a-z\d_-]{0,31}$/i, 'expected the name of a storage'))
        .default(['local-lvm']),
      bridges: z.array(deviceName).default(['vmbr0']),
    })
    .prefault({}),
})

/** The agent's configuration. */
export type RootAgentConfig = Readonly<z.output<typeof configSchema>>

/**
 * Reads the configuration.
 *
 * @throws {BlockHostError} `BH_PATH_UNTRUSTED` when somebody else than root could write it; `BH_CONFIG_INVALID` (exit 78).
 */
export function readRootAgentConfig(file: string): RootAgentConfig {
  checkTrusted(file, 'file')
  return parseRootAgentConfig(readTextFile(file, { what: 'configuration' }), file)
}

/** Same for text already read; `file` only names it. */
export function parseRootAgentConfig(text: string, file: string): RootAgentConfig {
  return parseTomlConfig(text, configSchema, file)
}
