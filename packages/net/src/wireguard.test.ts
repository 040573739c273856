import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ExecError } from '@blockhost/kit/exec.ts'
import fc from 'fast-check'
import {
  createWireGuard,
  diffPeers,
  generateKeyPair,
  type Peer,
  type PeerAction,
  type PeerStatus,
  parseDump,
  parseKey,
  publicKeyOf,
  renderPeers,
} from './wireguard.ts'

const key = (n: number): string => {
  const bytes = Buffer.alloc(32, 7)
  bytes.writeUInt32BE(n)
  return bytes.toString('base64')
}
const base64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64')
const status = (n: number, allowedIps: readonly string[], more: Partial<PeerStatus> = {}): PeerStatus => ({
  publicKey: key(n),
  hasPresharedKey: false,
  endpoint: undefined,
  allowedIps,
  latestHandshake: undefined,
  rxBytes: 0n,
  txBytes: 0n,
  ...more,
})
const peer = (n: number, prefix: string): Peer => ({ publicKey: key(n), allowedIps: [prefix] })

describe('keys', () => {
  test('RFC 7748 section 6.1: the public keys of Alice and Bob', () => {
    for (const [privateKey, publicKey] of [
      [
        '77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a',
        '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a',
      ],
      [
        '5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb',
        'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f',
      ],
    ] as const)
      assert.equal(publicKeyOf(base64(privateKey)), base64(publicKey))
  })
  test('a generated pair is canonical, clamped (RFC 7748 section 5) and belongs together', () => {
    const pair = generateKeyPair()
    assert.equal(parseKey(pair.privateKey), pair.privateKey)
    assert.equal(publicKeyOf(pair.privateKey), pair.publicKey)
    const bytes = Buffer.from(pair.privateKey, 'base64')
    assert.equal(bytes[0]! & 7, 0)
    assert.equal(bytes[31]! & 192, 64)
    assert.notEqual(generateKeyPair().privateKey, pair.privateKey)
  })
  for (const [name, text] of [
    ['empty', ''],
    ['31 bytes', Buffer.alloc(31, 1).toString('base64')],
    ['33 bytes', Buffer.alloc(33, 1).toString('base64')],
    ['no padding', key(1).slice(0, -1)],
    ['a line feed at the end', `${key(1)}\n`],
    ['base64url', 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd_-8='],
    ['bits beyond the last byte', 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9='],
    ['all zeros', Buffer.alloc(32).toString('base64')],
    ['blanks inside', `AAECAwQFBgcICQoLDA0O DxAREhMUFRYXGBkaGxwdHh8=`],
  ] as const)
    test(`refuses a key with ${name}`, () => assert.equal(parseKey(text), undefined))
  test('accepts every 32 bytes but zeros, in the one spelling that Buffer gives them', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.string({ minLength: 1, maxLength: 1 }),
        (bytes, odd) => {
          const text = Buffer.from(bytes).toString('base64')
          assert.equal(parseKey(text), bytes.every(byte => byte === 0) ? undefined : text)
          const other = `${text.slice(0, 42)}${odd}=`
          const decoded = Buffer.from(other, 'base64')
          const isSpelling = decoded.toString('base64') === other && decoded.length === 32
          assert.equal(parseKey(other) !== undefined, isSpelling && !/^A+=$/.test(other))
        },
      ),
    )
  })
  test('does not repeat a broken private key in its error', () => {
    assert.throws(
      () => publicKeyOf('hunter2'),
      (error: Error) =>
        !error.message.includes('hunter2') && 'code' in error && error.code === 'BH_WIREGUARD_KEY_INVALID',
    )
  })
})

describe('parseDump', () => {
  const interfaceLine = `${key(1)}\t${key(2)}\t51820\toff\n`
  const peerLine = `${key(3)}\t(none)\t192.0.2.7:4711\t2001:db8::100/120\t1700000000\t148\t92\toff\n`

  test('reads interface and peers', () => {
    const parsed = parseDump(`${interfaceLine}${peerLine}${key(4)}\t(none)\t(none)\t(none)\t0\t0\t0\t25\n`)
    assert.deepEqual(parsed, {
      ok: true,
      value: {
        publicKey: key(2),
        listenPort: 51820,
        peers: [
          status(3, ['2001:db8::100/120'], {
            endpoint: '192.0.2.7:4711',
            latestHandshake: 1700000000,
            rxBytes: 148n,
            txBytes: 92n,
          }),
          status(4, []),
        ],
      },
    })
  })
  test('reads an interface without a key', () => {
    const parsed = parseDump('(none)\t(none)\t0\toff\n')
    assert.deepEqual(parsed, { ok: true, value: { publicKey: undefined, listenPort: 0, peers: [] } })
  })
  for (const [name, text] of [
    ['empty', ''],
    ['a blank line', '\n'],
    ['cut off in the last line', `${interfaceLine}${peerLine.slice(0, -1)}`],
    ['a peer with 7 fields', `${interfaceLine}${peerLine.replace('\toff', '')}`],
    ['a peer with a broken key', `${interfaceLine}${peerLine.replace(key(3), 'AAAA')}`],
    ['a handshake that is no number', `${interfaceLine}${peerLine.replace('1700000000', '-1')}`],
    ['a byte count that is no number', `${interfaceLine}${peerLine.replace('148', '1e3')}`],
    ['only a peer', peerLine],
    ['an error text', 'Unable to access interface: No such device\n'],
  ] as const)
    test(`refuses ${name}`, () => assert.equal(parseDump(text).ok, false))
  test('never says the private key', () => {
    const text = `${key(1)}\t${key(2)}\tport\toff\n`
    assert.ok(!JSON.stringify(parseDump(text)).includes(key(1)))
  })
})

describe('diffPeers', () => {
  test('equal peers give nothing; a learned endpoint is no difference', () => {
    assert.deepEqual(diffPeers([], []), [])
    const actual = [status(1, ['2001:db8::100/120'], { endpoint: '192.0.2.1:1', latestHandshake: 5 })]
    assert.deepEqual(diffPeers([{ ...peer(1, '2001:db8::100/120'), endpoint: '192.0.2.9:9' }], actual), [])
  })
  test('removes, adds, and replaces allowed IPs', () => {
    const actions = diffPeers(
      [peer(2, '2001:db8::200/120'), peer(3, '2001:db8::300/120')],
      [status(1, ['2001:db8::100/120']), status(2, ['2001:db8::200/120', '2001:db8::900/120'])],
    )
    assert.deepEqual(actions, [
      { kind: 'remove', publicKey: key(1) },
      { kind: 'set', peer: peer(2, '2001:db8::200/120') },
      { kind: 'set', peer: peer(3, '2001:db8::300/120') },
    ])
  })
  test('clears a preshared key that nobody asked for', () => {
    const actions = diffPeers(
      [peer(1, '2001:db8::100/120')],
      [status(1, ['2001:db8::100/120'], { hasPresharedKey: true })],
    )
    assert.deepEqual(actions, [{ kind: 'set', peer: peer(1, '2001:db8::100/120'), clearPresharedKey: true }])
  })
  test('knows the spelling that wg prints for addresses in ::/96', () => {
    assert.deepEqual(diffPeers([peer(1, '::102:300/120')], [status(1, ['::1.2.3.0/120'])]), [])
  })
  test('applied to any actual state gives the desired one, and then nothing', () => {
    const layouts = fc.uniqueArray(fc.nat(12), { maxLength: 12 })
    const stale = fc.array(fc.tuple(fc.nat(12), fc.uniqueArray(fc.nat(12), { maxLength: 3 })), { maxLength: 12 })
    fc.assert(
      fc.property(layouts, stale, (order, actualLayout) => {
        // Peer n holds prefix order[n]: every permutation of keys over prefixes appears.
        const desired = order.map((index, n) => peer(n, `2001:db8::${index}/128`))
        const kernel = new Map<string, string[]>()
        for (const [n, indexes] of actualLayout)
          assign(
            kernel,
            key(n),
            indexes.map(index => `2001:db8::${index}/128`),
          )
        applyActions(kernel, diffPeers(desired, statuses(kernel)))
        assert.deepEqual(
          new Map([...kernel].sort()),
          new Map(desired.map(({ publicKey, allowedIps }) => [publicKey, [...allowedIps]] as const).sort()),
        )
        assert.deepEqual(diffPeers(desired, statuses(kernel)), [])
      }),
    )
  })
})

/** WireGuard's rule: a prefix belongs to the peer it was given to last. */
function assign(kernel: Map<string, string[]>, publicKey: string, allowedIps: readonly string[]): void {
  for (const [other, prefixes] of kernel)
    kernel.set(
      other,
      prefixes.filter(prefix => !allowedIps.includes(prefix)),
    )
  kernel.set(publicKey, [...allowedIps])
}

function applyActions(kernel: Map<string, string[]>, actions: readonly PeerAction[]): void {
  for (const action of actions)
    if (action.kind === 'remove') kernel.delete(action.publicKey)
    else assign(kernel, action.peer.publicKey, action.peer.allowedIps)
}

function statuses(kernel: ReadonlyMap<string, readonly string[]>): PeerStatus[] {
  return [...kernel].map(([publicKey, allowedIps]) => ({ ...status(0, allowedIps), publicKey }))
}

describe('renderPeers', () => {
  test('one process for removal, re-key and addition', () => {
    assert.deepEqual(
      renderPeers('wg-broker', [
        { kind: 'remove', publicKey: key(1) },
        { kind: 'set', peer: { ...peer(2, '2001:db8::100/120'), endpoint: '192.0.2.1:5' }, clearPresharedKey: true },
      ]),
      [
        [
          ...['set', 'wg-broker', 'peer', key(1), 'remove'],
          ...[
            'peer',
            key(2),
            'preshared-key',
            '/dev/null',
            'endpoint',
            '192.0.2.1:5',
            'allowed-ips',
            '2001:db8::100/120',
          ],
        ],
      ],
    )
  })
  test('nothing to do starts nothing; settings alone start one', () => {
    assert.deepEqual(renderPeers('wg0', []), [])
    assert.deepEqual(renderPeers('wg0', [], { listenPort: 51820, privateKeyFile: '/k' }), [
      ['set', 'wg0', 'listen-port', '51820', 'private-key', '/k'],
    ])
  })
  test('10,000 peers take two processes, each below 1 MiB of argv, and none is lost', () => {
    const actions = Array.from(
      { length: 10_000 },
      (_, n): PeerAction => ({
        kind: 'set',
        peer: peer(n, `2001:db8:1234:5678:9abc:def0:1234:${(n + 1).toString(16)}/128`),
      }),
    )
    const runs = renderPeers('wg0', actions, { listenPort: 1 })
    assert.equal(runs.length, 2)
    for (const run of runs) assert.ok(run.reduce((sum, word) => sum + word.length + 9, 0) < 1024 * 1024)
    assert.equal(runs.flat().filter(word => word === 'peer').length, 10_000)
  })
})

describe('createWireGuard', () => {
  test('a failing wg is an error, never an empty list', async () => {
    const exec = async () => {
      throw new ExecError(
        ['wg', 'show', 'wg0', 'dump'],
        1,
        'Unable to access interface: Protocol error',
        'exited with 1',
      )
    }
    await assert.rejects(createWireGuard({ exec, interface: 'wg0' }).readStatus(), {
      code: 'BH_NETWORK_TOOL_FAILED',
      retryable: true,
    })
  })
  test('an empty answer is an error', async () => {
    const exec = async () => ({ stdout: '', stderr: '' })
    await assert.rejects(createWireGuard({ exec, interface: 'wg0' }).readStatus(), {
      code: 'BH_WIREGUARD_DUMP_MALFORMED',
    })
  })
  test('a missing wg names the package', async () => {
    const exec = async () => {
      throw new ExecError(
        ['wg'],
        undefined,
        '',
        'could not be started',
        Object.assign(new Error('x'), { code: 'ENOENT' }),
      )
    }
    await assert.rejects(createWireGuard({ exec, interface: 'wg0' }).readStatus(), {
      code: 'BH_NETWORK_TOOL_MISSING',
      hint: 'Install it: apt-get install wireguard-tools',
    })
  })
})
