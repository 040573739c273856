import { createSocket, type Socket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { createExec } from '@blockhost/kit/exec.ts'
import { type Machine, startMachine } from '@blockhost/testkit/machine.ts'
import type { BenchContext, BenchGroup } from './figure.ts'
import { answer, brokerAddress, createCountedDataplane, firstLeases, runInside } from './inside.ts'
import { median, round } from './statistics.ts'

/** What 255 active leases cost the packets that a broker's machine forwards for others. */
export const forward: BenchGroup = {
  keys: ['forward.ppsRatio'],
  async run(context) {
    await using broker = await startTrack('broker')
    await using plain = await startTrack('plain')
    await using documented = await startTrack('documented')
    context.note('packets through a broker with and without leases')
    const { none, active, bare, mode } = await measureTurns(broker, plain)
    const slow = await measureDocumented(documented, context)
    return {
      'forward.ppsRatio': {
        value: round(median(active.map((rate, at) => rate / none[at]!))),
        unit: 'x',
        limit: 0.95,
        comparedWith: `${rateText(active)} with them, ${rateText(none)} without, ${rateText(bare)} where no broker ever ran (packets/s of one core, NDP mode ${mode}); all.proxy_ndp with ${documentedLeases} leases: ${round(slow / median(bare), 2)}`,
      },
    }
  },
}

function rateText(rates: readonly number[]): string {
  return `${Math.round(median(rates) / 1000)}k`
}

/**
 * A machine between a sender and nothing. Each packet that the sender makes reaches it on all of `copies` links, so that the sender
 * is a small part of the work; all of it, sending and forwarding, happens on the one core that the sender is bound to.
 */
type Track = AsyncDisposable & {
  readonly sender: Machine
  readonly box: Machine
}

const copies = 16
const leaseCount = 255
const destination = '2001:db8:5::1'
/** Same on all links of the box: the bridge of the sender does not know where it is and sends everywhere. */
const boxMac = '02:00:00:00:00:01'

async function startTrack(name: string): Promise<Track> {
  const accept = { 'net.ipv6.conf.all.accept_dad': 0, 'net.ipv6.conf.default.accept_dad': 0 }
  const box = await startMachine({ name: `bench-${name}`, sysctl: { ...accept, 'net.ipv6.conf.all.forwarding': 1 } })
  const sender = await startMachine({ name: `bench-${name}-sender`, sysctl: accept })
  const numbers = Array.from({ length: copies }, (_, at) => at)
  await batch(createExec(), [
    ...numbers.map(
      at =>
        `link add name port${at} netns ${sender.pid} type veth peer name upstream${at} netns ${box.pid} address ${boxMac}`,
    ),
  ])
  await batch(box.exec, [
    ...numbers.map(at => `link set upstream${at} up`),
    `addr add ${brokerAddress}/64 dev upstream0 nodad`,
    'link add out0 type veth peer name out1',
    'link set out0 up',
    'link set out1 up',
    `route add ${destination}/64 dev out0`,
    `neigh add ${destination} lladdr 02:00:00:00:00:09 dev out0 nud permanent`,
  ])
  // Behind out1 the packet is dropped before anybody looks at it.
  await box.exec('sysctl', ['-qw', 'net.ipv6.conf.out1.disable_ipv6=1'])
  await batch(sender.exec, [
    // A hub: it forgets at once which port a MAC address is behind.
    'link add br0 type bridge ageing_time 0',
    'link set br0 up',
    'addr add 2001:db8:9::1/64 dev br0 nodad',
    ...numbers.flatMap(at => [`link set port${at} master br0 up`, `link set port${at} type bridge_slave learning off`]),
    // After the ports: each of them may change the bridge's own MAC address, which makes it forget its neighbours.
    `neigh add 2001:db8:9::2 lladdr ${boxMac} dev br0 nud permanent`,
    `route add ${destination}/64 via 2001:db8:9::2`,
  ])
  const stop = async () => void (await Promise.all([box, sender].map(machine => machine[Symbol.asyncDispose]())))
  return { sender, box, [Symbol.asyncDispose]: stop }
}

async function batch(exec: Machine['exec'], lines: readonly string[]): Promise<void> {
  await exec('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n`, timeoutMs: 60_000 })
}

const rounds = 9
const packetsEach = 240_000

/** The three take turns, so that a busy moment of the machine hits all. */
async function measureTurns(broker: Track, plain: Track) {
  const measured = { none: [] as number[], active: [] as number[], bare: [] as number[], mode: '' }
  for (let round = -1; round < rounds; round++) {
    await setLeases(broker, 0)
    const none = await packetRate(broker, packetsEach)
    measured.mode = await setLeases(broker, leaseCount)
    const active = await packetRate(broker, packetsEach)
    const bare = await packetRate(plain, packetsEach)
    if (round < 0) continue
    measured.none.push(none)
    measured.active.push(active)
    measured.bare.push(bare)
  }
  return measured
}

/** Makes the box carry so many leases and returns the NDP mode that `auto` chose. */
function setLeases(track: Track, leases: number): Promise<string> {
  return runInside<string>(track.box, import.meta.filename, { leases }, 60_000)
}

/** A quarter of the entries: the kernel takes a sixteenth of the time to make them, and a quarter to walk them for each packet. */
const documentedLeases = 64

/** The documented way: an entry for each address, and `all.proxy_ndp`. @returns Packets/s, as {@link packetRate} does. */
async function measureDocumented(track: Track, context: BenchContext): Promise<number> {
  context.note(`${documentedLeases * 256} proxy entries and all.proxy_ndp, the documented way`)
  const entries = firstLeases(documentedLeases).flatMap(({ prefix }) => {
    const network = prefix.slice(0, -'00/120'.length)
    return Array.from({ length: 256 }, (_, at) => `${network}${at.toString(16).padStart(2, '0')}`)
  })
  const lines = entries.map(address => `neigh add proxy ${address} dev upstream0`)
  await batch(track.box.exec, lines)
  await track.box.exec('sysctl', ['-qw', 'net.ipv6.conf.all.proxy_ndp=1'])
  const rates: number[] = []
  for (let run = 0; run < 3; run++) rates.push(await packetRate(track, 16_000))
  return median(rates)
}

/** What the sender's process used, in milliseconds; the kernel counts the forwarding that its packets cause as its. */
type Sent = { readonly cpuMs: number }

/** Sends, and returns the packets forwarded in each second of that core's work. Time that others took from the core does not count. */
async function packetRate(track: Track, packets: number): Promise<number> {
  const before = transmitted(track.box)
  const question = JSON.stringify({ sends: packets / copies })
  const argv = ['-c', '0', process.execPath, import.meta.filename]
  const { stdout } = await track.sender.exec('taskset', argv, { input: question, timeoutMs: 60_000 })
  const { cpuMs } = JSON.parse(stdout) as Sent
  const forwarded = transmitted(track.box) - before
  if (forwarded < packets * 0.99) throw new Error(`only ${forwarded} of ${packets} packets were forwarded`)
  return (forwarded / cpuMs) * 1000
}

/** Packets that left the box through `out0`. */
function transmitted(box: Machine): number {
  const line = /out0:\s*(.*)/.exec(readFileSync(`/proc/${box.pid}/net/dev`, 'utf8'))?.[1]
  return Number(line?.trim().split(/\s+/)[9])
}

type Question = { readonly leases: number } | { readonly sends: number }

async function inside(question: Question): Promise<string | Sent> {
  return 'sends' in question ? send(question.sends) : carry(question.leases)
}

async function carry(count: number): Promise<string> {
  const { dataplane } = createCountedDataplane()
  await dataplane.reconcile(firstLeases(count))
  return dataplane.ndp.mode
}

async function send(count: number): Promise<Sent> {
  const socket = createSocket('udp6')
  await new Promise<void>(resolve => socket.connect(9, destination, resolve))
  socket.setSendBufferSize(8 << 20)
  const start = process.cpuUsage()
  for (let left = count; left > 0; left -= burst) await sendBurst(socket, Math.min(left, burst))
  const { user, system } = process.cpuUsage(start)
  socket.close()
  return { cpuMs: (user + system) / 1000 }
}

const burst = 50
const packet = Buffer.alloc(18)

function sendBurst(socket: Socket, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    for (let left = count - 1; left > 0; left--) socket.send(packet)
    socket.send(packet, error => (error ? reject(error) : resolve()))
  })
}

if (import.meta.main) await answer(inside)
