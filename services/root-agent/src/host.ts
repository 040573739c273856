import { accessSync, chmodSync, chownSync, constants, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type BrokerAllocation, brokerAllocationFile } from '@blockhost/hostconfig/broker-allocation.ts'
import type { ConfigFile } from '@blockhost/hostconfig/config-folder.ts'
import { type DbConfig, dbConfigFile } from '@blockhost/hostconfig/db-config.ts'
import type { Clock } from '@blockhost/kit/clock.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { RootAgentConfig } from './config.ts'
import { findQemuUser, type QemuUser } from './qemu-user.ts'
import { checkTrusted } from './trusted-path.ts'

/** The machine as the configuration describes it; the root-owned files of the host are read when they are needed. */
export type Host = {
  readonly config: RootAgentConfig
  readonly clock: Clock
  readonly log: Log
  /** Group that may read key files; the socket's. */
  readonly gid: number
  readonly accelerator: 'kvm' | 'qemu'
  /** Whether the processor can run guests itself. `unusable`: /dev/kvm is there, but nothing behind it. */
  readonly kvm: KvmState
  readonly architecture: 'x86_64' | 'aarch64'
  /** As whom libvirt runs QEMU; `undefined`: as root. */
  readonly qemuUser: QemuUser | undefined
  /** Where kernel settings are read and written, `/proc/sys`. */
  readonly procSys: string
  /** Reads `db.yaml`. @throws {BlockHostError} when it is missing, wrong, or could be written by others than root. */
  readDb(): DbConfig
  /** Reads `broker-allocation.json`; `undefined` when the host has no prefix. */
  findAllocation(): BrokerAllocation | undefined
}

/** What there is of KVM. */
export type KvmState = 'usable' | 'unusable' | 'absent'

/** Where the machine tells about itself; tests have another. */
export type MachinePaths = {
  readonly kvm: string
  readonly cpuInfo: string
  readonly procSys: string
  readonly etc: string
}

/** Describes the machine; finds out whether KVM can be used. */
export function describeHost(
  config: RootAgentConfig,
  about: { gid: number; clock: Clock; log: Log },
  machine: MachinePaths = { kvm: '/dev/kvm', cpuInfo: '/proc/cpuinfo', procSys: '/proc/sys', etc: '/etc' },
): Host {
  const { accelerator } = config.vm
  const kvm = findKvm(machine)
  return {
    config,
    ...about,
    accelerator: accelerator === 'auto' ? (kvm === 'usable' ? 'kvm' : 'qemu') : accelerator,
    kvm,
    procSys: machine.procSys,
    architecture: process.arch === 'arm64' ? 'aarch64' : 'x86_64',
    qemuUser: findQemuUser(machine.etc),
    readDb: () => readTrusted(config, dbConfigFile),
    findAllocation: () =>
      existsSync(join(config.paths.config, brokerAllocationFile.name))
        ? readTrusted(config, brokerAllocationFile)
        : undefined,
  }
}

/**
 * Makes the folders that only root may change. The state folder is blockhost's to write in, but not to move things of root's in it
 * about: root owns it, with the sticky bit.
 *
 * @throws {BlockHostError} `BH_PATH_UNTRUSTED` when one is there already and could be somebody else's.
 */
export function prepareFolders({ paths }: RootAgentConfig, gid: number): void {
  mkdirSync(paths.state, { recursive: true, mode: 0o755 })
  checkTrusted(dirname(paths.state), 'folder')
  if (process.getuid?.() === 0) {
    chownSync(paths.state, 0, gid)
    chmodSync(paths.state, 0o1771) // others may pass through, as QEMU has to
  }
  for (const folder of [paths.templates, paths.vms, paths.build, paths.packages]) {
    mkdirSync(folder, { recursive: true, mode: 0o711 })
    const { mode } = checkTrusted(folder, 'folder')
    chmodSync(folder, (mode & 0o7777) | 0o111) // whatever the umask, QEMU passes through
  }
}

function readTrusted<T>(config: RootAgentConfig, file: ConfigFile<T>): T {
  const path = join(config.paths.config, file.name)
  checkTrusted(path, 'file')
  return file.parse(readTextFile(path, { what: 'configuration' }), path)
}

/** A /dev/kvm alone says little: in containers and nested machines it may be there without a processor behind it. */
function findKvm({ kvm, cpuInfo }: MachinePaths): KvmState {
  if (!existsSync(kvm)) return 'absent'
  try {
    accessSync(kvm, constants.R_OK | constants.W_OK)
    const isUsable = process.arch === 'arm64' || /^flags\s*:.*\b(?:vmx|svm)\b/m.test(readFileSync(cpuInfo, 'utf8'))
    return isUsable ? 'usable' : 'unusable'
  } catch {
    return 'unusable'
  }
}
