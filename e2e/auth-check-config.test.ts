import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('../services/web3-auth-svc/bin/web3-auth-svc', import.meta.url))

it('web3-auth-svc --check-config: says which file is missing, also where its folder is', () => {
  const absent = `/etc/web3-auth/absent-${process.pid}.toml`
  const { status, stderr } = check(absent)
  assert.equal(status, 78)
  assert.match(stderr, new RegExp(`Could not read the configuration ${absent}\\n {2}because: ENOENT: no such file`))
  assert.match(stderr, new RegExp(`what to do: Create ${absent}`))
})

it('web3-auth-svc --check-config: says what it may read when Node lets it read no other file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'blockhost-check-config-'))
  try {
    const { status, stderr } = check(join(folder, 'config.toml'))
    assert.equal(status, 78)
    assert.match(stderr, /what to do: The program may read \/etc\/web3-auth and \/etc\/pam_web3 only/)
    const open = check(join(folder, 'config.toml'), `--allow-fs-read=${folder}`)
    assert.match(open.stderr, /because: ENOENT/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

function check(path: string, nodeOptions = ''): { status: number | null; stderr: string } {
  const env = { ...process.env, WEB3_AUTH_NODE_OPTIONS: nodeOptions }
  const { status, stderr } = spawnSync(program, ['--check-config', '--config', path], { env, encoding: 'utf8' })
  return { status, stderr }
}
