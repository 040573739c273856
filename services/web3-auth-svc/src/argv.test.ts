import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { inheritedSockets } from './activation.ts'
import { parseArgv } from './argv.ts'

describe('parseArgv', () => {
  it('serves with the documented files, and takes the documented options', () => {
    const paths = { service: '/etc/web3-auth/config.toml', login: '/etc/pam_web3/config.toml' }
    assert.deepEqual(parseArgv([]), { kind: 'serve', paths, socketPath: undefined })
    assert.deepEqual(parseArgv(['-c', '/x', '--login-config', '/y', '-s', '/z', '-f', '--check-config']), {
      kind: 'check-config',
      paths: { service: '/x', login: '/y' },
      socketPath: '/z',
    })
    assert.equal(parseArgv(['--help']).kind, 'help')
    assert.equal(parseArgv(['--version']).kind, 'version')
    for (const args of [['--nonsense'], ['serve'], ['-c']]) assert.equal(parseArgv(args).kind, 'usage')
  })
})

describe('inheritedSockets', () => {
  const env = (count: number, names?: string) => ({ LISTEN_FDS: `${count}`, LISTEN_PID: '7', LISTEN_FDNAMES: names })

  it('sd_listen_fds(3): finds sockets by their names, in any order, or by their place', () => {
    assert.deepEqual(inheritedSockets(env(2, 'page:frames'), 7), { page: 3, frames: 4 })
    assert.deepEqual(inheritedSockets(env(2), 7), { frames: 3, page: 4 })
    assert.deepEqual(inheritedSockets(env(1, 'frames'), 7), { frames: 3 })
  })

  it('takes none that are not for this process', () => {
    assert.equal(inheritedSockets(env(1, 'frames'), 8), undefined)
    assert.equal(inheritedSockets({}, 7), undefined)
    assert.equal(inheritedSockets(env(0), 7), undefined)
  })

  it('refuses sockets it does not know, and to be without its own', () => {
    for (const bad of [env(1, 'page'), env(2, 'frames:web'), env(3)])
      assert.throws(() => inheritedSockets(bad, 7), { code: 'BH_SOCKET_LISTEN_FAILED' })
  })
})
