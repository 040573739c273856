import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { type LoginWorld, makeLoginWorld, missingForLogin, serviceUser } from '../e2e/login/world.ts'
import type { BenchGroup } from './figure.ts'
import { median, round, timeMs } from './statistics.ts'

/** The sign-in service of a VM: what it holds while nobody signs in, and how long the first one waits for it. */
export const authService: BenchGroup = {
  keys: ['authSvc.idleRssMiB', 'authSvc.coldStartMs'],
  async run() {
    const missing = missingForLogin()
    if (missing !== false) throw new Error(missing)
    await using world = await makeLoginWorld()
    const { firstMs, coldMs, bareMs } = await measureColdStarts(world)
    const { idleMiB, busyMiB } = await measureMemory(world)
    return {
      'authSvc.idleRssMiB': {
        value: round(idleMiB),
        unit: 'MiB',
        limit: 0,
        comparedWith: `right after a login: ${round(busyMiB)} MiB; looked at before the first login and once the service had ended by itself`,
      },
      'authSvc.coldStartMs': {
        value: round(median(coldMs)),
        unit: 'ms',
        limit: 300,
        comparedWith: `node -e 0: ${round(median(bareMs))} ms, in turns; the very first start, nothing compiled: ${round(firstMs)} ms`,
      },
    }
  },
}

const rounds = 15
/** The shortest that can be configured; the default is 60. */
const idleSeconds = 5

/** From the first connection to the answered challenge, the activating program, the launcher and Node between them. */
async function measureColdStarts(world: LoginWorld): Promise<{ firstMs: number; coldMs: number[]; bareMs: number[] }> {
  const exec = createExec()
  const coldMs: number[] = []
  const bareMs: number[] = []
  let firstMs: number | undefined
  for (let at = -2; at < rounds; at++) {
    const service = await world.startService()
    const ms = await timeMs(() => challenge(world.machine))
    await service.kill('SIGTERM')
    await service.ended // what it compiled is kept by then
    firstMs ??= ms
    const bare = await timeMs(() => exec(process.execPath, ['-e', '0']))
    if (at < 0) continue
    coldMs.push(ms)
    bareMs.push(bare)
  }
  return { firstMs: firstMs!, coldMs, bareMs }
}

async function challenge(machine: Machine): Promise<void> {
  const request = { method: 'challenge', params: { user: 'admin', service: 'sshd', rhost: '' } }
  const socket = machine.path('/run/web3-auth/web3-auth.sock')
  const answer = await callFrame(socket, request, { timeoutMs: 20_000, maxBytes: 65_536 })
  if (!(answer as { success: boolean }).success) throw new Error(`no code was shown: ${JSON.stringify(answer)}`)
}

/** Whatever runs as the service's user, before anybody came and after everybody left. */
async function measureMemory(world: LoginWorld): Promise<{ idleMiB: number; busyMiB: number }> {
  const config = world.machine.path('/etc/web3-auth/config.toml')
  writeFileSync(config, `idle_exit_seconds = ${idleSeconds}\n${readFileSync(config, 'utf8')}`)
  const service = await world.startService()
  const beforeMiB = residentMiB(world)
  const connection = await world.connect('admin')
  await connection.answer(signMessage(connection.shown.message, world.owners[0].privateKey))
  const busyMiB = residentMiB(world)
  await Promise.race([service.ended, sleep(3 * idleSeconds * 1000)])
  return { idleMiB: Math.max(beforeMiB, residentMiB(world)), busyMiB }
}

/** Memory of every process of the service's user. The sockets are held by whatever stands for systemd. */
function residentMiB({ machine }: LoginWorld): number {
  const proc = machine.path('/proc')
  const sizes = readdirSync(proc)
    .filter(name => /^\d+$/.test(name))
    .map(name => {
      const status = readStatus(`${proc}/${name}/status`)
      const isTheirs = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1]) === serviceUser
      return isTheirs ? Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) : 0
    })
  return sizes.reduce((sum, kiB) => sum + kiB, 0) / 1024
}

function readStatus(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // it ended meanwhile
  }
}
