import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { it } from 'node:test'
import { ipVersion } from './ip-version.ts'

it('ipVersion says what node:net says', () => {
  for (const text of [
    '192.0.2.1',
    '::1',
    '2001:db8::1',
    '::ffff:192.0.2.1',
    'localhost',
    'vm.example.org',
    '1.2.3.example',
  ])
    assert.equal(ipVersion(text), isIP(text), text)
})
