import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { systemClock } from '@blockhost/kit/clock.ts'
import { type Exec, ExecError } from '@blockhost/kit/exec.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { actions } from './actions.ts'
import { type Agent, createAgent } from './agent.ts'
import { parseRootAgentConfig, type RootAgentConfig } from './config.ts'
import { describeHost, type Host, prepareFolders } from './host.ts'

/*
 * A machine for tests: real folders and files below a temporary folder, programs that are played. virsh, qemu-img and genisoimage
 * keep state and fail with the words of the real ones (libvirt 9.0, qemu 7.2). Where they lie: a domain is running as soon as it is
 * started and off as soon as it is asked to shut down; XML is not validated; `qemu-img create` makes a text file; ip, nft, qm and
 * virt-customize succeed whatever they are told.
 */

/** One program run. */
export type Command = { readonly argv: readonly string[]; readonly input: string }

/** What {@link createFakeHost} makes. */
export type FakeHost = {
  readonly root: string
  readonly config: RootAgentConfig
  readonly host: Host
  readonly agent: Agent
  /** Everything that was run, oldest first. */
  readonly commands: Command[]
  /** State of each domain by name. */
  readonly domains: Map<string, { uuid: string; state: 'running' | 'paused' | 'shut off' }>
  /** Programs that are missing. */
  readonly missing: Set<string>
  /** Returns the argv of what was run since the last call, joined by blanks. */
  takeCommands(): string[]
}

/** The template of {@link createFakeHost}. */
export const fakeTemplate = 'ab12cd34ef56'

/** Makes a machine that is gone when the test ends. `toml` is added to its configuration. */
export function createFakeHost(t: TestContext, toml = ''): FakeHost {
  const root = mkdtempSync(join(tmpdir(), 'bh-agent-'))
  t.after(() => rmSync(root, { recursive: true, force: true }))
  const config = parseRootAgentConfig(`${toml}\n${renderPaths(root)}`, 'root-agent.toml')
  writeHostFiles(root, config)
  const commands: Command[] = []
  const domains: FakeHost['domains'] = new Map()
  const missing = new Set<string>()
  const gid = process.getgid?.() ?? 0
  prepareFolders(config, gid)
  writeFileSync(join(config.paths.templates, `${fakeTemplate}.qcow2`), JSON.stringify({ size: 2 ** 31 }), {
    mode: 0o644,
  })
  const machine = {
    kvm: join(root, 'no-kvm'),
    cpuInfo: '/proc/cpuinfo',
    procSys: join(root, 'proc/sys'),
    etc: join(root, 'etc'),
  }
  const host = describeHost(config, { gid, clock: systemClock, log: silentLog }, machine)
  const exec: Exec = async (command, args, options) => {
    const argv = [command, ...args]
    commands.push({ argv, input: String(options?.input ?? '') })
    if (missing.has(command))
      throw new ExecError(argv, undefined, '', 'could not be started', Object.assign(new Error(), { code: 'ENOENT' }))
    const stdout = play(argv, domains)
    return { stdout, stderr: '' }
  }
  return {
    root,
    config,
    host,
    agent: createAgent(actions, { host, exec }),
    commands,
    domains,
    missing,
    takeCommands: () => commands.splice(0).map(({ argv }) => argv.join(' ').replaceAll(root, '')),
  }
}

function renderPaths(root: string): string {
  const at = (path: string) => JSON.stringify(join(root, path))
  return `[paths]
config = ${at('etc')}
state = ${at('lib')}
templates = ${at('lib/templates')}
vms = ${at('lib/vms')}
build = ${at('lib/template-build')}
packages = ${at('lib/template-packages')}
`
}

function writeHostFiles(root: string, { paths }: RootAgentConfig): void {
  mkdirSync(paths.config, { mode: 0o750 })
  const pool = "ip_pool: {network: '10.0.0.0/22', start: 10.0.0.10, end: 10.0.3.200, gateway: 10.0.0.1}"
  writeFileSync(join(paths.config, 'db.yaml'), `vmid_range: {start: 100, end: 999}\n${pool}\n`, { mode: 0o640 })
  writeFileSync(join(paths.config, 'broker-allocation.json'), '{"prefix": "2001:db8::/64"}', { mode: 0o640 })
  for (const [path, value] of Object.entries({
    'ipv4/ip_forward': '0',
    'ipv6/conf/all/forwarding': '0',
    'ipv6/conf/all/accept_ra': '1',
    'ipv6/conf/default/accept_ra': '1',
    'ipv6/conf/eth0/accept_ra': '1',
    'ipv6/conf/lo/accept_ra': '0',
    'ipv4/conf/br-blockhost/arp_ignore': '0',
    'ipv4/conf/br-blockhost/accept_redirects': '1',
    'ipv6/conf/br-blockhost/accept_redirects': '1',
    'ipv6/conf/br-blockhost/accept_ra': '1',
    'ipv6/conf/br-blockhost/suppress_frag_ndisc': '0',
  })) {
    const file = join(root, 'proc/sys/net', path)
    mkdirSync(join(file, '..'), { recursive: true })
    writeFileSync(file, `${value}\n`)
  }
}

function play(argv: readonly string[], domains: FakeHost['domains']): string {
  if (argv[0] === 'virsh') return playVirsh(argv, domains)
  if (argv[0] === 'qemu-img') return playQemuImg(argv)
  if (argv[0] === 'genisoimage') writeFileSync(argv[argv.indexOf('-output') + 1]!, 'ISO')
  return ''
}

function playVirsh(argv: readonly string[], domains: FakeHost['domains']): string {
  const [verb, ...args] = argv.slice(4) as [string, ...string[]]
  const fail = (said: string): never => {
    throw new ExecError(argv, 1, `error: ${said}\n`, 'exited with 1')
  }
  if (verb === 'define') {
    const xml = readFileSync(args.at(-1)!, 'utf8')
    const [name, uuid] = ['name', 'uuid'].map(tag => new RegExp(`<${tag}>(.*)</${tag}>`).exec(xml)![1]!) as [
      string,
      string,
    ]
    const found = domains.get(name)
    if (found !== undefined && found.uuid !== uuid)
      fail(`operation failed: domain '${name}' already exists with uuid ${found.uuid}`)
    domains.set(name, { uuid, state: found?.state ?? 'shut off' })
    return ''
  }
  if (verb === 'list') return [...domains].map(([name, { uuid }]) => ` ${uuid} ${name}\n`).join('')
  if (verb === 'domstats' && args.length === 1) {
    const code = { running: 1, paused: 3, 'shut off': 5 }
    return [...domains]
      .map(([name, { state }]) => `Domain: '${name}'\n  state.state=${code[state]}\n  state.reason=1\n\n`)
      .join('')
  }
  if (verb === 'uri') return 'qemu:///system\n'
  const uuid = verb === 'qemu-agent-command' ? args[2]! : args.at(-1)!
  const [name, domain] = [...domains].find(entry => entry[1].uuid === uuid) ?? fail(`failed to get domain '${uuid}'`)
  if (verb === 'domstate') return `${domain.state}\n\n`
  if (verb === 'undefine') {
    domains.delete(name)
    return ''
  }
  if (verb === 'start') {
    if (domain.state !== 'shut off') fail('Domain is already active')
    domain.state = 'running'
    return ''
  }
  if (domain.state === 'shut off') fail('Requested operation is not valid: domain is not running')
  if (verb === 'destroy' || verb === 'shutdown') domain.state = 'shut off'
  if (verb === 'suspend') domain.state = 'paused'
  if (verb === 'resume') domain.state = 'running'
  if (verb === 'domstats')
    return `Domain: '${name}'\n  state.state=1\n  cpu.time=12345\n  net.0.name=bhv\n  net.0.rx.bytes=77\n`
  if (verb === 'qemu-agent-command') return playGuestAgent(JSON.parse(args[3]!))
  return ''
}

function playGuestAgent({ execute }: { execute: string }): string {
  if (execute === 'guest-exec') return '{"return":{"pid":42}}'
  if (execute === 'guest-exec-status')
    return `{"return":{"exited":true,"exitcode":3,"out-data":"${btoa('out')}","err-data":"${btoa('err')}"}}`
  return '{"return":{}}'
}

function playQemuImg(argv: readonly string[]): string {
  if (argv[1] === 'create') {
    const image = { size: Number(argv.at(-1)), backing: argv[argv.indexOf('-b') + 1] }
    writeFileSync(argv.at(-2)!, JSON.stringify(image))
    return ''
  }
  const image = JSON.parse(readFileSync(argv.at(-1)!, 'utf8')) as { size: number; backing?: string }
  return JSON.stringify({ format: 'qcow2', 'virtual-size': image.size, 'full-backing-filename': image.backing })
}
