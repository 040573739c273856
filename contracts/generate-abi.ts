/**
 * Writes `contracts/abi/`: one TypeScript file per contract, with its ABI (typed, for viem) and its creation code.
 *
 * `node contracts/generate-abi.ts` compiles and writes; with `--check` it compiles, compares, and exits 1 naming what is
 * stale. The compiler and its settings are pinned (foundry.toml), so the same source gives the same bytes anywhere.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { foundryProgram } from './foundry.ts'

/** A contract to publish: `source` is where it is declared, `file` what is written, `name` the prefix of the exports. */
type Publication = { contract: string; source: string; file: string; name: string; shapes?: string; about: string }

/** The part of a forge artifact (`out/X.sol/X.json`) that is read. `object` is 0x-prefixed hex. */
type Artifact = { abi: readonly AbiItem[]; bytecode: { object: string } }

type AbiItem = { type: string; name?: string }

const here = import.meta.dirname

/** What is generated. `shapes` names an interface whose items join the ABI, because the contract only answers in them. */
const publications: readonly Publication[] = [
  {
    contract: 'BrokerRegistry',
    source: 'src/BrokerRegistry.sol',
    file: 'broker-registry.ts',
    name: 'brokerRegistry',
    about: 'The public list of brokers.',
  },
  {
    contract: 'BrokerRequests',
    source: 'src/BrokerRequests.sol',
    file: 'broker-requests.ts',
    name: 'brokerRequests',
    about: 'Requests to one broker, and its answers.',
  },
  {
    contract: 'BrokerLens',
    source: 'src/BrokerLens.sol',
    file: 'broker-lens.ts',
    name: 'brokerLens',
    shapes: 'IBrokerLens',
    about: 'Never deployed: eth_call with creation code and constructor arguments; decode as the result of `snapshot`.',
  },
  {
    contract: 'AccessCredentialNFT',
    source: 'src/AccessCredentialNFT.sol',
    file: 'access-credential-nft.ts',
    name: 'accessCredentialNft',
    about: "A host's access tokens; its owner is the host operator.",
  },
  {
    contract: 'BlockhostSubscriptions',
    source: 'src/BlockhostSubscriptions.sol',
    file: 'blockhost-subscriptions.ts',
    name: 'blockhostSubscriptions',
    about: 'Where buyers pay one host for machines.',
  },
  {
    contract: 'SubscriptionsLens',
    source: 'src/SubscriptionsLens.sol',
    file: 'subscriptions-lens.ts',
    name: 'subscriptionsLens',
    shapes: 'ISubscriptionsLens',
    about: 'Never deployed: eth_call with creation code and constructor arguments; decode as the result of `snapshot`.',
  },
  {
    contract: 'TestToken',
    source: 'test/Tokens.sol',
    file: 'test-token.ts',
    name: 'testToken',
    about: 'An ERC-20 that anyone may make more of, for tests and the demo; never accept it for money.',
  },
  legacy('BrokerRegistryV1', 'broker-registry-v1.ts', 'brokerRegistryV1', 'The first generation of the registry.'),
  legacy('BrokerRegistryV2', 'broker-registry-v2.ts', 'brokerRegistryV2', 'The second generation of the registry.'),
  legacy('BrokerRequestsV1', 'broker-requests-v1.ts', 'brokerRequestsV1', 'The first generation of the requests.'),
  legacy('BrokerRequestsV2', 'broker-requests-v2.ts', 'brokerRequestsV2', 'The second generation of the requests.'),
]

function legacy(contract: string, file: string, name: string, about: string): Publication {
  const note = `${about} A fixture for tests against the field; never deploy it.`
  return { contract, source: `test/legacy/${contract}.sol`, file: `legacy/${file}`, name, about: note }
}

function main(argv: readonly string[]): number {
  compile()
  const files = new Map(publications.map(p => [join('abi', p.file), render(p)]))
  const stale = [...new Set([...files.keys(), ...committedFiles()])].filter(path => files.get(path) !== readText(path))
  if (argv.includes('--check')) return report(stale)
  for (const path of stale) write(path, files.get(path))
  console.log(stale.length === 0 ? 'contracts/abi is up to date' : `updated: ${stale.join(', ')}`)
  return 0
}

function compile(): void {
  execFileSync(foundryProgram('forge'), ['build', '--silent'], { cwd: here, stdio: ['ignore', 'ignore', 'inherit'] })
}

function render({ contract, source, name, shapes, about }: Publication): string {
  const artifact = readArtifact(source, contract)
  const abi = shapes ? joinAbis(artifact.abi, readArtifact(`src/interfaces/${shapes}.sol`, shapes).abi) : artifact.abi
  return [
    `// Generated from contracts/${source} by contracts/generate-abi.ts. Do not edit.`,
    '',
    `/** ABI of ${contract}. ${about} */`,
    `export const ${name}Abi = [`,
    ...abi.map(item => `  ${JSON.stringify(item)},`),
    '] as const',
    '',
    `/** Creation code of ${contract}, without constructor arguments. */`,
    `export const ${name}Bytecode =`,
    `  '${artifact.bytecode.object}' as const`,
    '',
  ].join('\n')
}

/** The items of both, those they share (errors) once. */
function joinAbis(a: readonly AbiItem[], b: readonly AbiItem[]): readonly AbiItem[] {
  const seen = new Set(a.map(item => `${item.type} ${item.name}`))
  return [...a, ...b.filter(item => !seen.has(`${item.type} ${item.name}`))]
}

function readArtifact(source: string, contract: string): Artifact {
  const folder = source.slice(source.lastIndexOf('/') + 1)
  return JSON.parse(readFileSync(join(here, 'out', folder, `${contract}.json`), 'utf8'))
}

function committedFiles(): string[] {
  const entries = readdirSync(join(here, 'abi'), { recursive: true, withFileTypes: true })
  return entries.filter(e => e.isFile()).map(e => join(relative(here, e.parentPath), e.name))
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(join(here, path), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function write(path: string, text: string | undefined): void {
  const file = join(here, path)
  mkdirSync(dirname(file), { recursive: true })
  if (text === undefined) rmSync(file)
  else writeFileSync(file, text)
}

function report(stale: readonly string[]): number {
  if (stale.length === 0) return 0
  console.error(`stale: ${stale.map(path => `contracts/${path}`).join(', ')}. Run: node contracts/generate-abi.ts`)
  return 1
}

if (import.meta.main) process.exitCode = main(process.argv.slice(2))
