import { createHash } from 'node:crypto'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { refused } from './errors.ts'
import type { Host } from './host.ts'
import { checkTrusted } from './trusted-path.ts'

/** Where everything of one VM lies: in a folder that only root may change. */
export type VmFiles = {
  readonly disk: string
  readonly seed: string
  /** The domain as it was defined last. */
  readonly domain: string
  readonly console: string
  /** Addresses of its interface, for restoring. */
  readonly network: string
}

/**
 * Returns the files of a VM. Each time, the folder is checked to be root's alone still: what root writes in a folder that somebody else
 * has come to own lands wherever that one wants.
 *
 * @param name - Has passed the schema, so it names nothing else.
 * @throws {BlockHostError} `BH_PATH_UNTRUSTED`.
 */
export function vmFiles({ config }: Host, name: string): VmFiles {
  checkTrusted(config.paths.vms, 'folder')
  const at = (ending: string) => join(config.paths.vms, `${name}.${ending}`)
  return {
    disk: at('qcow2'),
    seed: at('seed.iso'),
    domain: at('xml'),
    console: at('console.log'),
    network: at('network.json'),
  }
}

/** Removes what lies in the folder under a VM's name, half-written files included. */
export function removeVmFiles(host: Host, name: string): void {
  const { disk, seed, domain, console } = vmFiles(host, name)
  const rotated = [0, 1, 2, 3].map(number => `${console}.${number}`)
  for (const path of [disk, seed, domain, console, ...rotated]) rmSync(path, { force: true })
  const partial = `.${name}.`
  for (const entry of readdirSync(host.config.paths.vms))
    if (entry.startsWith(partial)) rmSync(join(host.config.paths.vms, entry), { recursive: true, force: true })
}

/** The files of a template; a kernel beside it is booted directly. */
export type TemplateFiles = { readonly image: string; readonly kernel: KernelFiles | undefined }
/** What direct boot needs. `cmdline` is a file of one line. */
export type KernelFiles = { readonly kernel: string; readonly initrd: string; readonly cmdline: string }

/**
 * Returns the files of a template: `<id>.qcow2`, and `<id>.vmlinuz`, `<id>.initrd`, `<id>.cmdline` if all are there.
 *
 * @throws {BlockHostError} `BH_ACTION_REFUSED` when there is none; `BH_PATH_UNTRUSTED` when others than root could have made it: an
 *   image names files of the host (its backing file) that QEMU then reads.
 */
export function findTemplate({ config }: Host, id: string): TemplateFiles {
  const at = (ending: string) => join(config.paths.templates, `${id}.${ending}`)
  const image = at('qcow2')
  if (!existsSync(image)) throw refused(`template: there is no ${id}.qcow2 in ${config.paths.templates}`)
  checkTrusted(image, 'file')
  const kernel = { kernel: at('vmlinuz'), initrd: at('initrd'), cmdline: at('cmdline') }
  if (!Object.values(kernel).every(path => existsSync(path))) return { image, kernel: undefined }
  for (const path of Object.values(kernel)) checkTrusted(path, 'file')
  return { image, kernel }
}

/**
 * Returns the libvirt UUID of a VM (RFC 9562, version 8): it follows from the name, so that defining again changes the same domain,
 * and a domain that somebody else made under that name is never touched.
 */
export function vmUuid(name: string): string {
  const bytes = createHash('sha256').update(`blockhost vm ${name}`).digest().subarray(0, 16)
  bytes[6] = (bytes[6]! & 0x0f) | 0x80
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/** Returns the name of a VM's tap device, 14 characters (IFNAMSIZ allows 15). */
export function tapName(name: string): string {
  return `${tapPrefix}${createHash('sha256').update(`blockhost tap ${name}`).digest('hex').slice(0, 11)}`
}

/** How the names of all tap devices begin. */
export const tapPrefix = 'bhv'
