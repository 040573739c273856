import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { addressOf, generatePrivateKey, readKeyFile } from '@blockhost/crypto/key-file.ts'
import { type Addressbook, addressbookFile } from '@blockhost/hostconfig/addressbook.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { readTextFile, writeFileAtomic } from '@blockhost/kit/files.ts'
import { z } from 'zod'
import { defineAction } from './action.ts'
import { refused } from './errors.ts'
import type { Host } from './host.ts'
import { checkTrusted } from './trusted-path.ts'

/** Roles that the installer sets: money goes to `admin`, `server` signs. No caller may make, change or remove them. */
export const reservedRoles = ['admin', 'server', 'dev', 'broker'] as const

/** Names of key files that are not wallets of the address book. */
const reservedKeys = ['deployer', 'owner', 'minter', 'admin-signature', 'terraform']

const role = z.string().regex(/^[a-z\d][a-z\d-]{0,31}$/, 'expected up to 32 lower-case letters, digits, "-"')
const wallet = z.strictObject({
  address: z.string().regex(/^0x[\da-fA-F]{40}$/, 'expected 0x and 40 hex digits'),
  keyfile: z.string().optional(),
})

/**
 * `generate-wallet {name}`: makes `/etc/blockhost/<name>.key` and the entry of the address book; answers with `address` and `keyfile`.
 * A key that is there without an entry gets one: that is what an interrupted call leaves behind.
 */
export const generateWallet = defineAction({
  schema: z.strictObject({ name: role }),
  timeoutMs: 10_000,
  lane: 'wallets',
  run({ name }, { host }) {
    if (isReserved(name) || reservedKeys.includes(name)) throw refused(`name: ${name} is reserved`)
    const book = readBook(host)
    if (Object.hasOwn(book, name))
      throw new BlockHostError({
        code: 'BH_WALLET_EXISTS',
        message: `There is a wallet ${name} already`,
        fields: { name },
      })
    const keyfile = join(host.config.paths.config, `${name}.key`)
    const address = existsSync(keyfile) ? addressOfFile(keyfile) : makeKey(host, keyfile)
    writeBook(host, { ...book, [name]: { address, keyfile } })
    return { address, keyfile }
  },
})

/**
 * `addressbook-save {entries, remove?}`: sets the given entries and takes the named ones away; all others stay. Reserved entries may be
 * given as they are (a client may send the whole book back), not otherwise.
 */
export const addressbookSave = defineAction({
  schema: z.strictObject({ entries: z.record(role, wallet).default({}), remove: z.array(role).max(256).default([]) }),
  timeoutMs: 10_000,
  lane: 'wallets',
  run({ entries, remove }, { host }) {
    const book = readBook(host)
    for (const [name, entry] of Object.entries(entries)) checkEntry(host, book, name, entry)
    for (const name of remove) if (isReserved(name)) throw refused(`remove: ${name} is reserved`)
    const merged: Record<string, Addressbook[string]> = { ...book, ...(entries as Addressbook) }
    for (const name of remove) delete merged[name]
    if (Object.keys(merged).length > 1000) throw refused('entries: the address book is full (1000)')
    writeBook(host, merged)
    return { entries: Object.keys(merged).length }
  },
})

function checkEntry(host: Host, book: Addressbook, name: string, entry: z.output<typeof wallet>): void {
  const known = Object.hasOwn(book, name) ? book[name] : undefined
  const same = known?.address.toLowerCase() === entry.address.toLowerCase() && known.keyfile === entry.keyfile
  if (isReserved(name) && !same) throw refused(`entries.${name}: this entry is the installer's`)
  if (entry.keyfile === undefined || same) return
  const folder = host.config.paths.config
  if (
    !/^[a-z\d][a-z\d-]{0,31}\.key$/.test(entry.keyfile.slice(folder.length + 1)) ||
    !entry.keyfile.startsWith(`${folder}/`)
  )
    throw refused(`entries.${name}.keyfile: expected ${folder}/<name>.key`)
}

function isReserved(name: string): boolean {
  return (reservedRoles as readonly string[]).includes(name)
}

function makeKey({ gid }: Host, keyfile: string): `0x${string}` {
  const key = generatePrivateKey()
  writeFileAtomic(keyfile, `${key.toHex()}\n`, { mode: 0o640, gid, exclusive: true })
  return addressOf(key)
}

function addressOfFile(keyfile: string): `0x${string}` {
  checkTrusted(keyfile, 'file')
  return addressOf(readKeyFile(keyfile))
}

/** A broken book is an error, never an empty one; and nothing is read or made in a folder that is not root's alone. */
function readBook({ config }: Host): Addressbook {
  checkTrusted(config.paths.config, 'folder')
  const path = join(config.paths.config, addressbookFile.name)
  if (!existsSync(path)) return {}
  checkTrusted(path, 'file')
  return addressbookFile.parse(readTextFile(path, { what: 'address book' }), path)
}

function writeBook({ config, gid }: Host, book: Addressbook): void {
  const path = join(config.paths.config, addressbookFile.name)
  writeFileAtomic(path, `${JSON.stringify(book, undefined, 2)}\n`, { mode: 0o640, gid })
}
