import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { createDataplane, type DataplaneConfig, type DataplaneLease } from '@blockhost/broker/dataplane.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createExec, type Exec } from '@blockhost/kit/exec.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { formatAddress, formatPrefix, parsePrefix, subPrefix } from '@blockhost/net/prefix.ts'
import type { System } from '@blockhost/net/system.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { createLab, type Lab, labAddresses } from '@blockhost/testkit/lab.ts'
import type { Machine } from '@blockhost/testkit/machine.ts'

const needsRoot = { skip: process.getuid?.() === 0 ? false : 'needs root for network namespaces' }
const limit = { timeout: 60_000 }
const upstream = parsePrefix(labAddresses.broker.prefix)!
const table = 'blockhost_wg_broker'
/** Read by this process and by `wg` inside the machines, which see the same file system here. */
const folder = mkdtempSync(join(tmpdir(), 'blockhost-dataplane-'))
const privateKeyFile = join(folder, 'wg-private.key')
writeFileSync(privateKeyFile, `${generateKeyPair().privateKey}\n`, { mode: 0o600 })
after(() => rmSync(folder, { recursive: true }))

describe('dataplane', needsRoot, () => {
  for (const mode of ['kernel', 'ndppd'] as const)
    it(
      `${mode}: a lease is carried from the internet to the VM, answers for exactly its addresses, and leaves nothing`,
      limit,
      async () => {
        await using lab = await createLab()
        const broker = startBroker(lab, { ndpMode: mode })
        await broker.dataplane.reconcile([])
        const empty = await broker.picture()
        const host = hostOf(lab, 'a', 1n)
        broker.spawned.length = 0
        await broker.dataplane.change([{ kind: 'set', lease: host.lease }])
        assert.equal(broker.spawned.length, mode === 'kernel' ? 3 : 2, broker.spawned.join('\n'))
        await host.connect(broker)

        const [first, last, before, after, unleased] = ['::100', '::1ff', '::ff', '::200', '::4:105'].map(inUpstream)
        assert.deepEqual(await answered(lab, [first!, last!, before!, after!, unleased!]), [first, last])
        await lab.giveAddress('a', inUpstream('::1a1'))
        await until('the VM answers', () => pings(lab.internet, inUpstream('::1a1')))
        const peer = (await broker.dataplane.peers()).get(host.lease.publicKey)
        assert.ok(peer?.latestHandshake !== undefined && peer.rxBytes > 0n)

        await broker.dataplane.change([{ kind: 'remove', lease: host.lease }])
        assert.deepEqual(await answered(lab, [first!, last!]), [])
        assert.equal(await pings(lab.internet, inUpstream('::1a1')), false)
        assert.equal(await broker.picture(), empty)
        assert.deepEqual(await broker.dataplane.reconcile([]), { changes: [] })
      },
    )

  it('routed: no NDP, two processes for a lease', limit, async () => {
    await using lab = await createLab({ delivery: 'routed' })
    const broker = startBroker(lab, { ndpMode: 'auto', upstreamInterface: undefined })
    assert.equal(broker.dataplane.ndp.mode, 'routed')
    await broker.dataplane.reconcile([])
    const host = hostOf(lab, 'a', 1n)
    broker.spawned.length = 0
    await broker.dataplane.change([{ kind: 'set', lease: host.lease }])
    assert.equal(broker.spawned.length, 2, broker.spawned.join('\n'))
    await host.connect(broker)
    await lab.giveAddress('a', inUpstream('::1a1'))
    await until('the VM answers', () => pings(lab.internet, inUpstream('::1a1')))
  })

  it('tenants reach neither each other nor services of the broker, and forged sources are dropped', limit, async () => {
    await using lab = await createLab()
    const broker = startBroker(lab, { ndpMode: 'ndppd' })
    await broker.dataplane.reconcile([])
    const a = hostOf(lab, 'a', 1n)
    const b = hostOf(lab, 'b', 2n)
    await broker.dataplane.change([a, b].map(({ lease }) => ({ kind: 'set', lease }) as const))
    for (const host of [a, b]) await host.connect(broker)

    await until('it is dropped: tenant to tenant', async () => {
      assert.equal(await pings(a.machine, inUpstream('::201')), false)
      return (await broker.dropped('tenant to tenant')) > 0
    })

    // Past WireGuard's own check: as if B's key were allowed more than it leased.
    await broker.run(
      'wg',
      'set',
      'wg-broker',
      'peer',
      b.lease.publicKey,
      'allowed-ips',
      `${b.lease.prefix},${inUpstream('::900/120')}`,
    )
    await b.machine.exec('ip', ['-6', 'addr', 'add', inUpstream('::901/128'), 'dev', 'lo'])
    await until('it is dropped: tenant with a source that is not leased', async () => {
      assert.equal(await pings(b.machine, labAddresses.internet.ipv6, inUpstream('::901')), false)
      return (await broker.dropped('tenant with a source that is not leased')) > 0
    })

    await lab.internet.exec('ip', ['-6', 'addr', 'add', inUpstream('::1aa/128'), 'dev', 'lo'])
    await until('it is dropped: leased source from outside the tunnel', async () => {
      assert.equal(await pings(lab.internet, inUpstream('::201'), inUpstream('::1aa')), false)
      return (await broker.dropped('leased source from outside the tunnel')) > 0
    })

    // The kernel's own "connection refused" would come back at once; nothing must.
    assert.equal(await connects(a.machine, labAddresses.broker.ipv6, 9), 'silence')
    assert.equal(await connects(lab.internet, labAddresses.broker.ipv6, 9), 'refused')
  })

  it('allowed ports of the broker are open to tenants', limit, async () => {
    await using lab = await createLab()
    const broker = startBroker(lab, { ndpMode: 'kernel', allowedTcpPortsFromTunnel: [9] })
    await broker.dataplane.reconcile([])
    const a = hostOf(lab, 'a', 1n)
    await broker.dataplane.reconcile([a.lease])
    await a.connect(broker)
    assert.equal(await connects(a.machine, labAddresses.broker.ipv6, 9), 'refused')
    assert.equal(await connects(a.machine, labAddresses.broker.ipv6, 10), 'silence')
  })

  it(
    'an unleased destination is answered with "address unreachable", for the broker does not know it',
    limit,
    async () => {
      await using lab = await createLab({ delivery: 'routed' })
      const broker = startBroker(lab, { ndpMode: 'routed' })
      await broker.dataplane.reconcile([])
      const said = await lab.internet.exec('ping', ['-c', '1', '-W', '2', inUpstream('::901')]).catch(String)
      assert.equal(await pings(lab.internet, inUpstream('::901')), false)
      assert.equal(await broker.dropped('destination that is not leased'), 2, String(said))
    },
  )

  it('a changed key cuts the old tunnel off, keeps the prefix, and takes two processes', limit, async () => {
    await using lab = await createLab()
    const broker = startBroker(lab, { ndpMode: 'ndppd' })
    await broker.dataplane.reconcile([])
    const old = hostOf(lab, 'a', 1n)
    const next = hostOf(lab, 'b', 1n)
    await broker.dataplane.change([{ kind: 'set', lease: old.lease }])
    await old.connect(broker)
    broker.spawned.length = 0
    await broker.dataplane.change([{ kind: 'set', lease: next.lease, previousPublicKey: old.lease.publicKey }])
    assert.equal(broker.spawned.length, 2)
    await next.connect(broker)
    assert.equal(await pings(old.machine, labAddresses.broker.ipv6), false)
    assert.deepEqual(await broker.dataplane.reconcile([next.lease]), { changes: [] })
  })

  for (const mode of ['kernel', 'ndppd'] as const)
    it(`${mode}: whatever is changed behind our back heals, and a second look finds nothing to do`, limit, async () => {
      await using lab = await createLab()
      const broker = startBroker(lab, { ndpMode: mode })
      await broker.dataplane.reconcile([])
      const host = hostOf(lab, 'a', 1n)
      await broker.dataplane.change([{ kind: 'set', lease: host.lease }])
      const whole = await broker.picture()
      await host.connect(broker)
      await lab.giveAddress('a', inUpstream('::1a1'))
      for (const [harm, command] of harms) {
        await until(`the VM answers before: ${harm}`, () => pings(lab.internet, inUpstream('::1a1')))
        for (const line of command)
          await broker.run(...(line.split(' ').map(word => word.replaceAll('\t', ' ')) as [string, ...string[]]))
        if (harm === killed) await until('the interface is gone', async () => !(await hasInterface(broker)))
        const { changes } = await broker.dataplane.reconcile([host.lease])
        assert.notDeepEqual(changes, [], harm)
        await assertIdle(broker, [host.lease], harm)
        assert.equal(await broker.picture(), whole, harm)
      }
      await until('the VM answers in the end', () => pings(lab.internet, inUpstream('::1a1')))
    })

  it(
    'ndppd is started again when it died and when the upstream interface was made anew, and ends when not needed',
    limit,
    async () => {
      await using lab = await createLab()
      const broker = startBroker(lab, { ndpMode: 'ndppd' })
      const lease = leases(1)[0]!
      await broker.dataplane.reconcile([lease])
      const pid = async () => (await broker.run('cat', '/run/blockhost-broker/ndppd-wg-broker.pid')).trim()
      const first = await pid()
      await broker.run('kill', '-9', first)
      assert.deepEqual((await broker.dataplane.reconcile([lease])).changes, ['started ndppd'])
      await assertIdle(broker, [lease])
      assert.deepEqual(await answered(lab, [inUpstream('::100'), inUpstream('::200')]), [inUpstream('::100')])

      await broker.run('ip', 'link', 'del', 'upstream0')
      await assert.rejects(broker.dataplane.reconcile([lease]), {
        code: 'BH_UPSTREAM_INTERFACE_MISSING',
        retryable: true,
      })
      const ends = ['name', 'broker0', 'netns', `${lab.upstream.pid}`, 'type', 'veth', 'peer', 'name', 'upstream0']
      await createExec()('ip', ['link', 'add', ...ends, 'netns', `${lab.broker.pid}`])
      for (const [machine, name] of [
        [lab.upstream, 'broker0'],
        [lab.broker, 'upstream0'],
      ] as const)
        await machine.exec('ip', ['link', 'set', name, 'up'])
      await lab.upstream.exec('ip', ['-6', 'addr', 'add', inUpstream('::1/64'), 'dev', 'broker0'])
      const { changes } = await broker.dataplane.reconcile([lease])
      assert.deepEqual(changes, [`gave upstream0 the broker's address ${labAddresses.broker.ipv6}`, 'started ndppd'])
      const gateway = labAddresses.broker.ipv6
      await until('the link carries', async () => (await answered(lab, [gateway])).length === 1)
      const asked = [gateway, inUpstream('::100'), inUpstream('::200')]
      assert.deepEqual(await answered(lab, asked), [gateway, inUpstream('::100')])

      const routed = startBroker(lab, { ndpMode: 'routed' })
      assert.ok((await routed.dataplane.reconcile([lease])).changes.includes('stopped ndppd'))
      await assertIdle(routed, [lease])
    },
  )

  it('a change of NDP mode leaves no entry of the former one', limit, async () => {
    await using lab = await createLab()
    const lease = leases(1)[0]!
    await startBroker(lab, { ndpMode: 'kernel' }).dataplane.reconcile([lease])
    const broker = startBroker(lab, { ndpMode: 'ndppd' })
    await broker.run('ip', '-6', 'neigh', 'add', 'proxy', inUpstream('::99'), 'dev', 'upstream0')
    const { changes } = await broker.dataplane.reconcile([lease])
    assert.ok(changes.includes('removed 256 NDP entries'), changes.join('; '))
    const left = await broker.run('ip', '-6', 'neigh', 'show', 'proxy')
    assert.equal(left.trim(), `${inUpstream('::99')} dev upstream0 proxy`, 'an entry outside the leases is not ours')
  })

  it(
    'a stopped broker leaves the tunnels up, the next one takes them over, and a removed one leaves nothing',
    limit,
    async () => {
      await using lab = await createLab()
      const broker = startBroker(lab, { ndpMode: 'ndppd' })
      await broker.dataplane.reconcile([])
      const host = hostOf(lab, 'a', 1n)
      await broker.dataplane.change([{ kind: 'set', lease: host.lease }])
      await host.connect(broker)
      await broker.dataplane.close()
      assert.ok(await pings(host.machine, labAddresses.broker.ipv6))
      const next = startBroker(lab, { ndpMode: 'ndppd' })
      await assertIdle(next, [host.lease])

      await next.dataplane.close({ removeInterface: true })
      await until('wireguard-go and ndppd are gone', async () => !/wireguard-go|ndppd/.test(await next.run('ps', 'ax')))
      assert.equal(await hasInterface(next), false)
      assert.equal(await next.run('nft', 'list', 'ruleset'), '')
      assert.doesNotMatch(await next.run('ip', '-6', 'route'), /proto 176/)
      await next.dataplane.close({ removeInterface: true })
    },
  )

  it('leases of any size: nft takes the rules, and they read back as the same', limit, async () => {
    await using lab = await createLab()
    const upstreamPrefix = '2001:db8:4000::/48'
    for (const allocationSize of [49, 56, 64, 65, 96, 112, 127, 128]) {
      const place = { upstreamPrefix, allocationSize, brokerAddress: '2001:db8:4000::2' }
      const broker = startBroker(lab, { ...place, ndpMode: 'ndppd', allowedTcpPortsFromTunnel: [53, 80] })
      const prefix = formatPrefix(subPrefix(parsePrefix(upstreamPrefix)!, 1n, allocationSize))
      const lease = { prefix, publicKey: randomBytes(32).toString('base64') }
      await broker.dataplane.reconcile([lease])
      await assertIdle(broker, [lease], prefix)
      await broker.dataplane.close({ removeInterface: true })
    }
  })

  it('every command may run twice', limit, async () => {
    await using lab = await createLab()
    let runs = 0
    // These two start something, and are run only after looking whether it is there.
    const starts = ['wireguard-go', 'ndppd']
    const twice =
      (exec: Exec): Exec =>
      async (command, args, execOptions) => {
        const result = await exec(command, args, execOptions)
        if (starts.includes(command)) return result
        runs++
        return exec(command, args, execOptions)
      }
    for (const mode of ['kernel', 'ndppd'] as const) {
      const broker = startBroker(lab, { ndpMode: mode }, exec => onlyWrites(exec, twice(exec)))
      const [one, two, three] = leases(3)
      await broker.dataplane.reconcile([one!])
      await broker.dataplane.change([
        { kind: 'set', lease: two! },
        { kind: 'remove', lease: one! },
        { kind: 'set', lease: three! },
      ])
      await broker.dataplane.change([{ kind: 'remove', lease: one! }])
      await assertIdle(broker, [two!, three!])
      await broker.dataplane.close({ removeInterface: true })
    }
    assert.ok(runs > 10)
  })

  it('a failing command throws, and the next reconciliation makes up for it', limit, async () => {
    await using lab = await createLab()
    for (const tool of ['wg', 'nft', 'ip']) {
      let failing = true
      const broken =
        (exec: Exec): Exec =>
        (command, args, execOptions) =>
          failing && command === tool ? exec('false', []) : exec(command, args, execOptions)
      const broker = startBroker(lab, { ndpMode: 'kernel' }, exec => onlyWrites(exec, broken(exec)))
      const [one, two] = leases(2)
      await assert.rejects(broker.dataplane.reconcile([one!]), { retryable: true })
      failing = false
      await broker.dataplane.reconcile([one!])
      failing = true
      await assert.rejects(broker.dataplane.change([{ kind: 'set', lease: two! }]), {
        code: 'BH_NETWORK_TOOL_FAILED',
        retryable: true,
      })
      // A removal does not wait for nft; its failure shows at the next change.
      const removal = broker.dataplane.change([{ kind: 'remove', lease: one! }])
      await (tool === 'nft' ? removal : assert.rejects(removal, { retryable: true }))
      await assert.rejects(broker.dataplane.change([{ kind: 'set', lease: one! }]), { retryable: true })
      failing = false
      assert.notDeepEqual((await broker.dataplane.reconcile([two!])).changes, [])
      await assertIdle(broker, [two!])
      await broker.dataplane.close({ removeInterface: true })
      await assert.rejects(broker.dataplane.peers(), { code: 'BH_NETWORK_TOOL_FAILED' })
    }
  })

  it(
    'refuses to start, and changes nothing, when leases would take an address of the upstream link',
    limit,
    async () => {
      await using lab = await createLab()
      const broker = startBroker(lab)
      await broker.run('ip', '-6', 'addr', 'add', inUpstream('::303/64'), 'dev', 'upstream0')
      broker.spawned.length = 0
      await assert.rejects(broker.dataplane.reconcile([]), { code: 'BH_DATAPLANE_ADDRESS_CONFLICT', exitCode: 78 })
      assert.deepEqual(broker.spawned.filter(isWrite), [])
      assert.deepEqual(broker.written, [])
      await broker.run('ip', '-6', 'addr', 'del', inUpstream('::303/64'), 'dev', 'upstream0')
      await broker.run('ip', '-6', 'route', 'replace', 'default', 'via', inUpstream('::501'), 'dev', 'upstream0')
      await assert.rejects(broker.make().reconcile([]), /the default gateway 2001:db8:1:2::501 on upstream0/)
      await broker.run('ip', '-6', 'route', 'replace', 'default', 'via', inUpstream('::1'), 'dev', 'upstream0')
      await assert.rejects(
        startBroker(lab, { brokerAddress: inUpstream('::1') }).dataplane.reconcile([]),
        /the upstream router/,
      )
      await broker.dataplane.reconcile([])
    },
  )

  for (const [mode, processes] of [
    ['ndppd', 10],
    ['kernel', 10],
  ] as const)
    it(
      `${mode}: 10,000 leases are restored with at most ${processes} processes, from nothing and into an empty interface; idle writes nothing`,
      limit,
      async () => {
        await using lab = await createLab()
        // In kernel mode as many addresses as it carries: leases of a single one.
        const length = mode === 'kernel' ? 128 : 120
        const broker = startBroker(lab, {
          ndpMode: mode,
          allocationSize: length,
          brokerAddress: inUpstream(mode === 'kernel' ? '::' : '::2'),
        })
        if (mode === 'kernel') await makeRoomForSingles(lab)
        const all = leases(10_000, length)
        broker.spawned.length = 0
        await broker.dataplane.reconcile(all)
        assert.ok(broker.spawned.length <= processes, broker.spawned.join('\n'))
        await assertIdle(broker, all)
        await broker.dataplane.reconcile([])
        assert.equal((await broker.dataplane.peers()).size, 0)
        broker.spawned.length = 0
        await broker.dataplane.reconcile(all)
        assert.ok(broker.spawned.length <= processes, broker.spawned.join('\n'))
        assert.equal((await broker.dataplane.peers()).size, 10_000)
        broker.spawned.length = 0
        await broker.dataplane.change([{ kind: 'remove', lease: all[77]! }])
        assert.equal(broker.spawned.length, mode === 'kernel' ? 3 : 2)
        await assertIdle(
          broker,
          all.filter(lease => lease !== all[77]),
        )
      },
    )
})

type Broker = ReturnType<typeof startBroker>

function startBroker(lab: Lab, overrides: Partial<DataplaneConfig> = {}, wrap: (exec: Exec) => Exec = exec => exec) {
  const { broker } = lab
  const spawned: string[] = []
  const written: string[] = []
  const exec = wrap(
    createExec({
      prefix: broker.prefix,
      onSpawn: argv => spawned.push(argv.slice(broker.prefix.length).join(' ').slice(0, 200)),
    }),
  )
  const config: DataplaneConfig = {
    upstreamPrefix: labAddresses.broker.prefix,
    allocationSize: 120,
    brokerAddress: labAddresses.broker.ipv6,
    interface: 'wg-broker',
    listenPort: 51820,
    privateKeyFile,
    upstreamInterface: 'upstream0',
    ndpMode: 'auto',
    ...overrides,
  }
  const system = systemOf(broker, written)
  const make = () => createDataplane(config, { exec, log: silentLog, clock: systemClock, system })
  const run = async (command: string, ...args: string[]) => (await broker.exec(command, args)).stdout
  /** All that the data plane made, as an engineer would look at it. */
  const picture = async () =>
    [
      await run('wg', 'show', 'wg-broker', 'allowed-ips'),
      await run('ip', '-6', 'route', 'show', 'dev', 'wg-broker'),
      await run('ip', '-6', 'neigh', 'show', 'proxy'),
      (await run('nft', '-s', 'list', 'table', 'ip6', table)).replace(/counter packets \d+ bytes \d+/g, 'counter'),
    ].join('\n')
  /** Packets that a rule's counter saw. */
  const dropped = async (purpose: string) => {
    const rule = (await run('nft', 'list', 'table', 'ip6', table))
      .split('\n')
      .find(line => line.includes(`"${purpose} [`))
    return Number(/counter packets (\d+)/.exec(rule ?? '')?.[1])
  }
  return { dataplane: make(), make, machine: broker, spawned, written, run, picture, dropped }
}

/** The machine's files and processes as a {@link System}; kernel settings belong to its network, so they are read and written inside. */
function systemOf(machine: Machine, written: string[]): System {
  return {
    async read(path) {
      try {
        if (path.startsWith('/proc/sys/')) return (await machine.exec('cat', [path])).stdout
        return readFileSync(machine.path(path), 'utf8')
      } catch {
        return undefined
      }
    },
    async write(path, text) {
      written.push(`${path} ${text}`)
      await machine.exec('mkdir', ['-p', '/run/blockhost-broker'])
      await machine.exec('tee', [path], { input: text })
    },
    signal: (pid, name) => void machine.exec('kill', ['-s', name.slice(3), `${pid}`]).catch(() => undefined),
    hasProgram: () => true,
  }
}

/** A host with a key of its own that is to have lease number `index`; `connect` starts its tunnel. */
function hostOf(lab: Lab, which: 'a' | 'b', index: bigint) {
  const machine = lab[`host-${which}`]
  const keys = generateKeyPair()
  const prefix = subPrefix(upstream, index, 120)
  const lease: DataplaneLease = { prefix: formatPrefix(prefix), publicKey: keys.publicKey }
  const connect = async (broker: Broker) => {
    writeFileSync(machine.path('/run/key'), keys.privateKey, { mode: 0o600 })
    await machine.exec('wireguard-go', ['wg0'])
    const route = ['endpoint', '198.51.100.1:51820', 'allowed-ips', '::/0', 'persistent-keepalive', '1']
    await machine.exec('wg', ['set', 'wg0', 'private-key', '/run/key', 'peer', broker.dataplane.publicKey, ...route])
    const own = formatAddress(prefix.network + 1n)
    const lines = ['link set wg0 up', `addr add ${own}/128 dev wg0`, 'route replace default dev wg0 metric 1']
    await machine.exec('ip', ['-6', '-batch', '-'], { input: `${lines.join('\n')}\n` })
    await until('the tunnel is up', () => pings(machine, labAddresses.broker.ipv6))
  }
  return { lease, machine, connect }
}

/** Returns an address of the upstream prefix: `::100` gives `2001:db8:1:2::100`. */
function inUpstream(tail: string): string {
  return labAddresses.broker.prefix.replace('::/64', tail)
}

async function pings(from: Machine, address: string, source?: string): Promise<boolean> {
  const as = source === undefined ? [] : ['-I', source]
  return from.exec('ping', ['-q', '-c', '1', '-W', '1', ...as, address]).then(
    () => true,
    () => false,
  )
}

/** Returns those of the addresses for which somebody answers the upstream router's solicitation (RFC 4861 section 7.2.4). */
async function answered(lab: Lab, addresses: readonly string[]): Promise<string[]> {
  await lab.upstream.exec('ip', ['-6', 'neigh', 'flush', 'dev', 'broker0'])
  await Promise.all(addresses.map(address => pings(lab.upstream, address)))
  const { stdout } = await lab.upstream.exec('ip', ['-6', '-j', 'neigh', 'show', 'dev', 'broker0'])
  const entries = JSON.parse(stdout) as { dst: string; lladdr?: string }[]
  return addresses.filter(address => entries.some(entry => entry.dst === address && entry.lladdr !== undefined))
}

/** Tries a TCP connection for a second. */
async function connects(from: Machine, host: string, port: number): Promise<'connected' | 'refused' | 'silence'> {
  const script = `
    const socket = require('node:net').connect(${port}, '${host}')
    const say = word => { console.log(word); process.exit() }
    socket.on('connect', () => say('connected')).on('error', error => say(error.code === 'ECONNREFUSED' ? 'refused' : 'silence'))
    setTimeout(() => say('silence'), 1000)`
  return (await from.exec(process.execPath, ['-e', script])).stdout.trim() as 'connected' | 'refused' | 'silence'
}

/** Random keys for the prefixes 1 to `count`. */
function leases(count: number, length = 120): DataplaneLease[] {
  return Array.from({ length: count }, (_, at) => ({
    prefix: formatPrefix(subPrefix(upstream, BigInt(at + 1), length)),
    publicKey: randomBytes(32).toString('base64'),
  }))
}

/** Only sub-prefix 0, a single address, is the broker's when leases are single ones: the link gets along with link-local addresses. */
async function makeRoomForSingles(lab: Lab): Promise<void> {
  await lab.broker.exec('ip', ['-6', 'addr', 'flush', 'dev', 'upstream0', 'scope', 'global'])
  await lab.broker.exec('ip', ['-6', 'route', 'replace', 'default', 'dev', 'upstream0'])
}

function isWrite(argv: string): boolean {
  return !/^(wg show|ip -6 -j|nft -j list)/.test(argv)
}

function onlyWrites(reads: Exec, writes: Exec): Exec {
  return (command, args, execOptions) =>
    (isWrite([command, ...args].join(' ')) ? writes : reads)(command, args, execOptions)
}

async function assertIdle(
  broker: Broker,
  carried: readonly DataplaneLease[],
  after = 'nothing happened',
): Promise<void> {
  await broker.dataplane.close() // waits for what still runs
  broker.spawned.length = 0
  broker.written.length = 0
  assert.deepEqual(await broker.dataplane.reconcile(carried), { changes: [] }, after)
  assert.deepEqual(broker.spawned.filter(isWrite), [], after)
  assert.deepEqual(broker.written, [], after)
}

async function hasInterface(broker: Broker): Promise<boolean> {
  return (await broker.run('ip', '-o', 'link')).includes('wg-broker')
}

const killed = 'wireguard-go is killed'
const other = randomBytes(32).toString('base64')
const harms: readonly (readonly [string, readonly string[]])[] = [
  ['the firewall is flushed', ['nft flush ruleset']],
  ['a rule is added', [`nft insert rule ip6 ${table} forward accept`]],
  ['a rule is removed', [`nft flush chain ip6 ${table} source`]],
  ['an element is removed', [`nft delete element ip6 ${table} leased { ${inUpstream('::100')} }`]],
  ['an element is added', [`nft add element ip6 ${table} leased { ${inUpstream('::700')} }`]],
  ['peers are removed and added', [`wg set wg-broker peer ${other} allowed-ips ${inUpstream('::100/120')}`]],
  [
    'the key is replaced',
    ['wg genkey', 'sh -c wg\tgenkey|(umask\t077;cat\t>/run/other.key);wg\tset\twg-broker\tprivate-key\t/run/other.key'],
  ],
  ['the port is changed', ['wg set wg-broker listen-port 4711']],
  ['the interface is down', ['ip link set wg-broker down']],
  ['the routes are flushed', ['ip -6 route flush dev wg-broker']],
  ['the routes lead elsewhere', [`ip -6 route replace ${inUpstream('::100/120')} dev upstream0 proto 176`]],
  [
    'the gateway address is flushed',
    [
      `ip -6 addr flush dev upstream0 scope global`,
      'ip -6 addr add 2001:db8:1:2::2/64 dev upstream0 nodad',
      'ip -6 route replace default via 2001:db8:1:2::1',
      'sysctl -qw net.ipv6.conf.all.forwarding=0',
    ],
  ],
  ['the interface is deleted', ['ip link del wg-broker']],
  [killed, ['sh -c kill\t-9\t$(pidof\twireguard-go)']],
]

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 15_000
  while (!(await condition())) assert.ok(Date.now() < end, `not within 15 s: ${what}`)
}
