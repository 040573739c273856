import { parseArgs } from 'node:util'
import { isVmName } from '@blockhost/vmdb/vm-database.ts'

/** What `vm-generator` was asked for. */
export type GeneratorArgs = {
  readonly name: string
  readonly ownerWallet: `0x${string}`
  readonly apply: boolean
  readonly purpose: string
  readonly username: string
  /** Absent: the plan sizes of blockhost.yaml. */
  readonly vcpus: number | undefined
  readonly memoryMiB: number | undefined
  readonly diskGiB: number | undefined
  readonly expiryDays: number | undefined
  /** Absolute, Unix seconds; wins over days. */
  readonly expiresAt: number | undefined
  /** Name of a template, or the absolute path of one. */
  readonly cloudInit: string
  readonly nftTokenId: bigint | undefined
  readonly mint: boolean
  /** File with the owner's signature of the public secret; `-` is standard input. */
  readonly signatureFile: string | undefined
  readonly publicSecret: string | undefined
}

/** Outcome of {@link parseGeneratorArgs}. */
export type ParsedGeneratorArgs =
  | { readonly ok: true; readonly args: GeneratorArgs }
  | { readonly ok: false; readonly help: boolean; readonly message: string }

/** The help of `vm-generator`. */
export const generatorUsage = `usage: vm-generator NAME --owner-wallet 0x... [options]

Makes a VM, mints the access token of its owner and lets the token's holder in. Says what it would do unless told --apply.

  --apply                     do it
  --owner-wallet 0x...        who gets the token
  --purpose TEXT              a note for people
  --username NAME             Unix user of the owner in the VM (default: admin)
  --cpu N --memory MIB --disk GIB   size (default: the default plan's of blockhost.yaml)
  --expiry-days N             paid for so long from now (default: default_expiry_days of db.yaml)
  --expires-at SECONDS        paid until, Unix time
  --cloud-init NAME           nft-auth (default), webserver, devbox, or the absolute path of your own template
  --cloud-init-content FILE   the same as --cloud-init with a path
  --nft-token-id N            bind this token, mint none
  --skip-mint, --no-mint      mint none
  --user-signature-file FILE  the owner's signature of the public secret, 65 bytes in hex; - reads standard input
  --public-secret TEXT        what the owner signed, and signs again to read the connection details

A signature is a key: on the command line everybody on this machine would see it, so there is no --user-signature.
The last line is BLOCKHOST_RESULT: and one JSON object. Exit codes: 0 done, 1 failed, 2 usage, 75 try again, 78 configuration
`

/** Reads the command line. Pure. */
export function parseGeneratorArgs(argv: readonly string[]): ParsedGeneratorArgs {
  try {
    const { values, positionals } = parse(argv)
    if (values.help === true) return { ok: false, help: true, message: generatorUsage }
    return { ok: true, args: read(values, positionals) }
  } catch (error) {
    return { ok: false, help: false, message: (error as Error).message.split('\n')[0]! }
  }
}

type Values = ReturnType<typeof parse>['values']

function read(values: Values, positionals: readonly string[]): GeneratorArgs {
  const [name, ...more] = positionals
  if (name === undefined || more.length > 0) throw new Error('expected one NAME')
  if (!isVmName(name)) throw new Error('NAME: expected up to 63 letters, digits, ".", "_", "-"')
  if (values['user-signature'] !== undefined)
    throw new Error('--user-signature would show a key to everybody on this machine; use --user-signature-file')
  const cloudInit = values['cloud-init-content'] ?? values['cloud-init'] ?? 'nft-auth'
  if (values['cloud-init-content'] !== undefined && !cloudInit.startsWith('/'))
    throw new Error('--cloud-init-content: expected an absolute path')
  const token = values['nft-token-id']
  if (token !== undefined && !/^\d{1,15}$/.test(token)) throw new Error('--nft-token-id: expected a whole number')
  const [signatureFile, publicSecret] = [values['user-signature-file'], values['public-secret']]
  if ((signatureFile === undefined) !== (publicSecret === undefined))
    throw new Error('--user-signature-file and --public-secret belong together')
  return {
    name,
    ownerWallet: matching(values['owner-wallet'], /^0x[\da-f]{40}$/i, '--owner-wallet: expected 0x and 40 hex digits'),
    apply: values.apply === true,
    purpose: values.purpose ?? '',
    username: matching(values.username ?? 'admin', /^[a-z_][a-z\d_-]{0,31}$/, '--username: expected a Unix user name'),
    vcpus: whole(values.cpu, '--cpu', 1, 64),
    memoryMiB: whole(values.memory, '--memory', 256, 1_048_576),
    diskGiB: whole(values.disk, '--disk', 4, 16_384),
    expiryDays: whole(values['expiry-days'], '--expiry-days', 1, 36_500),
    expiresAt: whole(values['expires-at'], '--expires-at', 1, Number.MAX_SAFE_INTEGER),
    cloudInit,
    nftTokenId: token === undefined ? undefined : BigInt(token),
    mint: token === undefined && values['skip-mint'] !== true && values['no-mint'] !== true,
    signatureFile,
    publicSecret,
  }
}

function matching<T extends string>(text: string | undefined, pattern: RegExp, message: string): T {
  if (text === undefined || !pattern.test(text)) throw new Error(message)
  return text as T
}

function whole(text: string | undefined, label: string, least: number, most: number): number | undefined {
  if (text === undefined) return undefined
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (value >= least && value <= most) return value
  throw new Error(`${label}: expected a whole number from ${least} to ${most}`)
}

function parse(argv: readonly string[]) {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  return parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...{ apply: flag, 'skip-mint': flag, 'no-mint': flag, help: { type: 'boolean', short: 'h' } as const },
      ...{ 'owner-wallet': text, purpose: text, username: text, cpu: text, memory: text, disk: text },
      ...{ 'expiry-days': text, 'expires-at': text, 'cloud-init': text, 'cloud-init-content': text },
      ...{ 'nft-token-id': text, 'user-signature': text, 'user-signature-file': text, 'public-secret': text },
    },
  })
}
