import { writeFileSync } from 'node:fs'
import { labAddresses } from '@blockhost/testkit/lab.ts'
import type { Demo } from '../context.ts'
import { eventually, expect } from '../expect.ts'
import { type HostLease, reachedFromInternet, walletKeyFile } from '../host.ts'

/** Host A changes its WireGuard key: the prefix stays, the VM stays reachable, and the old key opens nothing. */
export async function rekey(demo: Demo): Promise<string> {
  const { lab, broker, story, a } = demo
  const before = a.lease()
  const startedAt = performance.now()
  story.tell('host-a', 'broker-client renew --configure-wg')
  await a.client([
    'renew',
    '--nft-contract',
    a.nft,
    '--wallet-key',
    walletKeyFile,
    '--poll-interval',
    '0.5',
    '--configure-wg',
  ])
  const after = a.lease()
  expect(after.prefix === before.prefix, `the prefix ${before.prefix} again`, after.prefix)
  expect(after.wg_public_key !== before.wg_public_key, 'another WireGuard key', after.wg_public_key)
  await reachedFromInternet(lab, a.vmAddress())
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  story.tell('internet', `reaches vm-a again, ${seconds} s after host-a began`)

  const { peers } = await broker.kernel()
  expect(!peers.has(before.wg_public_key), 'the old key gone from the broker', [...peers.keys()])
  expect(
    peers.get(after.wg_public_key) === after.prefix,
    `the new key to hold ${after.prefix}`,
    peers.get(after.wg_public_key) ?? 'nothing',
  )
  await triesOldKey(demo, before)
  return `${after.prefix} kept; reachable with the new key after ${seconds} s; the old key gets no handshake`
}

/** Somebody who has the old private key tries it from another machine; with the new key that machine's tunnel would work. */
async function triesOldKey({ lab, story }: Demo, old: HostLease): Promise<void> {
  const thief = lab['nat-b']
  story.tell('thief', 'tries the old key from elsewhere')
  const go = await thief.spawn(['wireguard-go', '-f', 'wg-thief'])
  await eventually('wireguard-go to make its interface', async () => {
    await thief.exec('ip', ['link', 'show', 'wg-thief'])
    return true
  })
  writeFileSync(thief.path('/run/wg-thief.conf'), config(old), { mode: 0o600 })
  await thief.exec('wg', ['setconf', 'wg-thief', '/run/wg-thief.conf'])
  await thief.exec('ip', ['link', 'set', 'wg-thief', 'up'])
  // It has sent two initiations by then (one at once, one after WireGuard's 5 s Rekey-Timeout).
  await eventually(
    'two handshake initiations to be sent',
    async () => ((await transmitted(thief)) >= 2 * initiationBytes ? true : undefined),
    { withinMs: 15_000 },
  )
  const { stdout } = await thief.exec('wg', ['show', 'wg-thief', 'latest-handshakes'])
  expect(stdout.trim().endsWith('\t0'), 'no handshake with the old key', stdout.trim())
  await go.kill('SIGTERM')
  await go.ended
}

function config(old: HostLease): string {
  return `[Interface]
PrivateKey = ${old.wg_private_key}
[Peer]
PublicKey = ${old.broker_pubkey}
Endpoint = ${labAddresses.broker.ipv4}:51820
AllowedIPs = ${old.gateway}/128
PersistentKeepalive = 1
`
}

/** Size of a handshake initiation (WireGuard protocol, section 5.4.2). */
const initiationBytes = 148

async function transmitted(thief: Demo['broker']['machine']): Promise<number> {
  const { stdout } = await thief.exec('wg', ['show', 'wg-thief', 'transfer'])
  return Number(stdout.trim().split('\t')[2] ?? 0)
}
