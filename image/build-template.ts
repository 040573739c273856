/** `build-template`: makes the image that VMs start from, or finds the one that was made of the same parts. */
import { createHash } from 'node:crypto'
import {
  createReadStream,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Clock, systemClock } from '@blockhost/kit/clock.ts'
import { BlockHostError, describeError, toExitCode } from '@blockhost/kit/errors.ts'
import { createExec, type Exec } from '@blockhost/kit/exec.ts'
import { writeFileAtomic } from '@blockhost/kit/files.ts'
import { buildDisk } from './template/disk.ts'
import { buildInitrd, kernelRelease } from './template/initrd.ts'
import { gatherRecipe, type Recipe } from './template/recipe.ts'
import { buildRootfs, removeTree } from './template/rootfs.ts'

/** A finished template. Its files are never written again: overlays lie on them. */
export type Template = {
  /** First 16 hex digits of the disk's SHA-256; also the name of the three files. */
  readonly id: string
  /** `<id>.qcow2`, an ext4 file system without partitions. */
  readonly disk: string
  /** Kernel and first file system to boot it with: `<id>.vmlinuz`, `<id>.initrd`; the kernel's options are in `<id>.cmdline`. */
  readonly kernel: string
  readonly initrd: string
  readonly kernelRelease: string
  readonly sha256: string
  readonly bytes: number
  /** How long it took to make. */
  readonly buildSeconds: number
  /** Whether the Debian part was there from an earlier build, so that only the rest was made. */
  readonly hadBase: boolean
}

/** What {@link buildTemplate} needs. */
export type BuildOptions = {
  /** The workspace. */
  readonly root: string
  /** Where templates lie, e.g. /var/lib/blockhost/templates. */
  readonly folder: string
  readonly exec: Exec
  readonly clock: Clock
  /** Told what is being made, as it takes a while. Default: nobody is. */
  readonly note?: (text: string) => void
}

/**
 * Returns the template of the current recipe, made if there is none. Needs root to make one (two minutes), nothing to find one (a second).
 *
 * @throws {BlockHostError} `BH_TEMPLATE_BUSY` (retryable) when another process is making it.
 */
export async function buildTemplate(options: BuildOptions): Promise<Template & { readonly cached: boolean }> {
  const recipe = await gatherRecipe(options)
  const note = join(options.folder, `recipe-${recipe.key.slice(0, 16)}.json`)
  const known = findTemplate(options.folder, note)
  if (known !== undefined) return { ...known, cached: true }
  mkdirSync(options.folder, { recursive: true, mode: 0o755 })
  const work = join(options.folder, `.work-${recipe.key.slice(0, 16)}`)
  await claim(work, options.exec)
  try {
    const made = await make(recipe, work, options)
    writeFileAtomic(note, `${JSON.stringify(made, undefined, 2)}\n`, { mode: 0o644 })
    return { ...toTemplate(options.folder, made), cached: false }
  } finally {
    await removeTree(work, options.exec)
  }
}

/**
 * Makes a template a second time, in a folder of its own, and compares: disk, kernel and first file system have to be the same to the
 * bit. Takes the Debian part that the first was made of, where it is still there; needs root and ten seconds then.
 *
 * @throws {BlockHostError} `BH_TEMPLATE_DIFFERS` naming what does.
 */
export async function verifyTemplate(template: Template, options: BuildOptions): Promise<void> {
  const folder = join(options.folder, '.verify')
  await claim(folder, options.exec)
  try {
    for (const name of readdirSync(options.folder))
      if (/^base-\w+\.tar$/.test(name)) linkSync(join(options.folder, name), join(folder, name))
    const again = await buildTemplate({ ...options, folder })
    const differs: string[] = []
    for (const part of ['disk', 'kernel', 'initrd'] as const)
      if ((await sha256Of(template[part])) !== (await sha256Of(again[part]))) differs.push(part)
    if (differs.length === 0) return
    throw new BlockHostError({
      code: 'BH_TEMPLATE_DIFFERS',
      message: `Made again of the same parts, template ${template.id} became ${again.id}: another ${differs.join(', ')}`,
      hint: 'Use it, but do not expect its id elsewhere. Make it in two folders with --folder to see what differs.',
    })
  } finally {
    await removeTree(folder, options.exec)
  }
}

/** What is written down of a template; the paths follow. */
type Note = Pick<Template, 'id' | 'kernelRelease' | 'sha256' | 'bytes' | 'buildSeconds' | 'hadBase'>

function findTemplate(folder: string, note: string): Template | undefined {
  if (!existsSync(note)) return undefined
  const template = toTemplate(folder, JSON.parse(readFileSync(note, 'utf8')) as Note)
  return [template.disk, template.kernel, template.initrd].every(existsSync) ? template : undefined
}

function toTemplate(folder: string, note: Note): Template {
  const at = (ending: string) => join(folder, `${note.id}.${ending}`)
  return { ...note, disk: at('qcow2'), kernel: at('vmlinuz'), initrd: at('initrd') }
}

/** The folder is the claim; one left behind by a process that is gone is cleared. */
async function claim(work: string, exec: Exec): Promise<void> {
  try {
    mkdirSync(work)
  } catch (cause) {
    const owner = readdirSync(work).find(name => name.startsWith('pid-'))
    if (owner !== undefined && existsSync(`/proc/${owner.slice(4)}`))
      throw new BlockHostError({
        code: 'BH_TEMPLATE_BUSY',
        message: `Process ${owner.slice(4)} is making this template`,
        hint: 'Wait for it to end.',
        retryable: true,
        cause,
      })
    await removeTree(work, exec)
    mkdirSync(work)
  }
  mkdirSync(join(work, `pid-${process.pid}`))
}

async function make(recipe: Recipe, work: string, options: BuildOptions): Promise<Note> {
  const umask = process.umask(0o022) // modes of folders made here are those of the template
  try {
    return await makeUnmasked(recipe, work, options)
  } finally {
    process.umask(umask)
  }
}

async function makeUnmasked(recipe: Recipe, work: string, options: BuildOptions): Promise<Note> {
  const { folder, exec, clock, note } = options
  const start = clock.monotonic()
  const tree = join(work, 'tree')
  note?.('the file tree: Debian packages (a minute, if no earlier template left them), sign-in service, units')
  const { hadBase } = await buildRootfs(recipe, tree, folder, exec)
  const release = kernelRelease(tree)
  const kernel = readFileSync(join(tree, 'boot', `vmlinuz-${release}`))
  const initrd = buildInitrd(tree, recipe.init)
  rmSync(join(tree, 'boot'), { recursive: true }) // the host starts the kernel; the guest needs its modules only
  mkdirSync(join(tree, 'boot'))
  utimesSync(join(tree, 'boot'), recipe.epoch, recipe.epoch)
  const disk = join(work, 'disk.qcow2')
  note?.('the disk image')
  await buildDisk(tree, disk, recipe.epoch, exec)
  const sha256 = await sha256Of(disk)
  const id = sha256.slice(0, 16)
  const at = (extension: string) => join(folder, `${id}.${extension}`)
  writeFileAtomic(at('vmlinuz'), kernel, { mode: 0o644 })
  writeFileAtomic(at('initrd'), initrd, { mode: 0o644 })
  writeFileAtomic(at('cmdline'), `${kernelOptions}\n`, { mode: 0o644 })
  // Byte for byte the same disk may lie there under running VMs: it stays.
  if (!existsSync(at('qcow2'))) renameSync(disk, at('qcow2'))
  const buildSeconds = Math.round((clock.monotonic() - start) / 1000)
  return { id, kernelRelease: release, sha256, bytes: statSync(at('qcow2')).blocks * 512, buildSeconds, hadBase }
}

/** The root is the whole first disk; interfaces keep the kernel's names; what the kernel says goes to the serial console. */
const kernelOptions = 'root=/dev/vda ro console=ttyS0 quiet net.ifnames=0'

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

const usage = 'usage: build-template [--folder DIR] [--verify]\n'

async function main(args: readonly string[]): Promise<number> {
  let asked: { folder: string; verify: boolean }
  try {
    asked = parseArgs({
      args: [...args],
      options: {
        folder: { type: 'string', default: '/var/lib/blockhost/templates' },
        verify: { type: 'boolean', default: false },
      },
    }).values
  } catch (error) {
    process.stderr.write(`build-template: ${(error as Error).message}\n${usage}`)
    return 2
  }
  try {
    const root = fileURLToPath(new URL('..', import.meta.url))
    const exec = createExec({ env: templateBuildEnv })
    const note = (text: string) => process.stderr.write(`build-template: making ${text}\n`)
    const options = { root, folder: resolve(asked.folder), exec, clock: systemClock, note }
    const template = await buildTemplate(options)
    if (asked.verify) await verifyTemplate(template, options)
    process.stdout.write(`${JSON.stringify({ ...template, ...(asked.verify && { verified: true }) })}\n`)
    return 0
  } catch (error) {
    process.stderr.write(`build-template: ${describeError(error)}\n`)
    return toExitCode(error)
  }
}

/** Environment of the programs that make a template: times in the packages' own caches, and no first file system of Debian's. */
export const templateBuildEnv = { SOURCE_DATE_EPOCH: '1686355200', INITRD: 'No', DEBIAN_FRONTEND: 'noninteractive' }

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
