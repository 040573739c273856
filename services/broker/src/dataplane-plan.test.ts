import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import type { DataplaneConfig } from './dataplane.ts'
import { prepareDataplane } from './dataplane-plan.ts'

const folder = mkdtempSync(join(tmpdir(), 'blockhost-plan-'))
after(() => rmSync(folder, { recursive: true }))
const keys = generateKeyPair()
const privateKeyFile = join(folder, 'wg-private.key')
writeFileSync(privateKeyFile, `${keys.privateKey}\n`)

const config: DataplaneConfig = {
  upstreamPrefix: '2001:db8::/64',
  allocationSize: 120,
  brokerAddress: '2001:db8::2',
  interface: 'wg-broker',
  listenPort: 51820,
  privateKeyFile,
  upstreamInterface: 'up0',
  ndpMode: 'auto',
}
const prepare = (changes: Partial<DataplaneConfig> = {}, programs = ['ndppd']) =>
  prepareDataplane({ ...config, ...changes }, name => programs.includes(name))

describe('prepareDataplane', () => {
  test('derives the public key, the NDP mode, the covering routes and the firewall', () => {
    const plan = prepare()
    assert.equal(plan.publicKey, keys.publicKey)
    assert.equal(plan.ndp.mode, 'ndppd')
    assert.equal(plan.coveringRoutes.length, 56)
    assert.deepEqual(plan.firewall.ndp, { interface: 'up0', brokerAddress: 0x20010db8000000000000000000000002n })
    assert.equal(plan.leaseLimit, Number.POSITIVE_INFINITY)
  })
  test('a routed prefix needs no upstream interface, and NDP does not touch it', () => {
    const plan = prepare({ ndpMode: 'routed' })
    assert.equal(plan.ndpInterface, undefined)
    assert.equal(plan.firewall.ndp, undefined)
    assert.equal(plan.upstreamInterface, 'up0')
  })
  test('kernel mode limits the number of leases', () => {
    assert.equal(prepare({ ndpMode: 'kernel' }).leaseLimit, 64)
    assert.equal(prepare({ ndpMode: 'kernel', allocationSize: 128 }).leaseLimit, 16_384)
  })
  test('works for any upstream and lease size', () => {
    for (const [upstreamPrefix, allocationSize] of [
      ['2001:db8::/32', 48],
      ['2001:db8::/48', 56],
      ['2001:db8::/56', 64],
      ['2001:db8::/64', 128],
      ['2001:db8::/127', 128],
    ] as const)
      assert.equal(prepare({ upstreamPrefix, allocationSize }).allocationSize, allocationSize)
  })
  for (const [name, changes, problem] of [
    ['an upstream that is no prefix', { upstreamPrefix: '2001:db8::' }, /2001:db8:: is no IPv6 prefix/],
    ['host bits in it', { upstreamPrefix: '2001:db8::1/64' }, /no IPv6 prefix/],
    ['a broker address with a length', { brokerAddress: '2001:db8::2/64' }, /no IPv6 address/],
    ['leases as large as the upstream', { allocationSize: 64 }, /no lease of \/64 fits/],
    ['leases of no size', { allocationSize: Number.NaN }, /no lease/],
    ['leases smaller than an address', { allocationSize: 129 }, /no lease/],
    ['an interface name for a shell', { interface: 'wg0;reboot' }, /can't name an interface/],
    ['an upstream interface name for a path', { upstreamInterface: '../..' }, /can't name an interface/],
    ['one interface for both sides', { upstreamInterface: 'wg-broker' }, /can't be both/],
    ['a port that is none', { listenPort: 65_536 }, /65536 is no port/],
    ['an allowed port that is none', { allowedTcpPortsFromTunnel: [80.5] }, /80.5 is no port/],
    ['NDP without an interface', { upstreamInterface: undefined, ndpMode: 'kernel' as const }, /upstream_interface/],
  ] as const)
    test(`refuses ${name} with exit 78`, () => {
      assert.throws(
        () => prepare(changes),
        (error: Error) => {
          assert.match(error.message, problem)
          assert.deepEqual(
            { code: Reflect.get(error, 'code'), exitCode: Reflect.get(error, 'exitCode') },
            { code: 'BH_DATAPLANE_CONFIG_INVALID', exitCode: 78 },
          )
          return true
        },
      )
    })
  test('refuses a missing or broken key file with exit 78, without repeating it', () => {
    assert.throws(() => prepare({ privateKeyFile: join(folder, 'none') }), {
      code: 'BH_FILE_READ_FAILED',
      exitCode: 78,
    })
    const broken = join(folder, 'broken.key')
    writeFileSync(broken, 'hunter2\n')
    assert.throws(() => prepare({ privateKeyFile: broken }), { code: 'BH_WIREGUARD_KEY_INVALID', exitCode: 78 })
  })
})
