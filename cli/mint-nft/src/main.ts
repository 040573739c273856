/** `mint-nft`: argv, environment and wiring. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { Address } from '@blockhost/chain/hex.ts'
import { readEngineConfig } from '@blockhost/engine/config.ts'
import { type MintRequest, mintCall } from '@blockhost/engine/mint-call.ts'
import { configFolder } from '@blockhost/hostconfig/config-folder.ts'
import { describeError, errorToJson, exitCodes, toExitCode } from '@blockhost/kit/errors.ts'
import { mintToken } from './mint.ts'
import { openMinter } from './minter.ts'

const usage = `usage: mint-nft --owner-wallet 0x... --machine-id NAME [options]

Mints an access token of the host's NFT contract. The same machine and owner again is the same mint: nothing is minted twice.

  --owner-wallet 0x...    who gets it
  --machine-id NAME       machine that it stands for
  --user-encrypted HEX    connection details, encrypted for the owner; - reads them from standard input
  --public-secret TEXT    what the owner signs to decrypt them
  --dry-run               only show the transaction

The last line is BLOCKHOST_RESULT: and one JSON object. Exit codes: 0 done, 1 failed, 2 usage, 75 try again, 78 configuration
`

if (import.meta.main) process.exitCode = await main(process.argv.slice(2), process.env)

/** Runs one command line to its end and returns the exit code. */
export async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const parsed = parseMintArgs(argv, () => readFileSync(0, 'utf8').trim())
  if (!parsed.ok) {
    process[parsed.message === usage ? 'stdout' : 'stderr'].write(parsed.message)
    return parsed.message === usage ? exitCodes.ok : exitCodes.usage
  }
  try {
    print(await run(parsed, env))
    return exitCodes.ok
  } catch (error) {
    process.stderr.write(`mint-nft: ${describeError(error)}\n`)
    print({ status: 'failed', error: errorToJson(error) })
    return toExitCode(error)
  }
}

/** Outcome of {@link parseMintArgs}. */
export type ParsedMintArgs =
  | { readonly ok: true; readonly dryRun: boolean; readonly request: MintRequest }
  | { readonly ok: false; readonly message: string }

/** Reads the command line. @param readInput - Called when the connection details come from standard input. */
export function parseMintArgs(argv: readonly string[], readInput: () => string): ParsedMintArgs {
  let values: ReturnType<typeof parse>
  try {
    values = parse(argv)
  } catch (error) {
    return wrong((error as Error).message.split('\n')[0]!)
  }
  if (values.help === true) return { ok: false, message: usage }
  const owner = values['owner-wallet'] ?? ''
  if (!/^0x[\da-f]{40}$/i.test(owner)) return wrong('--owner-wallet: expected 0x and 40 hex digits')
  const machineId = values['machine-id'] ?? ''
  if (!/^[\x21-\x7e]{1,128}$/.test(machineId)) return wrong('--machine-id: expected 1 to 128 characters without blanks')
  const given = values['user-encrypted'] ?? ''
  const hex = (given === '-' ? readInput() : given).replace(/^0x/i, '')
  if (!/^([\da-f]{2})*$/i.test(hex)) return wrong('--user-encrypted: expected bytes in hex')
  const userEncrypted = Uint8Array.fromHex(hex)
  const publicSecret = values['public-secret'] ?? ''
  const request = { owner: owner as Address, machineId, userEncrypted, publicSecret }
  return { ok: true, dryRun: values['dry-run'] === true, request }
}

function wrong(message: string): ParsedMintArgs {
  return { ok: false, message: `mint-nft: ${message}\n\n${usage}` }
}

function parse(argv: readonly string[]) {
  const text = { type: 'string' } as const
  return parseArgs({
    args: [...argv],
    options: {
      'owner-wallet': text,
      'machine-id': text,
      'user-encrypted': text,
      'public-secret': text,
      'dry-run': { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values
}

async function run({ dryRun, request }: { dryRun: boolean; request: MintRequest }, env: NodeJS.ProcessEnv) {
  const config = readEngineConfig(configFolder(env))
  const { nft } = config.rules
  const about = { owner: request.owner, machine_id: request.machineId, nft_contract: nft }
  if (dryRun) return { status: 'dry-run', ...about, chain_id: config.chainId, data: mintCall(request) }
  using minter = openMinter(config)
  const { tokenId, hash } = await mintToken(minter, request)
  return { status: 'minted', ...about, nft_token_id: Number(tokenId), transaction: hash }
}

function print(result: unknown): void {
  process.stdout.write(`BLOCKHOST_RESULT: ${JSON.stringify(result)}\n`)
}
