import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createFakeHost, fakeTemplate } from './fake-host.ts'
import { vmUuid } from './vm-files.ts'

const name = 'blockhost-001'
const network = {
  mac: '52:54:0a:00:00:0a',
  ipv4: { address: '10.0.0.10', prefix_length: 22, gateway: '10.0.0.1' },
  ipv6: { address: '2001:db8::101' },
  nameservers: ['9.9.9.9', '2620:fe::fe'],
}
const seed = { name, user_data: '#cloud-config\nhostname: x\n', network }
const disk = { name, template: fakeTemplate, disk_gib: 20 }
const domain = { name, vcpus: 2, memory_mib: 1024, mac: network.mac, template: fakeTemplate }

function open(t: TestContext, toml = '') {
  const fake = createFakeHost(t, toml)
  const call = async (action: string, params: object) => {
    const answer = await fake.agent.handle({ action, params })
    assert.ok(answer.ok, JSON.stringify(answer))
    return answer as Record<string, unknown>
  }
  const refuses = async (action: string, params: object, expected: RegExp) => {
    const answer = await fake.agent.handle({ action, params })
    assert.ok(!answer.ok, `${action} ${JSON.stringify(params)} was carried out`)
    assert.match(answer.error, expected)
  }
  const create = async () => {
    await call('vm-disk-create', disk)
    await call('vm-seed-write', seed)
    return call('vm-define', domain)
  }
  return { ...fake, call, refuses, create, at: (file: string) => join(fake.config.paths.vms, file) }
}

test('a VM’s life: made, started, frozen, shut down, destroyed; nothing is left; each step twice is fine', async t => {
  const { call, create, domains, config } = open(t)
  await create()
  await create()
  const state = async () => (await call('vm-status', { name })).state
  const twice = async (action: string, expected: string) => {
    for (let n = 0; n < 2; n++) await call(action, { name })
    assert.equal(await state(), expected)
  }
  assert.equal(await state(), 'stopped')
  await twice('vm-start', 'running')
  assert.deepEqual((await call('vm-list', {})).vms, [{ name, state: 'running' }])
  await twice('vm-suspend', 'paused')
  await twice('vm-resume', 'running')
  await call('vm-suspend', { name })
  await call('vm-start', { name })
  assert.equal(await state(), 'running')
  assert.deepEqual(await call('vm-shutdown', { name }), { ok: true, stopped: true })
  await call('vm-start', { name })
  await twice('vm-stop', 'stopped')
  await twice('vm-destroy', 'absent')
  assert.deepEqual(readdirSync(config.paths.vms), [])
  assert.equal(domains.size, 0)
  assert.deepEqual(await call('vm-shutdown', { name }), { ok: true, stopped: true })
})

test('vm-define: what libvirt is given, whole', async t => {
  const { create, at, root, takeCommands } = open(t)
  const answer = await create()
  assert.deepEqual(answer, { ok: true, uuid: vmUuid(name), tap: 'bhv33e9893e146', accelerator: 'qemu' })
  assert.equal(takeCommands().at(-1), `virsh -c qemu:///system -q define --validate /lib/vms/${name}.xml`)
  assert.equal(statSync(at(`${name}.xml`)).mode & 0o777, 0o600)
  assert.equal(
    readFileSync(at(`${name}.xml`), 'utf8').replaceAll(root, ''),
    `<domain type="qemu">
  <name>blockhost-001</name>
  <uuid>${vmUuid(name)}</uuid>
  <memory unit="MiB">1024</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch="x86_64" machine="q35">hvm</type>
    <boot dev="hd"/>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode="maximum"><feature policy="disable" name="avx"/><feature policy="disable" name="avx2"/></cpu>
  <clock offset="utc"/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>restart</on_crash>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" cache="none" io="native" discard="unmap"/>
      <source file="/lib/vms/blockhost-001.qcow2"/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <disk type="file" device="disk">
      <driver name="qemu" type="raw"/>
      <source file="/lib/vms/blockhost-001.seed.iso"/>
      <target dev="vdb" bus="virtio"/>
      <readonly/>
    </disk>
    <interface type="bridge">
      <mac address="52:54:0a:00:00:0a"/>
      <source bridge="br-blockhost"/>
      <target dev="bhv33e9893e146"/>
      <model type="virtio"/>
      <port isolated="yes"/>
    </interface>
    <serial type="pty">
      <log file="/lib/vms/blockhost-001.console.log" append="on"/>
      <target port="0"/>
    </serial>
    <console type="pty">
      <target type="serial" port="0"/>
    </console>
    <channel type="unix">
      <target type="virtio" name="org.qemu.guest_agent.0"/>
    </channel>
    <rng model="virtio">
      <backend model="random">/dev/urandom</backend>
    </rng>
    <memballoon model="virtio">
      <stats period="10"/>
    </memballoon>
  </devices>
</domain>
`,
  )
})

test('vm-define: a kernel beside the template is booted directly, with the line that root wrote', async t => {
  const { create, at, config, root } = open(t)
  for (const [ending, text] of [
    ['vmlinuz', ''],
    ['initrd', ''],
    ['cmdline', 'root=/dev/vda1 quiet & <x>\n'],
  ] as const)
    writeFileSync(join(config.paths.templates, `${fakeTemplate}.${ending}`), text, { mode: 0o644 })
  await create()
  const os = /<os>[\s\S]*<\/os>/.exec(readFileSync(at(`${name}.xml`), 'utf8'))![0].replaceAll(root, '')
  assert.equal(
    os,
    `<os>
    <type arch="x86_64" machine="q35">hvm</type>
    <kernel>/lib/templates/ab12cd34ef56.vmlinuz</kernel>
    <initrd>/lib/templates/ab12cd34ef56.initrd</initrd>
    <cmdline>root=/dev/vda1 quiet &#38; &#60;x&#62;</cmdline>
  </os>`,
  )
})

test('vm-define: limits, missing files, and a domain of that name that is somebody else’s', async t => {
  const { call, create, refuses, domains } = open(t, '[vm]\nmax_vcpus = 4\nmax_memory_mib = 2048\n')
  await refuses('vm-define', domain, /blockhost-001\.qcow2 is missing/)
  await create()
  await refuses('vm-define', { ...domain, vcpus: 5 }, /vcpus: at most 4/)
  await refuses('vm-define', { ...domain, memory_mib: 4096 }, /memory_mib: at most 2048/)
  await refuses('vm-define', { ...domain, template: 'ffffffffffff' }, /template: there is no ffffffffffff\.qcow2/)
  for (const template of ['../../etc/passwd', 'ab12cd34ef56/..', 'AB12CD34EF56', 'ab12', `${fakeTemplate}\n`])
    await refuses('vm-define', { ...domain, template }, /template: expected 12 to 64 hex digits/)
  domains.set('prod', { uuid: '11111111-2222-3333-4444-555555555555', state: 'running' })
  await call('vm-disk-create', { ...disk, name: 'prod' })
  await call('vm-seed-write', { ...seed, name: 'prod' })
  await refuses('vm-define', { ...domain, name: 'prod' }, /already exists with uuid/)
  await call('vm-stop', { name: 'prod' })
  await call('vm-destroy', { name: 'prod' })
  assert.equal(domains.get('prod')?.state, 'running')
  assert.deepEqual((await call('vm-list', {})).vms, [{ name, state: 'stopped' }])
})

test('vm-disk-create: an overlay with its formats said, kept when it is there, another one refused', async t => {
  const { call, refuses, takeCommands, at, config } = open(t, '[vm]\nmax_disk_gib = 50\n')
  assert.deepEqual(await call('vm-disk-create', disk), { ok: true, created: true })
  assert.deepEqual(takeCommands(), [
    'qemu-img info -U -f qcow2 --output=json /lib/templates/ab12cd34ef56.qcow2',
    `qemu-img create -q -f qcow2 -F qcow2 -b /lib/templates/ab12cd34ef56.qcow2 /lib/vms/.${name}.disk ${20 * 2 ** 30}`,
  ])
  assert.equal(statSync(at(`${name}.qcow2`)).mode & 0o777, 0o600)
  assert.deepEqual(await call('vm-disk-create', disk), { ok: true, created: false })
  await refuses('vm-disk-create', { ...disk, disk_gib: 21 }, /exists with another template or size/)
  await refuses('vm-disk-create', { ...disk, disk_gib: 51 }, /disk_gib: at most 50/)
  await refuses('vm-disk-create', { ...disk, name: 'small', disk_gib: 1 }, /the template needs at least 2/)
  symlinkSync('/etc/shadow', join(config.paths.templates, 'aaaaaaaaaaaa.qcow2'))
  await refuses('vm-disk-create', { ...disk, name: 'x', template: 'aaaaaaaaaaaa' }, /symbolic link/)
})

test('vm-seed-write: three files, an image for root alone, no trace of the text', async t => {
  const { call, takeCommands, at, config } = open(t)
  await call('vm-seed-write', seed)
  const folder = `/lib/vms/.${name}.seed`
  assert.deepEqual(takeCommands(), [
    `genisoimage -quiet -output ${folder}/seed.iso -volid cidata -joliet -rock ${folder}/user-data ${folder}/meta-data ${folder}/network-config`,
  ])
  assert.equal(statSync(at(`${name}.seed.iso`)).mode & 0o777, 0o600)
  assert.deepEqual(readdirSync(config.paths.vms), [`${name}.seed.iso`])
})

test('vm-seed-write: refuses what is no seed', async t => {
  const { refuses, takeCommands, at } = open(t)
  for (const user_data of ['', 'hello', `#cloud-config\n${'x'.repeat(131_072)}`, '#!\0', 5, ['#!']])
    await refuses('vm-seed-write', { ...seed, user_data }, /user_data/)
  const bad = { ...network, ipv4: { ...network.ipv4, address: '10.0.0.10\n', gateway: '-x' } }
  await refuses(
    'vm-seed-write',
    { ...seed, network: bad },
    /network\.ipv4\.address: expected.*network\.ipv4\.gateway: expected/,
  )
  await refuses('vm-seed-write', { ...seed, network: { ...network, nameservers: ['evil: yes'] } }, /nameservers/)
  await refuses('vm-seed-write', { ...seed, network: { ...network, routes: [] } }, /a key that is not known/)
  assert.deepEqual(takeCommands(), [])
  assert.ok(!existsSync(at(`${name}.seed.iso`)))
})

test('vm-guest-exec, vm-guest-ping, vm-metrics, vm-console: answers; a VM that is off', async t => {
  const { call, create, refuses, at } = open(t)
  await create()
  await refuses('vm-guest-exec', { name, argv: ['id'] }, /domain is not running/)
  assert.deepEqual(await call('vm-guest-ping', { name }), { ok: true, alive: false })
  await call('vm-start', { name })
  assert.deepEqual(await call('vm-guest-exec', { name, argv: ['sh', '-c', 'echo; exit 3'] }), {
    ok: true,
    exitcode: 3,
    stdout: 'out',
    stderr: 'err',
  })
  assert.deepEqual(await call('vm-guest-ping', { name }), { ok: true, alive: true })
  assert.deepEqual((await call('vm-metrics', { name })).stats, {
    'state.state': 1,
    'cpu.time': 12345,
    'net.0.rx.bytes': 77,
  })
  assert.equal((await call('vm-console', { name })).output, '')
  writeFileSync(at(`${name}.console.log`), `${'x'.repeat(20_000)}login:`)
  assert.match(String((await call('vm-console', { name })).output), /^x{16378}login:$/)
  for (const argv of [[], 'id', ['a\0'], Array(65).fill('a'), ['x'.repeat(4001)], Array(5).fill('x'.repeat(4000))])
    await refuses('vm-guest-exec', { name, argv }, /argv/)
})
