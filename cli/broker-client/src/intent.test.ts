import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { formatIntent, type Intent, openIntentStore, parseIntent } from './intent.ts'

const folder = mkdtempSync(join(tmpdir(), 'bc-intent-'))
const path = join(folder, 'broker-request.json')
after(() => rmSync(folder, { recursive: true }))

const keys = generateKeyPair()
const fresh: Intent = {
  version: 1,
  purpose: 'request',
  created_at: '2026-11-20T06:45:03.000Z',
  chain_id: 31337,
  nft_contract: '0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512',
  wallet: '0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266',
  requests_contract: '0x5fbdb2315678afecb367f032d93f642f64180aa3',
  broker_pubkey: `04${'ab'.repeat(64)}`,
  broker_id: '1',
  wg_private_key: keys.privateKey,
  wg_public_key: keys.publicKey,
  payload: '0x04aabb',
  transaction: {
    hash: `0x${'12'.repeat(32)}`,
    raw: '0x02ff',
    nonce: 4,
    gas_limit: 300_000n,
    value_wei: 10n ** 20n,
    fees: { type: 'eip1559', max_fee_per_gas_wei: 2n ** 70n, max_priority_fee_per_gas_wei: 1n },
    signed_at: 1_700_000_000_000,
    replacements: 0,
  },
}
const sent: Intent = { ...fresh, request_id: 7n, refused_id: 6n }

describe('openIntentStore', () => {
  it('finds what was saved, with every digit', () => {
    const store = openIntentStore(folder)
    assert.equal(store.find(), undefined)
    for (const intent of [fresh, sent]) {
      store.save(intent)
      assert.deepEqual(store.find(), intent)
    }
    assert.equal(statSync(path).mode & 0o777, 0o600)
    store.remove()
    store.remove()
    assert.equal(store.find(), undefined)
  })
})

describe('parseIntent', () => {
  it('refuses what is not whole, without showing the key', () => {
    const text = formatIntent(sent)
    const broken = [
      '',
      '{}',
      'null',
      text.slice(0, -10),
      text.replace('"version": 1', '"version": 2'),
      text.replace(keys.publicKey, 'AAAA'),
      text.replace('"nonce": 4', '"nonce": -4'),
    ]
    for (const content of broken) {
      writeFileSync(path, content)
      assert.throws(
        () => openIntentStore(folder).find(),
        (error: unknown) => {
          assert.ok(error instanceof BlockHostError && error.code === 'BH_INTENT_UNREADABLE' && error.exitCode === 78)
          assert.ok(!JSON.stringify([error.message, error.fields, String(error.cause)]).includes(keys.privateKey))
          return true
        },
      )
    }
    assert.equal(readFileSync(path, 'utf8'), broken.at(-1), 'the file is left as it is')
    assert.deepEqual(parseIntent(text, path), sent)
  })
})
