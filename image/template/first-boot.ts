/**
 * Runs inside the VM, once, early in its first boot: reads the host's seed (NoCloud: user-data, meta-data, network-config) and does what
 * it says. cloud-init would do the same, in ten to twenty seconds where the processor is emulated; it stays installed for seeds that ask
 * for more than the keys below. The network is always set up here: cloud-init 22.4 writes the IPv6 default route as ::/64.
 *
 * Stands alone: only Node's own modules.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The three files of a seed, and where the machine is. */
export type FirstBoot = {
  readonly userData: string
  readonly metaData: string
  readonly networkConfig: string
  /** `/`, or a folder in tests. */
  readonly root: string
  /** Runs a program of the machine. */
  run(command: string, args: readonly string[]): string
}

/** Keys of `#cloud-config` that are done here; a document with any other is cloud-init's. */
const known = ['hostname', 'users', 'write_files', 'package_update', 'package_upgrade']

/**
 * Does what the seed says, unless it was done for this instance before. Every part may run again after a power cut in the middle.
 *
 * @returns `done`; `known` when it had been; `left` when the user data is cloud-init's.
 */
export function firstBoot(machine: FirstBoot): 'done' | 'known' | 'left' {
  const instance = /^instance-id:\s*(\S+)/m.exec(machine.metaData)?.[1] ?? 'nocloud'
  const mark = join(machine.root, 'var/lib/blockhost/instance-id')
  if (existsSync(mark) && readFileSync(mark, 'utf8') === instance) return 'known'
  put(machine, '/etc/systemd/network/10-blockhost.network', renderNetwork(JSON.parse(machine.networkConfig)))
  const document = readCloudConfig(machine.userData)
  if (document !== undefined) apply(machine, document)
  put(machine, '/var/lib/blockhost/instance-id', instance)
  return document === undefined ? 'left' : 'done'
}

type CloudConfig = { hostname?: string; users?: readonly User[]; write_files?: readonly SeedFile[] }
type User = {
  name: string
  gecos?: string
  groups?: readonly string[]
  shell?: string
  sudo?: string
  ssh_authorized_keys?: readonly string[]
}
type SeedFile = { path: string; content?: string; owner?: string; permissions?: string }

/** Returns the document if it is JSON (which is YAML too) with no key that is not done here. Pure. */
export function readCloudConfig(userData: string): CloudConfig | undefined {
  if (!userData.startsWith('#cloud-config\n')) return undefined
  let document: unknown
  try {
    document = JSON.parse(userData.slice('#cloud-config\n'.length))
  } catch {
    return undefined
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) return undefined
  const config = document as Record<string, unknown>
  // cloud-init would fetch and upgrade.
  if (config.package_update === true || config.package_upgrade === true) return undefined
  return Object.keys(config).every(key => known.includes(key)) ? (config as CloudConfig) : undefined
}

function apply(machine: FirstBoot, { hostname, users = [], write_files = [] }: CloudConfig): void {
  if (hostname !== undefined) {
    put(machine, '/etc/hostname', `${hostname}\n`)
    put(machine, '/etc/hosts', `127.0.0.1 localhost\n127.0.1.1 ${hostname}\n::1 localhost ip6-localhost\n`)
    machine.run('hostname', [hostname])
  }
  for (const file of write_files) writeSeedFile(machine, file)
  for (const user of users) addUser(machine, user)
}

function writeSeedFile(machine: FirstBoot, { path, content = '', owner, permissions }: SeedFile): void {
  put(machine, path, content, Number.parseInt(permissions ?? '644', 8))
  if (owner === undefined) return
  const [user = 'root', group = user] = owner.split(':')
  chownSync(join(machine.root, path), idOf(machine, 'passwd', user), idOf(machine, 'group', group))
}

function addUser(machine: FirstBoot, user: User): void {
  const { name, gecos = '', groups = [], shell = '/bin/bash', sudo, ssh_authorized_keys = [] } = user
  const [home, isNew] = [`/home/${name}`, find(machine, 'passwd', name) === undefined]
  const options = ['--create-home', '--shell', shell, '--comment', gecos]
  if (isNew)
    machine.run('useradd', [...options, ...(groups.length > 0 ? ['--groups', groups.join(',')] : []), '--', name])
  if (sudo !== undefined) put(machine, `/etc/sudoers.d/90-${name}`, `${name} ${sudo}\n`, 0o440)
  if (ssh_authorized_keys.length === 0) return
  put(machine, `${home}/.ssh/authorized_keys`, ssh_authorized_keys.map(key => `${key}\n`).join(''), 0o600)
  machine.run('chown', ['--recursive', `${name}:`, `${home}/.ssh`])
}

type Ethernet = {
  match: { macaddress: string }
  addresses: readonly string[]
  routes?: readonly { to: string; via: string; 'on-link'?: boolean }[]
}

/** Renders systemd.network(5) from a network-config of version 2 with one interface. Nothing on the wire can change it. Pure. */
export function renderNetwork(config: { ethernets: Readonly<Record<string, Ethernet>> }): string {
  const [ethernet] = Object.values(config.ethernets)
  if (ethernet === undefined) throw new Error('network-config names no interface')
  const { match, addresses, routes = [] } = ethernet
  return [
    '[Match]',
    `MACAddress=${match.macaddress}`,
    '[Network]',
    'DHCP=no',
    'IPv6AcceptRA=no',
    'LLMNR=no',
    'IPv6LinkLocalAddressGenerationMode=eui64',
    // The addresses are this machine's alone: nobody has to wait a second to see whether they are taken.
    ...addresses.flatMap(address => ['[Address]', `Address=${address}`, 'DuplicateAddressDetection=none']),
    ...routes.flatMap(({ to, via, 'on-link': onLink }) => [
      '[Route]',
      `Destination=${to}`,
      `Gateway=${via}`,
      ...(onLink === true ? ['GatewayOnLink=yes'] : []),
    ]),
    '',
  ].join('\n')
}

function put({ root }: FirstBoot, path: string, content: string, mode = 0o644): void {
  const target = join(root, path)
  mkdirSync(dirname(target), { recursive: true, mode: target.endsWith('authorized_keys') ? 0o700 : 0o755 })
  writeFileSync(target, content, { mode })
  chmodSync(target, mode) // the mode above is for new files only
}

function idOf(machine: FirstBoot, table: 'passwd' | 'group', name: string): number {
  const id = find(machine, table, name)?.split(':')[2]
  if (id === undefined) throw new Error(`there is no ${name} in /etc/${table}`)
  return Number(id)
}

function find({ root }: FirstBoot, table: 'passwd' | 'group', name: string): string | undefined {
  const lines = readFileSync(join(root, 'etc', table), 'utf8').split('\n')
  return lines.find(line => line.startsWith(`${name}:`))
}

function main(): void {
  const run = (command: string, args: readonly string[]) => execFileSync(command, args, { encoding: 'utf8' })
  const seed = '/run/blockhost/seed'
  mkdirSync(seed, { recursive: true })
  run('mount', ['-t', 'iso9660', '-o', 'ro,nosuid,nodev,noexec', '/dev/vdb', seed])
  try {
    const read = (name: string) => readFileSync(join(seed, name), 'utf8')
    const [userData, metaData, networkConfig] = [read('user-data'), read('meta-data'), read('network-config')]
    const outcome = firstBoot({ userData, metaData, networkConfig, root: '/', run })
    // cloud-init's units look for it.
    if (outcome === 'done') writeFileSync('/etc/cloud/cloud-init.disabled', 'done by blockhost-first-boot\n')
    process.stdout.write(`first boot: ${outcome}\n`)
  } finally {
    run('umount', [seed])
  }
}

if (import.meta.main) main()
