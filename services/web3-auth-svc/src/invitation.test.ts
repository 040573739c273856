import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { pageUrl, publicAddresses, renderInvitation } from './invitation.ts'

const challenge = {
  user: 'admin',
  service: 'sshd',
  rhost: '',
  session: 'ab'.repeat(16),
  code: 'ABC234',
  text: 'Authenticate to vm.12345678 with code: ABC234',
  endsAtMs: 0,
}

describe('renderInvitation', () => {
  it('with the page: the documented lines and question', () => {
    const [first, second] = ['AA:'.repeat(16), `${'BB:'.repeat(15)}BB`]
    const place = { kind: 'page', url: 'https://[2001:db8::1]:8443', fingerprint: first + second } as const
    assert.deepEqual(renderInvitation(challenge, 'vm.12345678', place), {
      text:
        '\n=== Web3 Authentication ===\nCode: ABC234\nMachine: vm.12345678\n' +
        `Sign at: https://[2001:db8::1]:8443/?session=${challenge.session}\n` +
        '  The page and your wallet must show the code above: sign nothing else.\n' +
        "  Your browser will warn that it does not know the page's certificate. Go on\n" +
        '  if the SHA-256 fingerprint in the details of the warning is this one:\n' +
        `    ${first}\n    ${second}\n` +
        'Or sign this text with your wallet: Authenticate to vm.12345678 with code: ABC234\n' +
        '  and paste the signature below. It stays invisible while you paste.\n',
      prompt: 'Press Enter after signing in the browser, or paste the signature: ',
    })
  })

  it('with a page elsewhere, and with none, the signature is pasted', () => {
    const elsewhere = renderInvitation(challenge, 'vm', { kind: 'elsewhere', url: 'https://sign.example' })
    assert.match(elsewhere.text, /^Sign at: https:\/\/sign\.example$/m)
    assert.equal(elsewhere.prompt, 'Paste the signature: ')
    assert.doesNotMatch(renderInvitation(challenge, 'vm', { kind: 'none' }).text, /Sign at/)
  })

  it('fits what the PAM module takes, also with the longest names', () => {
    const id = 'x'.repeat(128)
    const place = { kind: 'page', url: `https://${'y'.repeat(253)}:65535`, fingerprint: 'AA:'.repeat(32) } as const
    const { text } = renderInvitation({ ...challenge, text: challenge.text.replace('vm.12345678', id) }, id, place)
    assert.ok(text.length < 2048, `${text.length}`)
  })
})

describe('publicAddresses', () => {
  it('puts IPv6 first and leaves out what others do not reach', () => {
    const of = (address: string, internal = false) => ({ address, internal })
    const all = [
      of('127.0.0.1', true),
      of('192.0.2.1'),
      of('fe80::1'),
      of('169.254.1.1'),
      of('2001:db8::1'),
      of('2001:db8::1'),
    ]
    assert.deepEqual(publicAddresses(all), ['2001:db8::1', '192.0.2.1'])
  })
})

describe('pageUrl', () => {
  it('is the configured one, else that of the first address', () => {
    assert.equal(pageUrl('https://vm.example', ['2001:db8::1'], 8443), 'https://vm.example')
    assert.equal(pageUrl(undefined, ['2001:db8::1', '192.0.2.1'], 8443), 'https://[2001:db8::1]:8443')
    assert.equal(pageUrl(undefined, ['192.0.2.1'], 8443), 'https://192.0.2.1:8443')
    assert.equal(pageUrl(undefined, [], 8443), 'https://localhost:8443')
  })
})
