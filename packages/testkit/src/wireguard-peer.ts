/** A host with a WireGuard tunnel and nothing else: no interface, no root, a thousand of them in one process. */
import { createSocket, type Socket } from 'node:dgram'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { parseAddress } from '@blockhost/net/prefix.ts'
import { type Initiation, initiate, type TunnelKeys, type TunnelSession } from './wireguard-handshake.ts'

/** What {@link pingThroughTunnel} does. */
export type TunnelPing = TunnelKeys & {
  /** Where the peer listens: IPv4 address and UDP port. */
  readonly endpoint: { readonly address: string; readonly port: number }
  /** IPv4 address to send from. Default: the system's choice. */
  readonly localAddress?: string
  /** IPv6 addresses inside the tunnel. */
  readonly source: string
  readonly destination: string
  /** After this many milliseconds it has failed. Default 30,000. */
  readonly timeoutMs?: number
}

/** What came of it: how often each was sent, and the milliseconds each took. */
export type TunnelPingResult = {
  readonly initiations: number
  readonly echoes: number
  readonly handshakeMs: number
  readonly echoMs: number
}

/** As WireGuard's REKEY_TIMEOUT. */
const retryHandshakeMs = 5_000
const retryEchoMs = 1_000

/**
 * Brings a tunnel up as its initiator and sends one ICMPv6 echo request through it.
 *
 * @returns When the reply came back through the tunnel.
 * @throws {BlockHostError} `BH_TEST_TUNNEL_SILENT` when that did not happen in time.
 */
export async function pingThroughTunnel(ping: TunnelPing): Promise<TunnelPingResult> {
  const socket = createSocket('udp4')
  try {
    await new Promise<void>(resolve => socket.bind(0, ping.localAddress, resolve))
    return await exchange(socket, ping)
  } finally {
    socket.close()
  }
}

function exchange(socket: Socket, ping: TunnelPing): Promise<TunnelPingResult> {
  const { endpoint, source, destination, timeoutMs = 30_000 } = ping
  const request = echoRequest(source, destination)
  const startedAt = performance.now()
  const count = { initiations: 0, echoes: 0 }
  let pending: Initiation | undefined
  let tunnel: { session: TunnelSession; upAt: number } | undefined
  let retry: NodeJS.Timeout | undefined

  const { promise, resolve, reject } = Promise.withResolvers<TunnelPingResult>()
  const send = (datagram: Uint8Array) => socket.send(datagram, endpoint.port, endpoint.address)
  const again = (work: () => void, afterMs: number) => {
    clearTimeout(retry)
    retry = setTimeout(work, afterMs)
  }
  const handshake = (cookie?: Buffer) => {
    pending = initiate(ping, { nowMs: Date.now(), cookie })
    count.initiations++
    send(pending.message)
    again(handshake, retryHandshakeMs)
  }
  const echo = (session: TunnelSession) => {
    count.echoes++
    send(session.seal(request))
    again(() => echo(session), retryEchoMs)
  }
  const receive = (datagram: Buffer) => {
    if (tunnel === undefined) {
      const session = pending?.complete(datagram)
      const cookie = session === undefined ? pending?.openCookie(datagram) : undefined
      if (cookie !== undefined) handshake(cookie)
      if (session === undefined) return
      tunnel = { session, upAt: performance.now() }
      echo(session)
    } else if (isReply(tunnel.session.open(datagram), request)) {
      const { upAt } = tunnel
      resolve({ ...count, handshakeMs: upAt - startedAt, echoMs: performance.now() - upAt })
    }
  }

  const deadline = setTimeout(() => reject(silent(ping, count, timeoutMs)), timeoutMs)
  socket.on('message', receive)
  socket.on('error', reject)
  handshake()
  return promise.finally(() => {
    clearTimeout(retry)
    clearTimeout(deadline)
  })
}

function silent(ping: TunnelPing, count: { initiations: number; echoes: number }, timeoutMs: number): BlockHostError {
  const { address, port } = ping.endpoint
  const how = count.echoes === 0 ? 'did not complete the handshake' : 'answered no echo request through the tunnel'
  return new BlockHostError({
    code: 'BH_TEST_TUNNEL_SILENT',
    message: `${address}:${port} ${how} within ${timeoutMs} ms (${count.initiations} handshakes, ${count.echoes} echoes sent by ${ping.source})`,
  })
}

const icmpv6 = 58
const echoRequestType = 128
const echoReplyType = 129

/** Returns an IPv6 packet with an ICMPv6 echo request (RFC 4443 section 4.1), 48 bytes. */
export function echoRequest(source: string, destination: string): Buffer {
  const packet = Buffer.alloc(48)
  packet[0] = 0x60
  packet.writeUInt16BE(8, 4)
  packet[6] = icmpv6
  packet[7] = 64
  addressBytes(source).copy(packet, 8)
  addressBytes(destination).copy(packet, 24)
  packet[40] = echoRequestType
  packet.writeUInt16BE(1, 46)
  packet.writeUInt16BE(checksum(packet), 42)
  return packet
}

function isReply(packet: Buffer | undefined, request: Buffer): boolean {
  if (packet === undefined || packet.length < 48) return false
  const isEcho = packet[6] === icmpv6 && packet[40] === echoReplyType
  return (
    isEcho &&
    packet.subarray(8, 24).equals(request.subarray(24, 40)) &&
    packet.subarray(44, 48).equals(request.subarray(44, 48))
  )
}

/** Of the ICMPv6 part with its pseudo-header (RFC 8200 section 8.1). */
function checksum(packet: Buffer): number {
  let sum = packet.length - 40 + icmpv6
  for (let at = 8; at < packet.length; at += 2) sum += packet.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

function addressBytes(text: string): Buffer {
  const address = parseAddress(text)
  if (address === undefined) throw new RangeError(`${text} is no IPv6 address`)
  return Buffer.from(address.toString(16).padStart(32, '0'), 'hex')
}
