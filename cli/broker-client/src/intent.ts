/** The journal of one request, `broker-request.json`: everything that must survive a crash, on disk before the transaction is sent. */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { readTextFile, writeFileAtomic } from '@blockhost/kit/files.ts'
import { parseKey } from '@blockhost/net/wireguard.ts'
import { z } from 'zod'

const hex = z.templateLiteral(['0x', z.string().regex(/^([0-9a-f]{2})*$/)])
const address = z.templateLiteral(['0x', z.string().regex(/^[0-9a-fA-F]{40}$/)])
const wei = z
  .string()
  .regex(/^[0-9]{1,78}$/)
  .transform(BigInt)
const id = z
  .string()
  .regex(/^[0-9]{1,78}$/)
  .transform(BigInt)
const key = z.string().refine(text => parseKey(text) !== undefined, 'not a WireGuard key')

const fees = z.discriminatedUnion('type', [
  z.object({ type: z.literal('eip1559'), max_fee_per_gas_wei: wei, max_priority_fee_per_gas_wei: wei }),
  z.object({ type: z.literal('legacy'), gas_price_wei: wei }),
])

const schema = z.object({
  version: z.literal(1),
  purpose: z.enum(['request', 'renew']),
  created_at: z.string(),
  chain_id: z.int().positive(),
  nft_contract: address,
  wallet: address,
  requests_contract: address,
  broker_pubkey: z.string().regex(/^([0-9a-f]{66}|[0-9a-f]{128}|[0-9a-f]{130})$/),
  broker_id: z.string().regex(/^[0-9]{1,78}$/),
  wg_private_key: key,
  wg_public_key: key,
  payload: hex,
  transaction: z.object({
    hash: hex,
    raw: hex,
    nonce: z.int().nonnegative(),
    gas_limit: wei,
    value_wei: wei,
    fees,
    signed_at: z.int(),
    replacements: z.int().nonnegative(),
  }),
  request_id: id.optional(),
  refused_id: id.optional(),
})

type File = z.infer<typeof schema>

/** One request under way. Keys as in the file; ids and wei are bigint here and decimal text there. */
export type Intent = Readonly<File>

/** The signed transaction of an {@link Intent}: sent perhaps, never signed again with another nonce while it may be mined. */
export type IntentTransaction = Intent['transaction']

/** Where intents are kept. */
export type IntentStore = {
  /** @throws {BlockHostError} `BH_INTENT_UNREADABLE` (exit 78). */
  find(): Intent | undefined
  /** Durable when it returns. */
  save(intent: Intent): void
  remove(): void
}

/** Opens the journal of a configuration folder. Mode 0600: it holds the WireGuard private key. */
export function openIntentStore(configDir: string): IntentStore {
  const path = join(configDir, 'broker-request.json')
  return {
    find: () => (existsSync(path) ? parseIntent(readTextFile(path, { what: 'journal' }), path) : undefined),
    save: intent => writeFileAtomic(path, formatIntent(intent), { mode: 0o600 }),
    remove: () => rmSync(path, { force: true }),
  }
}

/** Renders the file; ends with a newline. */
export function formatIntent(intent: Intent): string {
  return `${JSON.stringify(intent, (_name, value: unknown) => (typeof value === 'bigint' ? `${value}` : value), 2)}\n`
}

/** Reads the file. The error never shows its content. Throws as {@link IntentStore.find} does. */
export function parseIntent(text: string, path: string): Intent {
  let cause: unknown
  try {
    const parsed = schema.safeParse(JSON.parse(text))
    if (parsed.success) return parsed.data
    cause = new Error(
      parsed.error.issues.map(issue => `${issue.path.join('.') || 'top level'}: ${issue.code}`).join('; '),
    )
  } catch {
    cause = new Error('it is not JSON')
  }
  throw new BlockHostError({
    code: 'BH_INTENT_UNREADABLE',
    message: `${path}, the journal of an unfinished request, can't be read`,
    hint: `A request may be under way whose WireGuard key is in it. To give that up, move ${path} away and run this again.`,
    fields: { path },
    exitCode: exitCodes.badConfig,
    cause,
  })
}
