// The daemon is killed with -9 at each step of its journal, on a real chain, database, WireGuard interface and firewall, and
// started again. Whatever the step: one lease, one answer on chain, one peer.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Address } from '@blockhost/chain/hex.ts'
import { createRpc, type Rpc } from '@blockhost/chain/rpc.ts'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { brokerRequestsAbi } from '@blockhost/contracts/abi/broker-requests.ts'
import { encodeRequest } from '@blockhost/crypto/broker-messages.ts'
import { encrypt } from '@blockhost/crypto/ecies.ts'
import { generatePrivateKey, publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { generateKeyPair } from '@blockhost/net/wireguard.ts'
import { startAnvil } from '@blockhost/testkit/anvil.ts'
import { type Machine, type MachineProcess, startMachine } from '@blockhost/testkit/machine.ts'
import { deployContract, fundWallets, sendTransaction, testWallet } from '@blockhost/testkit/wallet.ts'
import { fromAbi as eventOf, encode as eventTopics } from 'ox/AbiEvent'
import { decodeResult, encodeData, fromAbi } from 'ox/AbiFunction'

const needsRoot = { skip: process.getuid?.() === 0 ? false : 'needs root for network namespaces' }
const limit = { timeout: 90_000 }
const file = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const program = file('../services/broker/bin/blockhost-broker')

/** Where the daemon stops, and what it was about to do or had just done. */
const leaseSteps = [
  ['eth_call after', 'the request was read, nothing is decided'],
  ['wg-set before', 'the lease is committed, the peer not set'],
  ['wg-set after', 'the peer is set, the daemon does not know'],
  ['nft-add before', 'the firewall does not let the lease through yet'],
  ['nft-add after', 'the firewall has the lease, the daemon does not know'],
  ['eth_estimateGas before', 'the answer is in the outbox, not signed'],
  ['eth_sendRawTransaction before', 'the answer is signed and stored, nobody has it'],
  ['eth_sendRawTransaction after', 'the answer was sent, the daemon does not know'],
  ['eth_getTransactionReceipt after', 'the answer is mined, the daemon has not seen it'],
] as const

const releaseSteps = [
  ['wg-remove before', 'the lease is gone from the database, the peer is not'],
  ['wg-remove after', 'the peer is gone, the daemon does not know'],
  ['eth_sendRawTransaction before', 'the release is signed and stored, nobody has it'],
  ['eth_sendRawTransaction after', 'the release was sent, the daemon does not know'],
] as const

describe('the daemon, killed with -9 at each step of a lease', needsRoot, () => {
  let world: World
  before(async () => {
    world = await makeWorld({ tunnelTimeoutSeconds: 3600 })
  }, limit)
  after(() => world?.[Symbol.asyncDispose]())

  for (const [step, what] of leaseSteps)
    it(`${step}: ${what}`, limit, async () => {
      await world.restartDaemon()
      const { id, nft, publicKey } = await world.killAt(step, () => world.request())
      await world.restartDaemon()
      await world.until(`request ${id} is answered`, () => world.rowOf(id)?.state === 'answered')
      const lease = world.leaseOf(nft)
      assert.equal(lease?.pubkey, publicKey)
      assert.equal(await world.statusOf(id), 1)
      assert.equal(await world.answersTo(id), 1)
      assert.equal((await world.allowedIps()).get(publicKey), lease?.prefix)
      assert.deepEqual([...(await world.allowedIps()).keys()].sort(), world.keysOfLeases())
    })
})

describe('the daemon, killed with -9 at each step of taking a lease back', needsRoot, () => {
  let world: World
  before(async () => {
    world = await makeWorld({ tunnelTimeoutSeconds: 2 })
  }, limit)
  after(() => world?.[Symbol.asyncDispose]())

  for (const [step, what] of releaseSteps)
    it(`${step}: ${what}`, limit, async () => {
      await world.restartDaemon()
      const asked = await world.request()
      await world.until('the answer', () => world.rowOf(asked.id)?.state === 'answered')
      await world.killAt(step, async () => asked)
      await world.restartDaemon()
      await world.until(`request ${asked.id} is released`, () => world.rowOf(asked.id)?.state === 'released')
      assert.equal(world.leaseOf(asked.nft), undefined)
      assert.equal(await world.statusOf(asked.id), 3)
      assert.equal(await world.answersTo(asked.id), 1)
      assert.deepEqual([...(await world.allowedIps()).keys()], [])
    })
})

type Asked = { id: bigint; nft: Address; publicKey: string }

type World = AsyncDisposable & {
  request(): Promise<Asked>
  /** Holds the daemon at a step, lets `work` cause it, and kills it there. */
  killAt(step: string, work: () => Promise<Asked>): Promise<Asked>
  restartDaemon(): Promise<void>
  /** Waits for a condition; a failure shows what the daemon said. */
  until(what: string, look: () => boolean | undefined): Promise<void>
  rowOf(id: bigint): { state: string } | undefined
  leaseOf(nft: Address): { prefix: string; pubkey: string } | undefined
  keysOfLeases(): string[]
  statusOf(id: bigint): Promise<number>
  answersTo(id: bigint): Promise<number>
  /** What the kernel's interface carries: public key -> prefix. */
  allowedIps(): Promise<Map<string, string>>
}

async function makeWorld(options: { tunnelTimeoutSeconds: number }): Promise<World> {
  const machine = await startMachine({ name: 'broker' })
  const anvil = await startAnvil({ prefix: machine.prefix })
  const forward = await machine.forward(anvil.port)
  const rpc = createRpc({ urls: [`http://127.0.0.1:${forward.port}`] }, { clock: systemClock, log: silentLog })
  const proxy = await machine.spawn([process.execPath, file('kill/proxy.ts'), anvil.url])
  await until('the proxy listens', () => proxy.lastLines().includes('listening'))
  await writeHoldingTools(machine)
  // SQLite resolves links, so the database lies where both sides see the same path.
  const folder = mkdtempSync(join(tmpdir(), 'kill-'))
  const databasePath = join(folder, 'ipam.db')
  const { requests, brokerKey } = await deploy(machine, rpc, anvil.url, { ...options, databasePath })
  let daemon: MachineProcess | undefined
  let wallets = 0
  const database = () => new DatabaseSync(databasePath, { readOnly: true })
  const query = <T>(sql: string, ...values: (string | bigint)[]): T[] => {
    const db = database()
    try {
      return db.prepare(sql).all(...values) as T[]
    } finally {
      db.close()
    }
  }
  const read = (name: 'getRequest' | 'getRequestCount', args: readonly bigint[] = []) =>
    rpc.call('eth_call', [
      { to: requests, data: encodeData(fromAbi(brokerRequestsAbi, name), args as never) },
      'latest',
    ])

  return {
    request: async () => {
      const wallet = testWallet(100 + wallets++)
      await fundWallets(rpc, [wallet])
      const nft = await deployContract(rpc, wallet, {
        abi: accessCredentialNftAbi,
        bytecode: accessCredentialNftBytecode,
        args: ['Host', 'HOST', ''],
      })
      const { publicKey } = generateKeyPair()
      const serverPubkey = Buffer.from(publicKeyOf(generatePrivateKey())).toString('hex')
      const payload = encrypt(brokerKey, encodeRequest({ wgPubkey: publicKey, nftContract: nft, serverPubkey }))
      const data = encodeData(fromAbi(brokerRequestsAbi, 'submitRequest'), [
        nft,
        `0x${Buffer.from(payload).toString('hex')}`,
      ])
      await sendTransaction(rpc, wallet, { to: requests, data })
      return { id: BigInt((await read('getRequestCount')) as string), nft, publicKey }
    },
    killAt: async (step, work) => {
      rmSync(machine.path('/run/held'), { force: true })
      writeFileSync(machine.path('/run/hold'), step)
      const asked = await work()
      await machine.exec('sh', [
        '-c',
        'i=0; until [ -e /run/held ] || [ $i -gt 600 ]; do i=$((i+1)); sleep 0.05; done; [ -e /run/held ]',
      ])
      await daemon?.kill('SIGKILL')
      await daemon?.ended
      daemon = undefined
      rmSync(machine.path('/run/hold'))
      return asked
    },
    restartDaemon: async () => {
      if (daemon !== undefined) return
      const env = { PATH: `/run/bin:${process.env.PATH}` }
      const started = await machine.spawn([program], { env })
      await until('the daemon works', () => started.lastLines().some(line => line.includes('"started"')))
      daemon = started
    },
    until: (what, look) =>
      until(what, look).catch(error => {
        throw new Error([error.message, ...(daemon?.lastLines() ?? ['the daemon is not running'])].join('\n'))
      }),
    rowOf: id => query<{ state: string }>('SELECT state FROM requests WHERE id = ?', id)[0],
    leaseOf: nft =>
      query<{ prefix: string; pubkey: string }>(
        'SELECT prefix, pubkey FROM allocations WHERE nft_contract = ?',
        nft.toLowerCase(),
      )[0],
    keysOfLeases: () =>
      query<{ pubkey: string }>('SELECT pubkey FROM allocations')
        .map(row => row.pubkey)
        .sort(),
    statusOf: async id => {
      const request = decodeResult(
        fromAbi(brokerRequestsAbi, 'getRequest'),
        (await read('getRequest', [id])) as Address,
      )
      return request.status
    },
    answersTo: async id => {
      const { topics } = eventTopics(eventOf(brokerRequestsAbi, 'ResponseSubmitted'), { requestId: id })
      const logs = await rpc.call('eth_getLogs', [{ address: requests, topics, fromBlock: '0x0', toBlock: 'latest' }])
      return (logs as unknown[]).length
    },
    allowedIps: async () => {
      const { stdout } = await machine.exec('wg', ['show', 'wg-broker', 'allowed-ips'])
      return new Map(
        stdout
          .trim()
          .split('\n')
          .filter(Boolean)
          .map(line => line.split('\t') as [string, string]),
      )
    },
    [Symbol.asyncDispose]: async () => {
      await forward[Symbol.asyncDispose]()
      await anvil[Symbol.asyncDispose]()
      await machine[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** `wg` and `nft` that stop for ever where /run/hold says so, before or after the real one ran. */
async function writeHoldingTools(machine: Machine): Promise<void> {
  mkdirSync(machine.path('/run/bin'))
  const tool = (name: string, cases: string) => `#!/bin/sh
hold=$(cat /run/hold 2>/dev/null)
input=$(mktemp -p /run)
[ -t 0 ] || cat >"$input"
step=
case "$*" in
${cases}
esac
stop() { touch /run/held; exec sleep 1000; }
[ -n "$step" ] && [ "$hold" = "$step before" ] && stop
/usr/bin/env PATH=/usr/sbin:/usr/bin ${name} "$@" <"$input"
status=$?
rm -f "$input"
[ -n "$step" ] && [ "$hold" = "$step after" ] && stop
exit $status
`
  const scripts = {
    wg: tool('wg', '*" remove"*) step=wg-remove ;;\n"set "*|"addconf "*) step=wg-set ;;'),
    nft: tool('nft', '*) grep -q "add element" "$input" && step=nft-add ;;'),
  }
  for (const [name, text] of Object.entries(scripts))
    writeFileSync(machine.path(`/run/bin/${name}`), text, { mode: 0o755 })
}

/** Keys, contracts and a configuration, by the shipped commands. */
async function deploy(
  machine: Machine,
  rpc: Rpc,
  anvilUrl: string,
  options: { tunnelTimeoutSeconds: number; databasePath: string },
) {
  const keys = JSON.parse((await machine.exec(program, ['keygen', '--json'])).stdout)
  await rpc.call('anvil_setBalance', [keys.operator, '0x8ac7230489e80000'])
  const folder = '/etc/blockhost-broker'
  const keyFiles = ['--operator-key', `${folder}/operator.key`, '--ecies-key', `${folder}/ecies.key`]
  const chain = ['--rpc-url', anvilUrl, '--chain-id', '31337']
  const deployed = JSON.parse((await machine.exec(program, ['deploy', ...chain, ...keyFiles, '--json'])).stdout)
  writeFileSync(
    machine.path(`${folder}/config.toml`),
    `[broker]
upstream_prefix = "2001:db8:1:2::/64"
allocation_size = 120
broker_ipv6 = "2001:db8:1:2::1"
[leases]
tunnel_timeout_s = ${options.tunnelTimeoutSeconds}
[database]
path = "${options.databasePath}"
[wireguard]
public_endpoint = "198.51.100.1:51820"
[onchain]
enabled = true
rpc_url = "http://127.0.0.1:8600"
chain_id = 31337
private_key_file = "${folder}/operator.key"
ecies_private_key_file = "${folder}/ecies.key"
requests_contract = "${deployed.requests_contract}"
poll_interval_ms = 1000
`,
  )
  const brokerKey = new Uint8Array(Buffer.from(keys.ecies_public_key.replace(/^0x/, ''), 'hex'))
  return { requests: deployed.requests_contract as Address, brokerKey }
}

/** Waits for a condition; returns what it found. */
async function until(what: string, look: () => boolean | undefined): Promise<void> {
  const giveUp = performance.now() + 45_000
  while (!look()) {
    if (performance.now() > giveUp) throw new Error(`Waited 45 s in vain: ${what}`)
    await systemClock.sleep(30)
  }
}
