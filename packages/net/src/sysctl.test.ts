import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { diffSysctls, type SysctlNeeds, sysctlPaths } from './sysctl.ts'

const needs: SysctlNeeds = { interface: 'wg0', upstreamInterfaces: ['up0'], ndpInterface: 'up0' }
const conf = (name: string, key: string) => `/proc/sys/net/ipv6/conf/${name}/${key}`
const delay = '/proc/sys/net/ipv6/neigh/up0/proxy_delay'

/** A fresh Debian: no forwarding, router advertisements taken. */
const fresh = new Map([
  [conf('all', 'forwarding'), '0\n'],
  [conf('wg0', 'disable_ipv6'), '0\n'],
  [conf('up0', 'accept_ra'), '1\n'],
  [conf('up0', 'proxy_ndp'), '0\n'],
  [delay, '80\n'],
])

function after(actual: ReadonlyMap<string, string>, of: SysctlNeeds = needs): Map<string, string> {
  const next = new Map(actual)
  for (const { path, value } of diffSysctls(of, actual)) next.set(path, `${value}\n`)
  return next
}

describe('diffSysctls', () => {
  test('keeps router advertisements before it turns forwarding on, and answers at once for others', () => {
    assert.deepEqual(diffSysctls(needs, fresh), [
      { path: conf('up0', 'accept_ra'), value: '2' },
      { path: conf('all', 'forwarding'), value: '1' },
      { path: conf('up0', 'proxy_ndp'), value: '1' },
      { path: delay, value: '0' },
    ])
  })
  test('applied once, nothing is left to do', () => {
    assert.deepEqual(diffSysctls(needs, after(fresh)), [])
  })
  test('leaves accept_ra alone when it was off, or when forwarding was on already', () => {
    const off = new Map(fresh).set(conf('up0', 'accept_ra'), '0\n')
    assert.equal(after(off).get(conf('up0', 'accept_ra')), '0\n')
    const forwarding = new Map(fresh).set(conf('all', 'forwarding'), '1\n')
    assert.equal(after(forwarding).get(conf('up0', 'accept_ra')), '1\n')
  })
  test('without kernel NDP nothing is proxied; all.proxy_ndp never', () => {
    const paths = diffSysctls({ ...needs, ndpInterface: undefined }, fresh).map(({ path }) => path)
    assert.ok(paths.every(path => !path.includes('prox')))
    assert.ok(sysctlPaths(needs).every(path => path !== conf('all', 'proxy_ndp')))
  })
  test('IPv6 is turned on on our own interface only', () => {
    const disabled = new Map(fresh).set(conf('wg0', 'disable_ipv6'), '1\n').set(conf('up0', 'disable_ipv6'), '1\n')
    assert.deepEqual(diffSysctls(needs, disabled)[0], { path: conf('wg0', 'disable_ipv6'), value: '0' })
    assert.equal(after(disabled).get(conf('up0', 'disable_ipv6')), '1\n')
  })
  test('an interface that is not there yet has no settings to write', () => {
    assert.deepEqual(diffSysctls(needs, new Map([[conf('all', 'forwarding'), '1\n']])), [])
  })
})
