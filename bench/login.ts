import { chmodSync, writeFileSync } from 'node:fs'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { type LoginWorld, makeLoginWorld, missingForLogin } from '../e2e/login/world.ts'
import type { BenchGroup } from './figure.ts'
import { median, round, timeMs } from './statistics.ts'

/** Signing in over SSH with a wallet: OpenSSH's client and server, our PAM module, the service, and a chain at no distance. */
export const login: BenchGroup = {
  keys: ['login.verifyMs', 'login.rpcCalls'],
  async run() {
    const missing = missingForLogin()
    if (missing !== false) throw new Error(missing)
    await using world = await makeLoginWorld()
    await world.startService()
    await startBareSshd(world.machine)
    const { answerMs, askMs, bareMs, roundTrips } = await measureLogins(world)
    const bare = `a bare sshd with a public key, from starting ssh to the shell: ${round(median(bareMs))} ms, in turns`
    return {
      'login.verifyMs': {
        value: round(median(answerMs)),
        unit: 'ms',
        limit: 300,
        comparedWith: `${bare}; from starting ssh to our question: ${round(median(askMs))} ms`,
      },
      'login.rpcCalls': {
        value: Math.max(...roundTrips),
        unit: 'round trips',
        limit: 1,
        comparedWith: `the most of ${roundTrips.length} logins`,
      },
    }
  },
}

const rounds = 20
const warmUp = 3

/** The whole way in each time, so nothing is left over from the login before; in turns with the bare one. */
async function measureLogins(world: LoginWorld) {
  const measured = {
    answerMs: [] as number[],
    askMs: [] as number[],
    bareMs: [] as number[],
    roundTrips: [] as number[],
  }
  for (let at = -warmUp; at < rounds; at++) {
    world.proxy.reset()
    const start = performance.now()
    const connection = await world.connect('admin')
    const askMs = performance.now() - start
    const ended = await connection.answer(signMessage(connection.shown.message, world.owners[0].privateKey))
    if (ended.answerMs === undefined) throw new Error(`the login was refused: ${ended.screen}`)
    const bareMs = await timeMs(() => world.machine.exec('ssh', bareClient))
    if (at < 0) continue
    measured.answerMs.push(ended.answerMs)
    measured.askMs.push(askMs)
    measured.bareMs.push(bareMs)
    measured.roundTrips.push(world.proxy.roundTrips())
  }
  return measured
}

const barePort = '2222'
const bareKey = '/run/bare_key'
const bareClient = [
  ...['-F', 'none', '-p', barePort, '-i', bareKey, '-o', 'StrictHostKeyChecking=no'],
  ...['-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR', 'admin@127.0.0.1', 'true'],
]

/** A second sshd of the same machine, without PAM. */
async function startBareSshd(machine: Machine): Promise<void> {
  await machine.exec('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', bareKey])
  chmodSync(machine.path(`${bareKey}.pub`), 0o644)
  const lines = [`Port ${barePort}`, 'HostKey /run/host_key', `AuthorizedKeysFile ${bareKey}.pub`, 'StrictModes no']
  writeFileSync(machine.path('/run/bare_sshd_config'), `${lines.join('\n')}\nPidFile none\n`)
  const sshd = await machine.spawn(['/usr/sbin/sshd', '-D', '-e', '-f', '/run/bare_sshd_config'])
  for (let tries = 1; ; tries++) {
    try {
      await machine.exec('ssh', bareClient)
      return
    } catch (error) {
      if (tries === 50) throw new Error(`the bare sshd: ${sshd.lastLines().slice(-3).join('; ')}`, { cause: error })
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}
