import assert from 'node:assert/strict'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createFakeHost } from './fake-host.ts'

function open(t: TestContext) {
  const fake = createFakeHost(t)
  const call = async (action: string, params: object) => {
    const answer = await fake.agent.handle({ action, params })
    assert.ok(answer.ok, JSON.stringify(answer))
    return fake.takeCommands()
  }
  const refuses = async (action: string, params: object, expected = /./) => {
    const answer = await fake.agent.handle({ action, params })
    assert.ok(!answer.ok, `${action} ${JSON.stringify(params)} was carried out`)
    assert.match(answer.error, expected)
    assert.deepEqual(fake.takeCommands(), [])
  }
  return { ...fake, call, refuses }
}

test('qm-start, -stop, -shutdown, -destroy, -template: a VM id of the configured range', async t => {
  const { call, refuses } = open(t)
  assert.deepEqual(await call('qm-start', { vmid: 100 }), ['qm start 100'])
  assert.deepEqual(await call('qm-stop', { vmid: 999 }), ['qm stop 999'])
  assert.deepEqual(await call('qm-shutdown', { vmid: 100 }), ['qm shutdown 100 --timeout 300'])
  assert.deepEqual(await call('qm-destroy', { vmid: 100 }), ['qm destroy 100 --purge'])
  assert.deepEqual(await call('qm-template', { vmid: 100 }), ['qm template 100'])
  for (const vmid of [99, 1000, 100.5, '100', true, null, -100, 2 ** 53, [100]])
    await refuses('qm-destroy', { vmid }, /vmid/)
})

test('qm-create, qm-set: known options with known values', async t => {
  const { call, refuses } = open(t)
  assert.deepEqual(
    await call('qm-create', {
      vmid: 100,
      name: 'template',
      args: ['--memory', '512', '--net0', 'virtio,bridge=vmbr0'],
    }),
    ['qm create 100 --name template --memory 512 --net0 virtio,bridge=vmbr0'],
  )
  assert.deepEqual(
    await call('qm-set', {
      vmid: 100,
      options: { scsi0: 'local-lvm:vm-100-disk-0', boot: 'order=scsi0', cores: 2, ide2: 'local-lvm:cloudinit' },
    }),
    ['qm set 100 --scsi0 local-lvm:vm-100-disk-0 --boot order=scsi0 --cores 2 --ide2 local-lvm:cloudinit'],
  )
  const set = (key: string, value: unknown) => refuses('qm-set', { vmid: 100, options: { [key]: value } }, /options/)
  for (const value of [
    '/dev/sda',
    'local-lvm:vm-101-disk-0',
    'local:0,import-from=/etc/shadow',
    'other:vm-100-disk-0',
    'local-lvm:vm-100-disk-0\n',
    'none,media=cdrom',
  ])
    await set('scsi0', value)
  await set('ide2', 'local:iso/../../etc/shadow')
  await set('args', '-drive file=/dev/sda')
  await set('hookscript', 'local:snippets/x')
  await refuses('qm-set', { vmid: 100, options: JSON.parse('{"__proto__": "1"}') }, /a key is not allowed/)
  await set('constructor', '1')
  await set('net0', 'virtio,bridge=eth0')
  await set('net0', 'virtio,bridge=vmbr0;reboot')
  await set('agent', '1 --hookscript x')
  const create = (args: unknown) => refuses('qm-create', { vmid: 100, name: 'x', args }, /args|options/)
  for (const args of [
    ['--memory'],
    ['memory', '1'],
    ['-memory', '1'],
    ['--memory=512', '1'],
    ['--args', 'x'],
    ['--memory', '--force'],
    ['x'.repeat(201), '1'],
    'x',
    [['--memory', '5']],
  ])
    await create(args)
  for (const name of ['-x', 'a b', 'a\n', '', 'A', '--force'])
    await refuses('qm-create', { vmid: 100, name, args: [] }, /name/)
})

test('qm-importdisk: files of root’s folders into configured storages', async t => {
  const { call, refuses, config } = open(t)
  const { build, state } = config.paths
  const file = join(build, 'debian.qcow2')
  writeFileSync(file, '', { mode: 0o600 })
  symlinkSync('/etc/shadow', join(build, 'link.qcow2'))
  writeFileSync(join(state, 'mine.qcow2'), '')
  const given = { vmid: 100, disk_path: file, storage: 'local-lvm' }
  assert.deepEqual(await call('qm-importdisk', given), ['qm importdisk 100 /lib/template-build/debian.qcow2 local-lvm'])
  for (const disk_path of [
    '/etc/shadow',
    '/dev/sda',
    join(state, 'mine.qcow2'),
    `${build}/../vms/x`,
    `${build}//debian.qcow2`,
    `${build}/link.qcow2`,
    `${build}/none`,
    `${build}/-x`,
    `${build}/`,
    'debian.qcow2',
  ])
    await refuses('qm-importdisk', { ...given, disk_path })
  await refuses('qm-importdisk', { ...given, storage: 'local' }, /storage: only local-lvm/)
})

test('virt-customize: known operations on an image of root’s; the host’s files only from the packages folder', async t => {
  const { call, refuses, config } = open(t)
  const { build, packages } = config.paths
  const image_path = join(build, 'debian.qcow2')
  writeFileSync(image_path, '', { mode: 0o600 })
  const deb = join(packages, 'libpam-web3_0.5.0_amd64.deb')
  writeFileSync(deb, '', { mode: 0o644 })
  const commands = [
    ['update'],
    ['--install', 'qemu-guest-agent,cloud-init'],
    ['copy-in', `${deb}:/root`],
    ['run-command', 'dpkg -i /root/*.deb'],
  ]
  assert.deepEqual(await call('virt-customize', { image_path, commands }), [
    'virt-customize --format qcow2 -a /lib/template-build/debian.qcow2 --update --install qemu-guest-agent,cloud-init --copy-in /lib/template-packages/libpam-web3_0.5.0_amd64.deb:/root --run-command dpkg -i /root/*.deb',
  ])
  const bad = [
    ['copy-in', '/etc/shadow:/root'],
    ['upload', `${packages}/../../etc/shadow:/root/x`],
    ['copy-in', `${deb}`],
    ['run', '/bin/sh'],
    ['commands-from-file', '/etc/shadow'],
    ['ssh-inject', 'root:file:/etc/shadow'],
    ['root-password', 'file:/etc/shadow'],
    ['install', '--add=/dev/sda'],
    ['install', 'a,--x'],
    ['run-command', '--add\n'],
    ['run-command'],
    ['update', 'x'],
    ['__proto__', 'x'],
    ['write', 'relative:x'],
  ]
  for (const command of bad) await refuses('virt-customize', { image_path, commands: [command] }, /commands\.0/)
  await refuses('virt-customize', { image_path, commands: [['install', 'a', '--add']] }, /commands\.0/)
  for (const path of ['/dev/sda', '/etc/passwd', join(config.paths.templates, 'ab12cd34ef56.qcow2')])
    await refuses('virt-customize', { image_path: path, commands: [['update']] }, /image_path/)
})
