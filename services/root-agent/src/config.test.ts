import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseRootAgentConfig, readRootAgentConfig } from './config.ts'

const example = readFileSync(new URL('../config.example.toml', import.meta.url), 'utf8')

test('the example shows the defaults, all of them', () => {
  assert.deepEqual(parseRootAgentConfig(example, 'x'), parseRootAgentConfig('', 'x'))
  const keys = (value: unknown): string[] =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.entries(value).flatMap(([key, inner]) => [key, ...keys(inner)])
      : []
  for (const key of keys(parseRootAgentConfig('', 'x')))
    assert.match(example, new RegExp(`^(?:${key} = |\\[${key}\\])`, 'm'))
})

test('wrong keys and values are named', () => {
  const fails = (text: string, expected: RegExp) =>
    assert.throws(() => parseRootAgentConfig(text, '/etc/x.toml'), expected)
  fails('nonsense = 1', /nonsense/)
  fails('[firewall]\nknock_ports = [0]', /firewall\.knock_ports\.0/)
  fails("[paths]\nvms = '/var/lib/../x'", /paths\.vms: expected an absolute, plain path/)
  fails("[paths]\nvms = 'relative'", /paths\.vms/)
  fails("[network]\nbridge = '-x'", /network\.bridge: expected the name of an interface/)
  for (const network of ['192.168.1.53', '192.168.1.1/24', '192.168.1.0/33', 'lan', '', 'fd00::1/64', 'fd00::/129'])
    fails(`[network]\nallowed_private = ['${network}']`, /network\.allowed_private\.0: expected a network like/)
  for (const network of ['8.8.8.8/32', '192.0.0.0/8', '0.0.0.0/0', '2001:4860::/32', '::/0', '2000::/3', '::/1'])
    fails(`[network]\nallowed_private = ['${network}']`, /allowed_private\.0: it is, or holds, public addresses/)
  fails("[vm]\nlibvirt_uri = 'qemu+ssh://evil/system'", /vm\.libvirt_uri/)
})

test('exceptions for private networks become canonical text', () => {
  const text = "[network]\nallowed_private = ['192.168.1.53/32', '10.0.0.0/8', 'FD00:0::/64', 'fe80::1/128']"
  assert.deepEqual(parseRootAgentConfig(text, 'x').network.allowed_private, [
    '192.168.1.53/32',
    '10.0.0.0/8',
    'fd00::/64',
    'fe80::1/128',
  ])
})

test('a file that others can write is refused', t => {
  const folder = mkdtempSync(join(tmpdir(), 'bh-agent-config-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'root-agent.toml')
  writeFileSync(file, "log_level = 'warn'\n", { mode: 0o644 })
  assert.equal(readRootAgentConfig(file).log_level, 'warn')
  chmodSync(file, 0o666)
  assert.throws(() => readRootAgentConfig(file), { code: 'BH_PATH_UNTRUSTED', exitCode: 78 })
})
