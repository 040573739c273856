// Runs inside a machine: pings through a tunnel to 127.0.0.1 as standard input says, after a flood of junk handshakes.
import { createSocket } from 'node:dgram'
import { text } from 'node:stream/consumers'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { initiate, type TunnelKeys } from '@blockhost/testkit/wireguard-handshake.ts'
import { pingThroughTunnel } from '@blockhost/testkit/wireguard-peer.ts'

/** What the process is asked. */
export type Question = TunnelKeys & {
  readonly port: number
  readonly source: string
  readonly destination: string
  readonly timeoutMs: number
  /** Handshakes of an unknown key to send first. */
  readonly flood: number
}

if (import.meta.main) {
  const question = JSON.parse(await text(process.stdin)) as Question
  const endpoint = { address: '127.0.0.1', port: question.port }
  const stranger = { ...question, privateKey: generateKeyPair().privateKey }
  const junk = initiate(stranger, { nowMs: Date.now() }).message
  const socket = createSocket('udp4').bind(0)
  const send = () => new Promise(resolve => socket.send(junk, endpoint.port, endpoint.address, resolve))
  await Promise.all(Array.from({ length: question.flood }, send))
  socket.close()
  const result = await pingThroughTunnel({ ...question, endpoint, localAddress: '127.0.0.7' })
  console.log(JSON.stringify(result))
}
