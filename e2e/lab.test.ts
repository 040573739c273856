import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { createLab, type Lab, type LabNode, labAddresses } from '@blockhost/testkit/lab.ts'
import { type Machine, startMachine } from '@blockhost/testkit/machine.ts'

const needsRoot = { skip: process.getuid?.() === 0 ? false : 'needs root for network namespaces' }
const address = '2001:db8:1:2::1a1'

describe('lab', needsRoot, () => {
  it('on-link: an address is reached only when something on the link answers NDP for it (RFC 4861 §7.2.4)', async () => {
    await using lab = await createLab()
    // On the loopback, so that the broker has it but does not answer for it on the upstream link.
    await lab.broker.exec('ip', ['addr', 'add', `${address}/128`, 'dev', 'lo'])
    assert.equal(await pings(lab, 'internet', address), false)
    assert.match(await neighbor(lab, address), /FAILED|INCOMPLETE/)
    // Linux else waits up to 0.8 s before it answers for another.
    const settings = ['net.ipv6.conf.upstream0.proxy_ndp=1', 'net.ipv6.neigh.upstream0.proxy_delay=0']
    await lab.broker.exec('sysctl', ['-qw', ...settings])
    await lab.broker.exec('ip', ['neigh', 'add', 'proxy', address, 'dev', 'upstream0'])
    await until(() => pings(lab, 'internet', address))
    assert.equal(await pings(lab, 'internet', '2001:db8:1:2::1a2'), false, 'its neighbor stays silent')
  })

  it('routed: an address is reached without NDP', async () => {
    await using lab = await createLab({ delivery: 'routed' })
    await lab.broker.exec('ip', ['addr', 'add', `${address}/128`, 'dev', 'lo'])
    await until(() => pings(lab, 'internet', address))
    await until(() => pings(lab, 'internet', labAddresses.broker.ipv6))
  })

  it('NAT: a host reaches out under its router’s address and is not reached from outside', async () => {
    await using lab = await createLab()
    for (const [host, seenAs] of [
      ['host-a', labAddresses.natA.ipv4],
      ['host-b', labAddresses.natB.ipv4],
    ] as const) {
      assert.equal(await seenBy(lab, host), seenAs)
      assert.equal(await pings(lab, 'broker', seenAs), false)
    }
    assert.equal(await pings(lab, 'broker', labAddresses.host.ipv4), false)
    await until(() => pings(lab, 'host-a', labAddresses.broker.ipv4))
    assert.equal(await pings(lab, 'host-a', labAddresses.internet.ipv6), false, 'it has no IPv6')
  })

  it('a VM behind a bridge is reached from its host at the address it was given', async () => {
    await using lab = await createLab()
    await lab.giveAddress('a', address)
    await until(() => pings(lab, 'host-a', address))
    assert.equal(await pings(lab, 'host-b', address), false)
  })

  it('machines keep files, host name and processes to themselves; two labs do not see each other', async () => {
    await using one = await createLab()
    await using two = await createLab()
    writeFileSync(one.broker.path('/etc/wireguard/wg-broker.conf'), 'one')
    const name = (await one.broker.exec('cat', ['/etc/wireguard/wg-broker.conf', '/proc/sys/kernel/hostname'])).stdout
    assert.equal(name, 'onebroker\n')
    for (const path of ['/etc/wireguard/wg-broker.conf', two.broker.path('/etc/wireguard/wg-broker.conf')])
      assert.equal(existsSync(path), false, path)
    assert.doesNotMatch((await two.broker.exec('ps', ['ax'])).stdout, /node/)
  })

  it('spawn: reports output and end, and kills only its own process', async () => {
    await using lab = await createLab()
    const ticking = await lab.broker.spawn(['sh', '-c', 'echo started; echo wrong >&2; exec sleep 1000'])
    await until(() => ticking.lastLines().length === 2)
    assert.deepEqual([...ticking.lastLines()].sort(), ['started', 'wrong'])
    await ticking.kill('SIGTERM')
    assert.deepEqual(await ticking.ended, { status: null, signal: 'SIGTERM' })
    await ticking.kill('SIGKILL')
    const ending = await lab.broker.spawn(['sh', '-c', 'exit 3'])
    assert.deepEqual(await ending.ended, { status: 3, signal: null })
  })

  for (const [how, ending] of [
    ['it is disposed of', 'await lab[Symbol.asyncDispose](); console.log("gone"); setInterval(() => 0, 1000)'],
    ['the process that made it is killed with -9', 'setInterval(() => 0, 1000)'],
    ['the process that made it is interrupted', 'setInterval(() => 0, 1000)'],
  ] as const)
    it(`cleanup: nothing is left when ${how}`, async () => {
      // Built inside a machine of its own, where nobody else starts or makes anything meanwhile.
      await using observer = await startMachine({ name: 'observer' })
      const before = await traces(observer)
      const maker = await observer.spawn([process.execPath, '--input-type=module', '-e', `${makeLab}\n${ending}`])
      await until(() => maker.lastLines().includes('built'))
      assert.match(await traces(observer), /sleep 1000/)
      if (ending.includes('gone')) await until(() => maker.lastLines().includes('gone'))
      await maker.kill(how.endsWith('-9') ? 'SIGKILL' : 'SIGINT')
      await maker.ended
      await until(async () => (await traces(observer)) === before).catch(async () => {
        assert.equal(await traces(observer), before)
      })
    })
})

const makeLab = `
  const { createLab } = await import(${JSON.stringify(import.meta.resolve('@blockhost/testkit/lab.ts'))})
  const lab = await createLab()
  await lab['host-a'].exec('sh', ['-c', 'setsid sleep 1000 >/dev/null 2>&1 &'])
  console.log('built')`

/** Returns what a lab could leave on a machine, as text: processes but its first, links, named namespaces and mounts. */
async function traces(observer: Machine): Promise<string> {
  const look = 'ps -o args --pid 1 -N; ip -br link; ls -A /run /run/netns 2>/dev/null; cat /proc/self/mounts'
  return (await observer.exec('sh', ['-c', look])).stdout
}

async function pings(lab: Lab, from: LabNode, to: string): Promise<boolean> {
  return await lab
    .machine(from)
    .exec('ping', ['-c', '1', '-W', '1', to])
    .then(() => true)
    .catch(() => false)
}

async function neighbor(lab: Lab, of: string): Promise<string> {
  return (await lab.upstream.exec('ip', ['-6', 'neigh', 'show', of])).stdout
}

/** Returns the address that a server on the internet sees when `host` connects to it. */
async function seenBy(lab: Lab, host: LabNode): Promise<string | undefined> {
  const { ipv4 } = labAddresses.internet
  const serve = `require('net').createServer(c => c.end(c.remoteAddress)).listen(7000, '${ipv4}', () => console.log('up'))`
  const server = await lab.internet.spawn([process.execPath, '-e', serve])
  await until(() => server.lastLines().length > 0)
  const ask = `require('net').connect(7000, '${ipv4}').pipe(process.stdout)`
  const { stdout } = await lab.machine(host).exec(process.execPath, ['-e', ask])
  await server.kill('SIGKILL')
  await server.ended
  return stdout
}

async function until(condition: () => boolean | Promise<boolean>, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `${condition} did not come true within ${withinMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
