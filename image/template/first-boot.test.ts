import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type FirstBoot, firstBoot, readCloudConfig, renderNetwork } from './first-boot.ts'

const network = {
  version: 2,
  ethernets: {
    eth0: {
      match: { macaddress: '52:54:c0:a8:7a:c8' },
      addresses: ['192.168.122.200/24', '2001:db8::101/128'],
      routes: [
        { to: '0.0.0.0/0', via: '192.168.122.1' },
        { to: '::/0', via: 'fe80::1', 'on-link': true },
      ],
    },
  },
}

const config = {
  hostname: 'blockhost-001',
  package_update: false,
  users: [{ name: 'admin', gecos: '', groups: ['sudo'], shell: '/bin/bash', sudo: 'ALL=(ALL) NOPASSWD:ALL' }],
  write_files: [{ path: '/etc/pam_web3/config.toml', content: 'a = 1\n', owner: 'root:keys', permissions: '0640' }],
}

function withMachine(userData: string, work: (machine: FirstBoot, calls: string[]) => void): void {
  const root = mkdtempSync(join(tmpdir(), 'bh-first-boot-'))
  const calls: string[] = []
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0]
  mkdirSync(join(root, 'etc'))
  writeFileSync(join(root, 'etc/passwd'), `root:x:${uid}:${gid}::/root:/bin/sh\n`)
  writeFileSync(join(root, 'etc/group'), `root:x:${gid}:\nkeys:x:${gid}:\n`)
  const run = (command: string, args: readonly string[]) => {
    calls.push([command, ...args].join(' '))
    return ''
  }
  try {
    const metaData = 'instance-id: blockhost-001-aa\nlocal-hostname: blockhost-001\n'
    work({ userData, metaData, networkConfig: JSON.stringify(network), root, run }, calls)
  } finally {
    rmSync(root, { recursive: true })
  }
}

describe('firstBoot', () => {
  test('names the machine, writes the files with their mode, adds the user', () =>
    withMachine(`#cloud-config\n${JSON.stringify(config)}\n`, (machine, calls) => {
      assert.equal(firstBoot(machine), 'done')
      const at = (path: string) => join(machine.root, path)
      assert.equal(readFileSync(at('etc/hostname'), 'utf8'), 'blockhost-001\n')
      assert.equal(readFileSync(at('etc/pam_web3/config.toml'), 'utf8'), 'a = 1\n')
      assert.equal(statSync(at('etc/pam_web3/config.toml')).mode & 0o777, 0o640)
      assert.equal(readFileSync(at('etc/sudoers.d/90-admin'), 'utf8'), 'admin ALL=(ALL) NOPASSWD:ALL\n')
      assert.deepEqual(calls, [
        'hostname blockhost-001',
        'useradd --create-home --shell /bin/bash --comment  --groups sudo -- admin',
      ])
    }))

  test('is done once for an instance', () =>
    withMachine(`#cloud-config\n${JSON.stringify(config)}\n`, (machine, calls) => {
      firstBoot(machine)
      const before = calls.length
      assert.equal(firstBoot(machine), 'known')
      assert.equal(calls.length, before)
      assert.equal(firstBoot({ ...machine, metaData: 'instance-id: other\n' }), 'done')
    }))

  test('sets up the network even when the rest is left to cloud-init', () =>
    withMachine('#!/bin/sh\necho\n', (machine, calls) => {
      assert.equal(firstBoot(machine), 'left')
      assert.match(readFileSync(join(machine.root, 'etc/systemd/network/10-blockhost.network'), 'utf8'), /MACAddress/)
      assert.deepEqual(calls, [])
    }))
})

describe('readCloudConfig', () => {
  test('leaves what it does not know, and what has to be fetched, to cloud-init', () => {
    const render = (document: unknown) => `#cloud-config\n${JSON.stringify(document)}`
    assert.ok(readCloudConfig(render(config)))
    for (const more of [{ runcmd: ['x'] }, { packages: ['nginx'] }, { package_update: true }])
      assert.equal(readCloudConfig(render({ ...config, ...more })), undefined)
    for (const text of ['hostname: x\n', '#cloud-config\nhostname: x\n', '#cloud-config\n[]', '#cloud-config\nnull'])
      assert.equal(readCloudConfig(text), undefined)
  })
})

describe('renderNetwork', () => {
  test('systemd.network(5): static addresses, both default routes, nothing taken from the wire', () => {
    const text = renderNetwork(network)
    assert.match(text, /Destination=::\/0\nGateway=fe80::1\nGatewayOnLink=yes/)
    assert.match(text, /Address=2001:db8::101\/128/)
    assert.match(text, /IPv6AcceptRA=no/)
    assert.match(text, /Destination=0\.0\.0\.0\/0\nGateway=192\.168\.122\.1/)
  })
})
