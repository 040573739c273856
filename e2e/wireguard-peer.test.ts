import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { type Machine, startMachine } from '@blockhost/testkit/machine.ts'
import type { TunnelKeys } from '@blockhost/testkit/wireguard-handshake.ts'
import type { TunnelPingResult } from '@blockhost/testkit/wireguard-peer.ts'
import type { Question } from './wireguard-peer-inside.ts'

describe('wireguard-peer', () => {
  it('real WireGuard completes its handshake and answers its echo; a key it does not know gets nothing', async () => {
    await using machine = await startMachine({ name: 'wireguard-peer' })
    const own = generateKeyPair()
    const host = generateKeyPair()
    await startInterface(machine, own.privateKey, host.publicKey)
    const { initiations, echoes } = await ping(machine, { privateKey: host.privateKey, peerPublicKey: own.publicKey })
    assert.deepEqual({ initiations, echoes }, { initiations: 1, echoes: 1 })
    const shown = (await machine.exec('wg', ['show', 'wg0', 'dump'])).stdout.split('\n')[1]?.split('\t')
    assert.notEqual(shown?.[4], '0', 'wg itself saw the handshake')
    const unknown = { privateKey: generateKeyPair().privateKey, peerPublicKey: own.publicKey }
    await assert.rejects(ping(machine, unknown), { stderr: /did not complete the handshake within 1000 ms/ })
  })

  it('a busy peer is answered with its cookie', async () => {
    await using machine = await startMachine({ name: 'wireguard-peer' })
    const own = generateKeyPair()
    const host = generateKeyPair()
    await startInterface(machine, own.privateKey, host.publicKey)
    const keys = { privateKey: host.privateKey, peerPublicKey: own.publicKey }
    const { initiations, handshakeMs } = await ping(machine, keys, 4_000)
    assert.ok(
      initiations > 1 && handshakeMs < 5_000,
      `${initiations} handshakes in ${handshakeMs} ms: sooner than a retry`,
    )
  })
})

async function startInterface(machine: Machine, privateKey: string, peer: string): Promise<void> {
  await machine.exec('wireguard-go', ['wg0'])
  await machine.exec('sh', ['-c', 'umask 077; cat >/run/key'], { input: privateKey })
  const allowed = ['peer', peer, 'allowed-ips', '2001:db8::100/120']
  await machine.exec('wg', ['set', 'wg0', 'listen-port', '51820', 'private-key', '/run/key', ...allowed])
  const lines = ['link set wg0 up', 'addr add 2001:db8::1/128 dev wg0 nodad', 'route add 2001:db8::/64 dev wg0']
  await machine.exec('ip', ['-6', '-batch', '-'], { input: `${lines.join('\n')}\n` })
}

async function ping(machine: Machine, keys: TunnelKeys, flood = 0): Promise<TunnelPingResult> {
  const addresses = { source: '2001:db8::101', destination: '2001:db8::1' }
  const question: Question = { ...keys, ...addresses, port: 51820, timeoutMs: flood > 0 ? 20_000 : 1_000, flood }
  const helper = fileURLToPath(new URL('wireguard-peer-inside.ts', import.meta.url))
  const input = JSON.stringify(question)
  return JSON.parse((await machine.exec(process.execPath, [helper], { input, timeoutMs: 40_000 })).stdout)
}
