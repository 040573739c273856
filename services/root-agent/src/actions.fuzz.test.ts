import assert from 'node:assert/strict'
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { actions } from './actions.ts'
import { createFakeHost, type FakeHost, fakeTemplate } from './fake-host.ts'

/** Parameters with which each action does its work, as a start for spoiling them. */
const wallet = `0x${'11'.repeat(20)}`
const vm = { name: 'web', mac: '52:54:0a:00:00:0a', ipv4: '10.0.0.10', ipv6: '2001:db8::101' }
const knock = { port: 22, proto: 'tcp', comment: 'knock' }
const network = {
  mac: vm.mac,
  ipv4: { address: vm.ipv4, prefix_length: 22, gateway: '10.0.0.1' },
  ipv6: { address: vm.ipv6 },
  nameservers: ['9.9.9.9'],
}

function goodParams({ config }: FakeHost): Record<string, Record<string, unknown>> {
  const image = join(config.paths.build, 'debian.qcow2')
  const deb = join(config.paths.packages, 'a.deb')
  const named = { name: 'web' }
  const vmid = { vmid: 100 }
  return {
    'qm-start': vmid,
    'qm-stop': vmid,
    'qm-shutdown': vmid,
    'qm-destroy': vmid,
    'qm-template': vmid,
    'qm-create': { ...vmid, name: 'web', args: ['--memory', '512', '--net0', 'virtio,bridge=vmbr0'] },
    'qm-importdisk': { ...vmid, disk_path: image, storage: 'local-lvm' },
    'qm-set': { ...vmid, options: { scsi0: 'local-lvm:vm-100-disk-0', cores: 2 } },
    'ip6-route-add': { address: '2001:db8::101/128', dev: 'br-blockhost' },
    'ip6-route-del': { address: '2001:db8::101/128', dev: 'br-blockhost' },
    'iptables-open': { ...knock, seconds: 60 },
    'iptables-close': knock,
    'virt-customize': {
      image_path: image,
      commands: [
        ['copy-in', `${deb}:/root`],
        ['install', 'a,b'],
      ],
    },
    'generate-wallet': { name: 'hot' },
    'addressbook-save': {
      entries: { friend: { address: wallet, keyfile: join(config.paths.config, 'a.key') } },
      remove: ['old'],
    },
    'vm-disk-create': { ...named, template: fakeTemplate, disk_gib: 20 },
    'vm-seed-write': { ...named, user_data: '#cloud-config\n', network },
    'vm-define': { ...named, vcpus: 1, memory_mib: 512, mac: vm.mac, template: fakeTemplate },
    'vm-undefine': named,
    'vm-start': named,
    'vm-stop': named,
    'vm-shutdown': { ...named, seconds: 1 },
    'vm-suspend': named,
    'vm-resume': named,
    'vm-destroy': named,
    'vm-status': named,
    'vm-list': {},
    'vm-metrics': named,
    'vm-console': named,
    'vm-guest-exec': { ...named, argv: ['id', '-u'], seconds: 1 },
    'vm-guest-ping': named,
    'vm-network-add': vm,
    'vm-network-del': vm,
    'bridge-ensure': {},
    'network-ensure': {},
    'host-status': {},
  }
}

function open(t: Parameters<typeof createFakeHost>[0]) {
  const fake = createFakeHost(t, '[firewall]\nknock_ports = [22]\n')
  writeFileSync(join(fake.config.paths.build, 'debian.qcow2'), '', { mode: 0o600 })
  writeFileSync(join(fake.config.paths.packages, 'a.deb'), '', { mode: 0o600 })
  return { fake, good: goodParams(fake) }
}

/** What attackers say. */
const evil = fc.oneof(
  fc.constantFrom<unknown>(
    '-x',
    '--force',
    '--help',
    '-',
    '..',
    '../../etc/shadow',
    '/etc/shadow',
    '/dev/sda',
    '/dev/mem',
    '/proc/self/mem',
    'web\n',
    '\nweb',
    'a b',
    'a;reboot',
    '$(reboot)',
    '`reboot`',
    'a\0b',
    '',
    ' ',
    "'",
    '"',
    '<x/>',
    '&amp;',
    '{{x}}',
    '%s',
    '__proto__',
    'constructor',
    'toString',
    'vmbr0,firewall=0',
    'tcp . 23',
    '22',
    '0x16',
    '1e3',
    '::1/128',
    '::/0',
    'eth0',
    '2001:db8::1/128',
    '10.0.0.1',
    '0.0.0.0',
    'fe80::1',
    'ff:ff:ff:ff:ff:ff',
    'admin',
    'server',
    'ＡＢＣ',
    'x'.repeat(5000),
    0,
    -1,
    1.5,
    23,
    65_536,
    2 ** 31,
    2 ** 53,
    1e308,
    -0,
    true,
    false,
    null,
    [],
    [[]],
    {},
    { length: 1 },
    ['web'],
    JSON.parse('{"__proto__":{"x":1}}'),
  ),
  fc.string({ maxLength: 60 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.double(),
  fc.jsonValue({ maxDepth: 3 }),
)

/** Puts something else in one place of an object, at any depth, or adds a key. */
function spoil(value: unknown, pick: number, by: unknown): unknown {
  if (typeof value !== 'object' || value === null) return by
  const keys = Object.keys(value)
  const at = pick % (keys.length + 1)
  const copy = structuredClone(value) as Record<string, unknown>
  const key = keys[at]
  if (key === undefined)
    Array.isArray(copy)
      ? copy.push(by)
      : Object.defineProperty(copy, typeof by === 'string' ? by : 'surprise', {
          value: by,
          enumerable: true,
          configurable: true,
          writable: true,
        })
  else copy[key] = pick % 3 === 0 ? by : spoil(copy[key], Math.floor(pick / 7), by)
  return copy
}

const programs = ['ip', 'nft', 'virsh', 'qemu-img', 'genisoimage', 'qm', 'virt-customize']

/** What must hold for whatever was run: known programs, no foreign files, no control characters, scripts of our tables only. */
function checkCommands(fake: FakeHost): void {
  for (const { argv, input } of fake.commands.splice(0)) {
    assert.ok(programs.includes(argv[0]!), argv.join(' '))
    const isGuestText = argv[0] === 'virt-customize' || argv.includes('qemu-agent-command')
    for (const argument of argv.slice(1)) {
      if (!isGuestText) assert.match(argument, /^[\x20-\x7e]*$/, argv.join(' '))
      if (argument.startsWith('/')) checkPath(fake, argument.split(':')[0]!)
    }
    if (argv[0] === 'nft')
      for (const line of input.split('\n'))
        assert.match(
          line,
          /^(?:[}\s].*|(?:(?:add|flush|delete) )?(?:table|set|map|chain|rule|element) (?:bridge blockhost_vms|inet blockhost_(?:host|knock))\b.*|)$/,
          line,
        )
    if (argv[0] === 'ip')
      for (const line of input.split('\n'))
        assert.match(
          line,
          /^(?:(?:addr|route|neigh|link) [\x20-\x7e]+ dev br-blockhost( .*)?|link set dev br-blockhost .*|route replace unreachable 2001:db8::\/64 dev lo .*|)$/,
          line,
        )
  }
}

function checkPath({ root }: FakeHost, path: string): void {
  assert.ok(path.startsWith(`${root}/lib/`) && !path.split('/').includes('..'), path)
}

/** All files below a folder with what they hold, sizes of large ones. */
function snapshot(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => !entry.isDirectory())
    .map(entry => join(entry.parentPath, entry.name))
    .map(path =>
      lstatSync(path).isSymbolicLink() ? `${path} link` : `${path} ${readFileSync(path, 'utf8').slice(0, 300)}`,
    )
    .sort()
}

test('every action has parameters here that it accepts', async t => {
  const { fake, good } = open(t)
  assert.deepEqual(Object.keys(good).sort(), [...actions.keys()].sort())
  for (const name of ['vm-disk-create', 'vm-seed-write', 'vm-define', 'vm-start', ...actions.keys()]) {
    const answer = await fake.agent.handle({ action: name, params: good[name] })
    const isOff = !answer.ok && /domain is not running|failed to get domain|exists/.test(answer.error)
    assert.ok(answer.ok || isOff, `${name}: ${JSON.stringify(answer)}`)
    checkCommands(fake)
  }
})

for (const name of actions.keys())
  test(`${name}: whatever it is told, it runs only what it should on what is its own`, async t => {
    const { fake, good } = open(t)
    const bookBefore = snapshot(fake.config.paths.config)
    await fc.assert(
      fc.asyncProperty(fc.nat(10_000), fc.nat(10_000), evil, async (pick, again, by) => {
        const once = spoil(good[name], pick, by)
        const params = again % 4 === 0 ? spoil(once, again, by) : once
        const answer = await fake.agent.handle({ action: name, params })
        assert.equal(typeof answer.ok, 'boolean')
        if (!answer.ok) assert.ok(answer.error.length > 0 && answer.code !== 'BH_UNEXPECTED', JSON.stringify(answer))
        checkCommands(fake)
      }),
      { numRuns: 120 },
    )
    const touchesBook = name === 'generate-wallet' || name === 'addressbook-save'
    if (!touchesBook) assert.deepEqual(snapshot(fake.config.paths.config), bookBefore)
    const known = /\/(?:lib\/(?:vms|templates|template-build|template-packages)\/|etc\/|proc\/sys\/)/
    for (const line of snapshot(fake.root)) assert.match(line, known)
  })

test('wrong types in every place are refused before anything runs', async t => {
  const { fake, good } = open(t)
  const wrong: unknown[] = [null, true, 1.5, -1, 2 ** 60, [], {}, '', 'a\n', '--x', '../x']
  for (const [name, params] of Object.entries(good))
    for (const key of Object.keys(params))
      for (const value of wrong) {
        const answer = await fake.agent.handle({ action: name, params: { ...params, [key]: value } })
        if (key === 'comment' && value === '--x') continue // dashes may begin a comment: it is quoted
        const isEmptyList = Array.isArray(value) || (typeof value === 'object' && value !== null)
        if (isEmptyList && ['args', 'options', 'entries', 'remove'].includes(key)) continue
        assert.ok(!answer.ok, `${name}.${key} took ${JSON.stringify(value)}`)
      }
  fake.commands.length = 0
  for (const [name, params] of Object.entries(good)) {
    const answer = await fake.agent.handle({ action: name, params: { ...params, surprise: 1 } })
    assert.ok(!answer.ok, `${name} took an unknown key`)
  }
  assert.deepEqual(fake.commands, [])
})
