/** One entry of an archive that the kernel unpacks at boot. */
export type CpioEntry =
  | { readonly kind: 'folder'; readonly path: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  | { readonly kind: 'file'; readonly path: string; readonly data: Uint8Array; readonly isExecutable: boolean }
  | { readonly kind: 'device'; readonly path: string; readonly major: number; readonly minor: number }

/**
 * Renders an uncompressed archive in the kernel's "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst).
 * Same entries, same bytes: owner root, time 0, inodes counted from 1.
 *
 * @param entries - Folders before what is in them; paths without a leading slash.
 */
export function renderCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts = entries.flatMap((entry, index) => renderEntry(entry, index + 1))
  return Buffer.concat([...parts, ...record({ path: 'TRAILER!!!', mode: 0, inode: 0, data: new Uint8Array() })])
}

function renderEntry(entry: CpioEntry, inode: number): Uint8Array[] {
  const { path } = entry
  const none = new Uint8Array()
  switch (entry.kind) {
    case 'folder':
      return record({ path, mode: 0o040755, inode, data: none })
    case 'link':
      return record({ path, mode: 0o120777, inode, data: Buffer.from(entry.target) })
    case 'device':
      return record({ path, mode: 0o020600, inode, data: none, device: [entry.major, entry.minor] })
    case 'file':
      return record({ path, mode: entry.isExecutable ? 0o100755 : 0o100644, inode, data: entry.data })
  }
}

type Record = {
  path: string
  mode: number
  inode: number
  data: Uint8Array
  device?: readonly [major: number, minor: number]
}

function record({ path, mode, inode, data, device = [0, 0] }: Record): Uint8Array[] {
  const name = Buffer.from(`${path}\0`)
  // magic, then: inode, mode, uid, gid, links, time, size, device of the file, device it is, length of the name, checksum
  const numbers = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, device[0], device[1], name.length, 0]
  const header = Buffer.from(`070701${numbers.map(number => number.toString(16).padStart(8, '0')).join('')}`)
  return [header, name, padding(header.length + name.length), data, padding(data.length)]
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4)
}
