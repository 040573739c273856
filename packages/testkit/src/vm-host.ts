/**
 * A real hypervisor host inside a test machine: libvirtd and the root agent with their usual users and paths, all of them below /run, /etc
 * and /var of the machine, so any number of them run side by side and nothing is left when the machine ends.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError, messageOf } from '@blockhost/kit/errors.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import type { Machine, MachineProcess } from './machine.ts'

/** What {@link startVmHost} is told. */
export type VmHostOptions = {
  /** Folder of the templates, root's alone; see image/build-template.ts. */
  readonly templates: string
  /** Folder on a disk in which the VMs' files are kept; made, and removed in the end. */
  readonly workFolder: string
  /** IPv4 of the VMs; the first address is the host's. Default 10.9.0.0/24 with 10.9.0.1. */
  readonly ipv4?: { readonly network: string; readonly gateway: string }
  /** The host's own prefix; absent: no broker-allocation.json is written, as there may be one already. */
  readonly ipv6Prefix?: string
  /** TCP ports of the host that VMs may reach. Default: none. */
  readonly hostTcpPorts?: readonly number[]
  /** More lines of db.yaml. Default: none. */
  readonly db?: readonly string[]
  /** Called for each line of the root agent's log. */
  readonly onAgentLine?: (line: string) => void
}

/** A running hypervisor host. Disposing of it ends its VMs and programs; the machine stays. */
export type VmHost = AsyncDisposable & {
  /** Socket of the root agent, as this process reaches it. */
  readonly agentSocket: string
  /** Folder of the VMs' files. */
  readonly vmFolder: string
  /** Last lines of libvirtd and the agent, for a failure's message. */
  lastLines(): string
}

/** Returns what is missing on this computer to run VMs; `undefined` when nothing is. */
export function missingForVms(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  const programs = ['libvirtd', 'virsh', 'qemu-system-x86_64', 'qemu-img', 'genisoimage']
  const folders = ['/usr/sbin', '/usr/bin', '/sbin', '/bin']
  const missing = programs.filter(program => !folders.some(folder => existsSync(join(folder, program))))
  return missing.length === 0 ? undefined : `missing: ${missing.join(', ')}`
}

/**
 * Starts libvirtd and the root agent in a machine. Some seconds.
 *
 * @throws {BlockHostError} `BH_VM_HOST_FAILED` with what they said.
 */
export async function startVmHost(machine: Machine, options: VmHostOptions): Promise<VmHost> {
  mkdirSync(options.workFolder, { recursive: true, mode: 0o711 })
  sweep(options.workFolder)
  const folder = mkdtempSync(join(options.workFolder, `vm-host-${process.pid}-`))
  const processes: MachineProcess[] = []
  const lastLines = () => processes.flatMap(process => process.lastLines().slice(-15)).join('\n')
  const clear = () => rmSync(folder, { recursive: true, force: true })
  const stop = async () => {
    await endVms(machine)
    for (const daemon of processes.toReversed()) {
      await daemon.kill('SIGTERM')
      await daemon.ended
    }
    await machine.exec('umount', ['--recursive', '/var/lib/blockhost']).catch(() => undefined)
    process.removeListener('exit', clear)
    clear()
  }
  process.once('exit', clear) // an interrupted run ends without disposing; its VMs end with their machine
  try {
    await mountState(machine, folder, options.templates)
    writeSettings(machine, options)
    processes.push(await machine.spawn(['libvirtd']))
    await until(() => machine.exec('virsh', ['-c', 'qemu:///system', '-q', 'uri']), lastLines)
    // libvirt asks QEMU what it can do, once, and keeps the answer on disk; here the disk is a fresh one each time.
    await machine.exec('virsh', ['-c', 'qemu:///system', '-q', 'domcapabilities', '--virttype', 'qemu'])
    const program = fileURLToPath(new URL('../../../services/root-agent/src/main.ts', import.meta.url))
    const { onAgentLine: onLine } = options
    processes.push(await machine.spawn([process.execPath, program], onLine === undefined ? {} : { onLine }))
    const agentSocket = machine.path('/run/blockhost/root-agent.sock')
    await until(
      () => callFrame(agentSocket, { action: 'host-status' }, { timeoutMs: 10_000, maxBytes: 2 ** 20 }),
      lastLines,
    )
    return {
      ...{ agentSocket, vmFolder: join(folder, 'vms'), lastLines },
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Removes what a process that was killed left behind: its VMs ended with it, their disks did not. */
function sweep(workFolder: string): void {
  for (const name of readdirSync(workFolder)) {
    const pid = /^vm-host-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      rmSync(join(workFolder, name), { recursive: true, force: true })
  }
}

/** Makes the Unix user of the host's services, unless there is one. `broker-client` gives its files to that group. */
export async function makeServiceUser(machine: Machine): Promise<void> {
  await machine.exec('sh', ['-euc', userScript])
}

const userScript = `getent passwd blockhost >/dev/null ||
  useradd --system --home-dir /var/lib/blockhost --no-create-home --shell /usr/sbin/nologin blockhost`

/** Puts the state's folder where the services look for it, on a disk in place of the machine's memory. */
async function mountState(machine: Machine, folder: string, templates: string): Promise<void> {
  await makeServiceUser(machine)
  await machine.exec('sh', ['-euc', mountScript, 'sh', folder, templates])
}

const mountScript = `
mkdir -p /var/lib/blockhost
mount --bind "$1" /var/lib/blockhost
mkdir /var/lib/blockhost/templates
mount --bind "$2" /var/lib/blockhost/templates
`

function writeSettings(machine: Machine, options: VmHostOptions): void {
  const put = (path: string, lines: readonly string[], mode = 0o644) => {
    const target = machine.path(path)
    mkdirSync(join(target, '..'), { recursive: true })
    writeFileSync(target, `${lines.join('\n')}\n`, { mode })
  }
  // No cgroups, no security driver: a machine has none of its own.
  put('/etc/libvirt/qemu.conf', [
    'security_driver = "none"',
    'cgroup_controllers = []',
    'namespaces = []',
    'stdio_handler = "file"',
  ])
  put('/etc/libvirt/libvirtd.conf', ['auth_unix_rw = "none"', 'auth_unix_ro = "none"'])
  // Debian's own network would be started, with its dnsmasq.
  rmSync(machine.path('/etc/libvirt/qemu/networks/autostart'), { recursive: true, force: true })
  const { network, gateway } = options.ipv4 ?? { network: '10.9.0.0/24', gateway: '10.9.0.1' }
  put('/etc/blockhost/db.yaml', [
    `ip_pool: {network: ${network}, gateway: ${gateway}, start: 10, end: 250}`,
    ...(options.db ?? []),
  ])
  if (options.ipv6Prefix !== undefined)
    put('/etc/blockhost/broker-allocation.json', [JSON.stringify({ prefix: options.ipv6Prefix })])
  put('/etc/blockhost/root-agent.toml', [
    '[network]',
    `host_tcp_ports = ${JSON.stringify(options.hostTcpPorts ?? [])}`,
    '[vm]',
    'accelerator = "qemu"',
    'disk_cache = "unsafe"',
  ])
  mkdirSync(machine.path('/run/blockhost'), { recursive: true, mode: 0o755 })
}

/** A VM that runs outlives libvirtd. */
async function endVms(machine: Machine): Promise<void> {
  const virsh = (...args: string[]) => machine.exec('virsh', ['-c', 'qemu:///system', '-q', ...args])
  const { stdout } = await virsh('list', '--name').catch(() => ({ stdout: '' }))
  for (const name of stdout.split('\n').filter(Boolean)) await virsh('destroy', name).catch(() => undefined)
}

async function until(work: () => Promise<unknown>, lastLines: () => string): Promise<void> {
  for (const deadline = systemClock.monotonic() + 60_000; ; await systemClock.sleep(200)) {
    try {
      return void (await work())
    } catch (cause) {
      if (systemClock.monotonic() < deadline) continue
      throw new BlockHostError({
        code: 'BH_VM_HOST_FAILED',
        message: `The test's hypervisor did not start: ${messageOf(cause)}`,
        hint: lastLines(),
        cause,
      })
    }
  }
}
