import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { createExec } from '@blockhost/kit/exec.ts'
import { buildDisk, usedInodes } from './disk.ts'

const epoch = 1_686_355_200
const exec = createExec()

describe('buildDisk', () => {
  const missing = ['mke2fs', 'debugfs', 'dumpe2fs', 'qemu-img'].filter(name => !isThere(name)).join(', ')
  const skip = missing !== '' && `needs ${missing}`

  test('gives the same bytes for the same tree, made in another order at another time', { skip }, async () => {
    using folder = makeFolder()
    const names = Array.from({ length: 300 }, (_, index) => `some/folder-${index % 7}/file-${index}`)
    const first = await diskOf(names, join(folder.path, 'a'), 1_700_000_000)
    const second = await diskOf(names.toReversed(), join(folder.path, 'b'), 1_800_000_000)
    assert.ok(first.equals(second))
    const other = await diskOf([...names, 'one-more'], join(folder.path, 'c'), 1_700_000_000)
    assert.ok(!first.equals(other))
  })

  test('leaves a file system without a fault, in which nothing was read or changed but at its birth', {
    skip,
  }, async () => {
    using folder = makeFolder()
    const disk = join(folder.path, 'disk')
    await diskOf(['etc/file'], disk, 1_700_000_000)
    const raw = join(folder.path, 'raw')
    await exec('qemu-img', ['convert', '-O', 'raw', join(disk, 'disk.qcow2'), raw])
    await exec('e2fsck', ['-fn', raw])
    const { stdout } = await exec('debugfs', ['-R', 'stat /etc/file', raw])
    const times = [...stdout.matchAll(/^ ?(\w+time): 0x(\w+)/gm)].map(([, name, hex]) => [name, Number(`0x${hex}`)])
    assert.deepEqual(Object.fromEntries(times), { ctime: epoch, atime: epoch, mtime: epoch, crtime: epoch })
  })
})

describe('usedInodes', () => {
  test('are those from the first on that no group calls free', () => {
    const head = 'Inode count:              24\nFree inodes:              9\nFirst inode:              11\n'
    const groups = 'Group 0:\n  Free inodes: \nGroup 1:\n  0 free blocks, 9 free inodes\n  Free inodes: 14, 16-22, 24\n'
    assert.deepEqual(usedInodes(head + groups), [11, 12, 13, 15, 23])
  })
})

/** Makes a tree with these files in this order, last read at this time, and the image of it. */
async function diskOf(names: readonly string[], folder: string, atime: number): Promise<Buffer> {
  const tree = join(folder, 'tree')
  for (const name of names) {
    const path = join(tree, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, name.repeat(500))
    utimesSync(path, atime, epoch)
  }
  linkSync(join(tree, names.toSorted()[0]!), join(tree, 'hard'))
  symlinkSync('hard', join(tree, 'soft'))
  await exec('find', [tree, '-exec', 'touch', '-h', '-m', '-d', `@${epoch}`, '{}', '+'])
  await buildDisk(tree, join(folder, 'disk.qcow2'), epoch, exec)
  return readFileSync(join(folder, 'disk.qcow2'))
}

function isThere(name: string): boolean {
  const path = `${process.env.PATH}:/usr/sbin:/sbin`
  try {
    execFileSync('which', [name], { stdio: 'ignore', env: { PATH: path } })
    return true
  } catch {
    return false
  }
}

function makeFolder(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), 'disk-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}
