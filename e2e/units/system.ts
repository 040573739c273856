/** A Debian booted with systemd: this machine's own files under an overlay, so that nothing has to be built, in a test machine's network. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createExec, type Exec } from '@blockhost/kit/exec.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'

/** A booted system. Disposing of it ends everything inside; what it wrote is gone with it. */
export type BootedSystem = AsyncDisposable & {
  /** Runs a command inside, as root. */
  readonly exec: Exec
  /** Runs a script inside, as an operator's shell would; resolves to what it printed. */
  sh(script: string): Promise<string>
}

/** What is missing for booting, in a sentence. */
export function missingForBoot(): string | false {
  if (process.getuid?.() !== 0) return 'needs root for namespaces'
  if (!existsSync('/usr/bin/systemd-nspawn')) return 'needs the Debian package systemd-container'
  if (!existsSync('/usr/lib/systemd/systemd')) return 'needs the Debian package systemd'
  return false
}

/** Where this source tree lies inside, as docs/operations.md says. */
const source = fileURLToPath(new URL('../..', import.meta.url))

// In a mount namespace of its own; the memory it writes to, the overlay and whatever systemd mounts end with it. Services of this machine
// that start by themselves would disturb and be disturbed: systemd goes up to its basic units only.
const boot = `
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir changed work root
mount -t overlay -o lowerdir=/,upperdir=changed,workdir=work overlay root
# Where BlockHost is installed already, its keys and state stay out of the test.
rm -rf root/etc/machine-id root/etc/blockhost* root/var/lib/blockhost* root/etc/systemd/system/blockhost-* root/usr/bin/blockhost*
sed -i '/^blockhost/d' root/etc/passwd root/etc/shadow root/etc/group root/etc/gshadow
for unit in libvirtd.service libvirtd.socket network-online.target; do ln -sf /dev/null root/etc/systemd/system/$unit; done
exec setpriv --pdeathsig KILL systemd-nspawn --quiet --register=no --keep-unit --directory=root --machine="units-$3" --capability=all \\
  --network-namespace-path="/proc/$2/ns/net" --bind-ro="$4:/opt/blockhost" --console=read-only --boot systemd.unit=basic.target
`

/**
 * Boots and waits until systemd runs services.
 *
 * @throws {Error} with the last lines of the console when it does not come so far within 30 s.
 */
export async function bootSystem(machine: Machine): Promise<BootedSystem> {
  const folder = mkdtempSync(join(tmpdir(), 'bh-units-'))
  const argv = [
    '--mount',
    '--propagation=private',
    'sh',
    '-euc',
    boot,
    'sh',
    folder,
    `${machine.pid}`,
    `${process.pid}`,
    source,
  ]
  const env = { ...process.env, SYSTEMD_NSPAWN_API_VFS_WRITABLE: 'network' } // /proc/sys/net, as on a real machine
  const nspawn = spawn('unshare', argv, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  let console_ = ''
  for (const stream of [nspawn.stdout, nspawn.stderr])
    stream.on('data', chunk => {
      console_ = `${console_}${chunk}`.slice(-2_000)
    })
  const stop = async () => {
    if (nspawn.exitCode === null && nspawn.signalCode === null) {
      const closed = once(nspawn, 'close')
      nspawn.kill('SIGTERM') // an orderly halt, so that no control group stays behind
      const tooLong = setTimeout(() => nspawn.kill('SIGKILL'), 15_000)
      await closed
      clearTimeout(tooLong)
    }
    rmdirSync(folder)
  }
  try {
    const leader = await waitFor('systemd starts', () => firstChild(nspawn))
    const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup']
    const prefix = ['nsenter', `--target=${leader}`, ...namespaces, '--', 'env', '-i', '--chdir=/', ...environment]
    const exec = createExec({ prefix })
    await waitFor('systemd is up', async () => {
      if (nspawn.exitCode !== null) throw new Error('it ended')
      return exec('systemctl', ['is-active', 'basic.target']).then(
        () => true,
        () => undefined,
      )
    })
    // Of the device nodes that nspawn makes, this one has the mode it has outside; udev would make it 0666.
    const sh = async (script: string) => (await exec('sh', ['-euc', script], { timeoutMs: 60_000 })).stdout
    await sh(
      'umount /dev/net/tun 2>/dev/null || true; mkdir -p /dev/net; rm -f /dev/net/tun; mknod -m 666 /dev/net/tun c 10 200',
    )
    return { exec, sh, [Symbol.asyncDispose]: stop }
  } catch (error) {
    await stop()
    throw new Error(`No system was booted: ${(error as Error).message}\n${console_}`)
  }
}

const environment = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C']

/** The first process of the system: nspawn's only child, once systemd is what runs in it. */
function firstChild({ pid, exitCode }: ChildProcess): number | undefined {
  if (exitCode !== null) throw new Error(`systemd-nspawn exited with ${exitCode}`)
  const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
  if (child === undefined || child === '') return undefined
  const isSystemd = readFileSync(`/proc/${child}/cmdline`, 'utf8').split('\0')[0]?.endsWith('/systemd') === true
  return isSystemd ? Number(child) : undefined
}

/** Looks again and again until there is an answer. @throws {Error} after 30 s. */
export async function waitFor<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  for (const end = performance.now() + 30_000; ; ) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > end) throw new Error(`30 s were too short for this: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
