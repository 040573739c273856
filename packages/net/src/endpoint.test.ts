import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { formatEndpoint, parseEndpoint } from './endpoint.ts'

describe('parseEndpoint', () => {
  test('reads addresses and names', () => {
    assert.deepEqual(parseEndpoint('198.51.100.1:51820'), { host: '198.51.100.1', port: 51820, kind: 'ipv4' })
    assert.deepEqual(parseEndpoint('[2001:DB8::1]:1'), { host: '2001:db8::1', port: 1, kind: 'ipv6' })
    assert.deepEqual(parseEndpoint('Broker.Example:65535'), { host: 'broker.example', port: 65535, kind: 'name' })
  })
  test('comes back through formatEndpoint', () => {
    for (const text of ['198.51.100.1:51820', '[2001:db8::1]:51820', 'broker.example:51820', 'localhost:1'])
      assert.equal(formatEndpoint(parseEndpoint(text)!), text)
  })
  for (const hostile of [
    '',
    ':51820',
    '198.51.100.1',
    '198.51.100.1:0',
    '198.51.100.1:65536',
    '198.51.100.1:051820',
    '198.51.100.1:+5',
    '198.51.100.256:51820',
    '2001:db8::1:51820',
    '[2001:db8::1]',
    '[fe80::1%eth0]:51820',
    '[198.51.100.1]:51820',
    'broker.example:51820\n',
    'broker.example:51820\nPostUp = reboot',
    'broker.example\0:51820',
    ' broker.example:51820',
    '-broker.example:51820',
    'broker..example:51820',
    'bro_ker:51820',
    `${'a'.repeat(64)}.example:51820`,
    `${'a.'.repeat(200)}example:51820`,
  ])
    test(`refuses ${JSON.stringify(hostile.slice(0, 40))}`, () => assert.equal(parseEndpoint(hostile), undefined))
})
