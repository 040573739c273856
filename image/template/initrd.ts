import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { type CpioEntry, renderCpio } from './cpio.ts'

/** What the kernel needs before it can read a VM's disk. */
const rootModules = ['virtio_pci', 'virtio_blk', 'ext4', 'crc32c_generic', 'virtio_rng'] as const

/**
 * Makes the first file system of the boot: a static busybox, a script and the modules that lead to the root disk. Uncompressed and
 * some 4 MiB: where the processor is emulated, unpacking and probing cost more than loading.
 *
 * @param rootFolder - A Debian tree with a kernel, its modules (`modules.dep` made) and busybox-static.
 * @param init - The script that becomes process 1.
 */
export function buildInitrd(rootFolder: string, init: Uint8Array): Uint8Array {
  const release = kernelRelease(rootFolder)
  const modules = join(rootFolder, 'usr/lib/modules', release)
  const order = loadOrder(readFileSync(join(modules, 'modules.dep'), 'utf8'), builtIn(modules))
  const names = order.map(path => path.slice(path.lastIndexOf('/') + 1))
  const entries: CpioEntry[] = [
    ...['bin', 'dev', 'lib', 'root'].map(path => ({ kind: 'folder', path }) as const),
    // The kernel opens it for process 1 before anything is mounted.
    { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
    { kind: 'file', path: 'init', data: init, isExecutable: true },
    { kind: 'file', path: 'bin/busybox', data: readFileSync(join(rootFolder, 'bin/busybox')), isExecutable: true },
    { kind: 'file', path: 'modules', data: Buffer.from(names.map(n => `/lib/${n}\n`).join('')), isExecutable: false },
    ...order.map((path, index): CpioEntry => {
      const data = readFileSync(join(modules, path))
      return { kind: 'file', path: `lib/${names[index]}`, data, isExecutable: false }
    }),
  ]
  return renderCpio(entries)
}

/** Returns the one kernel release that a tree has modules for. @throws {BlockHostError} `BH_TEMPLATE_KERNEL`. */
export function kernelRelease(rootFolder: string): string {
  const folder = join(rootFolder, 'usr/lib/modules')
  const releases = existsSync(folder) ? readdirSync(folder) : []
  if (releases.length === 1) return releases[0]!
  throw new BlockHostError({
    code: 'BH_TEMPLATE_KERNEL',
    message: `Expected one kernel in the template, found ${releases.length === 0 ? 'none' : releases.join(', ')}`,
    hint: 'Name one linux-image package in packages.txt.',
  })
}

/**
 * Returns the modules of {@link rootModules} with all they need, each after what it needs. Pure.
 *
 * @param modulesDep - modules.dep(5): `kernel/a.ko: kernel/b.ko …`.
 * @param builtInNames - Modules that the kernel has inside.
 */
export function loadOrder(modulesDep: string, builtInNames: ReadonlySet<string>): string[] {
  const needs = new Map<string, string[]>()
  const byName = new Map<string, string>()
  for (const line of modulesDep.split('\n')) {
    const [path, rest] = line.split(':')
    if (path === undefined || rest === undefined) continue
    needs.set(path, rest.split(' ').filter(Boolean))
    byName.set(moduleName(path), path)
  }
  const order: string[] = []
  const add = (path: string) => {
    if (order.includes(path)) return
    // modules.dep lists what is needed from near to far.
    for (const need of (needs.get(path) ?? []).toReversed()) add(need)
    if (!order.includes(path)) order.push(path)
  }
  for (const name of rootModules) {
    const path = byName.get(name)
    if (path !== undefined) add(path)
    else if (!builtInNames.has(name))
      throw new BlockHostError({ code: 'BH_TEMPLATE_KERNEL', message: `The template's kernel has no module ${name}` })
  }
  return order
}

function builtIn(modules: string): Set<string> {
  const lines = readFileSync(join(modules, 'modules.builtin'), 'utf8').split('\n')
  return new Set(lines.filter(Boolean).map(moduleName))
}

function moduleName(path: string): string {
  return path
    .slice(path.lastIndexOf('/') + 1)
    .replace(/\.ko.*$/, '')
    .replaceAll('-', '_')
}
