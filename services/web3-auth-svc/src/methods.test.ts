import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Clock } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Log, LogFields } from '@blockhost/kit/log.ts'
import type { ChainBackend } from './chain-backend.ts'
import { createChallenges } from './challenges.ts'
import type { Verdict } from './judge.ts'
import { createMethods, invalidRequest } from './methods.ts'
import { createRateLimit } from './rate-limit.ts'

const wallet = '0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a'
const contract = '0x00000000000000000000000000000000000000aa'
const alice = { user: 'admin', service: 'sshd', rhost: '192.0.2.1' }

describe('the documented methods', () => {
  it('health', async () => {
    const { ask } = setUp()
    assert.deepEqual(await ask('health'), { success: true, token_id: 'ok' })
    assert.deepEqual(await ask('health', { wallet_address: wallet }), { success: true, token_id: 'ok' })
    const unwell = setUp({ prepare: () => assert.fail('a file is missing') })
    assert.deepEqual(await unwell.ask('health'), { success: false, error: 'answers can not be judged' })
  })

  it('get_nfts and verify_access answer with the ids the backend gives', async () => {
    const { ask, asked } = setUp({ held: ['0x05', '0x07'] })
    const expected = { success: true, token_id: '0x05', token_ids: ['0x05', '0x07'] }
    for (const method of ['get_nfts', 'verify_access'])
      assert.deepEqual(await ask(method, { wallet_address: wallet, contract_address: contract, chain_id: 1 }), expected)
    assert.deepEqual(await ask('get_nfts', { wallet_address: wallet }), expected)
    assert.deepEqual(asked, [contract, contract, contract])
  })

  it('answers in the documented words when there is nothing, and when it can not tell', async () => {
    const failing = new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message: 'No endpoint answered', retryable: true })
    const words = async (params: unknown, world = {}) => (await setUp(world).ask('get_nfts', params)).error
    assert.equal(await words({ wallet_address: wallet }, { held: [] }), 'no NFT found for wallet')
    assert.equal(await words({ wallet_address: wallet }, { contract: undefined }), 'no contract address specified')
    assert.equal(await words({ wallet_address: wallet }, { failing }), 'failed to get NFTs: No endpoint answered')
    assert.equal(await words(undefined), 'invalid params: missing field `wallet_address`')
    assert.equal(await words({ wallet_address: '0x12' }), 'invalid params: wallet_address')
    assert.equal(await words({ wallet_address: wallet, contract_address: 5 }), 'invalid params: contract_address')
  })

  it('says what is no request and which method there is not, also those of every object', async () => {
    const { handle } = setUp()
    for (const request of [null, 5, 'x', [], {}, { method: 5 }])
      assert.deepEqual(await handle(request), { success: false, error: 'invalid request: missing field `method`' })
    for (const method of ['get_nft', 'toString', '__proto__', 'constructor'])
      assert.deepEqual(await handle({ method }), { success: false, error: `unknown method: ${method}` })
    assert.deepEqual(invalidRequest('not JSON'), { success: false, error: 'invalid request: not JSON' })
  })
})

describe('challenge', () => {
  it('opens a code and says what to show', async () => {
    const { ask, challenges } = setUp()
    const { session, ...rest } = await ask('challenge', alice)
    const { code } = challenges.find(session!)!
    assert.deepEqual(rest, { success: true, prompt_text: `Code: ${code}`, prompt: 'Paste: ' })
  })

  it('takes a local one without source, and refuses what is no name', async () => {
    const { ask } = setUp()
    assert.equal((await ask('challenge', { user: 'admin' })).success, true)
    for (const params of [undefined, {}, { user: '' }, { user: 5 }, { user: 'a\nb' }, { user: 'x'.repeat(256) }])
      assert.equal((await ask('challenge', params)).error, 'invalid params: user')
    assert.equal((await ask('challenge', { ...alice, rhost: 'a\u001bb' })).error, 'invalid params: service, rhost')
  })

  it('limits each source, its whole /64, without harm to others; and each user', async () => {
    const { ask } = setUp({ perSource: 2, perUser: 5 })
    const from = async (rhost: string) => (await ask('challenge', { ...alice, rhost })).reason ?? 'asked'
    assert.deepEqual(await Promise.all([1, 2, 3].map(i => from(`2001:db8::${i}`))), ['asked', 'asked', 'too-many'])
    assert.equal(await from('2001:db8:0:1::1'), 'asked')
    assert.equal(await from('192.0.2.1'), 'asked')
    assert.equal(await from('192.0.2.2'), 'asked')
    assert.equal(await from('192.0.2.3'), 'too-many', 'the sixth for this user')
    assert.equal((await ask('challenge', { ...alice, user: 'second', rhost: '192.0.2.4' })).success, true)
  })
})

describe('verify', () => {
  it('says yes when the judge does, once', async () => {
    const { ask, judged } = setUp()
    const { session } = await ask('challenge', alice)
    assert.deepEqual(await ask('verify', { session, answer: 'signature' }), { success: true })
    assert.deepEqual(judged, [['admin', 'signature']])
    const again = await ask('verify', { session, answer: 'signature' })
    assert.deepEqual([again.success, again.reason], [false, 'denied'])
    assert.equal(judged.length, 1)
  })

  it('a refused code is used up too, and the reason is passed on', async () => {
    const verdict: Verdict = { ok: false, why: 'unavailable', error: 'Later.', wallet }
    const { ask } = setUp({ verdict })
    const { session } = await ask('challenge', alice)
    const refused = { success: false, reason: 'unavailable', error: 'Later.' }
    assert.deepEqual(await ask('verify', { session, answer: 'x' }), refused)
    assert.equal((await ask('verify', { session, answer: 'x' })).reason, 'denied')
  })

  it('of two answers at the same time one is judged', async () => {
    const { ask, judged } = setUp()
    const { session } = await ask('challenge', alice)
    const answers = await Promise.all([1, 2].map(() => ask('verify', { session, answer: 'x' })))
    assert.deepEqual(answers.map(({ success }) => success).sort(), [false, true])
    assert.equal(judged.length, 1)
  })

  it('Enter takes what the page sent', async () => {
    const { ask, challenges, judged } = setUp()
    const { session } = await ask('challenge', alice)
    challenges.answer(session!, '0xsigned')
    assert.deepEqual(await ask('verify', { session, answer: ' ' }), { success: true })
    assert.deepEqual(judged, [['admin', '0xsigned']])
  })

  it('Enter without a signature from the page is refused after the grace', async () => {
    const { ask, judged } = setUp()
    const { session } = await ask('challenge', alice)
    const { error } = await ask('verify', { session, answer: '' })
    assert.equal(error, 'No signature came from the browser. Connect again, sign there first, and then press Enter.')
    assert.deepEqual(judged, [])
  })

  it('refuses what is no session and no answer', async () => {
    const { ask } = setUp()
    const { session } = await ask('challenge', alice)
    for (const wrong of [undefined, 5, 'x', `${session}0`, session!.toUpperCase().replace(/\d/g, 'A')])
      assert.equal((await ask('verify', { session: wrong, answer: 'x' })).error, 'invalid params: session')
    for (const wrong of [undefined, 5, 'x'.repeat(20_000)])
      assert.equal((await ask('verify', { session, answer: wrong })).error, 'invalid params: answer')
    assert.equal((await ask('verify', { session: '0'.repeat(32), answer: 'x' })).reason, 'denied')
  })
})

describe('audit', () => {
  it('says who, from where, by which wallet and why; warns of ways around the chain; never the code or the signature', async () => {
    const { ask, lines } = setUp({ verdict: { ok: true, by: 'rescue-file', wallet } })
    const { session, prompt_text } = await ask('challenge', alice)
    await ask('verify', { session, answer: 'the signature' })
    assert.deepEqual(lines.at(-1), ['warn', { ...alice, wallet, by: 'rescue-file' }, 'signed in'])
    const text = JSON.stringify(lines)
    for (const secret of ['the signature', session!, prompt_text!.slice('Code: '.length)])
      assert.ok(!text.includes(secret))
  })
})

type World = {
  held?: readonly string[]
  failing?: Error
  contract?: typeof contract | undefined
  verdict?: Verdict
  perSource?: number
  perUser?: number
  prepare?: () => void
}

function setUp(world: World = {}) {
  const { held = [], failing, verdict = { ok: true, by: 'token', wallet }, perSource = 100, perUser = 100 } = world
  const clock: Clock = { now: () => 1_700_000_000_000, monotonic: () => 5, sleep: async () => undefined }
  const asked: string[] = []
  const judged: string[][] = []
  const lines: [string, LogFields, string][] = []
  const line = (level: string) => (fields: LogFields, message: string) => void lines.push([level, fields, message])
  const log: Log = { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') }
  const chain: ChainBackend = {
    call: async () => [],
    heldTokens: async each => {
      asked.push(each)
      if (failing !== undefined) throw failing
      return held
    },
  }
  const options = { machineId: 'vm', secret: new Uint8Array(32), codeLength: 6, ttlMs: 300_000 }
  const challenges = createChallenges(options, clock)
  const handle = createMethods({
    challenges,
    sources: createRateLimit(perSource, clock),
    users: createRateLimit(perUser, clock),
    judge: async ({ user }, answer) => {
      judged.push([user, answer])
      return verdict
    },
    prepare: async () => world.prepare?.(),
    invite: ({ code }) => ({ text: `Code: ${code}`, prompt: 'Paste: ' }),
    chain,
    contract: 'contract' in world ? world.contract : contract,
    graceMs: 10_000,
    log,
  })
  const ask = (method: string, params?: unknown) => handle({ method, params })
  return { ask, handle, challenges, asked, judged, lines }
}
