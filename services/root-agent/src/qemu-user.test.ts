import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type DomainSpec, renderDomain } from './domain-xml.ts'
import { findQemuUser, giveToQemu } from './qemu-user.ts'

test('findQemuUser: what qemu.conf says, else libvirt-qemu; root and unknown users are none', t => {
  const etc = mkdtempSync(join(tmpdir(), 'bh-qemu-user-'))
  t.after(() => rmSync(etc, { recursive: true }))
  assert.equal(findQemuUser(etc), undefined)
  writeFileSync(
    join(etc, 'passwd'),
    'root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:104::/:/bin/false\nvm:x:7:8::/:/bin/sh\n',
  )
  writeFileSync(join(etc, 'group'), 'root:x:0:\nkvm:x:104:\nlibvirt-qemu:x:64056:vm\n')
  assert.deepEqual(findQemuUser(etc), { uid: 64055, gid: 64056 })
  mkdirSync(join(etc, 'libvirt'))
  const says = (conf: string) => {
    writeFileSync(join(etc, 'libvirt/qemu.conf'), conf)
    return findQemuUser(etc)
  }
  assert.deepEqual(says('#user = "root"\n'), { uid: 64055, gid: 64056 })
  assert.deepEqual(says('user = "vm"\n  group = "kvm"\n'), { uid: 7, gid: 104 })
  assert.deepEqual(says('user = "+1000"\ngroup = "1001"\n'), { uid: 1000, gid: 1001 })
  assert.equal(says('user = "root"\ngroup = "root"\n'), undefined)
  assert.equal(says('user = "nobody-here"\n'), undefined)
})

test('giveToQemu: the file is QEMU’s where there is such a user', t => {
  if (process.getuid?.() !== 0) return t.skip('needs root to give files away')
  const folder = mkdtempSync(join(tmpdir(), 'bh-qemu-user-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'disk')
  writeFileSync(file, '')
  giveToQemu({ qemuUser: undefined }, file)
  assert.equal(statSync(file).uid, 0)
  giveToQemu({ qemuUser: { uid: 64055, gid: 64056 } }, file)
  assert.deepEqual([statSync(file).uid, statSync(file).gid], [64055, 64056])
})

test('a domain tells libvirt who QEMU is, and to leave the owners of files alone', () => {
  const spec: DomainSpec = {
    name: 'web',
    uuid: '0',
    vcpus: 1,
    memoryMiB: 512,
    mac: '52:54:00:00:00:01',
    bridge: 'br0',
    tap: 'tap0',
    disk: '/d',
    diskCache: 'none',
    seed: '/s',
    console: '/c',
    accelerator: 'qemu',
    architecture: 'x86_64',
    qemuUser: { uid: 64055, gid: 64056 },
    kernel: undefined,
  }
  assert.match(
    renderDomain(spec),
    /<seclabel type="static" model="dac" relabel="no">\s*<label>\+64055:\+64056<\/label>/,
  )
  assert.doesNotMatch(renderDomain({ ...spec, qemuUser: undefined }), /seclabel/)
})
