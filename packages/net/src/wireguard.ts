import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import type { Exec } from '@blockhost/kit/exec.ts'
import { malformed, type Parsed, parsedOk } from './parsed.ts'
import { formatPrefix, parsePrefix } from './prefix.ts'
import { runTool } from './tool.ts'

/** A peer as it should be. */
export type Peer = {
  /** Base64, 44 characters. */
  readonly publicKey: string
  /** Prefixes in RFC 5952 form. */
  readonly allowedIps: readonly string[]
  /** `address:port`, given to WireGuard when the peer is added or changed; after that it roams as WireGuard does. */
  readonly endpoint?: string
}

/** A peer as `wg show` reports it. */
export type PeerStatus = {
  readonly publicKey: string
  readonly hasPresharedKey: boolean
  readonly endpoint: string | undefined
  readonly allowedIps: readonly string[]
  /** Unix seconds; `undefined` when there was none. */
  readonly latestHandshake: number | undefined
  readonly rxBytes: bigint
  readonly txBytes: bigint
}

/** An interface as `wg show` reports it; the private key is left out on purpose. */
export type WireGuardStatus = {
  /** `undefined` while the interface has no key. */
  readonly publicKey: string | undefined
  readonly listenPort: number
  readonly peers: readonly PeerStatus[]
}

/** One step towards the desired peers. `set` adds the peer or replaces its allowed IPs; both may run twice. */
export type PeerAction =
  | { readonly kind: 'set'; readonly peer: Peer; readonly clearPresharedKey?: boolean }
  | { readonly kind: 'remove'; readonly publicKey: string }

/** A WireGuard interface under our hands. */
export type WireGuard = {
  /** Reads the interface with one process. Throws when `wg` fails or prints something unknown: never an empty answer instead. */
  readStatus(): Promise<WireGuardStatus>
  /** Gives the interface its key and port (when named) and applies the actions, in order, with one process (see {@link renderPeers}). */
  apply(actions: readonly PeerAction[], settings?: InterfaceSettings): Promise<void>
}

/** Settings of the interface itself. The key travels as a file name, never on argv. */
export type InterfaceSettings = { readonly listenPort?: number; readonly privateKeyFile?: string }

/** Makes a {@link WireGuard} that works through wg(8). */
export function createWireGuard(options: { exec: Exec; interface: string }): WireGuard {
  const { exec, interface: name } = options
  return {
    async readStatus() {
      const text = await runTool(exec, 'wg', ['show', name, 'dump'], {
        doing: `read the peers of ${name}`,
        timeoutMs: 10_000,
      })
      const parsed = parseDump(text)
      if (parsed.ok) return parsed.value
      throw new BlockHostError({
        code: 'BH_WIREGUARD_DUMP_MALFORMED',
        message: `\`wg show ${name} dump\` printed something unknown: ${parsed.problem}`,
        retryable: true,
      })
    },
    async apply(actions, settings = {}) {
      for (const args of renderPeers(name, actions, settings))
        await runTool(exec, 'wg', args, { doing: `set up ${name} and ${actions.length} of its peers` })
    },
  }
}

/**
 * Checks a WireGuard key: base64 of 32 bytes in its only canonical spelling, and not all zeros (WireGuard's "no key").
 *
 * @returns The key, or `undefined`.
 */
export function parseKey(text: string): string | undefined {
  return text.length === 44 && keyShape.test(text) && text !== noKey ? text : undefined
}

/** Makes a key pair as `wg genkey` and `wg pubkey` do (RFC 7748 X25519, clamped); base64. */
export function generateKeyPair(): { privateKey: string; publicKey: string } {
  const der = generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'der' })
  const bytes = der.subarray(-32)
  bytes[0] = bytes[0]! & 248
  bytes[31] = (bytes[31]! & 127) | 64
  const privateKey = bytes.toString('base64')
  return { privateKey, publicKey: publicKeyOf(privateKey) }
}

/**
 * Returns the public key of a private key, both base64. No process is started.
 *
 * @throws {BlockHostError} `BH_WIREGUARD_KEY_INVALID` (exit 78) when it is not a key; the text is not repeated.
 */
export function publicKeyOf(privateKey: string): string {
  const key = parseKey(privateKey)
  if (key === undefined)
    throw new BlockHostError({
      code: 'BH_WIREGUARD_KEY_INVALID',
      message: 'The WireGuard private key is not base64 of 32 bytes',
      hint: 'Make one with `blockhost-broker keygen` or `wg genkey`.',
      exitCode: exitCodes.badConfig,
    })
  const der = Buffer.concat([pkcs8Header, Buffer.from(key, 'base64')])
  const publicKey = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }))
  return publicKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('base64')
}

/**
 * Parses `wg show <interface> dump` (wg(8)): a line of 4 tab-separated fields for the interface, then one of 8 for each peer.
 * Strict: anything unexpected is an error, never a shorter list. Cost O(peers), about 1 us each.
 */
export function parseDump(text: string): Parsed<WireGuardStatus> {
  const lines = text.split('\n')
  if (lines.pop() !== '') return malformed('the last line is not complete')
  const head = lines[0]?.split('\t')
  if (head?.length !== 4) return malformed('the first line does not have the 4 fields of an interface')
  const publicKey = head[1] === '(none)' ? undefined : parseKey(head[1]!)
  const listenPort = parseCount(head[2]!)
  if ((publicKey === undefined && head[1] !== '(none)') || listenPort === undefined)
    return malformed('the first line does not describe an interface')
  const peers: PeerStatus[] = []
  for (let at = 1; at < lines.length; at++) {
    const peer = parsePeerLine(lines[at]!)
    if (peer === undefined) return malformed(`line ${at + 1} does not describe a peer`)
    peers.push(peer)
  }
  return parsedOk({ publicKey, listenPort, peers })
}

/**
 * Returns what turns the actual peers into the desired ones: removals first, then additions and changes. Equal peers give nothing;
 * a learned endpoint is no difference. Cost O(desired + actual).
 *
 * Assumes that no two desired peers share a key or an address: WireGuard moves a prefix to the peer it was given to last.
 */
export function diffPeers(desired: readonly Peer[], actual: readonly PeerStatus[]): PeerAction[] {
  const wanted = new Map(desired.map(peer => [peer.publicKey, peer]))
  const present = new Map(actual.map(peer => [peer.publicKey, peer]))
  const actions: PeerAction[] = []
  for (const { publicKey } of actual) if (!wanted.has(publicKey)) actions.push({ kind: 'remove', publicKey })
  for (const peer of desired) {
    const found = present.get(peer.publicKey)
    if (found === undefined) actions.push({ kind: 'set', peer })
    else if (found.hasPresharedKey) actions.push({ kind: 'set', peer, clearPresharedKey: true })
    else if (!sameAllowedIps(peer.allowedIps, found.allowedIps)) actions.push({ kind: 'set', peer })
  }
  return actions
}

/**
 * Returns the argument lists of the `wg set` processes that apply the actions: one for up to about 6,000 peers, as many bytes as
 * are well below what Linux takes on an argv (2 MiB at the usual stack limit); none when there is nothing to do.
 *
 * `wg addconf` would be as fast (10,000 peers on wireguard-go: 0.8 s either way) but reads a file only: /dev/stdin can't be opened
 * when it is a socket, as Node's pipes are. `wg syncconf` resets the handshake timers of untouched peers.
 */
export function renderPeers(
  name: string,
  actions: readonly PeerAction[],
  settings: InterfaceSettings = {},
): readonly string[][] {
  const first = ['set', name, ...renderSettings(settings)]
  const runs: string[][] = [first]
  let run = first
  let bytes = 0
  for (const action of actions) {
    const words = renderAction(action)
    const size = words.reduce((sum, word) => sum + word.length + bytesPerArgument, 0)
    if (bytes + size > maxArgvBytes) {
      run = ['set', name]
      runs.push(run)
      bytes = 0
    }
    run.push(...words)
    bytes += size
  }
  return first.length > 2 ? runs : []
}

/** 256 bits in groups of 6 leave 4 for the 43rd character, the other 2 of which are zero. */
const keyShape = /^[A-Za-z\d+/]{42}[AEIMQUYcgkosw048]=/
const noKey = Buffer.alloc(32).toString('base64')
const pkcs8Header = Buffer.from('302e020100300506032b656e04220420', 'hex')
const maxArgvBytes = 768 * 1024
/** Its terminating zero and its pointer. */
const bytesPerArgument = 9

function renderSettings(settings: InterfaceSettings): string[] {
  return [
    ...(settings.listenPort === undefined ? [] : ['listen-port', String(settings.listenPort)]),
    ...(settings.privateKeyFile === undefined ? [] : ['private-key', settings.privateKeyFile]),
  ]
}

function renderAction(action: PeerAction): string[] {
  if (action.kind === 'remove') return ['peer', action.publicKey, 'remove']
  const { peer, clearPresharedKey } = action
  return [
    'peer',
    peer.publicKey,
    ...(clearPresharedKey ? ['preshared-key', '/dev/null'] : []),
    ...(peer.endpoint === undefined ? [] : ['endpoint', peer.endpoint]),
    'allowed-ips',
    peer.allowedIps.join(','),
  ]
}

function parsePeerLine(line: string): PeerStatus | undefined {
  const fields = line.split('\t')
  if (fields.length !== 8) return undefined
  const [publicKey, presharedKey, endpoint, allowedIps, handshake, rx, tx] = fields as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ]
  const latestHandshake = parseCount(handshake)
  if (parseKey(publicKey) === undefined || latestHandshake === undefined || !/^\d+$/.test(rx) || !/^\d+$/.test(tx))
    return undefined
  return {
    publicKey,
    hasPresharedKey: presharedKey !== '(none)',
    endpoint: endpoint === '(none)' ? undefined : endpoint,
    allowedIps: allowedIps === '(none)' ? [] : allowedIps.split(','),
    latestHandshake: latestHandshake === 0 ? undefined : latestHandshake,
    rxBytes: BigInt(rx),
    txBytes: BigInt(tx),
  }
}

function parseCount(text: string): number | undefined {
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

function sameAllowedIps(desired: readonly string[], actual: readonly string[]): boolean {
  if (desired.length !== actual.length) return false
  if (desired.length === 1 && desired[0] === actual[0]) return true
  const spelled = new Set(actual.map(canonicalPrefix))
  return desired.every(prefix => spelled.has(prefix))
}

/** `wg` prints some rare addresses in another spelling than RFC 5952. */
function canonicalPrefix(text: string): string {
  const prefix = parsePrefix(text)
  return prefix === undefined ? text : formatPrefix(prefix)
}
