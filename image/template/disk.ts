import { rmSync } from 'node:fs'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'

const mebibyte = 2 ** 20

/**
 * Makes a qcow2 image of a tree without mounting anything: one ext4 file system, no partition table. A VM's disk may be larger;
 * the guest grows the file system at its first boot. Trees that are the same but for the order and the time they were made in
 * give the same bytes.
 *
 * @param target - Path of the image; `<target>.raw` is used meanwhile.
 * @param epoch - Unix seconds that the file system calls its birth.
 * @throws {BlockHostError} `BH_TEMPLATE_DISK` when the times of the finished file system could not be set.
 */
export async function buildDisk(rootFolder: string, target: string, epoch: number, exec: Exec): Promise<void> {
  const raw = `${target}.raw`
  const size = await treeSize(exec, rootFolder)
  // Inodes, journal and some air: a VM's disk is larger anyway, and blocks never written are not in the image.
  const mebibytes = Math.ceil((size * 1.3) / mebibyte) + 256
  const uuid = 'b10c4057-0000-4000-8000-000000000001'
  // Checksums stay on; orphan files and such that an older kernel of a tenant would not mount do not.
  const args = [
    '-q',
    '-F',
    '-t',
    'ext4',
    '-L',
    'root',
    '-U',
    uuid,
    '-E',
    `hash_seed=${uuid},root_owner=0:0,lazy_itable_init=1`,
  ]
  const timed = ['-J', 'size=32', '-m', '1', '-d', rootFolder, raw, `${mebibytes}M`]
  await exec('env', [`E2FSPROGS_FAKE_TIME=${epoch}`, 'mke2fs', ...args, ...timed], { timeoutMs: 300_000 })
  await setTimes(raw, epoch, exec)
  await exec('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=65536', raw, target], {
    timeoutMs: 300_000,
  })
  rmSync(raw)
}

/** Bytes of a tree in blocks of 4 KiB, told by its content: what du counts depends on the file system it lies on. */
async function treeSize(exec: Exec, folder: string): Promise<number> {
  const args = [folder, '-type', 'f', '-printf', '%s\\n', '-o', '-printf', '4096\\n']
  const { stdout } = await exec('find', args, { timeoutMs: 60_000 })
  return stdout
    .trimEnd()
    .split('\n')
    .reduce((sum, bytes) => sum + Math.ceil(Number(bytes) / 4096) * 4096, 0)
}

/** mke2fs takes over when each file of the tree was last read and changed, which nothing can set there; in the image it can be. */
async function setTimes(raw: string, epoch: number, exec: Exec): Promise<void> {
  const { stdout } = await exec('dumpe2fs', [raw], { timeoutMs: 60_000 })
  const input = usedInodes(stdout)
    .map(inode => `sif <${inode}> ctime @${epoch}\nsif <${inode}> atime @${epoch}\n`)
    .join('')
  const args = [`E2FSPROGS_FAKE_TIME=${epoch}`, 'debugfs', '-w', '-f', '-', raw]
  const { stderr } = await exec('env', args, { input, timeoutMs: 120_000 })
  // debugfs exits 0 whatever happened; its version is all it says there when nothing did.
  const complaint = stderr.split('\n').find(line => line !== '' && !/^debugfs \d/.test(line))
  if (complaint === undefined) return
  throw new BlockHostError({
    code: 'BH_TEMPLATE_DISK',
    message: `debugfs could not set the times of ${raw}: ${complaint}`,
  })
}

/** Returns the inodes in use from the first that is not reserved on, as dumpe2fs(8) tells them: all but the free. Pure. */
export function usedInodes(dumpe2fs: string): number[] {
  const field = (name: string) => Number(new RegExp(`^${name}: +(\\d+)$`, 'm').exec(dumpe2fs)?.[1])
  const [first, count] = [field('First inode'), field('Inode count')]
  const used = new Set(Array.from({ length: count - first + 1 }, (_, index) => first + index))
  // Of a group, indented: `  Free inodes: 14175-16320, 16399`.
  for (const [, ranges] of dumpe2fs.matchAll(/^ +Free inodes: (\d.*)$/gm))
    for (const range of ranges!.split(', ')) {
      const [from, to] = range.split('-').map(Number) as [number, number?]
      for (let inode = from; inode <= (to ?? from); inode += 1) used.delete(inode)
    }
  return [...used]
}
