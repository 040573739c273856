import { existsSync, lchownSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Host } from './host.ts'

/** The Unix user and group that a VM's QEMU runs as; never root. */
export type QemuUser = { readonly uid: number; readonly gid: number }

/**
 * Finds out as whom libvirt runs QEMU: `user` and `group` of libvirt/qemu.conf, else `libvirt-qemu`, as Debian builds it.
 *
 * @param etc - Folder of the machine's configuration, `/etc`.
 * @returns `undefined` when it is root, or there is no such user.
 */
export function findQemuUser(etc: string): QemuUser | undefined {
  const conf = readIfThere(join(etc, 'libvirt/qemu.conf'))
  const uid = idOf(setting(conf, 'user'), readIfThere(join(etc, 'passwd')))
  const gid = idOf(setting(conf, 'group'), readIfThere(join(etc, 'group')))
  return uid === undefined || gid === undefined || uid === 0 ? undefined : { uid, gid }
}

/**
 * Gives a file of a VM to its QEMU. The agent does this itself, and tells libvirt to leave owners alone: libvirt would give templates and
 * kernels, which all VMs share, to QEMU's user too, and whoever broke out of one VM could rewrite them.
 */
export function giveToQemu({ qemuUser }: Pick<Host, 'qemuUser'>, path: string): void {
  if (qemuUser !== undefined) lchownSync(path, qemuUser.uid, qemuUser.gid)
}

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

function setting(conf: string, key: 'user' | 'group'): string {
  return new RegExp(`^\\s*${key}\\s*=\\s*"([^"]*)"`, 'm').exec(conf)?.[1] ?? 'libvirt-qemu'
}

/** An id as libvirt writes it (`+64055`), or the id of a name in passwd(5) or group(5). */
function idOf(name: string, list: string): number | undefined {
  if (/^\+?\d+$/.test(name)) return Number(name)
  const id = list
    .split('\n')
    .find(line => line.startsWith(`${name}:`))
    ?.split(':')[2]
  return id === undefined || !/^\d+$/.test(id) ? undefined : Number(id)
}
