/** A server to sign in to: sshd with our PAM module, the auth service behind sockets as systemd makes them, and a chain. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Address } from '@blockhost/chain/hex.ts'
import { accessCredentialNftAbi, accessCredentialNftBytecode } from '@blockhost/contracts/abi/access-credential-nft.ts'
import { type Anvil, startAnvil } from '@blockhost/testkit/anvil.ts'
import { type Machine, type MachineProcess, splice, startMachine } from '@blockhost/testkit/machine.ts'
import { type RpcProxy, startRpcProxy } from '@blockhost/testkit/rpc-proxy.ts'
import { deployContract, fundWallets, sendTransaction, type TestWallet, testWallet } from '@blockhost/testkit/wallet.ts'
import { encodeData } from 'ox/AbiFunction'
import { type Connection, connectSsh } from './ssh.ts'

const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

/** Programs and headers that the tests can't do without; a sentence for what is missing. */
export function missingForLogin(): string | false {
  if (process.getuid?.() !== 0) return 'needs root for network namespaces'
  const needed = {
    '/usr/sbin/sshd': 'openssh-server',
    '/usr/bin/ssh': 'openssh-client',
    '/usr/include/security/pam_modules.h': 'libpam0g-dev',
    '/usr/bin/gcc': 'gcc',
    '/usr/bin/make': 'make',
    '/usr/bin/systemd-socket-activate': 'systemd',
    '/usr/bin/script': 'bsdutils',
  }
  const missing = Object.entries(needed).filter(([path]) => !existsSync(path))
  return missing.length === 0 ? false : `needs the Debian packages ${missing.map(([, name]) => name).join(' ')}`
}

/** Name of the server in the signed text. */
export const machineId = 'blockhost-005.1a2b3c4d'

/** Unix id the service runs as. */
export const serviceUser = 2100
const rpcPort = 8545

/** The server and everything around it. */
export type LoginWorld = AsyncDisposable & {
  readonly machine: Machine
  readonly anvil: Anvil
  readonly proxy: RpcProxy
  readonly contract: Address
  /** Owns the contract. */
  readonly operator: TestWallet
  /** Tokens 0 and 1, for the users `admin` and `second`. */
  readonly owners: readonly [TestWallet, TestWallet]
  /** Calls a function of the contract and waits for the block. */
  send(from: TestWallet, name: 'updateExpiration' | 'transferFrom', args: readonly unknown[]): Promise<void>
  /** Connects and expects to be asked. */
  connect(user: string): Promise<Connection>
  /** Makes the sockets; the service starts with the first connection. */
  startService(): Promise<MachineProcess>
  /** Lines of the service's log, parsed. */
  serviceLog(): readonly Record<string, unknown>[]
}

/** Builds the PAM module and starts everything but the service. */
export async function makeLoginWorld(): Promise<LoginWorld> {
  execFileSync('make', ['-C', file('pam'), '--silent'], { stdio: ['ignore', 'ignore', 'inherit'] })
  await using stack = new AsyncDisposableStack() // ends what was started when the rest fails
  const anvil = stack.use(await startAnvil())
  const proxy = stack.use(await startRpcProxy(anvil.url))
  const machine = stack.use(await startMachine({ name: 'blockhost-005' }))
  const operator = testWallet(10)
  const owners = [testWallet(11), testWallet(12)] as const
  await fundWallets(anvil.rpc, [operator, ...owners])
  const contract = await deployContract(anvil.rpc, operator, {
    abi: accessCredentialNftAbi,
    bytecode: accessCredentialNftBytecode,
    args: ['Access', 'ACCESS', ''],
  })
  for (const { address } of owners)
    await sendTransaction(anvil.rpc, operator, {
      to: contract,
      data: encodeData(accessCredentialNftAbi, 'mint', [address, '0x01', 'secret', '', '', '', 0n]),
    })
  mkdirSync(machine.path(sourceInside))
  await machine.exec('mount', ['--bind', file(''), sourceInside])
  stack.defer(await joinRpc(machine, proxy))
  setUpServer(machine, contract)
  await machine.exec('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', '/run/host_key'])
  const sshd = await machine.spawn(['/usr/sbin/sshd', '-D', '-e', '-f', '/etc/ssh/sshd_config'])
  await listening(machine, ':22 ').catch(error => {
    throw new Error(`sshd does not listen: ${sshd.lastLines().join('; ')}`, { cause: error })
  })
  const log: string[] = []
  const owned = stack.move()
  return {
    machine,
    anvil,
    proxy,
    contract,
    operator,
    owners,
    async send(from, name, args) {
      const data = encodeData(accessCredentialNftAbi, name, args as never)
      await sendTransaction(anvil.rpc, from, { to: contract, data })
    },
    async connect(user) {
      const connection = await connectSsh(machine, user)
      if ('answer' in connection) return connection
      throw new Error(
        [`SSH did not ask ${user}:`, connection.screen, ...sshd.lastLines().slice(-3), ...log.slice(-5)].join('\n'),
      )
    },
    async startService() {
      const service = await machine.spawn(serviceCommand, { onLine: line => log.push(line) })
      await listening(machine, ':8443 ')
      return service
    },
    serviceLog: () => log.filter(line => line.startsWith('{')).map(line => JSON.parse(line)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Where the machine has this tree, too: the tree itself may lie in a folder that is closed to the service's user. */
const sourceInside = '/run/source'

/** As systemd does it: the sockets are root's, the service is nobody. */
const serviceCommand = [
  'systemd-socket-activate',
  '--listen=/run/web3-auth/web3-auth.sock',
  '--listen=8443',
  '--fdname=frames:page',
  '--setenv=STATE_DIRECTORY=/var/lib/web3-auth',
  '--setenv=CACHE_DIRECTORY=/var/cache/web3-auth',
  'setpriv',
  `--reuid=${serviceUser}`,
  `--regid=${serviceUser}`,
  '--clear-groups',
  `${sourceInside}/services/web3-auth-svc/bin/web3-auth-svc`,
] as const

/** Brings the chain's endpoint, which listens out here, to a port inside. */
async function joinRpc(machine: Machine, proxy: RpcProxy): Promise<() => void> {
  const server = createServer(client => splice(client, connect(Number(new URL(proxy.url).port), '127.0.0.1')))
  await new Promise<void>(resolve => server.listen(machine.path('/run/rpc.sock'), resolve))
  await machine.spawn([process.execPath, file('e2e/login/rpc-inside.ts'), '/run/rpc.sock', `${rpcPort}`])
  await listening(machine, `:${rpcPort} `)
  return () => void server.close()
}

function setUpServer(machine: Machine, contract: Address): void {
  const write = (path: string, text: string, mode = 0o644) => writeFileSync(machine.path(path), text, { mode })
  for (const folder of ['/run/sshd', '/run/home', '/run/web3-auth', '/etc/web3-auth', '/etc/pam_web3'])
    mkdirSync(machine.path(folder), { recursive: true })
  for (const folder of ['/var/lib/web3-auth', '/var/cache/web3-auth']) {
    mkdirSync(machine.path(folder), { recursive: true })
    execFileSync('chown', [`${serviceUser}:${serviceUser}`, machine.path(folder)])
  }
  const users = ['admin:x:2001:2001:nft=0:/run/home:/bin/sh', 'second:x:2002:2002:Second,nft=1:/run/home:/bin/sh']
  appendFileSync(machine.path('/etc/passwd'), `${users.join('\n')}\nplain:x:2003:2003::/run/home:/bin/sh\n`)
  appendFileSync(
    machine.path('/etc/shadow'),
    ['admin', 'second', 'plain'].map(name => `${name}:*:20000::::::\n`).join(''),
  )
  mkdirSync(machine.path('/etc/ssh/sshd_config.d'), { recursive: true })
  const dropIn = readFileSync(file('pam/etc/00-web3.conf'), 'utf8')
  write('/etc/ssh/sshd_config.d/00-web3.conf', dropIn)
  // Debian's own, with what it has against us: a drop-in and the main file that say no.
  write('/etc/ssh/sshd_config.d/50-cloud-init.conf', 'PasswordAuthentication yes\nKbdInteractiveAuthentication no\n')
  write(
    '/etc/ssh/sshd_config',
    'Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nPort 22\nHostKey /run/host_key\n',
  )
  const pam = readFileSync(file('pam/etc/pam.d-sshd'), 'utf8')
  write('/etc/pam.d/sshd', pam.replace('pam_web3.so', file('pam/build/pam_web3.so')))
  const limits = '[login]\nattempts_per_minute_per_source = 1000\nattempts_per_minute_per_user = 1000\n'
  write(
    '/etc/web3-auth/config.toml',
    `[jsonrpc]\nrpc_url = "http://127.0.0.1:${rpcPort}"\ntimeout_seconds = 2\n${limits}`,
  )
  write(
    '/etc/pam_web3/config.toml',
    `[machine]\nid = "${machineId}"\n[auth]\nmode = "nft"\nsigning_url = "https://127.0.0.1:8443"\n` +
      `[blockchain]\nchain_id = 31337\nnft_contract = "${contract}"\n`,
  )
}

async function listening(machine: Machine, what: string): Promise<void> {
  const giveUp = performance.now() + 20_000
  while (!(await machine.exec('ss', ['-Hlnt'])).stdout.includes(what)) {
    if (performance.now() > giveUp) throw new Error(`nothing listens on ${what}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
