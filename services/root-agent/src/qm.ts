import { z } from 'zod'
import { type Action, type ActionContext, defineAction } from './action.ts'
import { refused } from './errors.ts'
import type { Host } from './host.ts'
import { int } from './params.ts'
import { checkTrusted } from './trusted-path.ts'

/*
 * The Proxmox actions. They run `qm` where it is installed. A VM id must lie in the range of db.yaml, so that no other VM of the
 * machine can be meant; no option may name a file, a device or a storage that is not configured.
 */

const vmid = int(100, 999_999_999)
const onlyVmid = z.strictObject({ vmid })
const laneOf = (params: { vmid: number }) => `qm:${params.vmid}`

function simple(command: string, flags: readonly string[], timeoutMs: number): Action {
  return defineAction({
    schema: onlyVmid,
    timeoutMs,
    lane: laneOf,
    run: ({ vmid }, context) => qm(context, vmid, [command, String(vmid), ...flags]),
  })
}

/** `qm-start {vmid}`. */
export const qmStart = simple('start', [], 120_000)
/** `qm-stop {vmid}`: pulls the plug. */
export const qmStop = simple('stop', [], 120_000)
/** `qm-shutdown {vmid}`: asks the guest, waits at most 300 s. */
export const qmShutdown = simple('shutdown', ['--timeout', '300'], 330_000)
/** `qm-destroy {vmid}`. */
export const qmDestroy = simple('destroy', ['--purge'], 300_000)
/** `qm-template {vmid}`: turns a VM into a template. */
export const qmTemplate = simple('template', [], 300_000)

/** `qm-create {vmid, name, args}`: `args` are flags and values in turns, each flag one of {@link optionPatterns}. */
export const qmCreate = defineAction({
  schema: z.strictObject({
    vmid,
    name: z.string().regex(/^[a-z\d][a-z\d-]{0,62}$/, 'expected up to 63 lower-case letters, digits, "-"'),
    args: z.array(z.string().max(200)).max(64),
  }),
  timeoutMs: 300_000,
  lane: laneOf,
  run({ vmid, name, args }, context) {
    if (args.length % 2 !== 0) throw refused('args: expected flags and values in turns')
    const options: [string, string][] = []
    for (let at = 0; at < args.length; at += 2) {
      const flag = /^--([a-z\d]+)$/.exec(args[at]!)?.[1]
      if (flag === undefined) throw refused(`args.${at}: expected a flag like --memory`)
      options.push([flag, args[at + 1]!])
    }
    return qm(context, vmid, ['create', String(vmid), '--name', name, ...toArgs(context.host, vmid, options)])
  },
})

/** `qm-set {vmid, options}`: each option one of {@link optionPatterns}. */
export const qmSet = defineAction({
  schema: z.strictObject({ vmid, options: z.record(z.string().max(32), z.union([z.string().max(200), z.int()])) }),
  timeoutMs: 120_000,
  lane: laneOf,
  run({ vmid, options }, context) {
    const pairs = Object.entries(options).map(([key, value]): [string, string] => [key, String(value)])
    return qm(context, vmid, ['set', String(vmid), ...toArgs(context.host, vmid, pairs)])
  },
})

/** `qm-importdisk {vmid, disk_path, storage}`: a file of the folder `paths.build` or `paths.templates`, into a configured storage. */
export const qmImportdisk = defineAction({
  schema: z.strictObject({ vmid, disk_path: z.string().max(300), storage: z.string().max(32) }),
  timeoutMs: 600_000,
  lane: laneOf,
  run({ vmid, disk_path, storage }, context) {
    const { paths, proxmox } = context.host.config
    if (!proxmox.storages.includes(storage))
      throw refused(`storage: only ${proxmox.storages.join(', ')} (proxmox.storages)`)
    checkFileIn('disk_path', disk_path, [paths.build, paths.templates])
    return qm(context, vmid, ['importdisk', String(vmid), disk_path, storage])
  },
})

/**
 * Refuses a path unless it is a file directly in one of the folders, with a plain name, that only root could have put there.
 *
 * @throws {BlockHostError} `BH_ACTION_REFUSED`, `BH_PATH_UNTRUSTED`, `BH_PATH_MISSING`.
 */
export function checkFileIn(key: string, path: string, folders: readonly string[]): void {
  const slash = path.lastIndexOf('/')
  if (!folders.includes(path.slice(0, slash)) || !/^[a-z\d][a-z\d._+~-]{0,127}$/i.test(path.slice(slash + 1)))
    throw refused(`${key}: expected a file in ${folders.join(' or ')}`)
  checkTrusted(path, 'file')
}

type Pattern = (host: Host, vmid: number) => RegExp

const plain =
  (expression: RegExp): Pattern =>
  () =>
    expression
const oneOf = (list: readonly string[]) => `(?:${list.map(text => text.replace(/[.-]/g, '\\$&')).join('|')})`
const ownDisk: Pattern = ({ config }, vmid) =>
  new RegExp(
    `^${oneOf(config.proxmox.storages)}:(?:vm|base)-${vmid}-disk-\\d{1,2}(?:,size=\\d{1,5}G)?(?:,discard=on)?(?:,ssd=1)?$`,
  )

/** Options of a Proxmox VM that may be set, and what each may say. */
export const optionPatterns: Readonly<Record<string, Pattern>> = {
  agent: plain(/^(?:enabled=)?[01]$/),
  balloon: plain(/^\d{1,7}$/),
  boot: plain(/^(?:order=(?:scsi0|net0|ide2)(?:;(?:scsi0|net0|ide2)){0,2}|c)$/),
  bootdisk: plain(/^scsi0$/),
  cores: plain(/^[1-9]\d{0,2}$/),
  cpu: plain(/^(?:host|kvm64|x86-64-v[234](?:-AES)?)$/),
  ide2: ({ config }) => new RegExp(`^${oneOf(config.proxmox.storages)}:cloudinit$`),
  machine: plain(/^q35$/),
  memory: plain(/^[1-9]\d{1,6}$/),
  name: plain(/^[a-z\d][a-z\d-]{0,62}$/),
  net0: ({ config }) =>
    new RegExp(
      `^virtio(?:=[\\da-fA-F]{2}(?::[\\da-fA-F]{2}){5})?,bridge=${oneOf(config.proxmox.bridges)}(?:,firewall=[01])?$`,
    ),
  numa: plain(/^[01]$/),
  onboot: plain(/^[01]$/),
  ostype: plain(/^l26$/),
  scsi0: ownDisk,
  scsihw: plain(/^virtio-scsi-(?:pci|single)$/),
  serial0: plain(/^socket$/),
  sockets: plain(/^[1-4]$/),
  tags: plain(/^[a-z\d][a-z\d;_-]{0,63}$/),
  vga: plain(/^(?:serial0|std|virtio)$/),
}

function toArgs(host: Host, vmid: number, options: readonly [string, string][]): string[] {
  return options.flatMap(([key, value]) => {
    const pattern = Object.hasOwn(optionPatterns, key) ? optionPatterns[key]!(host, vmid) : undefined
    if (pattern === undefined) throw refused(`options: ${key.replace(/[^\w-]/g, '?')} can't be set here`)
    if (!pattern.test(value)) throw refused(`options.${key}: this value is not allowed`)
    return [`--${key}`, value]
  })
}

async function qm({ host, exec }: ActionContext, vmid: number, args: readonly string[]) {
  const { start, end } = host.readDb().vmidRange
  if (vmid < start || vmid > end) throw refused(`vmid: ${vmid} is not in ${start} to ${end} (vmid_range in db.yaml)`)
  const { stdout } = await exec('qm', args)
  return { output: stdout.slice(-64 * 1024) }
}
