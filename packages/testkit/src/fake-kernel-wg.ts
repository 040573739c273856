/** wg(8) on the fake kernel. */
import { readFileSync } from 'node:fs'
import { parseKey, publicKeyOf } from '@blockhost/net/wireguard.ts'
import { CommandFailure, type FakeKernelState, type FakeLink, type FakePeer } from './fake-kernel-state.ts'

type Device = NonNullable<FakeLink['wireguard']>

/** Runs `wg <args>`; returns what it prints. */
export function runWg(state: FakeKernelState, args: readonly string[]): string {
  const [verb, name, ...rest] = args
  if (verb === 'show' && rest[0] === 'dump') return renderDump(deviceOf(state, name))
  if (verb === 'set') return setDevice(deviceOf(state, name), rest)
  throw new CommandFailure(1, `Invalid subcommand: \`${args.join(' ')}'`)
}

/** Returns the one line of `wg show <interface> dump` for a peer, without its end. */
export function renderPeer(peer: FakePeer): string {
  const ips = peer.allowedIps.length === 0 ? '(none)' : peer.allowedIps.join(',')
  const key = peer.hasPresharedKey ? 'cHNrcHNrcHNrcHNrcHNrcHNrcHNrcHNrcHNrcHNrcHM=' : '(none)'
  const [rx, tx] = peer.latestHandshake === 0 ? [0, 0] : [92, 180]
  return [peer.publicKey, key, peer.endpoint ?? '(none)', ips, peer.latestHandshake, rx, tx, 'off'].join('\t')
}

function deviceOf(state: FakeKernelState, name: string | undefined): Device {
  const device = state.links.get(name ?? '')?.wireguard
  if (device === undefined) throw new CommandFailure(1, 'Unable to access interface: No such device')
  return device
}

function renderDump(device: Device): string {
  const head = [device.privateKey ?? '(none)', device.publicKey ?? '(none)', device.listenPort, 'off'].join('\t')
  return `${[head, ...[...device.peers.values()].map(renderPeer)].join('\n')}\n`
}

type PeerOrder = {
  readonly publicKey: string
  remove: boolean
  clearPresharedKey: boolean
  endpoint: string | undefined
  allowedIps: string[] | undefined
}

/** Reads the whole command line before anything changes, as wg does. */
function setDevice(device: Device, words: readonly string[]): string {
  const orders: PeerOrder[] = []
  let listenPort: number | undefined
  let privateKey: string | undefined
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!
    const peer = orders.at(-1)
    const next = () => words[++at] ?? invalid(word)
    if (word === 'peer') orders.push(newOrder(next()))
    else if (word === 'listen-port' && peer === undefined) listenPort = Number(next())
    else if (word === 'private-key' && peer === undefined) privateKey = readKey(next())
    else if (peer === undefined) invalid(word)
    else if (word === 'remove') peer.remove = true
    else if (word === 'endpoint') peer.endpoint = next()
    else if (word === 'preshared-key') peer.clearPresharedKey = next() === '/dev/null'
    else if (word === 'allowed-ips') peer.allowedIps = splitList(next())
    else invalid(word)
  }
  if (listenPort !== undefined) device.listenPort = listenPort
  if (privateKey !== undefined) setPrivateKey(device, privateKey)
  for (const order of orders) applyOrder(device, order)
  return ''
}

function newOrder(publicKey: string): PeerOrder {
  if (parseKey(publicKey) === undefined)
    throw new CommandFailure(1, `Key is not the correct length or format: \`${publicKey}'`)
  return { publicKey, remove: false, clearPresharedKey: false, endpoint: undefined, allowedIps: undefined }
}

function splitList(text: string): string[] {
  return text.split(',').filter(prefix => prefix !== '')
}

function readKey(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    throw new CommandFailure(1, 'fopen: No such file or directory')
  }
}

/** Deriving a key costs more than all else here, and there are few of them. */
const publicKeys = new Map<string, string>()

function setPrivateKey(device: Device, privateKey: string): void {
  const publicKey = publicKeys.get(privateKey) ?? publicKeyOf(privateKey)
  publicKeys.set(privateKey, publicKey)
  device.privateKey = privateKey
  device.publicKey = publicKey
  device.peers.delete(publicKey)
}

function applyOrder(device: Device, order: PeerOrder): void {
  const { publicKey } = order
  if (order.remove) return void device.peers.delete(publicKey)
  // The kernel passes over a peer that has the interface's own key.
  if (publicKey === device.publicKey) return
  const peer = device.peers.get(publicKey) ?? newPeer(publicKey)
  device.peers.set(publicKey, peer)
  if (order.endpoint !== undefined) peer.endpoint = order.endpoint
  if (order.clearPresharedKey) peer.hasPresharedKey = false
  if (order.allowedIps === undefined) return
  for (const other of device.peers.values())
    other.allowedIps = other.allowedIps.filter(prefix => !order.allowedIps!.includes(prefix))
  peer.allowedIps = order.allowedIps
}

function newPeer(publicKey: string): FakePeer {
  return { publicKey, allowedIps: [], endpoint: undefined, hasPresharedKey: false, latestHandshake: 0 }
}

function invalid(word: string): never {
  throw new CommandFailure(1, `Invalid argument: ${word}`)
}
