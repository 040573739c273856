import { rmSync } from 'node:fs'
import type { Exec } from '@blockhost/kit/exec.ts'

const mebibyte = 2 ** 20

/**
 * Makes a qcow2 image of a tree without mounting anything: one ext4 file system, no partition table. A VM's disk may be larger;
 * the guest grows the file system at its first boot.
 *
 * @param target - Path of the image; `<target>.raw` is used meanwhile.
 * @param epoch - Unix seconds that the file system calls its birth.
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
  await exec('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=65536', raw, target], {
    timeoutMs: 300_000,
  })
  rmSync(raw)
}

async function treeSize(exec: Exec, folder: string): Promise<number> {
  const { stdout } = await exec('du', ['--summarize', '--block-size=1', folder], { timeoutMs: 60_000 })
  return Number(stdout.split('\t')[0])
}
