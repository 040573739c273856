/** Frames as they are on the cable: built by hand, sent as they are, and seen by whoever listens; packet(7) through Debian's own perl. */
import { parseAddress } from '@blockhost/net/prefix.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'

// struct sockaddr_ll: family AF_PACKET, protocol ETH_P_ALL, interface, then three fields that bind(2) does not read.
const openSocket = `
open(my $file, '<', '/sys/class/net/eth0/ifindex') or die; my $index = <$file>;
socket(my $wire, 17, 3, 0x0300) or die "socket: $!";
bind($wire, pack('S n i S C C a8', 17, 3, $index, 0, 0, 0, '')) or die "bind: $!";
$| = 1;
`
// The fourth kind of packet is what this machine itself sent.
const sniffProgram = `${openSocket}print "listening\\n";
while (defined(my $from = recv($wire, my $frame, 65536, 0))) { print unpack('H*', $frame), "\\n" if unpack('x10 C', $from) != 4 }`
const sendProgram = `${openSocket}while (my $line = <STDIN>) { chomp $line; send($wire, pack('H*', $line), 0) or die "send: $!" }`

/** Sends frames out of a machine's `eth0`, just as they are. */
export async function sendFrames(machine: Machine, frames: readonly Buffer[]): Promise<void> {
  const input = frames.map(frame => `${frame.toString('hex')}\n`).join('')
  await machine.exec('perl', ['-e', sendProgram], { input })
}

/** Everything that came in at a machine's `eth0` since it was opened, oldest first. */
export type Sniffer = AsyncDisposable & { readonly frames: readonly Buffer[] }

/** Listens at a machine's `eth0`, whoever the frames are for. */
export async function sniff(machine: Machine): Promise<Sniffer> {
  const frames: Buffer[] = []
  const ready = Promise.withResolvers<void>()
  const onLine = (line: string) => (line === 'listening' ? ready.resolve() : void frames.push(Buffer.from(line, 'hex')))
  const process = await machine.spawn(['perl', '-e', sniffProgram], { onLine })
  await Promise.race([ready.promise, process.ended.then(() => Promise.reject(new Error(process.lastLines().join())))])
  return {
    frames,
    [Symbol.asyncDispose]: async () => {
      await process.kill('SIGKILL')
      await process.ended
    },
  }
}

/** Types of what Ethernet carries. */
export const etherTypes = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, lldp: 0x88cc } as const

/** An Ethernet frame. */
export function ethernet(to: string, from: string, type: number, payload: Buffer): Buffer {
  return Buffer.concat([macBytes(to), macBytes(from), u16(type), payload])
}

/** An ARP message (RFC 826): 1 asks, 2 answers. */
export function arp(
  operation: 1 | 2,
  sender: { mac: string; ip: string },
  target: { mac: string; ip: string },
): Buffer {
  const addresses = [sender, target].flatMap(({ mac, ip }) => [macBytes(mac), ipv4Bytes(ip)])
  return Buffer.concat([u16(1), u16(etherTypes.ipv4), Buffer.from([6, 4]), u16(operation), ...addresses])
}

/** An IPv4 packet without options. */
export function ipv4(from: string, to: string, protocol: number, payload: Buffer): Buffer {
  const head = Buffer.concat([
    Buffer.from([0x45, 0]),
    u16(20 + payload.length),
    Buffer.from([0, 1, 0, 0, 64, protocol, 0, 0]),
    ipv4Bytes(from),
    ipv4Bytes(to),
  ])
  head.writeUInt16BE(checksum(head), 10)
  return Buffer.concat([head, payload])
}

/** An IPv6 packet; neighbour discovery demands a hop limit of 255. */
export function ipv6(from: string, to: string, next: number, payload: Buffer): Buffer {
  const head = Buffer.concat([Buffer.from([0x60, 0, 0, 0]), u16(payload.length), Buffer.from([next, 255])])
  return Buffer.concat([head, ipv6Bytes(from), ipv6Bytes(to), payload])
}

/** An ICMP echo request with `text` in it. */
export function icmpEcho(text: string): Buffer {
  const message = Buffer.concat([Buffer.from([8, 0, 0, 0, 0, 1, 0, 1]), Buffer.from(text)])
  message.writeUInt16BE(checksum(message), 2)
  return message
}

/** An ICMPv6 message, its checksum over the pseudo-header of these two addresses. */
export function icmpv6(from: string, to: string, type: number, body: Buffer): Buffer {
  const message = Buffer.concat([Buffer.from([type, 0, 0, 0]), body])
  const pseudo = Buffer.concat([
    ipv6Bytes(from),
    ipv6Bytes(to),
    u16(0),
    u16(message.length),
    Buffer.from([0, 0, 0, 58]),
  ])
  message.writeUInt16BE(checksum(Buffer.concat([pseudo, message])), 2)
  return message
}

/** A UDP datagram; without a checksum, which IPv4 allows, and which a firewall does not look at. */
export function udp(from: number, to: number, text: string): Buffer {
  const payload = Buffer.from(text)
  return Buffer.concat([u16(from), u16(to), u16(8 + payload.length), u16(0), payload])
}

/** The body of a neighbour advertisement (RFC 4861 section 4.4) that overrides: `target` is at `mac`. */
export function neighbourAdvert(target: string, mac: string): Buffer {
  return Buffer.concat([Buffer.from([0x20, 0, 0, 0]), ipv6Bytes(target), Buffer.from([2, 1]), macBytes(mac)])
}

/** The body of a neighbour solicitation (RFC 4861 section 4.3). */
export function neighbourSolicit(target: string, mac: string): Buffer {
  return Buffer.concat([Buffer.alloc(4), ipv6Bytes(target), Buffer.from([1, 1]), macBytes(mac)])
}

/** The body of a router advertisement (RFC 4861 section 4.2): a default router for half an hour, and its Ethernet address. */
export function routerAdvert(mac: string): Buffer {
  return Buffer.concat([Buffer.from([64, 0, 0x07, 0x08]), Buffer.alloc(8), Buffer.from([1, 1]), macBytes(mac)])
}

/** An IPv6 extension header of eight bytes that only pads (RFC 8200 sections 4.3 and 4.6). */
export function padding(next: number): Buffer {
  return Buffer.from([next, 0, 1, 4, 0, 0, 0, 0])
}

/** A fragment header (RFC 8200 section 4.5). @param offset - In units of eight bytes. */
export function fragment(next: number, offset: number, more: boolean): Buffer {
  return Buffer.concat([Buffer.from([next, 0]), u16((offset << 3) | (more ? 1 : 0)), Buffer.from([0, 0, 0, 7])])
}

/** The bytes of an Ethernet address. */
export function macBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex')
}

function ipv4Bytes(text: string): Buffer {
  return Buffer.from(text.split('.').map(Number))
}

function ipv6Bytes(text: string): Buffer {
  return Buffer.from(parseAddress(text)!.toString(16).padStart(32, '0'), 'hex')
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255])
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0)
  while (sum > 0xffff) sum = (sum >>> 16) + (sum & 0xffff)
  return ~sum & 0xffff
}
