import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Address } from '@blockhost/chain/hex.ts'
import { accessCredentialNftAbi as abi } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { addressOf } from '@blockhost/crypto/key-file.ts'
import { signInText } from '@blockhost/crypto/otp.ts'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import fc from 'fast-check'
import { encodeResult, fromAbi } from 'ox/AbiFunction'
import type { ChainBackend } from './chain-backend.ts'
import { judge } from './judge.ts'
import type { KnownOwner, LastKnown } from './last-known.ts'
import type { CallAnswer } from './token-calls.ts'
import type { TrustedFile } from './trusted-file.ts'

const ownerKey = new Uint8Array(32).fill(0x11)
const strangerKey = new Uint8Array(32).fill(0x22)
const owner = addressOf(ownerKey)
const stranger = addressOf(strangerKey)
const contract: Address = '0x00000000000000000000000000000000000000aa'
const text = signInText('vm.12345678', 'ABC234')
const passwd = 'admin:x:1:1:nft=5:/:/bin/sh\nsecond:x:2:2:nft=6:/:/bin/sh\nplain:x:3:3::/:/bin/sh\n'
const outage = new BlockHostError({ code: 'BH_RPC_UNAVAILABLE', message: 'down', retryable: true })

describe('the token’s holder', () => {
  it('gets in, with one round trip; what was read is remembered', async () => {
    const world = setUp()
    assert.deepEqual(await world.signIn('admin', ownerKey), { ok: true, by: 'token', wallet: owner })
    assert.deepEqual(world.trips, [3])
    assert.deepEqual(world.remembered, [['5', owner.toLowerCase(), 99]])
  })

  it('is looked up for the user asked for: another user’s holder, no token, no user', async () => {
    const world = setUp()
    await world.signIn('second', ownerKey)
    assert.deepEqual(world.tokens, [6n])
    const why = async (user: string) => {
      const verdict = await world.signIn(user, ownerKey)
      return verdict.ok ? 'in' : [verdict.why, verdict.error]
    }
    const words =
      'That is not a signature of a wallet that may sign in as this user. Connect again, and choose the right account in your wallet.'
    assert.deepEqual(await why('plain'), ['denied', words])
    assert.deepEqual(await why('nobody'), ['user-unknown', words])
    const garbage = await world.judge('admin', 'garbage')
    assert.deepEqual(garbage.ok || garbage.error, words, 'sshd answers so for users that are none')
  })

  it('a stranger, a token that is none and one that is over are refused', async () => {
    assert.equal(await setUp().why('admin', strangerKey), 'denied')
    const none = setUp({ exists: false })
    assert.equal(await none.why('admin', ownerKey), 'denied')
    assert.deepEqual(none.forgotten, ['5'])
    const over = setUp({ expired: true })
    const verdict = await over.signIn('admin', ownerKey)
    assert.ok(!verdict.ok && verdict.error.startsWith('Your access to this server is over'))
    assert.deepEqual(over.forgotten, ['5'])
    const told = await over.signIn('admin', strangerKey)
    assert.ok(!told.ok && !told.error.includes('over'), 'a stranger does not learn that')
  })
})

describe('contract wallets (EIP-1271)', () => {
  it('are asked with the very signature, of any length, in a second round trip', async () => {
    const world = setUp({ magic: true })
    const long = `0x${'ab'.repeat(200)}`
    assert.deepEqual(await world.judge('admin', long), { ok: true, by: 'contract-wallet', wallet: owner.toLowerCase() })
    assert.deepEqual(world.trips, [3, 1])
    assert.ok((await world.signIn('admin', strangerKey)).ok, 'a signature of one of its owners')
  })

  it('are refused when they say no, revert, or when their access is over', async () => {
    assert.equal(await setUp({ magic: false }).why('admin', strangerKey), 'denied')
    assert.equal(await setUp({ magic: true, expired: true }).why('admin', strangerKey), 'denied')
  })
})

describe('while the chain can not be read', () => {
  const known: KnownOwner = { owner: owner.toLowerCase() as Address, expiresAt: 0, seenAtMs: 0 }

  it('the last known holder gets in, nobody else, and no contract wallet', async () => {
    const world = setUp({ failing: outage, known })
    assert.deepEqual(await world.signIn('admin', ownerKey), { ok: true, by: 'last-known', wallet: owner })
    assert.equal(await world.why('admin', strangerKey), 'denied')
    assert.equal((await world.judge('admin', `0x${'ab'.repeat(200)}`)).ok, false)
  })

  it('without a last known holder it is unavailable', async () => {
    assert.equal(await setUp({ failing: outage }).why('admin', ownerKey), 'unavailable')
  })

  it('an endpoint of another chain is no outage: nothing bridges it', async () => {
    const failing = new BlockHostError({ code: 'BH_WRONG_CHAIN', message: 'wrong chain' })
    assert.equal(await setUp({ failing, known }).why('admin', ownerKey), 'unavailable')
  })

  it('a chain that never answers is given up at the deadline', async () => {
    const world = setUp({ hangs: true, known })
    assert.deepEqual(await world.signIn('admin', ownerKey), { ok: true, by: 'last-known', wallet: owner })
  })
})

describe('wallet files', () => {
  const file = (line: string): TrustedFile => ({ kind: 'read', text: `${line}\n` })

  it('mode wallet: exactly the listed pairs, and no chain', async () => {
    const world = setUp({ mode: 'wallet', wallets: file(`${stranger}:admin`), failing: outage })
    assert.deepEqual(await world.signIn('admin', strangerKey), { ok: true, by: 'wallet-file', wallet: stranger })
    assert.equal(await world.why('second', strangerKey), 'denied')
    assert.equal(await world.why('admin', ownerKey), 'denied')
    assert.deepEqual(world.trips, [])
  })

  it('rescue: in every mode, without chain, only for the user it is listed for', async () => {
    for (const mode of ['nft', 'wallet'] as const) {
      const world = setUp({ mode, rescue: file(`${stranger}:plain`), failing: outage })
      assert.deepEqual(await world.signIn('plain', strangerKey), { ok: true, by: 'rescue-file', wallet: stranger })
      assert.equal((await world.signIn('admin', strangerKey)).ok, false)
    }
  })

  it('a file that must not be believed lets nobody in', async () => {
    const refused: TrustedFile = { kind: 'refused', reason: 'others can write it' }
    assert.equal(await setUp({ mode: 'wallet', wallets: refused }).why('admin', ownerKey), 'denied')
    assert.equal(await setUp({ rescue: refused, failing: outage }).why('plain', ownerKey), 'denied')
  })
})

describe('answers', () => {
  it('whatever is pasted is refused, without a round trip unless it could be a signature', async () => {
    const world = setUp()
    const shape = /^(0x)?[0-9a-f]{128,8192}$/i
    const pasted = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc.uint8Array({ maxLength: 80 }).map(b => b.toHex()),
    )
    await fc.assert(
      fc.asyncProperty(pasted, async answer => {
        world.trips.length = 0
        assert.equal((await world.judge('admin', answer)).ok, false)
        if (!shape.test(answer.trim())) assert.deepEqual(world.trips, [])
      }),
      { numRuns: 300 },
    )
  })

  it('a signature of another text, and one changed by a bit, are refused', async () => {
    const world = setUp()
    const good = signMessage(text, ownerKey)
    assert.equal((await world.judge('admin', signMessage(`${text} `, ownerKey))).ok, false)
    for (let at = 2; at < 130; at += 16) {
      const changed = good.slice(0, at) + (Number.parseInt(good[at]!, 16) ^ 1).toString(16) + good.slice(at + 1)
      assert.equal((await world.judge('admin', changed)).ok, false, `digit ${at}`)
    }
  })
})

type World = {
  mode?: 'nft' | 'wallet'
  exists?: boolean
  expired?: boolean
  magic?: boolean
  failing?: Error
  hangs?: boolean
  known?: KnownOwner
  wallets?: TrustedFile
  rescue?: TrustedFile
}

function setUp(world: World = {}) {
  const { mode = 'nft', exists = true, expired = false, known } = world
  const absent: TrustedFile = { kind: 'absent' }
  const trips: number[] = []
  const tokens: bigint[] = []
  const remembered: unknown[][] = []
  const forgotten: string[] = []
  const returned = (data: `0x${string}`): CallAnswer => ({ kind: 'returned', data })
  const view: CallAnswer[] = exists
    ? [
        returned(encodeResult(fromAbi(abi, 'ownerOf'), owner)),
        returned(encodeResult(fromAbi(abi, 'isExpired'), expired)),
        returned(encodeResult(fromAbi(abi, 'getAccessData'), ['0x', '', 1n, 99n])),
      ]
    : [1, 2, 3].map(() => ({ kind: 'reverted', empty: false }))
  const chain: ChainBackend = {
    heldTokens: async () => [],
    call: async calls => {
      trips.push(calls.length)
      if (world.failing !== undefined) throw world.failing
      if (world.hangs) return new Promise(() => undefined)
      if (calls.length === 1)
        return [world.magic ? returned(`0x1626ba7e${'0'.repeat(56)}`) : { kind: 'reverted', empty: true }]
      tokens.push(BigInt(`0x${calls[0]!.data.slice(10)}`))
      return view
    },
  }
  const lastKnown: LastKnown = {
    find: () => known,
    remember: ({ tokenId }, ...rest) => void remembered.push([`${tokenId}`, ...rest]),
    forget: ({ tokenId }) => void forgotten.push(`${tokenId}`),
  }
  const deps = {
    chain,
    lastKnown,
    readPasswd: () => passwd,
    readWallets: () => world.wallets ?? absent,
    readRescueWallets: () => world.rescue ?? absent,
    log: silentLog,
  }
  const judgeAs = (user: string, answer: string) =>
    judge({ user, text, answer }, { mode, chainId: 1, contract, deadlineMs: world.hangs ? 20 : 5000 }, deps)
  const signIn = (user: string, key: Uint8Array) => judgeAs(user, signMessage(text, key))
  const why = async (user: string, key: Uint8Array) => {
    const verdict = await signIn(user, key)
    return verdict.ok ? 'in' : verdict.why
  }
  return { judge: judgeAs, signIn, why, trips, tokens, remembered, forgotten }
}
